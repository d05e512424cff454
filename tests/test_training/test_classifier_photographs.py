"""VMamba learns to tell persons from hands, on photographs, through MMPretrain's own scripts."""

import json

import pytest
from training_runs import CONFIGS, DATA_DIR, run_script, train_and_test

pytest.importorskip("mmpretrain")
cv2 = pytest.importorskip("cv2")

CONFIG = CONFIGS / "mmpretrain" / "vmamba" / "vmamba-nano_image-folder-96x96.py"
PHOTOGRAPHS = {
    "person": ("coco/test_coco.json",),
    "hand": (
        *("freihand/test_freihand.json", "onehand10k/test_onehand10k.json"),
        "interhand2.6m/test_interhand2.6m_data.json",
    ),
}
LEAST_SIDE = 32  # in pixels of the photograph; what is thinner is hardly to be recognised


def write_crops(folder):
    """Cut the annotated boxes out of the photographs, into a subfolder a class."""
    for label, files in PHOTOGRAPHS.items():
        (folder / label).mkdir(parents=True)
        for file in map(DATA_DIR.joinpath, files):
            content = json.loads(file.read_text())
            names = {image["id"]: image["file_name"] for image in content["images"]}
            for annotation in content["annotations"]:
                x, y, width, height = (max(round(value), 0) for value in annotation["bbox"])
                if min(width, height) < LEAST_SIDE:
                    continue
                (path,) = file.parent.rglob(names[annotation["image_id"]])
                crop = cv2.imread(str(path))[y : y + height, x : x + width]
                cv2.imwrite(str(folder / label / f"{path.stem}-{annotation['id']}.png"), crop)


@pytest.mark.slow
@pytest.mark.skipif(
    not all((DATA_DIR / file).is_file() for files in PHOTOGRAPHS.values() for file in files),
    reason=f"no photographs in {DATA_DIR}; set MAMBA_MM_DATA_DIR",
)
def test_persons_and_hands_are_told_apart(tmp_path):
    folder = tmp_path / "crops"
    write_crops(folder)
    count = len(list(folder.rglob("*.png")))
    assert count == 27

    metrics, _, pictures = train_and_test(
        CONFIG, tmp_path, run=run_script, MAMBA_MM_IMAGE_FOLDER=folder
    )
    assert metrics["accuracy/top1"] >= 95
    assert len(pictures) == count
