"""The hand that the offsets of a head are added to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..body_models.rotations import (
    axis_angle_to_matrix,
    interleaved_to_columns,
    matrix_to_rotation_6d,
)

CAM_INIT = (8.0, 0.0, 0.0)
"""A hand of 0.18 m then fills about 70 % of the crop."""

LAYOUTS = ("columns", "interleaved")

# How far the six numbers may be from two orthogonal unit vectors.
ORTHONORMAL_TOLERANCE = 1e-2


class MeanParameters(NamedTuple):
    """Parameters of the mean hand.

    Attributes:
        pose: Six numbers a rotation, two columns after each other, (96,).
        betas: Shape, (10,).
        cam: (s, tx, ty) with s > 0, (3,).
    """

    pose: Tensor
    betas: Tensor
    cam: Tensor


def default_mean_parameters(
    hands_mean: Tensor, cam_init: Sequence[float] = CAM_INIT
) -> MeanParameters:
    """Make the mean hand without a file: unturned, MANO's mean pose and mean shape.

    Args:
        hands_mean: MANO's mean pose of 15 joints as axis-angle vectors, (45,).
        cam_init: Camera (s, tx, ty).

    Raises:
        ValueError: When the scale of the camera is not positive.
    """
    rotations = axis_angle_to_matrix(
        torch.cat([hands_mean.new_zeros(3), hands_mean]).unflatten(0, (16, 3))
    )
    return MeanParameters(
        matrix_to_rotation_6d(rotations).flatten(),
        hands_mean.new_zeros(10),
        check_cam(cam_init, "cam_init"),
    )


def load_mean_parameters(
    path: str | Path, layout: str = "columns", cam_init: Sequence[float] | None = None
) -> MeanParameters:
    """Read the mean hand from an ``.npz`` such as HaMeR's ``mano_mean_params.npz``.

    It has ``pose`` (96 numbers), ``shape`` (10) and ``cam`` (3). Two layouts of the six numbers
    of a rotation are in circulation; a file in the other one reads as another pose. Here the
    columns must be orthogonal unit vectors, and in the wrong layout they hardly are.

    Args:
        path: The file.
        layout: ``"columns"``, of which the identity is (1, 0, 0, 0, 1, 0), or
            ``"interleaved"``, (1, 0, 0, 1, 0, 0), as in SPIN and its descendants.
        cam_init: Camera (s, tx, ty) instead of the file's, which then may be anything.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The layout is unknown, an array is missing or has another size or a value
            that is not finite, the rotations are none in this layout, or the scale of the
            camera is not positive.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"mean parameters: unknown layout {layout!r}; known: {', '.join(LAYOUTS)}")
    with np.load(path, allow_pickle=False) as file:
        pose, betas, cam = (
            _read(file, path, name, size)
            for name, size in (("pose", 96), ("shape", 10), ("cam", 3))
        )
    sixes = pose.unflatten(0, (16, 6))
    readings = {"columns": sixes, "interleaved": interleaved_to_columns(sixes)}
    if not _is_orthonormal(readings[layout]):
        (other,) = set(LAYOUTS) - {layout}
        hint = (
            f"they are with layout={other!r}"
            if _is_orthonormal(readings[other])
            else ("nor are they in the other layout")
        )
        raise ValueError(
            f"{path}: in layout {layout!r} the columns of 'pose' are not orthogonal unit vectors; "
            f"{hint}"
        )
    cam = check_cam(cam, f"{path}: 'cam'") if cam_init is None else check_cam(cam_init, "cam_init")
    return MeanParameters(readings[layout].flatten(), betas, cam)


def check_cam(cam: Tensor | Sequence[float], name: str) -> Tensor:
    """Return a camera (s, tx, ty) as a tensor if it sees anything.

    Raises:
        ValueError: When it is not three finite numbers, or s is not positive.
    """
    cam = torch.as_tensor(cam, dtype=torch.float32, device="cpu")
    if cam.shape != (3,) or not cam.isfinite().all() or cam[0] <= 0:
        raise ValueError(
            f"{name} must be (s, tx, ty) with s > 0, got {tuple(cam.tolist())}: s = 0 puts the "
            f"hand at infinity; set cam_init, such as {CAM_INIT}"
        )
    return cam


def _read(file: np.lib.npyio.NpzFile, path: str | Path, name: str, size: int) -> Tensor:
    if name not in file:
        raise ValueError(f"{path}: has no array {name!r}; it has {', '.join(file.files)}")
    array = np.asarray(file[name], dtype=np.float32).reshape(-1)
    if array.size != size or not np.isfinite(array).all():
        raise ValueError(f"{path}: {name!r} must be {size} finite numbers, got {array.size}")
    return torch.tensor(array, device="cpu")


def _is_orthonormal(sixes: Tensor) -> bool:
    first, second = sixes.split(3, dim=-1)
    products = torch.stack(
        [(first * first).sum(-1) - 1, (second * second).sum(-1) - 1, (first * second).sum(-1)]
    )
    return bool(products.abs().max() < ORTHONORMAL_TOLERANCE)
