"""The 95th percentile of the distances between two surfaces, by MONAI."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

HD95_RULES = {
    "max": lambda forth, back: max(np.percentile(forth, 95), np.percentile(back, 95)),
    "pooled": lambda forth, back: np.percentile(np.concatenate((forth, back)), 95),
}
"""How the distances of the two directions become one number."""


def hd95(
    one: np.ndarray, other: np.ndarray, rule: str = "max", spacing: Sequence[float] | None = None
) -> float:
    """Measure how far the surfaces of two masks lie apart.

    Args:
        one: A mask (H, W) or (D, H, W), bool, not empty.
        other: Another mask of that shape, not empty either.
        rule: A key of :data:`HD95_RULES`.
        spacing: Distances of neighbouring pixels, one an axis; ``None`` counts pixels.

    Returns:
        The distance, 0 for equal masks.

    Raises:
        ImportError: MONAI is not installed.
    """
    try:
        from monai.metrics.utils import get_mask_edges, get_surface_distance
    except ModuleNotFoundError as error:
        raise ImportError("HD95 needs MONAI, which is not installed: pip install monai") from error
    edges = get_mask_edges(one, other)[:2]
    forth = get_surface_distance(*edges, spacing=spacing)
    back = get_surface_distance(*reversed(edges), spacing=spacing)
    return float(HD95_RULES[rule](np.asarray(forth), np.asarray(back)))
