"""What a data sample says about the object in its image, predicted or labelled, ready to draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from mmengine.structures import InstanceData

from .hand_scene import Pinhole


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
    """Read the poses of ``gt_instances``."""
    return _objects(truth, truth, "object")


def predicted_objects(
    found: InstanceData, truth: InstanceData, pose: str = "pnp"
) -> list[PosedObject]:
    """Read the poses of ``pred_instances``; where they are not finite, there is no object.

    Args:
        found: The predictions.
        truth: ``gt_instances``, which have the camera.
        pose: Which recovered pose, ``"pnp"`` or ``"fit"``.
    """
    return _objects(found, truth, pose)


def _objects(instances: InstanceData, truth: InstanceData, prefix: str) -> list[PosedObject]:
    names = [f"{prefix}_rotation", f"{prefix}_translation", "object_label"]
    if any(name not in instances for name in names) or "cam_K" not in truth:
        return []
    objects = []
    for index in range(len(instances)):
        rotation, translation, label = (_numbers(instances, name)[index] for name in names)
        matrix = _numbers(truth, "cam_K")[index]
        if np.isfinite(rotation).all() and np.isfinite(translation).all():
            camera = Pinhole(np.diag(matrix)[:2], matrix[:2, 2])
            objects.append(PosedObject(int(label), rotation, translation, camera))
    return objects


def _numbers(instances: InstanceData, name: str) -> np.ndarray:
    values = instances[name]
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, np.float64)
