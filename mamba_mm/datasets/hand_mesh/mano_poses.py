"""Poses and shapes of hands without images, from which a prior learns what real hands do."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from mamba_mm.registry import DATASETS

from .freihand_files import read_freihand
from .whole_file import whole_file

KEYS: dict[str, int] = dict(hand_pose=48, betas=10)
"""What a file holds for each hand, with how many numbers."""

_GLOBAL = 3
"""Numbers of the global orientation, which come first and say nothing about a pose."""


class HandPoses:
    """A set of hands, each the rotations of its fingers and a shape.

    Args:
        hand_pose: Absolute axis-angle vectors of MANO's joints 1 to 15, radians, (N, 45).
        betas: Shape coefficients, (N, 10).
    """

    def __init__(self, hand_pose: np.ndarray, betas: np.ndarray) -> None:
        self.hand_pose = np.ascontiguousarray(hand_pose, np.float32)
        self.betas = np.ascontiguousarray(betas, np.float32)

    def __len__(self) -> int:
        """Return the number of hands."""
        return len(self.betas)

    def draw(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw hands, each with the same chance, with replacement.

        Args:
            rng: The generator to draw from.
            count: How many.

        Returns:
            Poses (count, 45) and shapes (count, 10), float32.
        """
        chosen = rng.integers(len(self), size=count)
        return self.hand_pose[chosen], self.betas[chosen]


@DATASETS.register_module()
class MANOPoses(HandPoses):
    """Hands of a file, as HaMeR's prior reads them.

    The ``.npz`` holds ``hand_pose`` (N, 48), absolute axis-angle vectors in MANO's order, whose
    first three numbers, the global orientation, are dropped, and ``betas`` (N, 10).
    :func:`collect_freihand_poses` makes such a file.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file, or some number in it is not finite.
    """

    def __init__(self, path: str) -> None:
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"MANOPoses: there is no file {path}. It holds real poses and shapes for the "
                "adversarial prior; tools/dataset_converters/freihand_poses.py makes one from "
                "FreiHAND's labels, and prior=None trains without"
            )
        arrays = _read(path)
        super().__init__(arrays["hand_pose"][:, _GLOBAL:], arrays["betas"])


@DATASETS.register_module()
class ToyMANOPoses(HandPoses):
    """Hands within the joint limits of ToyMANO, as the drawn sets have them. They are not real.

    Args:
        count: Number of hands.
        seed: Where chance starts.

    Raises:
        ValueError: ``count`` is not positive.
    """

    def __init__(self, count: int = 2000, seed: int = 0) -> None:
        from mamba_mm.models.body_models import build_toy_mano

        from ..toy_hands.poses import HandAnatomy

        if count < 1:
            raise ValueError(f"ToyMANOPoses: count must be 1 or more, got {count}")
        anatomy, rng = HandAnatomy(build_toy_mano()), np.random.default_rng(seed)
        super().__init__(
            np.stack([anatomy.draw_pose(rng) for _ in range(count)]),
            np.clip(rng.normal(size=(count, KEYS["betas"])), -2, 2),
        )


def collect_freihand_poses(
    root: str | Path, destination: str | Path, hands_mean: np.ndarray
) -> int:
    """Write the poses and shapes of FreiHAND's training labels, for :class:`MANOPoses`.

    FreiHAND's poses are relative to the mean pose of MANO; it is added.

    Args:
        root: Folder of the release.
        destination: The ``.npz`` to write; it appears when it is complete.
        hands_mean: Mean pose of the MANO file, (45,).

    Returns:
        The number of hands.

    Raises:
        FileNotFoundError: There are no labels.
        ValueError: They are not what the release has.
    """
    root, destination = Path(root), Path(destination)
    labels = root / "training_mano.json"
    if not labels.is_file():
        raise FileNotFoundError(
            f"{labels} is not there; expected the unpacked official release (FreiHAND_pub_v2)"
        )
    mano = read_freihand(root, "training", ["mano"])["mano"]
    hand_pose = mano[:, : KEYS["hand_pose"]].copy()
    hand_pose[:, _GLOBAL:] += np.asarray(hands_mean, np.float32)
    betas = mano[:, KEYS["hand_pose"] :][:, : KEYS["betas"]]
    destination.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(destination) as file:
        np.savez(file, hand_pose=hand_pose, betas=betas)
    return len(mano)


def _read(path: str | Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in KEYS if key in file}
    except (zipfile.BadZipFile, EOFError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no .npz of plain arrays ({error}); expected hand_pose (N, 48) and "
            "betas (N, 10)"
        ) from error
    for key, numbers in KEYS.items():
        got = arrays[key].shape if key in arrays else "nothing"
        if key not in arrays or arrays[key].ndim != 2 or got[1] != numbers:
            raise ValueError(f"{path}: expected {key} of the shape (N, {numbers}), got {got}")
        if not np.issubdtype(arrays[key].dtype, np.floating) or not np.isfinite(arrays[key]).all():
            raise ValueError(f"{path}: {key} must hold finite floats only")
    lengths = {key: len(array) for key, array in arrays.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise ValueError(f"{path}: expected as many poses as shapes, and some; got {lengths}")
    return arrays
