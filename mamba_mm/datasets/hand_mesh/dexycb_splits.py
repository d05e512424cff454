"""The published splits of DexYCB, by position of subjects, cameras and sequences."""

from __future__ import annotations

from typing import NamedTuple

NUM_SUBJECTS = 10
NUM_SERIALS = 8
NUM_SEQUENCES = 100
"""Sequences of a subject; five for each of 20 objects."""

SPLITS = ("train", "val", "test")


class Positions(NamedTuple):
    """What a split is made of, numbered from 0 in alphabetical order.

    Attributes:
        subjects: Positions among the 10 subjects.
        serials: Positions among the 8 cameras.
        sequences: Positions among the 100 sequences of each subject.
    """

    subjects: tuple[int, ...]
    serials: tuple[int, ...]
    sequences: tuple[int, ...]


_ALL_SUBJECTS = tuple(range(NUM_SUBJECTS))
_ALL_SERIALS = tuple(range(NUM_SERIALS))
_ALL_SEQUENCES = tuple(range(NUM_SEQUENCES))
_FIRST_FOUR = tuple(i for i in _ALL_SEQUENCES if i % 5 != 4)
_EVERY_FIFTH = tuple(i for i in _ALL_SEQUENCES if i % 5 == 4)


def _of_objects(objects: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(i for i in _ALL_SEQUENCES if i // 5 in objects)


_SEEN_OBJECTS = tuple(i for i in range(20) if i not in (3, 7, 11, 15, 19))

SETUPS: dict[str, dict[str, Positions]] = {
    # Unseen sequences; val and test differ by subject.
    "s0": {
        "train": Positions(_ALL_SUBJECTS, _ALL_SERIALS, _FIRST_FOUR),
        "val": Positions((0, 1), _ALL_SERIALS, _EVERY_FIFTH),
        "test": Positions(_ALL_SUBJECTS[2:], _ALL_SERIALS, _EVERY_FIFTH),
    },
    # Unseen subjects.
    "s1": {
        "train": Positions((0, 1, 2, 3, 4, 5, 9), _ALL_SERIALS, _ALL_SEQUENCES),
        "val": Positions((6,), _ALL_SERIALS, _ALL_SEQUENCES),
        "test": Positions((7, 8), _ALL_SERIALS, _ALL_SEQUENCES),
    },
    # Unseen cameras.
    "s2": {
        "train": Positions(_ALL_SUBJECTS, _ALL_SERIALS[:6], _ALL_SEQUENCES),
        "val": Positions(_ALL_SUBJECTS, (6,), _ALL_SEQUENCES),
        "test": Positions(_ALL_SUBJECTS, (7,), _ALL_SEQUENCES),
    },
    # Unseen objects.
    "s3": {
        "train": Positions(_ALL_SUBJECTS, _ALL_SERIALS, _of_objects(_SEEN_OBJECTS)),
        "val": Positions(_ALL_SUBJECTS, _ALL_SERIALS, _of_objects((3, 19))),
        "test": Positions(_ALL_SUBJECTS, _ALL_SERIALS, _of_objects((7, 11, 15))),
    },
}
"""Chao et al., "DexYCB" (CVPR 2021), section 4, gives the idea of each, and how many subjects (7,
1, 2), cameras (6, 1, 1) and objects (15, 2, 3) the splits have. The positions of s0, s1 and s3 are
those of the handover benchmark on the same data by the same authors (NVlabs/handover-sim, BSD
licence); which cameras s2 keeps for val and test is unverified."""
