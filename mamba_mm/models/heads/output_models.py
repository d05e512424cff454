"""What the numbers of a head mean.

An output model says how many numbers of which name there are (``sizes``), how many points they
make (``num_joints``), which losses apply to them (``loss_terms``), and turns offsets from its mean
parameters into points. All else of a head is the same for hands, and for anything else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mamba_mm.registry import MODELS

from ..body_models.camera import project_crop
from ..body_models.rotations import rotation_6d_to_matrix
from .hand_prediction import HandPrediction, PointPrediction
from .mean_params import CAM_INIT, check_cam, default_mean_parameters, load_mean_parameters


class OutputModel(nn.Module, ABC):
    """Base of the output models: mean parameters, and full precision.

    The means are no part of a state dict: those of a hand come from a licensed model.

    Args:
        means: A vector for each parameter, by name. Its length is the parameter's size.
        cam_scale_min: Depth is computed with at least this scale of the camera.
    """

    num_joints: int
    loss_terms: tuple[str, ...]

    def __init__(self, means: Mapping[str, Tensor], cam_scale_min: float) -> None:
        super().__init__()
        if cam_scale_min <= 0:
            raise ValueError(
                f"{type(self).__name__}: cam_scale_min must be positive, got {cam_scale_min}"
            )
        self.cam_scale_min = cam_scale_min
        self.sizes = {name: mean.numel() for name, mean in means.items()}
        for name, mean in means.items():
            self.register_buffer(f"mean_{name}", mean.clone(), persistent=False)

    def forward(self, offsets: Mapping[str, Tensor]) -> HandPrediction | PointPrediction:
        """Turn offsets from the means, (B, size) each, into a prediction.

        Autocast is off inside, and 16-bit offsets are cast to float32.
        """
        with torch.autocast(offsets["cam"].device.type, enabled=False):
            parameters = {
                name: getattr(self, f"mean_{name}") + _at_least_float32(offsets[name])
                for name in self.sizes
            }
            return self.decode(**parameters)

    @abstractmethod
    def decode(self, **parameters: Tensor) -> HandPrediction | PointPrediction:
        """Turn parameters, (B, size) each, into a prediction."""


@MODELS.register_module()
class MANOOutputModel(OutputModel):
    """Pose, shape and camera, which MANO turns into joints and a mesh.

    Args:
        mano: Arguments of :class:`mamba_mm.MANOLayer`, such as ``dict(mano_path="toy")``.
        mean_params: File of mean parameters; ``None`` takes those of
            :func:`~mamba_mm.models.heads.mean_params.default_mean_parameters`.
        layout: Layout of the rotations in that file, ``"columns"`` or ``"interleaved"``.
        cam_init: Mean camera (s, tx, ty) with s > 0; ``None`` takes the file's, and without a
            file (8, 0, 0).
        cam_scale_min: Depth is computed with at least this scale of the camera.

    Raises:
        ValueError: When the file or the camera is not usable.
    """

    num_joints = 21
    loss_terms = ("kpt2d", "kpt3d", "global_orient", "hand_pose", "betas", "verts")

    def __init__(
        self,
        mano: Mapping[str, Any] | None = None,
        mean_params: str | Path | None = None,
        layout: str = "columns",
        cam_init: Sequence[float] | None = None,
        cam_scale_min: float = 0.1,
    ) -> None:
        layer = MODELS.build({"type": "mamba_mm.MANOLayer", **(mano or {})})
        if mean_params is None:
            means = default_mean_parameters(layer.hands_mean, cam_init or CAM_INIT)
        else:
            means = load_mean_parameters(mean_params, layout, cam_init)
        super().__init__(means._asdict(), cam_scale_min)
        self.mano = layer

    def decode(self, pose: Tensor, betas: Tensor, cam: Tensor) -> HandPrediction:
        """Pose the hand and project its joints.

        Args:
            pose: Six numbers a rotation, (B, 96).
            betas: Shape, (B, 10).
            cam: (s, tx, ty), (B, 3).
        """
        rotations = rotation_6d_to_matrix(pose.unflatten(1, (16, 6)))
        hand = self.mano(rotations[:, :1], rotations[:, 1:], betas)
        joints_2d = project_crop(hand.joints, cam, self.cam_scale_min)
        return HandPrediction(rotations, betas, cam, joints_2d, hand.joints, hand.vertices)


@MODELS.register_module()
class DirectOutputModel(OutputModel):
    """Points in space and a camera, without a model of the object.

    Such as the eight points that stand for the pose of a rigid object.

    Args:
        num_joints: Number of points.
        mean_points: Their mean positions in metres, ``num_joints`` of three; the origin by
            default.
        cam_init: Mean camera (s, tx, ty) with s > 0.
        cam_scale_min: Depth is computed with at least this scale of the camera.

    Raises:
        ValueError: When the mean points are not as many, or the camera is not usable.
    """

    loss_terms = ("kpt2d", "kpt3d")

    def __init__(
        self,
        num_joints: int,
        mean_points: Sequence[Sequence[float]] | None = None,
        cam_init: Sequence[float] = CAM_INIT,
        cam_scale_min: float = 0.1,
    ) -> None:
        points = torch.zeros(num_joints, 3, device="cpu")
        if mean_points is not None:
            points = torch.tensor(mean_points, dtype=torch.float32, device="cpu")
        if points.shape != (num_joints, 3):
            raise ValueError(
                f"DirectOutputModel: mean_points must be {num_joints} points of three numbers, "
                f"got {tuple(points.shape)}"
            )
        cam = check_cam(cam_init, "cam_init")
        super().__init__(dict(points=points.flatten(), cam=cam), cam_scale_min)
        self.num_joints = num_joints

    def decode(self, points: Tensor, cam: Tensor) -> PointPrediction:
        """Project the points.

        Args:
            points: Positions, (B, 3 num_joints).
            cam: (s, tx, ty), (B, 3).
        """
        joints_3d = points.unflatten(1, (self.num_joints, 3))
        joints_2d = project_crop(joints_3d, cam, self.cam_scale_min)
        return PointPrediction(cam, joints_2d, joints_3d)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
