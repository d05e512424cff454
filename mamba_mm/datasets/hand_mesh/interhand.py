"""InterHand2.6M: single and interacting hands from many calibrated cameras."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from mmengine.logging import print_log
from mmpose.datasets.datasets.base import BaseCocoStyleDataset

from .label_fields import box_around, every_nth, field, numbers
from .metainfo import NUM_JOINTS, hand_metainfo
from .pose_basis import PoseBasis, mirrored_mean, right_basis, turned
from .projection import project
from .record import check_plausible_hands, hand_record

INTERHAND_TO_OPENPOSE: tuple[int, ...] = (
    20,
    *(3, 2, 1, 0),
    *(7, 6, 5, 4),
    *(11, 10, 9, 8),
    *(15, 14, 13, 12),
    *(19, 18, 17, 16),
)
"""Joint i in OpenPose order is joint ``INTERHAND_TO_OPENPOSE[i]`` of a hand in InterHand2.6M, whose
fingers run from the tip to the palm and whose wrist is last. Left hands follow right hands."""

_SIDES = {"right": (True,), "left": (False,), "interacting": (True, False)}
_NUM_BOTH = 2 * NUM_JOINTS
_CHUNK = 65536


class _Camera(NamedTuple):
    """A point X of the world, in millimetres, is at ``rotation @ (X - position)``."""

    rotation: np.ndarray
    position: np.ndarray
    intrinsics: np.ndarray


class InterHandMeshDataset(BaseCocoStyleDataset):
    """Hands of InterHand2.6M (Moon et al., ECCV 2020), of both sides, one a sample.

    Reads the files of MMPose, which are the released ones: an annotation for each image, cameras
    and world coordinates by capture. Joints come out in metres and in the frame of the camera, and
    each hand has the tight box around its own joints; the boxes of the file hold both hands.

    The released fits of MANO (``InterHand2.6M_*_MANO_NeuralAnnot.json``) can be added. Their
    poses are in the world frame and relative to the mean, so the MANO file is needed to read
    them (as the authors answer in issues 29 and 98 of their repository; the mean of left hands is
    taken for the mirror image of that of right ones, which is unverified). They were fitted to
    the joints with differences of about 5 mm.

    Args:
        ann_file: Images and annotations (``..._data.json``).
        camera_param_file: Cameras (``..._camera.json``).
        joint_file: Joints in the world (``..._joint_3d.json``).
        mano_file: Fits of MANO; ``None`` leaves them out.
        mano_path: File of the right hand's model, as in ``resolve_mano``. ``None`` takes the
            environment variable ``MAMBA_MM_MANO``, and without that leaves the fits out.
        min_joints: Hands with fewer valid joints are left out; the log says how many.
        data_root: Folder that the files are relative to.
        data_prefix: As in MMPose.
        metainfo: As in MMPose.
        indices: As in MMPose; counts hands.
        serialize_data: As in MMPose.
        pipeline: As in MMPose.
        test_mode: As in MMPose.
        lazy_init: As in MMPose.
        max_refetch: As in MMPose.
        sample_interval: Only every n-th image, as videos repeat themselves.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: An argument or a file has unusable content.
    """

    METAINFO: ClassVar[dict] = hand_metainfo("interhand_mesh")

    def __init__(
        self,
        ann_file: str,
        camera_param_file: str,
        joint_file: str,
        mano_file: str | None = None,
        mano_path: str | None = None,
        min_joints: int = 5,
        data_root: str | None = None,
        data_prefix: dict | None = None,
        metainfo: dict | None = None,
        indices: int | Sequence[int] | None = None,
        serialize_data: bool = True,
        pipeline: Sequence[dict | Callable] = (),
        test_mode: bool = False,
        lazy_init: bool = False,
        max_refetch: int = 1000,
        sample_interval: int = 1,
    ) -> None:
        if not 1 < min_joints <= NUM_JOINTS:
            raise ValueError(
                f"InterHandMeshDataset: min_joints must be 2 to {NUM_JOINTS}, got {min_joints}"
            )
        root = Path(data_root or "")
        self.camera_param_file = root / camera_param_file
        self.joint_file = root / joint_file
        self.mano_file = None if mano_file is None else root / mano_file
        self.mano_path = mano_path
        self.min_joints = min_joints
        super().__init__(
            ann_file=ann_file,
            data_root=data_root,
            data_prefix={"img": ""} if data_prefix is None else data_prefix,
            metainfo=metainfo,
            indices=indices,
            serialize_data=serialize_data,
            pipeline=list(pipeline),
            test_mode=test_mode,
            lazy_init=lazy_init,
            max_refetch=max_refetch,
            sample_interval=sample_interval,
        )

    def load_data_list(self) -> list[dict]:
        """Read the files and list the hands; joints stay with their frames.

        Returns:
            For every hand the image, the frame, and which joints are valid.
        """
        self._cameras = _read_cameras(self.camera_param_file)
        self._frames = _read_joints(self.joint_file)
        self._basis, self._fits = self._read_fits()
        hands = list(self._hands(_read_json(Path(self.ann_file))))
        kept = [hand for hand in hands if hand["valid"].sum() >= self.min_joints]
        if len(kept) < len(hands):
            print_log(
                f"{self.ann_file}: left out {len(hands) - len(kept)} of {len(hands)} hands, which "
                f"have fewer than {self.min_joints} valid joints",
                "current",
            )
        if not kept:
            raise ValueError(f"InterHandMeshDataset: {self.ann_file} has no usable hand")
        self._check_hands(kept)
        return kept

    def get_data_info(self, idx: int) -> dict:
        """Return the record of a sample, with what MMPose adds.

        Args:
            idx: Index of the sample.

        Returns:
            What :func:`hand_record` returns, and the metainfo that MMPose's transforms use.
        """
        info = super().get_data_info(idx)
        hand = {name: info.pop(name) for name in ("capture", "camera", "frame", "right", "valid")}
        return info | self._record(hand, info)

    def _hands(self, document: dict) -> Iterator[dict]:
        """The hands of the annotations, whatever their number of valid joints."""
        source = f"InterHandMeshDataset: {self.ann_file}"
        images = {image["id"]: image for image in field(source, document, "images")}
        annotations = field(source, document, "annotations")
        for annotation in every_nth(annotations, self.sample_interval, "InterHandMeshDataset"):
            source = f"annotation {annotation.get('id')} of {self.ann_file}"
            if annotation.get("image_id") not in images:
                raise ValueError(f"{source} is of image {annotation.get('image_id')}, not in file")
            yield from self._hands_of(source, annotation, images[annotation["image_id"]])

    def _hands_of(self, source: str, annotation: dict, image: dict) -> Iterator[dict]:
        capture, frame = (
            str(field(source, image, "capture")),
            str(field(source, image, "frame_idx")),
        )
        camera = str(field(source, image, "camera"))
        side = field(source, annotation, "hand_type")
        if side not in _SIDES:
            raise ValueError(f"{source}: hand_type is {side!r}, expected {', '.join(_SIDES)}")
        if (capture, camera) not in self._cameras:
            raise ValueError(
                f"{source}: camera {camera} of capture {capture} is not in {self.camera_param_file}"
            )
        if (capture, frame) not in self._frames:
            raise ValueError(
                f"{source}: frame {frame} of capture {capture} is not in {self.joint_file}"
            )
        valid = _flags(source, annotation) & self._frames[capture, frame].valid
        for right in _SIDES[side]:
            yield dict(
                img_id=image["id"],
                id=2 * annotation["id"] + (not right),
                img_path=str(Path(self.data_prefix["img"]) / field(source, image, "file_name")),
                capture=capture,
                camera=camera,
                frame=frame,
                right=right,
                valid=_of_side(valid, right),
            )

    def _check_hands(self, hands: Sequence[dict]) -> None:
        """Refuse implausible hands at once, not when an epoch reaches them."""
        for start in range(0, len(hands), _CHUNK):
            chunk = hands[start : start + _CHUNK]
            joints = np.stack([self._joints(hand) for hand in chunk])
            valid = np.stack([hand["valid"] for hand in chunk])
            check_plausible_hands(
                joints, valid, lambda index, chunk=chunk: self._source(chunk[index])
            )

    def _source(self, hand: dict) -> str:
        side = "right" if hand["right"] else "left"
        return (
            f"the {side} hand of capture {hand['capture']}, frame {hand['frame']}, camera "
            f"{hand['camera']} of {self.joint_file}"
        )

    def _joints(self, hand: dict) -> np.ndarray:
        """Joints in metres, in OpenPose order and the camera frame; those not valid are nowhere."""
        camera = self._cameras[hand["capture"], hand["camera"]]
        world = _of_side(self._frames[hand["capture"], hand["frame"]].joints, hand["right"])
        return (world - camera.position) @ camera.rotation.T / 1000

    def _record(self, hand: dict, info: dict) -> dict:
        camera = self._cameras[hand["capture"], hand["camera"]]
        joints, valid = self._joints(hand), hand["valid"]
        keypoints = np.zeros((NUM_JOINTS, 2))
        keypoints[valid] = project(joints[valid], camera.intrinsics)
        pose, betas = self._fit(hand, camera)
        return hand_record(
            self._source(hand),
            img_path=info["img_path"],
            img_id=info["img_id"],
            id=info["id"],
            bbox=box_around(keypoints[valid]),
            is_right=hand["right"],
            keypoints=keypoints,
            keypoints_visible=valid,
            keypoints_cam=joints,
            keypoints_cam_valid=valid,
            mano_pose=pose,
            mano_betas=betas,
            cam_K=camera.intrinsics,
        )

    def _read_fits(self) -> tuple[PoseBasis | None, dict]:
        if self.mano_file is None:
            return None, {}
        basis = right_basis("InterHandMeshDataset", self.mano_path)
        return basis, {} if basis is None else _read_json(self.mano_file)

    def _fit(self, hand: dict, camera: _Camera) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Absolute pose in the camera frame, and shape; ``None`` for hands that have no fit."""
        side = "right" if hand["right"] else "left"
        fits = self._fits.get(hand["capture"], {}).get(hand["frame"], {})
        fit = fits.get(side)
        if fit is None:
            return None, None
        source = f"{self._source(hand)} in {self.mano_file}"
        pose = numbers(source, "pose", field(source, fit, "pose"), (48,))
        betas = numbers(source, "shape", field(source, fit, "shape"), (10,))
        pose[3:] += self._basis.mean if hand["right"] else mirrored_mean(self._basis)
        return turned(pose, camera.rotation), betas


