"""What the numbers of a head mean for rigid objects of several classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from mamba_mm.registry import MODELS

from ..body_models.camera import project_crop
from .hand_prediction import PointPrediction
from .mean_params import check_cam
from .output_models import OutputModel

CAM_INIT = (0.9, 0.0, 0.0)
"""The object's diameter then covers 90 % of the crop's height."""


@MODELS.register_module()
class ClassPointsOutputModel(OutputModel):
    """Points on the surface of a rigid object, for each class their own, and a camera.

    The network regresses points and a camera for every class; those of a sample's class, which a
    detector finds as it finds the box, are taken. Everything is regressed in units of the class's
    radius, half its diameter, so that small and large objects are alike to the network: points in
    radii, relative to their mean; of the camera the share of the crop's height that the diameter
    covers, and its shift in radii. What comes out is in metres, and a camera (s, tx, ty) as that of
    a hand.

    Args:
        diameters: Of every class, metres, in the order of the labels.
        num_joints: Number of points.
        mean_points: Their mean positions in metres, for each class ``num_joints`` of three; the
            origin by default.
        cam_init: Mean camera in the units above, with a positive scale.
        cam_scale_min: Depth is computed with at least this scale s, in 1/m.

    Raises:
        ValueError: When a diameter is not positive, the mean points are not as many, or the camera
            is not usable.
    """

    loss_terms = ("kpt2d", "kpt3d")

    def __init__(
        self,
        diameters: Sequence[float],
        num_joints: int = 8,
        mean_points: Sequence[Sequence[Sequence[float]]] | None = None,
        cam_init: Sequence[float] = CAM_INIT,
        cam_scale_min: float = 1.0,
    ) -> None:
        if not diameters or min(diameters) <= 0:
            raise ValueError(
                f"ClassPointsOutputModel: diameters must be positive, one a class, got {diameters}"
            )
        radius = torch.tensor(diameters, dtype=torch.float32, device="cpu") / 2
        classes = len(diameters)
        points = torch.zeros(classes, num_joints, 3, device="cpu")
        if mean_points is not None:
            points = torch.tensor(mean_points, dtype=torch.float32, device="cpu")
        if points.shape != (classes, num_joints, 3):
            raise ValueError(
                f"ClassPointsOutputModel: mean_points must be {classes} x {num_joints} x 3 numbers,"
                f" got {tuple(points.shape)}"
            )
        cam = check_cam(cam_init, "cam_init").expand(classes, 3)
        means = dict(points=(points / radius[:, None, None]).flatten(), cam=cam.flatten())
        super().__init__(means, cam_scale_min)
        self.num_joints = num_joints
        self.num_classes = classes
        self.register_buffer("radius", radius, persistent=False)
        self._labels: Tensor | None = None

    @contextmanager
    def of_classes(self, labels: Tensor | None) -> Iterator[None]:
        """Take the points of these classes, (B,), while the context lasts.

        Without it, or with ``None``, as where operations are counted, all samples are of class 0.

        Raises:
            ValueError: When a label is no class.
        """
        if labels is not None and not (labels >= 0).logical_and(labels < self.num_classes).all():
            raise ValueError(
                f"ClassPointsOutputModel: there are {self.num_classes} classes, got the labels "
                f"{labels.tolist()}; give a diameter for each class of the data"
            )
        self._labels = labels
        try:
            yield
        finally:
            self._labels = None

    def decode(self, points: Tensor, cam: Tensor) -> PointPrediction:
        """Choose the class's points and project them.

        Args:
            points: In radii, (B, classes x num_joints x 3).
            cam: Cameras in the units of the class, (B, classes x 3).
        """
        labels = self._labels
        if labels is None:
            labels = torch.zeros(len(points), dtype=torch.long, device=points.device)
        rows = torch.arange(len(points), device=points.device)
        radius = self.radius[labels, None]
        points = points.unflatten(1, (self.num_classes, self.num_joints, 3))[rows, labels]
        points = (points - points.mean(dim=1, keepdim=True)) * radius[..., None]
        scale, shift = cam.unflatten(1, (self.num_classes, 3))[rows, labels].split([1, 2], dim=1)
        cam = torch.cat([scale / radius, shift * radius], dim=1)
        return PointPrediction(cam, project_crop(points, cam, self.cam_scale_min), points)
