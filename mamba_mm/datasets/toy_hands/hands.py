"""Hands in front of a camera, with everything that there is to know about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mamba_mm.models.body_models import MANOLayer, axis_angle_to_matrix

from .poses import HandAnatomy
from .views import View, draw_orientation, draw_view

# Metres and radians are rounded to this many digits, which moves no pixel by 0.01.
DIGITS_KEPT = 6

# What mirroring x does to points and, as it turns rotations round, to rotation vectors.
_MIRRORED_POINT = np.array([-1.0, 1, 1])
_MIRRORED_ROTATION = np.array([1.0, -1, -1])


@dataclass(frozen=True)
class Hand:
    """One hand, in metres and radians; camera frame: x right, y down, z forward.

    Args:
        is_right: Which hand it is.
        pose: ``(48,)``, absolute rotation vectors, those of the wrist first. A left hand has the
            pose of the left model: mirroring it in x (y and z negated) gives the right model's.
        betas: ``(10,)``.
        view: The camera.
        vertices: ``(778, 3)``.
        joints: ``(21, 3)``, OpenPose order.
    """

    is_right: bool
    pose: np.ndarray
    betas: np.ndarray
    view: View
    vertices: np.ndarray
    joints: np.ndarray

    @property
    def keypoints(self) -> np.ndarray:
        """The joints in the picture, ``(21, 2)``, pixels."""
        return self.view.project(self.joints)


class HandFactory:
    """Draws hands: ToyMANO in all poses, shapes and orientations.

    Args:
        image_size: Pixels of the sides of the picture.
        orientation_spread: See :func:`~mamba_mm.datasets.toy_hands.views.draw_orientation`.
    """

    def __init__(self, image_size: int, orientation_spread: float) -> None:
        self.image_size = image_size
        self.orientation_spread = orientation_spread
        # In double precision the size of a batch does not tell in the digits that are kept.
        self.layer = MANOLayer("toy").double()
        self.anatomy = HandAnatomy(self.layer.model)
        self._faces = self.layer.faces_closed

    def faces(self, is_right: bool) -> np.ndarray:
        """Return the triangles ``(1552, 3)`` of a hand, wrist closed, normals outwards."""
        return self._faces if is_right else self._faces[:, ::-1]

    def draw(self, rngs: Sequence[np.random.Generator], sides: Sequence[bool]) -> list[Hand]:
        """Draw a batch of hands.

        Args:
            rngs: A generator for each hand.
            sides: Whether it shall be a right one, of the same length.
        """
        poses = np.stack([self._draw_pose(rng) for rng in rngs])
        betas = np.stack([_draw_betas(rng) for rng in rngs])
        with torch.no_grad():
            rotations = axis_angle_to_matrix(torch.from_numpy(poses).unflatten(1, (16, 3)))
            output = self.layer(rotations[:, :1], rotations[:, 1:], torch.from_numpy(betas))
        hands = []
        for i, (rng, is_right) in enumerate(zip(rngs, sides, strict=True)):
            pose, points = poses[i].reshape(16, 3), output.vertices[i].numpy()
            joints = output.joints[i].numpy()
            if not is_right:
                pose = pose * _MIRRORED_ROTATION
                points, joints = points * _MIRRORED_POINT, joints * _MIRRORED_POINT
            view = draw_view(rng, self.image_size)
            shift = view.place(joints)
            hands.append(
                Hand(
                    is_right=is_right,
                    pose=pose.ravel(),
                    betas=betas[i],
                    view=view,
                    vertices=np.round(points + shift, DIGITS_KEPT),
                    joints=np.round(joints + shift, DIGITS_KEPT),
                )
            )
        return hands

    def _draw_pose(self, rng: np.random.Generator) -> np.ndarray:
        fingers = self.anatomy.draw_pose(rng)
        orientation = draw_orientation(rng, self.orientation_spread)
        return np.round(np.concatenate([orientation, fingers]), DIGITS_KEPT)


def _draw_betas(rng: np.random.Generator) -> np.ndarray:
    return np.round(np.clip(rng.normal(size=10), -2, 2), DIGITS_KEPT)
