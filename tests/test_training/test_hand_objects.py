"""Networks of objects, alone and beside hands, through MMPose's own runner."""

import re
import runpy

import numpy as np
import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from processes import in_group
from torch import nn
from training_runs import CONFIGS, ROOT, run_script

pytest.importorskip("mmpose")
pytest.importorskip("trimesh")

from mmpose.structures import PoseDataSample

from mamba_mm.datasets.toy_objects import ToyScenesConfig, write_toy_scenes
from mamba_mm.models.pose_estimators.hand_object import HandObjectEstimator

FOLDER = CONFIGS / "mmpose" / "hamba_object"
OBJECTS = FOLDER / "hamba_vmamba-nano_toy-objects-128x96.py"
SCENES = FOLDER / "hand-object_vmamba-nano_toy-scenes-128x96.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy") / "scenes"
    config = ToyScenesConfig(train_images=8, val_images=4, image_size=96, hand_share=1.0)
    write_toy_scenes(folder, config, report=lambda line: None)
    return folder


def train(config, data, work, batch_size, *options):
    return run_script(
        *("train", config, "--work-dir", work, "--cfg-options"),
        *(f"train_dataloader.batch_size={batch_size}", "default_hooks.logger.interval=1"),
        *("train_cfg.max_epochs=1", "train_cfg.val_interval=1", *options),
        MAMBA_MM_SCENES_DATA=data,
    )


def test_the_network_of_objects_trains_and_is_measured(data, tmp_path):
    log = train(OBJECTS, data, tmp_path, 4)
    assert "Epoch(train) [1][2/2]" in log
    assert "loss_jr_kpt3d" in log
    for name in ("object/ADD(-S)@0.1d", "object/rotation", "object_fit/ADD-S"):
        assert f" {name}: " in log


def _figures(printed):
    """Leave out what MMEngine logs before, with the time of day."""
    return printed[printed.index("the mean pose of each class") :]


def test_the_mean_pose_is_measured_by_the_same_metric(data, monkeypatch, capsys):
    monkeypatch.setenv("MAMBA_MM_SCENES_DATA", str(data))
    tool = runpy.run_path(str(ROOT / "tools" / "analysis_tools" / "mean_object_pose_errors.py"))
    assert tool["main"]([str(OBJECTS)]) == 0
    printed = _figures(capsys.readouterr().out)
    figures = dict(line.split(": ") for line in printed.splitlines() if line.startswith("  "))
    # Turned from upright by 60 degrees at most, in both sets.
    assert 0 < float(figures["  object/rotation"]) < 120
    assert float(figures["  object/translation"]) < 300
    assert "object/ADD/mug" in printed
    # Beside hands the objects are the same, and nothing augments their boxes.
    assert tool["main"]([str(SCENES)]) == 0
    assert _figures(capsys.readouterr().out) == printed
    # Of symmetric poses the nearest counts: half a turn and none have the mean none.
    half = np.diag([-1.0, -1, 1])
    motions = np.stack([np.eye(4), np.eye(4)])
    motions[1, :3, :3] = half
    records = [dict(symmetries=motions[None], object_rotation=r[None]) for r in (np.eye(3), half)]
    np.testing.assert_allclose(np.abs(tool["mean_rotation"](records)), np.eye(3), atol=1e-9)


@pytest.mark.slow
def test_hands_and_objects_train_side_by_side(data, tmp_path):
    log = train(SCENES, data, tmp_path, 4, "train_dataloader.sampler.batch_size=4")
    for name in ("hand_loss_betas", "object_loss_kpt2d", "mesh/PA-MPJPE", "object/ADD(-S)@0.1d"):
        assert f" {name}: " in log
    assert "loss_absent" not in log  # as many of each kind in every batch

    pictures = tmp_path / "pictures"
    checkpoint = (tmp_path / "last_checkpoint").read_text().strip()
    run_script(
        *("test", SCENES, checkpoint, "--work-dir", tmp_path, "--show-dir", pictures),
        *("--cfg-options", "default_hooks.visualization.interval=1"),
        MAMBA_MM_SCENES_DATA=data,
    )
    assert len(list(pictures.rglob("*.jpg"))) == 8  # of each of four images, both


class Network(nn.Module):
    """A small network in the place of an estimator."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, inputs, data_samples, mode):
        return dict(loss=self.layer(inputs.mean(dim=(2, 3))).mean())


def train_one_kind(rank, folder):
    """Two steps, in each of which either process has samples of one kind only."""
    torch.manual_seed(0)
    model = MMDistributedDataParallel(
        HandObjectEstimator(hand=dict(type=Network), object=dict(type=Network))
    )
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for step in range(2):
        name = ("hand_mesh", "object_pose")[(rank + step) % 2]
        samples = [PoseDataSample(metainfo=dict(dataset_name=name))] * 2
        model.train_step(dict(inputs=torch.ones(2, 3, 4, 4), data_samples=samples), optimizer)
    moved = [
        float((new - old).abs().max()) for new, old in zip(model.parameters(), before, strict=True)
    ]
    np.save(folder / f"moved{rank}.npy", moved)


def test_processes_without_a_kind_do_not_stop_the_others(tmp_path):
    in_group(train_one_kind, tmp_path)
    moved = [np.load(tmp_path / f"moved{rank}.npy") for rank in range(2)]
    # In each step one process of two has a gradient, of 1; their mean is a half.
    np.testing.assert_allclose(moved[0], 1.0, rtol=1e-6)
    np.testing.assert_allclose(moved[0], moved[1])


BY_HEART = """
_base_ = "{base}"

transforms = {{{{_base_.test_dataloader.dataset.pipeline}}}}
train_dataloader = dict(batch_size=4, dataset=dict(indices=4, pipeline=transforms))
test_dataloader = dict(dataset=dict(split="train", indices=4))
val_dataloader = test_dataloader
max_epochs = 110
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type="CosineAnnealingLR", T_max=max_epochs, eta_min=1e-5, by_epoch=True),
]
default_hooks = dict(checkpoint=dict(interval=max_epochs))
"""


@pytest.mark.slow
def test_four_objects_are_learnt_by_heart(data, tmp_path):
    """One of each class: poses by either way within a tenth of the diameter."""
    config = tmp_path / "by_heart.py"
    config.write_text(BY_HEART.format(base=OBJECTS))
    log = run_script("train", config, "--work-dir", tmp_path / "work", MAMBA_MM_SCENES_DATA=data)
    for name, least in (("object", 0.75), ("object_fit", 0.75)):
        share = re.search(rf" {name}/ADD\(-S\)@0\.1d: ([\d.]+)", log)
        assert float(share[1]) >= least, log[-1500:]
    assert float(re.search(r" object/rotation: ([\d.]+)", log)[1]) < 6
