"""Predicted hands as JSON, and back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from mmengine.structures import InstanceData
from mmpose.structures import PoseDataSample

from .hand_boxes import is_right_side

FORMAT = "mamba_mm hand meshes"
VERSION = 1

UNITS = dict(
    keypoints="pixels of the image, 21 joints in OpenPose order; integers at pixel centres",
    keypoint_scores="always 1: nothing in the model estimates a confidence",
    bbox="pixels of the image: left, top, right, bottom, without padding",
    bbox_score="confidence of the detector, 1 for given boxes",
    keypoints_3d="metres, in the hand's own frame: x right, y down, z forward",
    vertices="metres, in the same frame, MANO's order",
    camera="translation in metres, added to a point of the hand's frame it gives the frame of "
    "the image's pinhole camera, the same for all hands; focal_length and principal_point in "
    "pixels; where is_assumed, the focal length is a guess and depths are not metric",
    crop_camera="likewise, the camera through which the hand falls on the image exactly where "
    "the network saw it; another one for each hand",
    mano="rotation matrices, global_orient 3 x 3 and hand_pose 15 x 3 x 3 in MANO's order, and "
    "shape coefficients; those of a right hand: mirror the mesh in x for a left one",
)
"""What the numbers of a hand are."""

# Field of the instances, by the place in the record of a hand.
_CAMERAS = {
    "camera": dict(
        translation="cam_translation",
        focal_length="focal_length",
        principal_point="principal_point",
    ),
    "crop_camera": dict(
        translation="crop_camera_translation",
        focal_length="crop_focal_length",
        principal_point="crop_principal_point",
    ),
}
_ARRAYS = ("keypoints", "keypoint_scores", "keypoints_3d")


def picture_record(sample: PoseDataSample, with_vertices: bool = False) -> dict:
    """Describe the hands of a picture in numbers, strings, lists and dicts alone.

    Args:
        sample: What ``HandMeshInferencer`` predicts.
        with_vertices: Whether to add the vertices, 778 x 3 numbers a hand.
    """
    height, width = sample.ori_shape[:2]
    hands = sample.pred_instances
    return dict(
        image=sample.img_path,
        index=sample.frame_index,
        width=width,
        height=height,
        hands=[
            _hand_record(hands, index, sample.camera_is_assumed, with_vertices)
            for index in range(len(hands))
        ],
    )


def sample_of_record(record: dict) -> PoseDataSample:
    """Undo :func:`picture_record`, to draw a picture from a file, for instance.

    Raises:
        ValueError: Something is missing, or is no array of numbers.
    """
    try:
        hands = [_hand_of_record(hand) for hand in record["hands"]]
        assumed = [hand["camera"]["is_assumed"] for hand in record["hands"]]
        sample = PoseDataSample(
            metainfo=dict(
                img_path=record["image"],
                frame_index=record["index"],
                ori_shape=(record["height"], record["width"]),
                camera_is_assumed=all(assumed),
            )
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not the record of a picture: {error!r}") from None
    sample.pred_instances = InstanceData.cat(hands) if hands else no_hands()
    return sample


def no_hands() -> InstanceData:
    """Return the instances of a picture without a hand."""
    shapes = dict(
        keypoints=(21, 2),
        keypoint_scores=(21,),
        keypoints_3d=(21, 3),
        vertices=(778, 3),
        bboxes=(4,),
        bbox_scores=(),
        is_right=(),
    )
    return InstanceData(
        **{name: np.zeros((0, *shape), np.float32) for name, shape in shapes.items()}
    )


class ResultsFile:
    """A file of pictures' records, which appears under its name when it is complete.

    Records go to the disk one by one: those of a long video would fill the memory.

    Args:
        path: The file; its folder is made.
        about: Anything else to say: the model, whether test-time augmentation was used.
    """

    def __init__(self, path: Path, about: dict) -> None:
        self.path = path
        self._unfinished = path.with_name(f"{path.name}.part")
        head = dict(format=FORMAT, version=VERSION, **about, units=UNITS)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._unfinished.open("w", encoding="utf-8")
        self._file.write(json.dumps(head, allow_nan=False, indent=1).removesuffix("\n}"))
        self._file.write(',\n "pictures": [')
        self._separator = "\n"

    def add(self, picture: dict) -> None:
        """Append the record of a picture, from :func:`picture_record`."""
        self._file.write(self._separator + json.dumps(picture, allow_nan=False))
        self._separator = ",\n"

    def finish(self) -> Path:
        """Complete the file, and return it."""
        self._file.write("\n ]\n}\n")
        self._file.close()
        os.replace(self._unfinished, self.path)
        return self.path

    def discard(self) -> None:
        """Leave no file behind."""
        self._file.close()
        self._unfinished.unlink(missing_ok=True)


def write_results(path: Path, pictures: list[dict], about: dict) -> Path:
    """Write the records of an input's pictures, whole or not at all.

    Args:
        path: The file.
        pictures: From :func:`picture_record`.
        about: As in :class:`ResultsFile`.

    Returns:
        The file.
    """
    file = ResultsFile(path, about)
    try:
        for picture in pictures:
            file.add(picture)
        return file.finish()
    except BaseException:
        file.discard()
        raise


def read_results(path: str | Path) -> tuple[list[PoseDataSample], dict]:
    """Read a file of :func:`write_results`.

    Args:
        path: The file.

    Returns:
        The samples of its pictures, and what else it says.

    Raises:
        ValueError: It is not such a file.
    """
    try:
        content = json.loads(Path(path).read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is not a file of hand meshes: its 'format' is not {FORMAT!r}")
    if content.get("version") != VERSION:
        raise ValueError(
            f"{path} is of version {content.get('version')} of the format, this program reads "
            f"{VERSION}"
        )
    try:
        samples = [sample_of_record(record) for record in content.pop("pictures")]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    return samples, content


def _hand_record(
    hands: InstanceData, index: int, camera_is_assumed: bool, with_vertices: bool
) -> dict:
    def listed(name: str) -> list | float:
        return _rounded(hands[name][index])

    record = dict(
        side="right" if hands.is_right[index] else "left",
        bbox=listed("bboxes"),
        bbox_score=listed("bbox_scores"),
        **{name: listed(name) for name in _ARRAYS},
        **{
            camera: {name: listed(field) for name, field in fields.items()}
            for camera, fields in _CAMERAS.items()
        },
    )
    record["camera"]["is_assumed"] = camera_is_assumed
    if "mano_rotations" in hands:
        rotations = listed("mano_rotations")
        record["mano"] = dict(
            global_orient=rotations[0], hand_pose=rotations[1:], betas=listed("mano_betas")
        )
    if with_vertices and "vertices" in hands:
        record["vertices"] = listed("vertices")
    return record


def _hand_of_record(record: dict) -> InstanceData:
    fields = dict(
        is_right=float(is_right_side(record["side"])),
        bboxes=record["bbox"],
        bbox_scores=record["bbox_score"],
        **{name: record[name] for name in _ARRAYS},
    )
    for camera, names in _CAMERAS.items():
        fields |= {field: record[camera][name] for name, field in names.items()}
    if "mano" in record:
        mano = record["mano"]
        fields["mano_rotations"] = [mano["global_orient"], *mano["hand_pose"]]
        fields["mano_betas"] = mano["betas"]
    if "vertices" in record:
        fields["vertices"] = record["vertices"]
    return InstanceData(
        **{name: np.asarray(value, np.float32)[None] for name, value in fields.items()}
    )


def _rounded(values: np.ndarray) -> list | float:
    """Shortest decimals that give the same float32; infinities and NaN as ``None``."""
    if np.ndim(values) == 0:
        return float(str(np.float32(values))) if np.isfinite(values) else None
    return [_rounded(value) for value in values]
