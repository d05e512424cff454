"""The data set classes, and the converters of the released layouts that feed them."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import DATASETS, DefaultScope

cv2 = pytest.importorskip("cv2")
pytest.importorskip("mmseg")

from mamba_mm.datasets.converters import convert_isic, convert_synapse  # noqa: E402

TOOLS = Path(__file__).parents[2] / "tools" / "dataset_converters"


def silent(line):
    pass


def build(name, **options):
    with DefaultScope.overwrite_default_scope("mmseg"):
        return DATASETS.build(dict(type=f"mamba_mm.{name}", **options))


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def read(path, mode=cv2.IMREAD_UNCHANGED):
    pixels = cv2.imread(str(path), mode)
    assert pixels is not None, path
    return pixels


# --- ISIC -------------------------------------------------------------------------------

ISIC_LAYOUTS = {
    "2017": {
        "train": ("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth"),
        "val": ("ISIC-2017_Validation_Data", "ISIC-2017_Validation_Part1_GroundTruth"),
        "test": ("ISIC-2017_Test_v2_Data", "ISIC-2017_Test_v2_Part1_GroundTruth"),
    },
    "2018": {
        "train": ("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"),
        "val": ("ISIC2018_Task1-2_Validation_Input", "ISIC2018_Task1_Validation_GroundTruth"),
    },
    "shared": {"train": ("train/images", "train/masks"), "val": ("val/images", "val/masks")},
}


def mask_of(number):
    mask = np.zeros((24, 32), np.uint8)
    mask[4 : 8 + number] = 255
    return mask


def write_isic(source, layout, train=4, others=2):
    """Images ISIC_0000001.jpg and so on, the challenge's masks named with _segmentation."""
    rng = np.random.default_rng(0)
    number = 0
    for split, (images, masks) in ISIC_LAYOUTS[layout].items():
        for _ in range(train if split == "train" else others):
            number += 1
            name = f"ISIC_{number:07d}"
            suffix = "png" if layout == "shared" else "jpg"
            pixels = rng.integers(0, 255, (24, 32, 3), np.uint8)
            write(source / images / f"{name}.{suffix}", pixels)
            ending = "" if layout == "shared" else "_segmentation"
            write(source / masks / f"{name}{ending}.png", mask_of(number))
        if layout == "2017":
            write(source / images / "ISIC_0000001_superpixels.png", pixels)
        (source / images / "LICENSE.txt").touch()


