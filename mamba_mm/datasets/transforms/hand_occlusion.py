"""Things in front of the hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from mamba_mm.registry import TRANSFORMS

from .argument_checks import (
    check_colour_image,
    checked_choices,
    checked_probability,
    checked_range,
)
from .occluders import (
    covering_mask,
    draw_outline,
    noise_surface,
    plain_surface,
    surface_of_image,
    surface_of_picture,
)

SHAPES = ("ellipse", "rectangle", "blob")
FILLS = ("plain", "noise", "image", "picture")
_PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@TRANSFORMS.register_module()
class HandOcclusion(BaseTransform):
    """Hide a part of the hand behind a thing of random shape, place and surface.

    The thing is just large enough to hide a share, drawn at random, of the hand's outline (the
    convex hull of the visible joints, as far as it is in the image). Its middle lies on the hand.

    Changes ``img``, and with ``hidden_weight`` below 1 ``keypoints_visible``. Adds ``occluded``,
    (1, 21) of bool: which joints are behind the thing, and ``occlusion_mask``, (H, W) of bool:
    where it is, which ``AppendDepth`` wants to know. By default hidden joints keep their full
    weight, as in HaMeR: a network can only learn to complete a hand if it is told where the
    hidden part is. 3-D labels never change.

    Place it after ``TopdownAffine``, before blur and colour augmentation, which then change the
    thing like the rest. A sample without three visible joints that span an area in the crop is
    left alone.

    Args:
        prob: How often a hand is hidden.
        coverage: Bounds of the hidden share of the hand.
        shapes: Out of ``"ellipse"``, ``"rectangle"`` and ``"blob"``; each is as likely as the
            others.
        fills: What surfaces there are, each as likely as the others. ``"plain"``: one colour under
            light from a side; ``"noise"``: a random texture; ``"image"``: another part of the
            same image, often skin; ``"picture"``: a part of a picture out of ``picture_folder``.
            By default all but the last, and all with a folder.
        picture_folder: Folder with pictures, searched with its subfolders.
        hidden_weight: Factor of ``keypoints_visible`` of hidden joints, 0..1, and so of the weight
            of their 2-D labels: 1 keeps them, 0 takes them out of the loss.

    Raises:
        FileNotFoundError: The folder is not there or has no picture.
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        prob: float = 0.4,
        coverage: Sequence[float] = (0.1, 0.5),
        shapes: Sequence[str] = SHAPES,
        fills: Sequence[str] | None = None,
        picture_folder: str | Path | None = None,
        hidden_weight: float = 1.0,
    ) -> None:
        name = type(self).__name__
        if fills is None:
            fills = FILLS if picture_folder else FILLS[:-1]
        self.prob = checked_probability(name, prob)
        self.coverage = checked_range(name, "coverage", coverage, most=1.0)
        self.shapes = checked_choices(name, "shapes", shapes, SHAPES)
        self.fills = checked_choices(name, "fills", fills, FILLS)
        if ("picture" in self.fills) != (picture_folder is not None):
            raise ValueError(
                f"{name}: fills with 'picture' and picture_folder belong together; got fills="
                f"{self.fills} and picture_folder={picture_folder!r}"
            )
        if not 0 <= hidden_weight <= 1:
            raise ValueError(f"{name}: hidden_weight must be from 0 to 1, got {hidden_weight}")
        self.hidden_weight = float(hidden_weight)
        self.picture_folder = picture_folder
        self.pictures = [] if picture_folder is None else _pictures_in(Path(picture_folder))

    @cache_randomness
    def _draw_seed(self) -> int | None:
        """A seed for all that is drawn, so that a cached call repeats the whole thing."""
        drawn, seed = np.random.rand(), np.random.randint(2**31)
        return seed if drawn < self.prob else None

    def transform(self, results: dict) -> dict:
        """Put a thing in front of the hand, if there is to be one.

        Args:
            results: The sample, with one hand.

        Returns:
            The sample.

        Raises:
            ValueError: The crop has not been made yet, or the image has not three channels.
        """
        if "transformed_keypoints" not in results:
            raise ValueError("HandOcclusion must come after TopdownAffine in the pipeline")
        image = results["img"]
        check_colour_image(type(self).__name__, image.shape)
        seed = self._draw_seed()
        # TopdownAffine leaves an array without dimensions where there are no joints.
        if np.ndim(results["transformed_keypoints"]) == 0:
            return results
        points = results["transformed_keypoints"][0]
        region = _hand_region(points[results["keypoints_visible"][0] > 0], image.shape[:2])
        mask = np.zeros_like(region)
        if seed is not None and region.any():
            mask, results["img"] = self._hide(image, region, np.random.default_rng(seed))
        occluded = _values_at(mask, points)
        results["occluded"] = occluded[None]
        results["occlusion_mask"] = mask
        if self.hidden_weight < 1 and occluded.any():
            visible = results["keypoints_visible"].copy()
            visible[0, occluded] *= self.hidden_weight
            results["keypoints_visible"] = visible
        return results

    def _hide(
        self, image: np.ndarray, region: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where the thing is, (H, W) of bool, and the image with it."""
        share = rng.uniform(*self.coverage)
        rows, columns = np.nonzero(region)
        place = rng.integers(len(rows))
        outline = draw_outline(self.shapes[rng.integers(len(self.shapes))], rng)
        centre = np.array([columns[place], rows[place]])
        mask = covering_mask(region, centre, share, outline)
        surface = self._surface(image, rng)
        if np.issubdtype(image.dtype, np.integer):
            surface = np.rint(surface)
        surface = np.ascontiguousarray(surface, dtype=image.dtype)
        return mask, cv2.copyTo(surface, mask.astype(np.uint8), image.copy())

    def _surface(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A surface as large as the image."""
        fill = self.fills[rng.integers(len(self.fills))]
        height, width = image.shape[:2]
        if fill == "image":
            return surface_of_image(image, rng)
        if fill == "picture":
            path = self.pictures[rng.integers(len(self.pictures))]
            return surface_of_picture(mmcv.imread(path), height, width, rng)
        return (plain_surface if fill == "plain" else noise_surface)(height, width, rng)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(prob={self.prob}, coverage={self.coverage}, "
            f"shapes={self.shapes}, fills={self.fills}, picture_folder={self.picture_folder!r}, "
            f"hidden_weight={self.hidden_weight})"
        )


def _pictures_in(folder: Path) -> list[Path]:
    """The pictures, in an order that does not depend on the file system."""
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _PICTURE_SUFFIXES)
    if not found:
        raise FileNotFoundError(
            f"HandOcclusion: no picture ({', '.join(_PICTURE_SUFFIXES)}) in the folder {folder}"
        )
    return found


def _hand_region(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Where the hand is in an image of (H, W), of bool; nowhere with fewer than three points."""
    region = np.zeros(size, np.uint8)
    if len(points) >= 3:
        hull = cv2.convexHull(np.rint(points).astype(np.int32))
        if cv2.contourArea(hull) > 0:
            cv2.fillConvexPoly(region, hull, 1)
    return region.astype(bool)


def _values_at(mask: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Whether the mask is set at points (N, 2); not outside of it."""
    columns, rows = np.rint(points).astype(int).T
    height, width = mask.shape
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    values = np.zeros(len(points), bool)
    values[inside] = mask[rows[inside], columns[inside]]
    return values