class _Frame(NamedTuple):
    """Joints of both hands in the world, (42, 3), and which of them are known, (42,)."""

    joints: np.ndarray
    valid: np.ndarray


def _of_side(both: np.ndarray, right: bool) -> np.ndarray:
    """The half (21, ...) of one hand out of (42, ...), in OpenPose order."""
    half = both[:NUM_JOINTS] if right else both[NUM_JOINTS:]
    return half[list(INTERHAND_TO_OPENPOSE)]


def _flags(source: str, labels: dict) -> np.ndarray:
    """Which of the 42 joints are valid; the files have lists, and lists of lists of one."""
    flags = np.ravel(field(source, labels, "joint_valid"))
    return numbers(source, "joint_valid", flags, (_NUM_BOTH,)) > 0


def _read_json(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(
            f"InterHandMeshDataset: {path} is not there; the annotations of InterHand2.6M are "
            "described at https://mks0601.github.io/InterHand2.6M/"
        )
    document = json.loads(path.read_text())
    if not isinstance(document, dict):
        raise ValueError(f"InterHandMeshDataset: {path} holds no JSON object")
    return document


def _read_cameras(path: Path) -> dict[tuple[str, str], _Camera]:
    cameras = {}
    for capture, tables in _read_json(path).items():
        source = f"capture {capture} of {path}"
        positions = field(source, tables, "campos")
        for name in positions:
            source = f"camera {name} of capture {capture} of {path}"
            position, rotation, focal, principal = (
                numbers(source, key, field(source, field(source, tables, key), name), shape)
                for key, shape in (
                    ("campos", (3,)),
                    ("camrot", (3, 3)),
                    ("focal", (2,)),
                    ("princpt", (2,)),
                )
            )
            _check_rotation(source, rotation)
            intrinsics = np.diag([*focal, 1.0])
            intrinsics[:2, 2] = principal
            cameras[capture, name] = _Camera(rotation, position, intrinsics)
    return cameras


def _check_rotation(source: str, rotation: np.ndarray) -> None:
    error = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if error > 1e-3 or np.linalg.det(rotation) < 0:
        raise ValueError(f"{source}: camrot is no rotation matrix")


def _read_joints(path: Path) -> dict[tuple[str, str], _Frame]:
    frames = {}
    for capture, table in _read_json(path).items():
        for frame, labels in table.items():
            source = f"frame {frame} of capture {capture} of {path}"
            valid = _flags(source, labels)
            joints = np.array(field(source, labels, "world_coord"), np.float64)
            if joints.shape == (_NUM_BOTH, 3):
                joints[~valid] = 0  # placeholders, which may be anything
            frames[capture, frame] = _Frame(
                numbers(source, "world_coord", joints, (_NUM_BOTH, 3)), valid
            )
    return frames
