"""One colour a finger for plots on white paper."""

from __future__ import annotations

from mamba_mm.models.body_models import OPENPOSE_NAMES

_OF_FINGERS = dict(
    wrist="#555555",
    thumb="#d95f02",
    index="#c2338a",
    middle="#1f78b4",
    ring="#b8860b",
    pinky="#1b9e77",
)

FINGERS: tuple[str, ...] = tuple(_OF_FINGERS)
"""The wrist and the fingers, in the order of the joints."""


def finger_of(joint: int) -> str:
    """Return what a joint in OpenPose order belongs to, out of :data:`FINGERS`."""
    return OPENPOSE_NAMES[joint].rstrip("0123456789")


def finger_colour(finger: str) -> str:
    """Return a colour that Matplotlib takes."""
    return _OF_FINGERS[finger]


def joint_colours(count: int) -> list[str]:
    """Return a colour for each joint: by finger for the 21 of a hand, else one for all."""
    if count != len(OPENPOSE_NAMES):
        return [_OF_FINGERS["middle"]] * count
    return [_OF_FINGERS[finger_of(joint)] for joint in range(count)]


def joint_names(count: int) -> list[str]:
    """Return a name for each joint: those of a hand's 21, else numbers."""
    return list(OPENPOSE_NAMES) if count == len(OPENPOSE_NAMES) else list(map(str, range(count)))
