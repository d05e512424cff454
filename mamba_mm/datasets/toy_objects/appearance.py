"""The pixels of a scene, and what of it is in sight."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mamba_mm.rendering import rasterize, shade

from ..shapes.textures import cluttered_background
from .scenes import Scene

# Surfaces are drawn on a grid as many times finer, so that outlines are smooth.
_OVERSAMPLING = 2

# Blue, green, red.
_DARK_SKIN = np.array([30.0, 50, 92])
_LIGHT_SKIN = np.array([172.0, 204, 250])
_PALM = np.array([150.0, 170, 235])


@dataclass(frozen=True)
class Picture:
    """A picture of a scene.

    Attributes:
        image: ``(H, W, 3)``, uint8, blue green red.
        object_mask: ``(H, W)``, bool: where the object would be without the hand.
        object_visible: ``(H, W)``, bool: where it is in sight.
        hand_visible: ``(H, W)``, bool: where the hand is.
        hand_mask: ``(H, W)``, bool: where the hand would be without the object.
        depth: ``(H, W)``, metres: of the nearest surface, infinite beside.
    """

    image: np.ndarray
    object_mask: np.ndarray
    object_visible: np.ndarray
    hand_visible: np.ndarray
    hand_mask: np.ndarray
    depth: np.ndarray


def paint_scene(
    rng: np.random.Generator, scene: Scene, hand_faces: np.ndarray, palm: np.ndarray
) -> Picture:
    """Paint a scene over clutter.

    Args:
        rng: The generator to draw from.
        scene: The scene.
        hand_faces: ``(F, 3)``, triangles of its hand with normals outwards.
        palm: ``(V,)``, how much each vertex of a hand belongs to its palm.
    """
    size = scene.view.size
    skin = _skin_colours(rng, palm)
    paint = _object_colour(rng, scene)
    # One surface of both, so that each hides what is behind it.
    vertices, faces = scene.object_vertices, scene.object.faces
    colours = np.broadcast_to(paint, vertices.shape)
    if scene.hand is not None:
        faces = np.concatenate([faces, hand_faces + len(vertices)])
        vertices = np.concatenate([vertices, scene.hand.vertices])
        colours = np.concatenate([colours, skin])
    fine = _pixels(scene, vertices, _OVERSAMPLING)
    drawn = shade(
        vertices,
        faces,
        fine,
        _OVERSAMPLING * size,
        _OVERSAMPLING * size,
        colour=colours,
        towards_light=_draw_light(rng),
        ambient=rng.uniform(0.3, 0.55),
    )
    image = _photographed(rng, _over_clutter(rng, drawn.image, drawn.mask, size))

    pixels = _pixels(scene, vertices)
    count = len(scene.object.faces)
    both = rasterize(pixels, faces, size, size)
    alone = rasterize(pixels, faces[:count], size, size)
    of_object = (both.face_index >= 0) & (both.face_index < count)
    hand_mask = np.zeros((size, size), bool)
    if scene.hand is not None:
        hand_mask = rasterize(pixels, faces[count:], size, size).face_index >= 0
    return Picture(
        image=image,
        object_mask=alone.face_index >= 0,
        object_visible=of_object,
        hand_visible=both.face_index >= count,
        hand_mask=hand_mask,
        depth=both.depth,
    )


def _pixels(scene: Scene, vertices: np.ndarray, finer: int = 1) -> np.ndarray:
    """Vertices in the picture with their depth, on a grid that is ``finer`` times as fine."""
    # The centre of a pixel lies in the middle of its fine pixels.
    pixels = finer * scene.view.project(vertices) + (finer - 1) / 2
    return np.column_stack([pixels, vertices[:, 2]])


def _skin_colours(rng: np.random.Generator, palm: np.ndarray) -> np.ndarray:
    tone = _DARK_SKIN + rng.uniform() * (_LIGHT_SKIN - _DARK_SKIN)
    share = palm[:, None] * rng.uniform(0.15, 0.35)
    return (1 - share) * tone * rng.uniform(0.95, 1.05, 3) + share * _PALM


def _object_colour(rng: np.random.Generator, scene: Scene) -> np.ndarray:
    colour = np.array(scene.object.colour) * rng.uniform(0.75, 1.1)
    return np.clip(colour + rng.normal(0, 18, 3), 0, 255)


def _draw_light(rng: np.random.Generator) -> np.ndarray:
    """Return a direction towards the light, which is on the camera's side."""
    direction = rng.normal(size=3)
    direction[2] = -0.4 - abs(direction[2])
    return direction


def _over_clutter(
    rng: np.random.Generator, drawn: np.ndarray, mask: np.ndarray, size: int
) -> np.ndarray:
    surface, cover = (
        cv2.resize(values.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
        for values in (drawn, mask)
    )
    return surface + (1 - cover[..., None]) * cluttered_background(rng, size, size)


def _photographed(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Add the flaws of a camera: blur, a tint and noise."""
    picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.2, 0.8))
    picture = picture * rng.uniform(0.95, 1.05, 3) + rng.normal(0, rng.uniform(0, 5), picture.shape)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
