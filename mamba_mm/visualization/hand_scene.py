"""What a data sample says about the hands in its image, predicted or labelled, ready to draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from mmengine.structures import InstanceData


@dataclass(frozen=True)
class Pinhole:
    """A camera of the image.

    Attributes:
        focal_length: ``(2,)``, pixels.
        principal_point: ``(2,)``, pixels.
    """

    focal_length: np.ndarray
    principal_point: np.ndarray


@dataclass(frozen=True)
class Hand:
    """One hand in space.

    Attributes:
        joints: ``(21, 3)``, metres; x right, y down, z forward.
        joints_known: ``(21,)`` of bool.
        vertices: ``(V, 3)`` in the same frame; ``None`` if there is no mesh.
        camera: The camera in whose frame they are; ``None`` if it is not known.
        is_right: Whether it is a right hand.
    """

    joints: np.ndarray
    joints_known: np.ndarray
    vertices: np.ndarray | None
    camera: Pinhole | None
    is_right: bool


def predicted_hands(instances: InstanceData) -> list[Hand]:
    """Read the predictions of a hand-mesh estimator.

    Of its two cameras the crop's is taken: through it, vertices lie where the network saw them.

    Args:
        instances: ``pred_instances``; without ``keypoints_3d``, or where they are not finite, there
            is no hand in space.
    """
    if "keypoints_3d" not in instances:
        return []
    prefixes = (("crop_camera_translation", "crop_"), ("cam_translation", ""))
    translation, prefix = next((p for p in prefixes if p[0] in instances), (None, ""))
    hands = []
    for index in range(len(instances)):
        shift, camera = np.zeros(3), None
        if translation is not None:
            shift = numbers_of(instances, translation)[index]
            focal_length = numbers_of(instances, f"{prefix}focal_length")[index]
            principal_point = numbers_of(instances, f"{prefix}principal_point")[index]
            camera = Pinhole(np.broadcast_to(focal_length, 2), principal_point)
        joints = numbers_of(instances, "keypoints_3d")[index] + shift
        vertices = None
        if "vertices" in instances:
            vertices = numbers_of(instances, "vertices")[index] + shift
        # A network that has diverged is to be seen in its numbers, not in a drawing that fails.
        if not all(
            np.isfinite(points).all() for points in (joints, vertices) if points is not None
        ):
            continue
        known = np.ones(len(joints), bool)
        hands.append(Hand(joints, known, vertices, camera, _is_set(instances, "is_right", index)))
    return hands


def labelled_hands(instances: InstanceData) -> list[Hand]:
    """Read the 3-D labels of ``gt_instances``; hands that have none are left out."""
    hands = []
    for index in range(len(instances)):
        if "keypoints_cam" not in instances or not _is_set(instances, "has_3d", index):
            continue
        joints = numbers_of(instances, "keypoints_cam")[index]
        known = np.ones(len(joints), bool)
        if "keypoints_cam_valid" in instances:
            known = numbers_of(instances, "keypoints_cam_valid")[index] > 0
        vertices = camera = None
        if "vertices_cam" in instances and _is_set(instances, "has_vertices", index):
            vertices = numbers_of(instances, "vertices_cam")[index]
        if "cam_K" in instances and _is_set(instances, "has_cam", index):
            matrix = numbers_of(instances, "cam_K")[index]
            camera = Pinhole(np.diag(matrix)[:2], matrix[:2, 2])
        hands.append(Hand(joints, known, vertices, camera, _is_set(instances, "is_right", index)))
    return hands


def numbers_of(instances: InstanceData, name: str) -> np.ndarray:
    """Return a field of instances as float64, whether it is an array or a tensor on a device."""
    values = instances[name]
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, np.float64)


def _is_set(instances: InstanceData, flag: str, index: int) -> bool:
    """Whether a flag is set; one that a data set does not have counts as set."""
    return flag not in instances or bool(numbers_of(instances, flag)[index].all())


@dataclass(frozen=True)
class SceneHand:
    """One of several hands in an image.

    Attributes:
        hand: As :func:`predicted_hands` has it: seen through the camera of its crop, it lies where
            the network saw it, but its depth cannot be compared with that of another hand.
        in_image: ``(3,)``, metres: added to the hand's points it gives the frame of the image's
            camera, the same for all hands.
        index: Its number among the instances.
    """

    hand: Hand
    in_image: np.ndarray
    index: int

    @property
    def vertices_in_image(self) -> np.ndarray:
        """The vertices ``(V, 3)`` in the frame of the image's camera."""
        return self.hand.vertices + self.in_image


def predicted_scene(instances: InstanceData) -> list[SceneHand]:
    """Read the predictions for an image with any number of hands.

    Args:
        instances: ``pred_instances`` of a hand-mesh estimator; hands that are not finite are left
            out.
    """
    scene = []
    for index in range(len(instances)):
        (hand,) = predicted_hands(instances[index : index + 1]) or (None,)
        if hand is not None:
            shift = numbers_of(instances, "cam_translation")[index]
            own = numbers_of(instances, "crop_camera_translation")[index]
            scene.append(SceneHand(hand, shift - own, index))
    return scene
