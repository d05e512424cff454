"""Depth maps as the transforms hand them on: inverse depth, not a number where it is unknown."""

from __future__ import annotations

import numpy as np

KINDS = ("depth", "inverse_depth")

# Beyond these quantiles values count as wrong.
_CLIPPED = (0.02, 0.98)


def check_kind(owner: str, kind: str) -> str:
    """Return what the values of maps mean.

    Args:
        owner: Whose argument it is, for the message.
        kind: ``"depth"`` or ``"inverse_depth"``.

    Raises:
        ValueError: It is neither.
    """
    if kind not in KINDS:
        raise ValueError(f"{owner}: unknown kind {kind!r}; known: {', '.join(KINDS)}")
    return kind


def add_depth(results: dict, values: np.ndarray, kind: str, source: str) -> dict:
    """Give a depth map to a sample.

    Args:
        results: The sample, with its image as it was loaded.
        values: ``(H, W)``, in any unit; positive where they are known.
        kind: What they mean, of :data:`KINDS`.
        source: What to call the map in messages.

    Returns:
        The sample with ``inverse_depth`` and ``has_depth``.

    Raises:
        ValueError: The map is not as large as the image, or the image was mirrored or cropped
            before.
    """
    if "flipped" in results or "input_size" in results:
        raise ValueError(
            f"{source}: the image has been mirrored or cropped already; load or estimate depth "
            "before HandMeshRandomFlip and TopdownAffine in the pipeline"
        )
    size = results["img"].shape[:2]
    if values.shape != size:
        raise ValueError(
            f"{source} is a depth map of {values.shape[0]} x {values.shape[1]} pixels for an image "
            f"of {size[0]} x {size[1]}; they must be equal"
        )
    values = values.astype(np.float32)
    known = np.isfinite(values) & (values > 0)
    inverse = np.full(size, np.nan, np.float32)
    inverse[known] = values[known] if kind == "inverse_depth" else 1 / values[known]
    results["inverse_depth"] = inverse
    results["has_depth"] = np.array([known.any()], np.float32)
    return results


def normalised(inverse_depth: np.ndarray) -> np.ndarray:
    """Bring known values to mean 0 and deviation 1, and unknown ones to 0.

    The outermost values, two of a hundred on either side, are moved to the next ones before, so
    that a few wrong ones do not squeeze the others. Neither the unit nor the zero of the values
    matters, which single images do not tell anyway.

    Args:
        inverse_depth: ``(H, W)``, not a number where it is unknown.

    Returns:
        ``(H, W)``, float32; zeros where all known values are the same.
    """
    known = np.isfinite(inverse_depth)
    values = inverse_depth[known].astype(np.float64)
    result = np.zeros(inverse_depth.shape, np.float32)
    if values.size:
        values = np.clip(values, *np.quantile(values, _CLIPPED))
        spread = values.std()
        # Rounding alone makes equal values differ by a few units in the last place.
        if spread > 1e-6 * np.abs(values).max():
            result[known] = (values - values.mean()) / spread
    return result
