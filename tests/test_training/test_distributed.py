"""Two processes on the CPU: their gradients are those of one process on both halves."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from processes import in_group
from toolbox_models import SYSTEMS, gradients_of, losses_of
from training_runs import ROOT, WAITING

# A system of toolbox_models, and what its backbone is like. VMamba's and one of Vim's do not
# return the last stages, whose parameters then must not be waited for.
CASES = {
    "mmdet-vmamba, recomputed, frozen": dict(with_cp=True, frozen_stages=1),
    "mmpretrain-vim": dict(),
    "mmpretrain-vim, recomputed, frozen, short": dict(
        with_cp=True, frozen_stages=1, out_indices=(2,)
    ),
    "mmseg-vm_unet, recomputed": dict(with_cp=True),
    "mmseg-vm_unet, frozen": dict(frozen_stages=1),
    "mmpose-vmamba, recomputed": dict(with_cp=True),
}
# RTMDet divides by the matches of a process, but never by less than 1: smaller halves differ.
BATCH = 4


def system_of(case):
    return SYSTEMS[case.split(",")[0]]


def train_half(rank, folder):
    """Train all cases on one half of the batch; the first process writes the gradients."""
    results = {}
    for case, backbone in CASES.items():
        system = system_of(case)
        model = MMDistributedDataParallel(system.build(**backbone), broadcast_buffers=False)
        half = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
        batch = {key: values[half] for key, values in system.batch(BATCH).items()}
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        # The second step fails if a parameter that trains got no gradient in the first.
        optimizer.register_step_pre_hook(
            lambda *_, case=case, model=model: results.update({case: gradients_of(model.module)})
        )
        for _ in range(2):
            model.train_step(batch, OptimWrapper(optimizer=optimizer))
    if rank == 0:
        torch.save(results, folder / "gradients.pth")


@pytest.fixture(scope="module")
def gradients_of_two(tmp_path_factory):
    for system in SYSTEMS.values():
        pytest.importorskip(f"{system.toolbox}.models")  # once, before the forks
    folder = tmp_path_factory.mktemp("processes")
    in_group(train_half, folder)
    return torch.load(folder / "gradients.pth")


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_one_process(case, gradients_of_two):
    model = system_of(case).build(**CASES[case])
    losses_of(model, system_of(case).batch(BATCH)).backward()
    expected, found = gradients_of(model), gradients_of_two[case]
    assert found.keys() == expected.keys()
    assert {name for name, p in model.named_parameters() if p.requires_grad} == found.keys()
    for name, gradient in expected.items():
        error = (found[name] - gradient).norm() / gradient.norm()
        assert error < 1e-4, name


CONFIG = """
default_scope = "mmpretrain"
model = dict(
    type="ImageClassifier",
    backbone=dict(type="mamba_mm.VMamba", arch="nano", out_indices=(1,), with_cp=True),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", num_classes=2, in_channels=64, topk=(1,)),
)
data_preprocessor = dict(num_classes=2, mean=[127.5] * 3, std=[60.0] * 3)
pipeline = [dict(type="LoadImageFromFile"), dict(type="PackInputs")]
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="CustomDataset", data_root="{data}", pipeline=pipeline),
)
val_dataloader = train_dataloader | dict(sampler=dict(type="DefaultSampler", shuffle=False))
val_evaluator = dict(type="Accuracy", topk=(1,))
optim_wrapper = dict(optimizer=dict(type="AdamW", lr=1e-3))
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
default_hooks = dict(logger=dict(type="LoggerHook", interval=1))
# MMEngine would name a GPU of each process to PyTorch's wrapper.
model_wrapper_cfg = dict(type="MMDistributedDataParallel", device_ids=None, broadcast_buffers=False)
"""


@pytest.mark.slow
@pytest.mark.skipif(torch.accelerator.is_available(), reason="about machines without a GPU")
def test_the_script_of_a_toolbox_launched_twice(tmp_path):
    """As ``dist_train.sh`` does it, which MMEngine alone can do with GPUs only."""
    pytest.importorskip("mmpretrain")
    cv2 = pytest.importorskip("cv2")
    random = np.random.RandomState(0)
    for i in range(8):
        path = tmp_path / "data" / f"class{i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), random.randint(0, 255, (32, 48, 3), dtype=np.uint8))
    config = tmp_path / "config.py"
    config.write_text(CONFIG.replace("{data}", str(tmp_path / "data")))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    command += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]  # any free port
    command += [ROOT / "tools" / "train.py", config, "--work-dir", tmp_path / "work"]
    command += ["--launcher", "pytorch"]
    run = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=os.environ | WAITING
    )
    printed = run.stdout + run.stderr
    assert run.returncode == 0, printed[-5000:]
    assert "Distributed launcher: pytorch" in printed
    assert "Epoch(train) [1][2/2]" in printed  # eight images by two processes, two at a time
    assert "Epoch(val) [1][2/2]" in printed
    assert "accuracy/top1" in printed
    assert (tmp_path / "work" / "epoch_1.pth").is_file()
