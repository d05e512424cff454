"""The config of HaMeR's mix through MMPose's own runner, on small archives."""

import re

import pytest
from training_runs import CONFIGS, run_script

pytest.importorskip("mmpose")
pytest.importorskip("cv2")

from hamer_samples import hamer_label, write_set
from hand_mesh_samples import write_freihand

from mamba_mm.datasets.hand_mesh.tar_index import INDEX_NAME

MIX = CONFIGS / "mmpose" / "hamba" / "hamba_vit-h_2xb28-170k_mix-256x192.py"
# Small, on a CPU; the data and the losses are those of the shipped file.
SMALL = """
_base_ = {base!r}
model = dict(
    backbone=dict(_delete_=True, type="mamba_mm.VMamba", arch="nano", out_indices=(2,)),
    head=dict(in_channels=128, embed_dims=32, jr=dict(depth=1), ts=dict(token_offset=0.0)),
)
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)
val_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
train_cfg = dict(max_iters=3, val_interval=3)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=3))
env_cfg = dict(dist_cfg=dict(backend="gloo"))
"""


@pytest.mark.slow
def test_the_mix_trains_and_is_validated_on_freihand(tmp_path):
    config = tmp_path / "small.py"
    config.write_text(SMALL.format(base=str(MIX)))
    flat = dict(has_hand_pose=0.0, keypoints_3d=hamer_label(0)["keypoints_3d"] * 0)
    sets = ("freihand", "interhand26m", "mtc", "rhd", "ho3d", "h2o3d", "dex")
    folders = [tmp_path / "hamer" / "dataset_tars" / f"{name}-train" for name in sets]
    for number, folder in enumerate(folders):
        write_set(folder, [number], left=number % 2 == 1)
    for name in ("cocow", "halpe", "mpiinzsl"):
        write_set(folders[0].with_name(f"{name}-train"), [9], **flat)
    write_freihand(tmp_path / "freihand", poses=2, versions=1, split="evaluation")
    log = run_script(
        *("train", config, "--work-dir", tmp_path / "work"),
        MAMBA_MM_HAMER_DATA=tmp_path / "hamer",
        MAMBA_MM_FREIHAND=tmp_path / "freihand",
        MAMBA_MM_MANO="toy",
    )
    losses = [float(value) for value in re.findall(r"\bloss: ([\d.]+)", log)]
    assert len(losses) == 3
    assert log.count("1 of 1 hands pass the filters") == 10
    assert "mesh/PA-MPVPE" in log
    assert (folders[0] / INDEX_NAME).is_file()
