"""Keypoints through MMPose's own runner, by the commands that a user types."""

import pytest
from training_runs import CONFIGS, DATA_DIR, run_script, sooner, train_and_test

pytest.importorskip("mmpose")
keypoint_sets = pytest.importorskip("keypoint_sets")

SHIPPED = sorted(
    path
    for system in ("vmamba", "vim")
    for path in (CONFIGS / "mmpose" / system).glob("*.py")
    if "nano" not in path.stem
)
FAST = {"td-hm_vmamba-t_8xb64-210e_coco-256x192", "simcc_vim-s_8xb64-100e_freihand2d-224x224"}
EVERY = [
    pytest.param(path, id=path.stem, marks=() if path.stem in FAST else pytest.mark.slow)
    for path in SHIPPED
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with ``data/``, from which the configs can be used as they are."""
    folder = tmp_path_factory.mktemp("keypoints")
    keypoint_sets.write_all(folder / "data")
    return folder


def nano(path, max_epochs):
    """Options that make a shipped config small; images and maps keep their sizes."""
    is_vim = path.parent.name == "vim"
    num_deconvs = 2 if is_vim else 3
    options = {
        "model.backbone.arch": "nano",
        "model.backbone.init_cfg": None,
        "model.head.in_channels": 64 if is_vim else 256,
        "model.head.deconv_out_channels": str([8] * num_deconvs).replace(" ", ""),
        "train_dataloader.batch_size": 2,
        "default_hooks.logger.interval": 1,
        "default_hooks.checkpoint.interval": 1,
        "train_cfg.max_epochs": max_epochs,
        "train_cfg.val_interval": 1,
    }
    for loader in ("train_dataloader", "val_dataloader"):
        options |= {f"{loader}.num_workers": 0, f"{loader}.persistent_workers": False}
    return ["--cfg-options", *(f"{name}={value}" for name, value in options.items())]


@pytest.mark.parametrize("path", EVERY)
def test_train_evaluate_and_resume(path, place, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    metrics = ["coco/AP"] if "_coco-256" in path.stem else ["PCK", "AUC", "EPE"]

    log = run_script("train", path, "--work-dir", tmp_path, *nano(path, max_epochs=1))
    assert "Epoch(train) [1][2/2]" in log
    assert (tmp_path / "epoch_1.pth").is_file()

    resumed = run_script(
        "train", path, "--work-dir", tmp_path, "--resume", *nano(path, max_epochs=2)
    )
    assert "Epoch(train) [1]" not in resumed
    assert "Epoch(train) [2][2/2]" in resumed
    assert (tmp_path / "epoch_2.pth").is_file()
    for printed, epoch in ((log, 1), (resumed, 2)):
        *_, line = [line for line in printed.splitlines() if f"Epoch(val) [{epoch}]" in line]
        assert all(f" {metric}: " in line for metric in metrics), line


def learn_photographs(config, folder, max_iters):
    """Train and test a config on the photographs; return its metrics and pictures."""
    metrics, _, pictures = train_and_test(
        config, folder, *sooner(max_iters), run=run_script, MAMBA_MM_DATA_DIR=DATA_DIR
    )
    return metrics, pictures


@pytest.mark.slow
@pytest.mark.skipif(
    not (DATA_DIR / "coco" / "test_coco.json").is_file(),
    reason=f"no photographs of COCO in {DATA_DIR}/coco; set MAMBA_MM_DATA_DIR",
)
def test_the_persons_of_four_photographs_are_learnt_by_heart(tmp_path):
    config = CONFIGS / "mmpose" / "vmamba" / "td-hm_vmamba-nano_coco-4-photos-128x96.py"
    metrics, pictures = learn_photographs(config, tmp_path, 60)
    assert metrics["coco/AP"] > 0.8
    assert metrics["PCK"] > 0.9  # within 1/20 of the person's box
    assert len(pictures) == 12, "one a person"


@pytest.mark.slow
@pytest.mark.skipif(
    not all(
        (DATA_DIR / name / f"test_{name}.json").is_file() for name in ("onehand10k", "freihand")
    ),
    reason=f"no hands in {DATA_DIR}/onehand10k and freihand; set MAMBA_MM_DATA_DIR",
)
def test_twelve_hands_are_learnt_by_heart(tmp_path):
    config = CONFIGS / "mmpose" / "vim" / "simcc_vim-nano_hands-12-photos-128x128.py"
    metrics, pictures = learn_photographs(config, tmp_path, 150)  # as many as it has
    assert metrics["PCK"] > 0.9  # within 1/20 of the box
    assert metrics["EPE"] < 3  # pixels of the photographs, 224 to 500 of them wide
    assert len(pictures) == 12
