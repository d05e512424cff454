"""Poses of data sets that are relative to something in the MANO file."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from mmengine.logging import print_log
from scipy.spatial.transform import Rotation

from mamba_mm.models.body_models import MANO_VARIABLE, MANOModel, load_mano, resolve_mano

_MIRROR = np.tile([1.0, -1.0, -1.0], 15)


@dataclass(frozen=True)
class PoseBasis:
    """What turns relative poses of one side's hands into absolute ones.

    Attributes:
        mean: Mean pose, axis-angle of joints 1 to 15, (45,).
        components: PCA basis, rows are components, (45, 45).
    """

    mean: np.ndarray
    components: np.ndarray

    def from_pca(self, coefficients: np.ndarray) -> np.ndarray:
        """Return the absolute pose (45,) of all 45 PCA coefficients."""
        return self.mean + coefficients @ self.components


def right_basis(reader: str, mano_path: str | None) -> PoseBasis | None:
    """Read the basis of right hands.

    Args:
        reader: Class that needs it, for messages.
        mano_path: The file, as in ``resolve_mano``. ``None``: what the environment variable
            ``MAMBA_MM_MANO`` says.

    Returns:
        The basis, or ``None`` with a message in the log, where nothing says which file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no hand model, or of a left hand.
    """
    if mano_path is None and not os.environ.get(MANO_VARIABLE):
        print_log(
            f"{reader}: no MANO file, so samples have no MANO parameters (has_mano is 0). Give "
            f"mano_path or set {MANO_VARIABLE} to have them",
            "current",
        )
        return None
    return _basis_of(resolve_mano(mano_path), "right", reader)


def left_basis(reader: str, mano_left_path: str | None) -> PoseBasis | None:
    """Read the basis of left hands from the file of the left model; arguments as above.

    Nothing in the right model says which signs the components of the left one have.
    """
    if mano_left_path is None:
        print_log(
            f"{reader}: no MANO file of the left hand, so left hands have no MANO parameters "
            "(has_mano is 0). Give mano_left_path to have them",
            "current",
        )
        return None
    return _basis_of(load_mano(mano_left_path), "left", reader)


def mirrored_mean(basis: PoseBasis) -> np.ndarray:
    """Return the mean pose (45,) of the other side."""
    return basis.mean * _MIRROR


def turned(pose: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Turn a hand: left-multiply its global orientation.

    Args:
        pose: Axis-angle of all 16 joints, global orientation first, (48,).
        rotation: The turn of the frame, (3, 3).

    Returns:
        The pose in the turned frame, (48,).
    """
    orientation = Rotation.from_matrix(rotation) * Rotation.from_rotvec(pose[:3])
    return np.concatenate([orientation.as_rotvec(), pose[3:]])


def _basis_of(model: MANOModel, side: str, reader: str) -> PoseBasis:
    if model.side != side:
        raise ValueError(
            f"{reader}: the MANO file for {side} hands is of a {model.side} hand; give "
            f"MANO_{side.upper()}.pkl"
        )
    return PoseBasis(np.asarray(model.hands_mean), np.asarray(model.hands_components))
