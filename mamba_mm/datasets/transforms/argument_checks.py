"""Checks of what the augmentations are built with."""

from __future__ import annotations

import math
from collections.abc import Sequence


def checked_probability(owner: str, prob: float) -> float:
    """Return a probability.

    Args:
        owner: Whose it is, for the message.
        prob: The number.

    Raises:
        ValueError: It is not between 0 and 1.
    """
    if not 0 <= prob <= 1:
        raise ValueError(f"{owner}: prob must be from 0 to 1, got {prob}")
    return float(prob)


def checked_range(
    owner: str, name: str, bounds: Sequence[float], least: float = 0.0, most: float = math.inf
) -> tuple[float, float]:
    """Return the bounds that a number is drawn between.

    Args:
        owner: Whose they are, for the message.
        name: The argument.
        bounds: The lower and the upper one; they may be equal.
        least: The lower bound must be above this,
        most: and the upper one not above this.

    Raises:
        ValueError: They are not two ascending numbers within these limits.
    """
    if len(bounds) != 2 or not least < bounds[0] <= bounds[1] <= most:
        limit = "" if math.isinf(most) else f" <= {most:g}"
        raise ValueError(
            f"{owner}: {name} must be (low, high) with {least:g} < low <= high{limit}; got {bounds}"
        )
    return float(bounds[0]), float(bounds[1])


def checked_choices(
    owner: str, name: str, chosen: Sequence[str], known: Sequence[str]
) -> tuple[str, ...]:
    """Return the names that one is drawn from.

    Args:
        owner: Whose they are, for the message.
        name: The argument.
        chosen: The names; a name given twice is drawn twice as often.
        known: The names that there are.

    Raises:
        ValueError: There is none, or one is not known.
    """
    unknown = [choice for choice in chosen if choice not in known]
    if isinstance(chosen, str) or not chosen or unknown:
        raise ValueError(
            f"{owner}: {name} must be a list of some of {', '.join(known)}; got {chosen!r}"
        )
    return tuple(chosen)


def check_colour_image(owner: str, shape: Sequence[int]) -> None:
    """Refuse what is no colour image.

    Args:
        owner: Whose transform it is, for the message.
        shape: Of the image.

    Raises:
        ValueError: It is not (H, W, 3).
    """
    if len(shape) != 3 or shape[2] != 3:
        raise ValueError(
            f"{owner}: expected an image (H, W, 3), got the shape {tuple(shape)}; further channels "
            "must be joined to the colours behind it in the pipeline"
        )
