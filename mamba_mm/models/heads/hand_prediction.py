"""What the heads predict, before and after it becomes instances."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class PointPrediction(NamedTuple):
    """Points of an object, and the camera that sees them.

    Attributes:
        cam: (s, tx, ty) of the crop, (B, 3); see :mod:`mamba_mm.models.body_models.camera`.
        joints_2d: Projected points in units of the crop's height from its centre, (B, K, 2).
        joints_3d: Points in the object's frame, metres, (B, K, 3).
    """

    cam: Tensor
    joints_2d: Tensor
    joints_3d: Tensor

    def instance_fields(self) -> dict[str, Tensor]:
        """Return what instances carry beside their keypoints, by the field's name."""
        return {"keypoints_3d": self.joints_3d, "cam": self.cam}


class HandPrediction(NamedTuple):
    """A hand: parameters, mesh and joints.

    Attributes:
        rotations: Global orientation, then 15 absolute joint rotations in MANO's order,
            (B, 16, 3, 3).
        betas: Shape, (B, 10).
        cam: (s, tx, ty) of the crop, (B, 3); see :mod:`mamba_mm.models.body_models.camera`.
        joints_2d: Projected joints in OpenPose order in units of the crop's height from its
            centre, (B, 21, 2).
        joints_3d: The joints in the model's frame, metres, without translation, (B, 21, 3).
        vertices: The mesh in the same frame, (B, 778, 3).
    """

    rotations: Tensor
    betas: Tensor
    cam: Tensor
    joints_2d: Tensor
    joints_3d: Tensor
    vertices: Tensor

    def instance_fields(self) -> dict[str, Tensor]:
        """Return what instances carry beside their keypoints, by the field's name."""
        return {
            "keypoints_3d": self.joints_3d,
            "vertices": self.vertices,
            "mano_rotations": self.rotations,
            "mano_betas": self.betas,
            "cam": self.cam,
        }