@pytest.mark.parametrize("layout", ISIC_LAYOUTS)
def test_isic_layouts(layout, tmp_path):
    write_isic(tmp_path / "source", layout)
    assert convert_isic(tmp_path / "source", tmp_path / "isic", report=silent)

    train = build(
        "ISICDataset",
        data_root=str(tmp_path / "isic"),
        data_prefix=dict(img_path="img_dir/train", seg_map_path="ann_dir/train"),
        pipeline=[dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")],
    )
    assert train.metainfo["classes"] == ("background", "lesion")
    assert len(train) == 4
    for number, sample in enumerate(train, start=1):
        assert sample["img"].shape == (24, 32, 3)
        assert (sample["gt_seg_map"] == mask_of(number) // 255).all()
    for split in ISIC_LAYOUTS[layout]:
        images, labels = (
            [p.stem for p in sorted((tmp_path / "isic" / kind / split).iterdir())]
            for kind in ("img_dir", "ann_dir")
        )
        assert images == labels
        assert len(images) == (4 if split == "train" else 2)


def test_jpegs_are_copied_as_they_are(tmp_path):
    write_isic(tmp_path / "source", "2018")
    convert_isic(tmp_path / "source", tmp_path / "isic", report=silent)
    name = "ISIC_0000002.jpg"
    original = tmp_path / "source" / "ISIC2018_Task1-2_Training_Input" / name
    assert (tmp_path / "isic/img_dir/train" / name).read_bytes() == original.read_bytes()


def test_resized(tmp_path):
    write_isic(tmp_path / "source", "2018")
    convert_isic(tmp_path / "source", tmp_path / "isic", size=(12, 20), report=silent)
    assert read(tmp_path / "isic/img_dir/val/ISIC_0000005.jpg").shape == (12, 20, 3)
    label = read(tmp_path / "isic/ann_dir/val/ISIC_0000005.png")
    assert label.shape == (12, 20)
    assert set(np.unique(label)) == {0, 1}


def test_pooled_and_divided_anew(tmp_path):
    write_isic(tmp_path / "source", "2017", train=7, others=3)
    folders = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        target = tmp_path / name
        convert_isic(tmp_path / "source", target, train_share=0.7, seed=seed, report=silent)
        folders[name] = {
            split: {p.stem for p in (target / "img_dir" / split).iterdir()}
            for split in ("train", "val", "test")
        }
    assert [len(folders["a"][split]) for split in ("train", "val", "test")] == [7, 3, 3]
    assert not folders["a"]["train"] & folders["a"]["val"]
    assert folders["a"] == folders["b"]
    assert folders["a"] != folders["c"]
    assert folders["a"]["test"] == {"ISIC_0000011", "ISIC_0000012", "ISIC_0000013"}


def test_masks_may_hold_the_labels_themselves(tmp_path):
    write_isic(tmp_path / "source", "shared")
    mask = mask_of(1) // 255
    write(tmp_path / "source/train/masks/ISIC_0000001.png", mask)
    convert_isic(tmp_path / "source", tmp_path / "isic", report=silent)
    assert (read(tmp_path / "isic/ann_dir/train/ISIC_0000001.png") == mask).all()


def test_what_is_wrong_with_isic_files_is_said(tmp_path):
    source = tmp_path / "source"
    (source / "pictures").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"no known layout.*ISIC-2017_Training_Data.*pict"):
        convert_isic(source, tmp_path / "isic", report=silent)
    write_isic(source, "2018")
    with pytest.raises(ValueError, match="train_share must lie between 0 and 1, got 7"):
        convert_isic(source, tmp_path / "isic", train_share=7, report=silent)
    masks = source / "ISIC2018_Task1_Training_GroundTruth"
    (masks / "ISIC_0000003_segmentation.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 images without one, such as .*0000003"):
        convert_isic(source, tmp_path / "isic", report=silent)
    (masks / "ISIC_0000003_segmentation.png").write_text("no image")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        convert_isic(source, tmp_path / "isic", report=silent)
    assert not (tmp_path / "isic").exists()
    assert not (tmp_path / "isic.partial").exists()


# --- Synapse ----------------------------------------------------------------------------


def write_synapse(source):
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    (source / "train_npz").mkdir(parents=True)
    (source / "test_vol_h5").mkdir()
    for case in ("case0005", "case0006"):
        for index in range(2):
            np.savez(
                source / "train_npz" / f"{case}_slice{index:03d}.npz",
                image=rng.random((16, 20), dtype=np.float32),
                label=rng.integers(0, 9, (16, 20)).astype(np.float32),
            )
    volume = rng.random((12, 16, 20), dtype=np.float32), rng.integers(0, 9, (12, 16, 20))
    with h5py.File(source / "test_vol_h5" / "case0001.npy.h5", "w") as file:
        file["image"], file["label"] = volume
    return volume


def test_synapse(tmp_path):
    images, labels = write_synapse(tmp_path / "source")
    assert convert_synapse(tmp_path / "source", tmp_path / "synapse", report=silent)
    assert not convert_synapse(tmp_path / "source", tmp_path / "synapse", report=silent)
    stamp = json.loads((tmp_path / "synapse/synapse.json").read_text())
    assert stamp["files"]["val"] == ["case0001.npy.h5"]

    val = build(
        "SynapseVolumeDataset",
        data_root=str(tmp_path / "synapse"),
        data_prefix=dict(img_path="img_dir/val", seg_map_path="ann_dir/val"),
        pipeline=[dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")],
    )
    assert len(val.metainfo["classes"]) == 9
    assert [(s["case"], s["slice_index"]) for s in val] == [("case0001", i) for i in range(12)]
    for index, sample in enumerate(val):
        assert np.abs(sample["img"][..., 0] / 255 - images[index]).max() <= 0.5 / 255 + 1e-6
        assert (sample["gt_seg_map"] == labels[index]).all()
    train = sorted(p.name for p in (tmp_path / "synapse/img_dir/train").iterdir())
    assert train[0] == "case0005_slice000.png"
    assert len(train) == 4


def change(path, **values):
    content = dict(np.load(path)) | values
    np.savez(path, **content)


def test_what_is_wrong_with_synapse_files_is_said(tmp_path):
    source = tmp_path / "source"
    with pytest.raises(FileNotFoundError, match=r"no files for train and val; expected train_npz"):
        convert_synapse(source, tmp_path / "synapse", report=silent)
    write_synapse(source)
    path = source / "train_npz" / "case0006_slice001.npz"
    for values, message in (
        (dict(label=np.full((16, 20), 11)), r"case0006_slice001\.npz: expected labels 0..8"),
        (dict(image=np.full((16, 20), 200.0)), "expected an image in 0..1, got 200.0"),
        (dict(image=np.zeros((3, 20))), r"got \(3, 20\) and \(16, 20\)"),
    ):
        original = path.read_bytes()
        change(path, **values)
        with pytest.raises(ValueError, match=message):
            convert_synapse(source, tmp_path / "synapse", report=silent)
        path.write_bytes(original)
    assert not (tmp_path / "synapse").exists()


def test_names_that_do_not_tell_the_slice_are_refused(tmp_path):
    write(tmp_path / "img_dir/liver.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match=r"liver\.png is not named like case0005_slice012"):
        build(
            "SynapseVolumeDataset",
            data_root=str(tmp_path),
            data_prefix=dict(img_path="img_dir", seg_map_path="img_dir"),
        )


# --- the commands -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["isic", "synapse"])
def test_the_tools_convert_and_say_what_is_wrong_in_one_line(name, tmp_path, capsys):
    arguments = [TOOLS / f"{name}.py", tmp_path / "source", tmp_path / "out"]
    tool, *arguments = map(str, arguments)
    here = runpy.run_path(tool)["main"]  # one process of its own is enough

    assert here(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    write_isic(tmp_path / "source", "2018") if name == "isic" else write_synapse(
        tmp_path / "source"
    )
    command = [sys.executable, tool, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "train: 4" in done.stdout
    assert here(arguments) == 0
    assert "nothing to do" in capsys.readouterr().out
