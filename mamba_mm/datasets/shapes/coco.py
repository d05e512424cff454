"""The set as files: images, and annotations in COCO's format.

::

    FOLDER/
      shapes.json                      what was asked for; written last
      images/train/000000000001.png ...
      images/val/...
      annotations/instances_train.json
      annotations/instances_val.json

Boxes, polygons and areas describe the visible part of a shape. A polygon of COCO has no
holes, so a part with a hole is cut through the hole into several polygons.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..drawn_folder import to_json, write_image
from ..drawn_set import (
    draw_set,
    generator_of,
    images_of,
    refuse_negative,
    refuse_small_images,
    report_progress,
)
from .outlines import CATEGORIES
from .scene import OVERSAMPLING, PlacedShape, Scene, draw_scene

# Raise it with every change of what is drawn: sets of another version are not reused.
DRAWING_VERSION = 1

STAMP = "shapes.json"

# A sliver below one pixel of area that an occluder leaves over is no part of the outline.
_LEAST_PART_AREA = 1.0
# How far, in cells of the fine grid, a polygon may leave the traced contour.
_TOLERANCE = 0.9


@dataclass(frozen=True)
class ShapesConfig:
    """What to draw. Two equal configs give the same pixels and the same annotations.

    Args:
        train_images: Number of images to train on.
        val_images: Number of held-out images.
        height: Rows of every image, in pixels.
        width: Columns of every image, in pixels.
        seed: Where chance starts. The splits never share an image.

    Raises:
        ValueError: A count or the seed is negative, or an image is too small for the
            smallest shape to be more than a few pixels.
    """

    train_images: int = 3200
    val_images: int = 200
    height: int = 128
    width: int = 128
    seed: int = 0

    def __post_init__(self):
        refuse_negative(self)
        refuse_small_images(
            self.height, self.width, "the smallest shape is 1/20 of the shorter side"
        )


def write_shapes_coco(
    folder: str | Path,
    config: ShapesConfig,
    *,
    force: bool = False,
    report: Callable[[str], None] = print,
) -> bool:
    """Draw the set into ``folder``.

    ``folder`` ends up absent, what it was, or complete.

    Args:
        folder: Where the set goes.
        config: What to draw.
        force: Replace whatever ``folder`` holds.
        report: Called with one line now and then.

    Returns:
        True if the set was drawn, False if ``folder`` already held this very set.

    Raises:
        FileExistsError: ``folder`` holds something else and ``force`` is not set.
    """
    summary = f"{config.train_images} images to train on, {config.val_images} held out"
    return draw_set(
        *(folder, STAMP, DRAWING_VERSION, config),
        lambda root, split: _write_split(root, split, config, report),
        summary,
        force=force,
        report=report,
    )


def _write_split(
    root: Path, split: str, config: ShapesConfig, report: Callable[[str], None]
) -> None:
    image_folder = root / "images" / split
    image_folder.mkdir(parents=True)
    images: list[dict] = []
    annotations: list[dict] = []
    count = images_of(config, split)
    for index in range(count):
        rng = generator_of(config.seed, split, index)
        scene = draw_scene(rng, config.height, config.width)
        image_id = index + 1
        file_name = f"{image_id:012d}.png"
        write_image(image_folder / file_name, scene.image)
        images.append(
            dict(id=image_id, file_name=file_name, height=config.height, width=config.width)
        )
        for annotation in annotate(scene):
            annotations.append(
                dict(id=len(annotations) + 1, image_id=image_id, iscrowd=0, **annotation)
            )
        report_progress(report, split, image_id, count)
    content = dict(
        info=dict(description="Textured shapes on cluttered backgrounds", version="1.0"),
        licenses=[],
        images=images,
        annotations=annotations,
        categories=coco_categories(),
    )
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(to_json(content))


def coco_categories() -> list[dict]:
    """Return the ``categories`` of the annotation files, with keypoints and skeleton."""
    return [
        dict(
            id=index + 1,
            name=kind.name,
            supercategory="shape",
            keypoints=list(kind.keypoint_names),
            skeleton=[list(bone) for bone in kind.skeleton],
        )
        for index, kind in enumerate(CATEGORIES)
    ]


def annotate(scene: Scene) -> list[dict]:
    """Describe each shape of ``scene`` as COCO does, without ids.

    Returns:
        Dicts of ``category_id``, ``segmentation`` (polygons), ``bbox`` (x, y, width,
        height), ``area``, ``keypoints`` (x, y, visibility one after another) and
        ``num_keypoints``; lengths in pixels.
    """
    annotations = []
    for shape in scene.shapes:
        polygons = mask_to_polygons(shape.visible)
        points = np.concatenate(polygons)
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        keypoints = _labelled_keypoints(shape)
        annotations.append(
            dict(
                category_id=shape.category + 1,
                segmentation=[_rounded(polygon.ravel()) for polygon in polygons],
                bbox=_rounded([left, top, right - left, bottom - top]),
                area=round(sum(_area(polygon) for polygon in polygons), 3),
                keypoints=[value for keypoint in keypoints for value in keypoint],
                num_keypoints=sum(visibility > 0 for _, _, visibility in keypoints),
            )
        )
    return annotations


def _rounded(values) -> list[float]:
    return [round(float(value), 3) for value in values]


def _labelled_keypoints(shape: PlacedShape) -> list[tuple[float, float, int]]:
    """Visibility as in COCO: 0 outside the image, 1 hidden by another shape, 2 in sight."""
    rows, columns = shape.visible.shape
    labelled = []
    for x, y in shape.keypoints:
        column, row = int(np.floor(x * OVERSAMPLING)), int(np.floor(y * OVERSAMPLING))
        if not (0 <= column < columns and 0 <= row < rows):
            labelled.append((0, 0, 0))
            continue
        visibility = 2 if shape.visible[row, column] else 1
        labelled.append((round(float(x), 2), round(float(y), 2), visibility))
    return labelled


def mask_to_polygons(fine: np.ndarray) -> list[np.ndarray]:
    """Trace a mask as polygons without holes.

    Args:
        fine: ``(OVERSAMPLING * H, OVERSAMPLING * W)``, bool, not empty.

    Returns:
        Polygons ``(P, 2)`` with ``P >= 3`` in pixels of the image, each of at least one
        pixel of area; if no part is that large, the largest part.
    """
    polygons = sorted(_trace(fine.astype(np.uint8)), key=_area, reverse=True)
    return [
        polygon
        for i, polygon in enumerate(polygons)
        if i == 0 or _area(polygon) >= _LEAST_PART_AREA
    ]


def _trace(fine: np.ndarray) -> list[np.ndarray]:
    contours, hierarchy = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    # hierarchy rows: next, previous, first child (a hole), parent
    holes = [i for i in range(len(contours)) if hierarchy[0][i][3] >= 0]
    if holes:
        column = int(np.median(contours[max(holes, key=lambda i: len(contours[i]))][:, 0, 0]))
        left, right = fine.copy(), fine.copy()
        left[:, column:] = 0
        right[:, :column] = 0
        return _trace(left) + _trace(right)
    outlines = (cv2.approxPolyDP(contour, _TOLERANCE, closed=True)[:, 0] for contour in contours)
    # A contour runs through the middles of cells.
    return [(outline + 0.5) / OVERSAMPLING for outline in outlines if len(outline) >= 3]


def _area(polygon: np.ndarray) -> float:
    x, y = polygon[:, 0], polygon[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
