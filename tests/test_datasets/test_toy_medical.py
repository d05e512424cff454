import hashlib
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")

from mamba_mm.datasets.toy_medical import (  # noqa: E402
    KINDS,
    ToyMedicalConfig,
    draw_lesion,
    draw_organs,
    write_toy_medical,
)
from mamba_mm.datasets.toy_medical import folder as folder_module  # noqa: E402
from mamba_mm.datasets.toy_medical.blobs import Blob, opacity  # noqa: E402

TOOL = Path(__file__).parents[2] / "tools" / "dataset_converters" / "make_toy_medical.py"


def silent(line):
    pass


def hashes(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_blob_is_soft_and_has_the_area_of_its_ellipse():
    blob = Blob((40.0, 30.0), (20.0, 12.0), turn=0.5, roughness=0.0, softness=6.0)
    cover = opacity(np.random.default_rng(0), blob, 60, 80)
    assert cover[30, 40] > 0.99
    assert cover[0, 0] < 0.01
    assert (cover > 0.5).sum() == pytest.approx(np.pi * 20 * 12, rel=0.03)
    border = ((cover > 0.02) & (cover < 0.98)).sum()
    sharp = opacity(np.random.default_rng(0), Blob((40.0, 30.0), (20.0, 12.0), 0.5, 0.0), 60, 80)
    assert border > 3 * ((sharp > 0.02) & (sharp < 0.98)).sum()


def test_rough_blobs_differ_and_smooth_ones_do_not():
    areas = {
        roughness: {
            int(
                (
                    opacity(
                        np.random.default_rng(seed), Blob((32, 32), (16, 16), 0, roughness), 64, 64
                    )
                    > 0.5
                ).sum()
            )
            for seed in range(4)
        }
        for roughness in (0.0, 0.2)
    }
    assert len(areas[0.0]) == 1
    assert len(areas[0.2]) == 4


@pytest.mark.parametrize("size", [(128, 128), (96, 160)])
def test_a_lesion_is_darker_than_the_skin_around_it(size):
    for seed in range(6):
        image, labels = draw_lesion(np.random.default_rng(seed), *size)
        assert image.shape == (*size, 3)
        assert image.dtype == labels.dtype == np.uint8
        assert set(np.unique(labels)) == {0, 1}
        assert 0.01 < labels.mean() < 0.5
        assert image[labels == 1].mean() < image[labels == 0].mean() - 20


def test_organs_are_where_they_belong():
    seen = np.zeros(7, int)
    for seed in range(20):
        image, labels = draw_organs(np.random.default_rng(seed), 128, 128)
        assert (image[..., 0] == image[..., 2]).all()
        present = np.unique(labels)
        seen[present] += 1
        columns = {c: np.nonzero(labels == c)[1].mean() for c in present}
        rows = {c: np.nonzero(labels == c)[0].mean() for c in present}
        assert {0, 1, 5} <= set(present)  # background, liver, aorta
        assert columns[1] < 64
        if 2 in present:
            assert columns[2] > 64
        if {3, 4} <= set(present):
            assert columns[3] > columns[4]
        assert rows[1] < 64 < rows[5]
    assert 10 < seen[6] < 20  # some livers have no lesion
    assert (seen[[2, 3, 4]] >= 12).all()


def test_another_process_draws_the_same_bytes(tmp_path):
    arguments = ["--train-images", "3", "--val-images", "2", "--size", "64", "96", "--seed", "5"]
    for kind in KINDS:
        config = ToyMedicalConfig(kind, 3, 2, 64, 96, 5)
        assert write_toy_medical(tmp_path / kind, config, report=silent)
        again = tmp_path / f"{kind} again"
        command = [sys.executable, str(TOOL), kind, str(again), *arguments]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        assert run.stderr == ""
        assert "train: 3 images drawn" in run.stdout
        assert hashes(again) == hashes(tmp_path / kind)


def test_files(tmp_path):
    write_toy_medical(tmp_path / "set", ToyMedicalConfig("organs", 3, 2, 64, 64), report=silent)
    for split, count in (("train", 3), ("val", 2)):
        for folder in ("img_dir", "ann_dir"):
            names = sorted(p.name for p in (tmp_path / "set" / folder / split).iterdir())
            assert names == [f"{i + 1:05d}.png" for i in range(count)]
    labels = cv2.imread(str(tmp_path / "set/ann_dir/train/00001.png"), cv2.IMREAD_UNCHANGED)
    image, expected = draw_organs(np.random.default_rng([0, 0, 0]), 64, 64)
    assert (labels == expected).all()
    assert (cv2.imread(str(tmp_path / "set/img_dir/train/00001.png")) == image).all()


def test_the_splits_share_no_image_and_a_longer_set_begins_with_a_shorter_one(tmp_path):
    for name, counts in {"short": (2, 2), "long": (3, 2)}.items():
        config = ToyMedicalConfig("lesions", *counts, 64, 64)
        write_toy_medical(tmp_path / name, config, report=silent)
    short, long = hashes(tmp_path / "short"), hashes(tmp_path / "long")
    images = [value for key, value in long.items() if key.startswith("img_dir")]
    assert len(set(images)) == 5
    assert all(long[key] == value for key, value in short.items() if key.endswith(".png"))


def test_a_complete_set_is_left_as_it_is_and_others_are_not_overwritten(tmp_path):
    config = ToyMedicalConfig("lesions", 1, 1, 64, 64)
    assert write_toy_medical(tmp_path / "set", config, report=silent)
    assert not write_toy_medical(tmp_path / "set", config, report=silent)
    other = ToyMedicalConfig("organs", 1, 1, 64, 64)
    with pytest.raises(FileExistsError, match=r"made with other arguments .*pass --force"):
        write_toy_medical(tmp_path / "set", other, report=silent)
    assert write_toy_medical(tmp_path / "set", other, force=True, report=silent)


RECORDED = {"lesions": 2052, "organs": 1449}


def test_recorded_drawings_have_not_changed():
    """Raise DRAWING_VERSION when this fails on purpose: old sets must not be reused."""
    assert folder_module.DRAWING_VERSION == 1
    for kind, (draw, _) in KINDS.items():
        _, labels = draw(np.random.default_rng([0, 0, 0]), 96, 96)
        assert np.count_nonzero(labels) == pytest.approx(RECORDED[kind], abs=3)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"kind": "brains"}, "unknown kind 'brains'; known: lesions, organs"),
        ({"train_images": -1}, "train_images must not be negative, got -1"),
        ({"height": 63}, "at least 64 pixels high and wide, got 63x128"),
    ],
)
def test_impossible_arguments_are_refused(field, message):
    with pytest.raises(ValueError, match=message):
        ToyMedicalConfig(**field)


def test_the_tool_says_what_is_wrong_in_one_line(tmp_path, capsys):
    arguments = ["organs", str(tmp_path / "set"), "--size", "8", "8"]
    assert runpy.run_path(str(TOOL))["main"](arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: images must be at least 64 pixels")
    assert said.count("\n") == 1
