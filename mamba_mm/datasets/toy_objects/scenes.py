"""A hand and an object before a camera."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from mamba_mm.evaluation.functional.nearest_rotation import nearest_rotation

from ..toy_hands.hands import DIGITS_KEPT, Hand, HandFactory
from ..toy_hands.views import FACING, View, draw_orientation, draw_view
from .contact import distance_to_contact
from .shapes import TOY_OBJECTS, ToyObject, toy_object

# The object upright: its x to the right, its z up, and its y away from the camera.
UPRIGHT = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])

# Share of the objects that are in front of the palm; the others may be anywhere about the hand.
_HELD_SHARE = 0.65
# Sines of the angle by which the direction to a held object scatters, and metres by which an
# object is beside the middle of the palm.
_SCATTER = 0.35
_BESIDE = 0.02
# Metres between hand and object where they are nearest.
_GAPS = (0.0, 0.006)
# From where an object starts to move towards the hand, in metres.
_START = 0.5


@dataclass(frozen=True)
class Scene:
    """An object, with or without a hand.

    Attributes:
        view: The camera.
        object: What it is.
        rotation: ``(3, 3)``, from the object's to the camera's frame.
        translation: ``(3,)``, metres.
        hand: In the same frame; ``None`` if there is none.
    """

    view: View
    object: ToyObject
    rotation: np.ndarray
    translation: np.ndarray
    hand: Hand | None

    @property
    def object_vertices(self) -> np.ndarray:
        """Vertices of the object in the frame of the camera, ``(V, 3)``."""
        return self.object.vertices @ self.rotation.T + self.translation


def draw_scene(
    rng: np.random.Generator,
    factory: HandFactory,
    *,
    name: str | None = None,
    with_hand: bool = True,
    orientation_spread: float = 60.0,
) -> Scene:
    """Draw a scene.

    The object comes towards the palm, or in some scenes towards the hand from anywhere, until the
    two nearly touch. So it hides parts of the hand, or the hand hides parts of it; they never
    enter each other. It is no physical grasp: fingers do not close around it.

    Args:
        rng: The generator to draw from.
        factory: Draws the hands; its image size is that of the picture.
        name: The object; ``None`` for any.
        with_hand: Whether there is a hand.
        orientation_spread: Degrees by which the object is turned at most from upright.
    """
    shape = toy_object(TOY_OBJECTS[rng.integers(len(TOY_OBJECTS))] if name is None else name)
    rotation = _draw_rotation(rng, orientation_spread)
    turned = shape.vertices @ rotation.T
    if not with_hand:
        view = draw_view(rng, factory.image_size)
        return Scene(view, shape, rotation, _rounded(view.place(turned)), None)
    (hand,) = factory.draw([rng], [bool(rng.uniform() < 0.5)])
    shift = _draw_contact(rng, hand, factory.faces(hand.is_right), turned, shape.faces)
    # Hand and object together shall be where the view wants the hand.
    place = hand.view.place(np.concatenate([hand.joints, turned + shift]))
    hand = replace(
        hand, vertices=_rounded(hand.vertices + place), joints=_rounded(hand.joints + place)
    )
    return Scene(hand.view, shape, rotation, _rounded(shift + place), hand)


def _draw_rotation(rng: np.random.Generator, spread: float) -> np.ndarray:
    """Draw how the object is turned, as hands are, but about upright."""
    turned = cv2.Rodrigues(draw_orientation(rng, spread))[0] @ FACING.T @ UPRIGHT
    return nearest_rotation(np.round(turned, DIGITS_KEPT))


def _draw_contact(
    rng: np.random.Generator,
    hand: Hand,
    hand_faces: np.ndarray,
    turned: np.ndarray,
    faces: np.ndarray,
) -> np.ndarray:
    """Draw where the object touches the hand: its shift, ``(3,)``, metres."""
    palm, normal = palm_of(hand)
    direction = normal + _SCATTER * rng.normal(size=3)
    if rng.uniform() > _HELD_SHARE:
        direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    start = palm + _BESIDE * rng.normal(size=3) + _START * direction
    way = distance_to_contact((turned + start, faces), (hand.vertices, hand_faces), -direction)
    gap = rng.uniform(*_GAPS)
    # It always meets the hand if it starts over the palm; beside it, it may pass by.
    return start - direction * (min(way, _START) - gap)


def palm_of(hand: Hand) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle of the palm, and the unit vector ``(3,)`` out of it."""
    wrist, index, pinky = hand.joints[[0, 5, 17]]
    normal = np.cross(index - wrist, pinky - wrist)
    normal *= 1 if hand.is_right else -1
    return (wrist + index + pinky) / 3, normal / np.linalg.norm(normal)


def _rounded(points: np.ndarray) -> np.ndarray:
    return np.round(points, DIGITS_KEPT)
