"""Labels of right hands in the official FreiHAND layout (spec: its release, version 2).

::

    SPLIT/rgb/00000000.jpg ...      SPLIT/mask/00000000.jpg ...
    SPLIT_K.json        3 x 3, pixels
    SPLIT_xyz.json      21 x 3, metres, camera frame, OpenPose order
    SPLIT_verts.json    778 x 3, likewise
    SPLIT_mano.json     1 x 61: pose 48, of which 45 relative to the mean; betas 10; pixel of
                        joint 9, 2; focal length over its depth, 1
    SPLIT_scale.json    length of the bone from joint 9 to joint 10, metres
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np

from .hands import DIGITS_KEPT, Hand

SPLIT_NAMES = {"train": "training", "val": "evaluation"}

_PLACED_JOINT = 9
_SCALED_BONE = (9, 10)


class FreiHANDLabels:
    """Writes the five files, a hand at a time; use it in a ``with`` statement.

    Args:
        folder: Where they go.
        split: ``"training"`` or ``"evaluation"``.
        hands_mean: ``(45,)``, mean pose of the model.
    """

    def __init__(self, folder: Path, split: str, hands_mean: np.ndarray) -> None:
        self._hands_mean = hands_mean
        self._paths = {
            name: folder / f"{split}_{name}.json" for name in ("K", "xyz", "verts", "mano", "scale")
        }
        self._files = ExitStack()
        self.count = 0
        """Hands written so far."""

    def __enter__(self) -> FreiHANDLabels:
        self._open = {
            name: self._files.enter_context(path.open("w")) for name, path in self._paths.items()
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._open.values():
            file.write("]\n" if self.count else "[]\n")
        self._files.close()

    def add(self, hand: Hand) -> None:
        """Write the labels of a right hand.

        Raises:
            ValueError: It is a left one, which the layout has no place for.
        """
        if not hand.is_right:
            raise ValueError("the layout of FreiHAND has no left hands")
        for name, entry in freihand_entry(hand, self._hands_mean).items():
            text = json.dumps(entry, separators=(",", ":"))
            self._open[name].write(("," if self.count else "[") + text)
        self.count += 1


def freihand_entry(hand: Hand, hands_mean: np.ndarray) -> dict:
    """Return what the files K, xyz, verts, mano and scale say of a right hand."""
    pose = hand.pose.copy()
    pose[3:] -= hands_mean
    scale = hand.view.focal_length / hand.joints[_PLACED_JOINT, 2]
    root = [*hand.keypoints[_PLACED_JOINT], scale]
    start, end = hand.joints[list(_SCALED_BONE)]
    return dict(
        K=hand.view.intrinsics.tolist(),
        xyz=hand.joints.tolist(),
        verts=hand.vertices.tolist(),
        mano=[np.round(np.concatenate([pose, hand.betas, root]), DIGITS_KEPT).tolist()],
        scale=round(float(np.linalg.norm(end - start)), DIGITS_KEPT),
    )
