"""A slice through an abdomen, as computed tomography shows it."""

from __future__ import annotations

import cv2
import numpy as np

from ..shapes.textures import clouds
from .blobs import Blob, opacity, paint

ORGAN_CLASSES = (
    "background",
    "liver",
    "spleen",
    "left_kidney",
    "right_kidney",
    "aorta",
    "lesion",
)

# Column, row, half axes and brightness, all as shares: of the body's half axes, of 255. The
# patient's left is on the right of the picture.
_ORGANS = {
    "liver": (-0.42, -0.18, 0.44, 0.46, 0.60),
    "spleen": (0.64, -0.05, 0.17, 0.34, 0.56),
    "left_kidney": (0.40, 0.38, 0.14, 0.21, 0.70),
    "right_kidney": (-0.40, 0.42, 0.14, 0.21, 0.70),
    "aorta": (0.07, 0.24, 0.085, 0.10, 0.80),
}
_FAT, _MUSCLE, _BONE, _GAS = 0.22, 0.45, 0.95, 0.05


def draw_organs(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image: a body with fat, muscle, spine, gas, organs, and lesions in the liver.

    Every organ varies in place, size, form and brightness, and now and then a kidney or the
    spleen is missing, as in slices above or below it. A lesion has a soft border, and there are
    none to two.

    Args:
        rng: What chance comes from.
        height: Rows, in pixels.
        width: Columns, in pixels.

    Returns:
        The image ``(height, width, 3)``, grey, and the labels ``(height, width)``, both uint8;
        the labels are indices into ``ORGAN_CLASSES``.
    """
    canvas = np.full((height, width, 1), 0.02)
    labels = np.zeros((height, width), np.uint8)
    centre = np.array([width, height]) * rng.uniform(0.48, 0.52, 2)
    half = np.array([0.47 * width, 0.40 * height]) * rng.uniform(0.85, 1.0, 2)

    def shape(x, y, across, along, roughness=0.05, softness=1.5):
        place = centre + half * [x, y]
        blob = Blob(tuple(place), (across * half[0], along * half[1]), 0.0, roughness, softness)
        return opacity(rng, blob, height, width)

    paint(canvas, _FAT, shape(0, 0, 1.0, 1.0, roughness=0.02))
    paint(canvas, _MUSCLE, shape(0, 0, 0.9, 0.86, roughness=0.02))
    paint(canvas, _FAT + 0.08, shape(0, -0.02, 0.8, 0.74, roughness=0.03))
    for _ in range(rng.integers(1, 5)):
        x, y = rng.uniform([-0.1, -0.55], [0.4, 0.0])
        paint(canvas, rng.choice([_GAS, _MUSCLE, 0.5]), shape(x, y, *rng.uniform(0.06, 0.16, 2)))
    paint(canvas, _BONE, shape(0, 0.55, 0.15, 0.20, roughness=0.08))

    for name, (x, y, across, along, brightness) in _ORGANS.items():
        if name not in ("liver", "aorta") and rng.uniform() < 0.12:
            continue
        size = rng.uniform(0.85, 1.15, 2) * [across, along]
        cover = shape(*rng.normal([x, y], 0.03), *size, roughness=0.09)
        paint(canvas, brightness + rng.normal(0, 0.03), cover)
        labels[cover > 0.5] = ORGAN_CLASSES.index(name)
        if name == "liver":
            _paint_lesions(rng, canvas, labels)

    body = 255 * canvas[..., 0] * (0.94 + 0.12 * clouds(rng, height, width, cell=8))
    image = cv2.GaussianBlur(body, (3, 3), 0.7) + rng.normal(0, 7, body.shape)
    image = np.clip(image, 0, 255).astype(np.uint8)
    return np.repeat(image[..., None], 3, axis=2), labels


def _paint_lesions(rng: np.random.Generator, canvas: np.ndarray, labels: np.ndarray) -> None:
    """Darken spots of the liver, the only organ that is there yet."""
    height, width = labels.shape
    liver = np.argwhere(cv2.erode(labels, np.ones((7, 7), np.uint8), borderValue=0))
    for _ in range(rng.integers(0, 3) if len(liver) else 0):
        row, column = liver[rng.integers(len(liver))]
        radii = rng.uniform(0.035, 0.09, 2) * min(height, width)
        spot = Blob((column, row), tuple(radii), rng.uniform(0, np.pi), 0.08, rng.uniform(2, 5))
        inside = opacity(rng, spot, height, width) * (labels > 0)
        paint(canvas, rng.uniform(0.30, 0.42), inside)
        labels[inside > 0.5] = ORGAN_CLASSES.index("lesion")
