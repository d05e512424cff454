"""Errors as the colours of a mesh, with the bar that explains them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from .hand_panels import FROM_THE_FRONT, FROM_THE_SIDE, SideView
from .hand_scene import Hand

# Dark blue, green, yellow, dark red: unlike greys of one hue, it is read under shading too.
_COLOURS = "turbo"
_INCHES = 3.4

TEMPLATE_VIEWS: dict[str, np.ndarray] = {
    "back of the hand": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "palm": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
}
"""How MANO's template, whose fingers point to -x and whose back is towards +y, is looked at."""
CAMERA_VIEWS: dict[str, np.ndarray] = {
    "from the camera": FROM_THE_FRONT,
    "from the right": FROM_THE_SIDE,
}
"""How hands in the frame of a camera are looked at."""


def error_colours(errors: np.ndarray, limit: float) -> np.ndarray:
    """Return the colours of errors.

    Args:
        errors: ``(V,)``, millimetres.
        limit: What has the last colour, as has everything above; no error has the first.

    Returns:
        RGB, ``(V, 3)``, 0..255, float64.

    Raises:
        ValueError: An error is not a number, or the limit is not positive.
    """
    if not limit > 0:
        raise ValueError(f"the largest error shown must be above 0 mm, got {limit}")
    if not np.isfinite(errors).all():
        raise ValueError("an error to be coloured is not finite")
    shares = np.clip(np.asarray(errors, np.float64) / limit, 0, 1)
    return mpl.colormaps[_COLOURS](shares)[:, :3] * 255


def error_views(
    hand: Hand,
    faces: np.ndarray,
    errors: np.ndarray,
    limit: float,
    views: dict[str, np.ndarray] = CAMERA_VIEWS,
    side: int = 480,
) -> dict[str, np.ndarray]:
    """Draw a mesh in the colours of its errors.

    Args:
        hand: Its vertices are drawn.
        faces: ``(F, 3)``, facing outward.
        errors: Of its vertices, ``(V,)``.
        limit: As in :func:`error_colours`.
        views: By title, the rotation to the frame of who looks.
        side: Of each square picture, in pixels.

    Returns:
        By title, pictures (side, side, 3), uint8, RGB, all in one scale.
    """
    colours = error_colours(errors, limit)
    fitting = [SideView.fitting([hand], side, turn) for turn in views.values()]
    metres = max(view.metres for view in fitting)
    return {
        title: SideView(side, metres, turn).mesh(hand, faces, colours)
        for title, turn in views.items()
    }


def write_error_heat(
    path: Path, pictures: dict[str, np.ndarray], limit: float, title: str, bar: str
) -> None:
    """Write pictures side by side with a colour bar.

    Args:
        path: Where to; the suffix says in which format.
        pictures: By caption, RGB.
        limit: As in :func:`error_colours`.
        title: Above all.
        bar: What the colours mean, at the bar.
    """
    shapes = [picture.shape for picture in pictures.values()]
    ratios = [width / height for height, width, _ in shapes]
    figure = Figure(figsize=(_INCHES * sum(ratios) + 1.1, _INCHES + 0.6), layout="constrained")
    for axes, (caption, picture) in zip(_row(figure, ratios), pictures.items(), strict=True):
        axes.imshow(picture, interpolation="antialiased")
        axes.set_title(caption, fontsize=10)
        axes.set_axis_off()
    colours = ScalarMappable(Normalize(0, limit), mpl.colormaps[_COLOURS])
    figure.colorbar(colours, ax=figure.axes, label=bar, extend="max", pad=0.02, fraction=0.05)
    figure.suptitle(title, fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _row(figure: Figure, ratios: Sequence[float]) -> Sequence:
    """Axes side by side with these ratios of width to height."""
    return figure.subplots(1, len(ratios), squeeze=False, width_ratios=ratios)[0]
