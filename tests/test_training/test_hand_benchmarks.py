"""HO-3D and HInt with a trained model, by the command that a user types."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from training_runs import CONFIGS, run_script

pytest.importorskip("mmpose")
pytest.importorskip("cv2")

from hamer_samples import write_hint
from hand_mesh_samples import pixels
from hand_release_samples import ho3d_meta, write_ho3d, write_meta

from mamba_mm.evaluation.functional import read_submission

HAMBA = CONFIGS / "mmpose" / "hamba"

NANO = """
_base_ = {shipped!r}
data = {data!r}
model = dict(
    data_preprocessor=dict(mean=[0.0] * 3, std=[255.0] * 3),
    backbone=dict(
        _delete_=True, type="mamba_mm.VMamba", arch=dict(base="nano", norm="bn"), out_indices=(2,)
    ),
    head=dict(
        in_channels=128,
        embed_dims=128,
        jr=dict(depth=1),
        ts=dict(token_offset=0.0),
        output_model=dict(mano=dict(mano_path="toy")),
    ),
)
test_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=True),
    dataset=dict(data_root=data),
)
visualizer = dict(mano_path="toy")
env_cfg = dict(dist_cfg=dict(backend="gloo"))
"""
THRESHOLDS = ("PCK@0.05", "PCK@0.1", "PCK@0.15")
HO3D_FILE = """
test_evaluator = [
    dict(
        type="mamba_mm.HandMeshMetric",
        format_only=True,
        submission="ho3d",
        outfile_prefix=data + "/pred",
    )
]
"""


def evaluate(shipped, folder, data, more=""):
    """Run a shipped config on data of the test, with a small untrained network; return the log."""
    config = folder / "nano.py"
    config.write_text(NANO.format(shipped=str(HAMBA / shipped), data=str(data)) + more)
    with DefaultScope.overwrite_default_scope("mmpose"):
        model = MODELS.build(Config.fromfile(config).model)
    torch.save(model.state_dict(), folder / "nano.pth")
    return run_script("test", config, folder / "nano.pth", "--work-dir", folder / "work")


@pytest.mark.slow
def test_a_model_writes_the_file_from_shuffled_samples(tmp_path):
    """Every hand of the file is where the box of its place is."""
    frames = [f"AB1/{number:04d}" for number in (7, 3, 5, 1, 9)]
    hands = write_ho3d(tmp_path, "evaluation", frames=frames)
    centres = [(60, 60), (160, 60), (60, 160), (160, 160), (112, 112)]
    for frame, hand, (x, y) in zip(frames, hands, centres, strict=True):
        labels = ho3d_meta(hand, "evaluation")
        labels["handBoundingBox"] = [x - 20, y - 20, x + 20, y + 20]
        sequence, name = frame.split("/")
        write_meta(tmp_path / "evaluation" / sequence / "meta" / f"{name}.pkl", labels)
    log = evaluate("hamba_vit-h_ho3d-test-256x192.py", tmp_path, tmp_path, HO3D_FILE)
    assert "wrote 5 predictions for 'ho3d'" in log
    assert "joints and vertices are in camera coordinates" in log
    joints, _ = read_submission(tmp_path / "pred.json", "ho3d")
    for found, centre in zip(joints, centres, strict=True):
        middle = pixels(found, hands[0]["cam_K"]).mean(0)
        assert np.abs(middle - centre).max() < 40


@pytest.mark.slow
def test_hint_is_measured(tmp_path):
    write_hint(tmp_path / "hint")
    log = evaluate("hamba_vit-h_hint-test-256x192.py", tmp_path, tmp_path / "hint")
    (line,) = [line for line in log.splitlines() if "hand2d/PCK@0.05: " in line]
    shares = [float(line.split(f"{name}: ")[1].split()[0]) for name in THRESHOLDS]
    assert 0 <= shares[0] <= shares[1] <= shares[2] <= 1
