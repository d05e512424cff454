"""Hands as .obj files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mamba_mm.rendering.obj_file import write_obj

from .hand_scene import Hand

_WRIST = 0
# 3-D programs have y up and look along -z.
_UPRIGHT = np.array([1.0, -1.0, -1.0])


def write_hand_objs(
    path: Path, hands: Sequence[Hand], faces_of: Callable[[bool], np.ndarray | None]
) -> list[Path]:
    """Write the meshes of hands, each upright, with its wrist in the origin, in metres.

    Args:
        path: File of the first; ``NAME.obj`` is followed by ``NAME_1.obj``.
        hands: Those without vertices are left out.
        faces_of: Gives the triangles ``(F, 3)``, facing outward, for right hands (true) or left
            ones; ``None`` if they are not known, and nothing is written.

    Returns:
        The files.
    """
    written = []
    for hand in hands:
        faces = faces_of(hand.is_right)
        if hand.vertices is None or faces is None:
            continue
        suffix = f"_{len(written)}" if written else ""
        target = path.with_name(f"{path.stem}{suffix}.obj")
        write_obj(target, (hand.vertices - hand.joints[_WRIST]) * _UPRIGHT, faces, normals=True)
        written.append(target)
    return written
