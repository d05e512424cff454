"""Data sets of keypoints with four images of noise, in the layout of the real ones.

Each writes a split's annotations and images below ``data/``, where MMPose's configs look.
"""

import json

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")

NUM_HANDS = 21
NUM_BODY = 17


def write_all(data):
    """Write the five sets below a folder ``data``."""
    for split in ("train", "val"):
        _coco(data / "coco", split)
        _coco_wholebody(data / "coco", split)
    for folder, splits in (
        ("freihand", ("train", "val", "test")),
        ("onehand10k", ("train", "test")),
        ("rhd", ("train", "test")),
    ):
        for split in splits:
            _hands(data / folder, f"{folder}_{split}")


def _coco(root, split):
    """Persons, with the detections that MMPose evaluates on beside the true boxes."""
    instances = _instances(NUM_BODY)
    _write(root, f"person_keypoints_{split}2017", f"{split}2017", instances, NUM_BODY)
    if split == "val":
        detections = root / "person_detection_results"
        detections.mkdir()
        found = [
            {name: instance[name] for name in ("image_id", "category_id", "bbox")} | {"score": 0.9}
            for instance in instances
        ]
        name = "COCO_val2017_detections_AP_H_56_person.json"
        (detections / name).write_text(json.dumps(found))


def _coco_wholebody(root, split):
    """Persons with a hand: the right one is out of sight."""
    instances = _instances(NUM_BODY)
    for instance, hand in zip(instances, _instances(NUM_HANDS), strict=True):
        instance |= {
            "lefthand_valid": True,
            "lefthand_box": hand["bbox"],
            "lefthand_kpts": hand["keypoints"],
            "righthand_valid": False,
            "righthand_box": [0.0] * 4,
            "righthand_kpts": [0.0] * 3 * NUM_HANDS,
        }
    _write(root, f"coco_wholebody_{split}_v1.0", f"{split}2017", instances, NUM_BODY)


def _hands(root, name):
    _write(root, name, "", _instances(NUM_HANDS), NUM_HANDS)


def _instances(num_keypoints):
    """One person or hand an image, the keypoints anywhere in its box."""
    random = np.random.RandomState(num_keypoints)
    instances = []
    for i in range(4):
        box = [20.0 + i, 30.0, 120.0, 160.0]
        points = box[:2] + random.rand(num_keypoints, 2) * box[2:]
        seen = np.full((num_keypoints, 1), 2)
        instances.append(
            {
                "id": i,
                "image_id": i,
                "category_id": 1,
                "iscrowd": 0,
                "area": box[2] * box[3],
                "bbox": box,
                "segmentation": [],
                "num_keypoints": num_keypoints,
                "keypoints": np.hstack([points, seen]).ravel().tolist(),
            }
        )
    return instances


def _write(root, name, folder, instances, num_keypoints):
    """Write an annotation file and the images of 224 x 224 pixels that it names."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "annotations").mkdir(exist_ok=True)
    images = []
    for instance in instances:
        i = instance["image_id"]
        noise = np.random.RandomState(i).randint(0, 255, (224, 224, 3)).astype(np.uint8)
        cv2.imwrite(str(root / folder / f"{i}.jpg"), noise)
        images.append({"id": i, "file_name": f"{i}.jpg", "height": 224, "width": 224})
    names = [f"point{i}" for i in range(num_keypoints)]
    category = {"id": 1, "name": "person", "keypoints": names, "skeleton": []}
    content = {"images": images, "annotations": instances, "categories": [category]}
    (root / "annotations" / f"{name}.json").write_text(json.dumps(content))
