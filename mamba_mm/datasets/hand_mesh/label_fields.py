"""Numbers of published labels, checked before anything is computed with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def numbers(source: str, name: str, value: object, shape: tuple[int, ...]) -> np.ndarray:
    """Return a field as an array of finite numbers.

    Args:
        source: Where it comes from, for error messages.
        name: What it is called there.
        value: The field, nested sequences or an array.
        shape: What it must have.

    Returns:
        float64, of this shape.

    Raises:
        ValueError: It has another shape, or is not made of finite numbers.
    """
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: {name} is not an array of numbers ({error})") from error
    if array.shape != shape:
        raise ValueError(f"{source}: {name} has the shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{source}: {name} has values that are not finite")
    return array


def field(source: str, labels: Mapping, name: str) -> object:
    """Return an entry that must be there.

    Raises:
        ValueError: It is missing; the message lists what is there.
    """
    if name not in labels:
        raise ValueError(f"{source} has no {name}, only {', '.join(map(str, sorted(labels)))}")
    return labels[name]


def box_around(points: np.ndarray) -> np.ndarray:
    """Return the tight box (x1, y1, x2, y2) around points (N, 2)."""
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def every_nth(samples: Sequence, interval: int, reader: str) -> list:
    """Return the first of every ``interval`` samples.

    Raises:
        ValueError: The interval is not positive.
    """
    if interval < 1:
        raise ValueError(f"{reader}: sample_interval must be at least 1, got {interval}")
    return list(samples[::interval])
