"""Integer conventions of hand joints: the tree of MANO, joint orders, fingertip vertices."""

from __future__ import annotations

MANO_PARENTS: tuple[int, ...] = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)
"""Parent of each of MANO's 16 joints: wrist, then three joints each of index, middle, *pinky*,
*ring* and thumb. -1 stands for the parent of the wrist."""

MANO_TO_OPENPOSE: tuple[int, ...] = (
    *(0, 13, 14, 15, 16),
    *(1, 2, 3, 17),
    *(4, 5, 6, 18),
    *(10, 11, 12, 19),
    *(7, 8, 9, 20),
)
"""Joint i in OpenPose order is the joint ``MANO_TO_OPENPOSE[i]`` of MANO's 16 joints followed by
the tips of thumb, index, middle, ring and pinky."""

OPENPOSE_TO_MANO: tuple[int, ...] = (
    *(0, 5, 6, 7, 9, 10, 11),
    *(17, 18, 19, 13, 14, 15, 1, 2, 3),
    *(4, 8, 12, 16, 20),
)
"""The inverse of :data:`MANO_TO_OPENPOSE`; also the joint order of HO3D."""

TIP_VERTICES: dict[str, tuple[int, int, int, int, int]] = {
    "smplx": (744, 320, 443, 554, 671),
    "freihand": (744, 320, 443, 555, 672),
    "manopth": (745, 317, 444, 556, 673),
}
"""Which vertices count as the tips of thumb, index, middle, ring and pinky. The toolboxes differ,
by millimetres: ``smplx`` is HaMeR's set too, ``freihand`` that of FreiHAND's ground truth."""

OPENPOSE_NAMES: tuple[str, ...] = (
    "wrist",
    *(
        f"{finger}{number}"
        for finger in ("thumb", "index", "middle", "ring", "pinky")
        for number in range(1, 5)
    ),
)
"""Names of the 21 joints in OpenPose order; of every finger, number 4 is the tip."""

HAND_BONES: tuple[tuple[int, int], ...] = tuple(
    (0 if joint % 4 == 1 else joint - 1, joint) for joint in range(1, 21)
)
"""The 20 bones as (parent, child) in OpenPose order."""
