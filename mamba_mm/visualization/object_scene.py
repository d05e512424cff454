"""What a data sample says about the object in its image, predicted or labelled, ready to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mmengine.structures import InstanceData

from .hand_scene import Pinhole, numbers_of


@dataclass(frozen=True)
class PosedObject:
    """An object in space.

    Attributes:
        label: Its class.
        rotation: ``(3, 3)``, from the object's to the camera's frame.
        translation: ``(3,)``, metres.
        camera: The camera in whose frame it is.
    """

    label: int
    rotation: np.ndarray
    translation: np.ndarray
    camera: Pinhole


def labelled_objects(truth: InstanceData) -> list[PosedObject]:
    """Read the poses of ``gt_instances``; without a known camera there are none to draw."""
    return _objects(truth, "object", _known_cameras(truth))


def predicted_objects(
    found: InstanceData, truth: InstanceData, pose: str = "pnp"
) -> list[PosedObject]:
    """Read the poses of ``pred_instances``; where they are not finite, there is no object.

    Args:
        found: The predictions, which have the camera where it was assumed.
        truth: ``gt_instances``, which have it where it is known.
        pose: Which recovered pose, ``"pnp"`` or ``"fit"``.
    """
    return _objects(found, pose, _known_cameras(truth) or _assumed_cameras(found))


def _objects(instances: InstanceData, prefix: str, cameras: Sequence[Pinhole]) -> list[PosedObject]:
    names = [f"{prefix}_rotation", f"{prefix}_translation", "object_label"]
    if any(name not in instances for name in names):
        return []
    poses = zip(*(numbers_of(instances, name) for name in names), cameras, strict=False)
    return [
        PosedObject(int(label), rotation, translation, camera)
        for rotation, translation, label, camera in poses
        if np.isfinite(rotation).all() and np.isfinite(translation).all()
    ]


def _known_cameras(truth: InstanceData) -> list[Pinhole]:
    """Of the objects of an image, all or none."""
    is_known = "cam_K" in truth and ("has_cam" not in truth or numbers_of(truth, "has_cam").all())
    matrices = numbers_of(truth, "cam_K") if is_known else ()
    return [Pinhole(np.diag(matrix)[:2], matrix[:2, 2]) for matrix in matrices]


def _assumed_cameras(found: InstanceData) -> list[Pinhole]:
    if "focal_length" not in found:
        return []
    return [
        Pinhole(np.broadcast_to(focal_length, 2), principal_point)
        for focal_length, principal_point in zip(
            numbers_of(found, "focal_length"), numbers_of(found, "principal_point"), strict=True
        )
    ]
