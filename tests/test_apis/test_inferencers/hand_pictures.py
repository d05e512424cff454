"""Pictures of hands, and a camera, for the tests of the inferencer."""

from pathlib import Path

import cv2
import numpy as np

from mamba_mm.datasets.drawn_set import generator_of
from mamba_mm.datasets.toy_hands import HandFactory, paint_hand
from mamba_mm.datasets.toy_hands.appearance import palm_share

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "configs" / "mmpose" / "hamba" / "hamba_vmamba-nano_toy-hands-128x96.py"
SIZE = 96


class Scene:
    """Hands side by side in one picture, with their boxes and sides."""

    def __init__(self, sides, seed=0):
        factory = HandFactory(SIZE, 40.0)
        rngs = [generator_of(seed, "train", index) for index in range(len(sides))]
        hands = factory.draw(rngs, [side == "right" for side in sides])
        palm = palm_share(factory.layer.model.v_template, factory.layer.faces)
        pictures, boxes = [], []
        for number, (rng, hand) in enumerate(zip(rngs, hands, strict=True)):
            pictures.append(paint_hand(rng, hand, factory.faces(hand.is_right), palm)[0])
            pixels = hand.view.project(hand.vertices) + np.array([SIZE * number, 0])
            boxes.append([*pixels.min(0), *pixels.max(0)])
        self.image = np.concatenate(pictures, axis=1)
        self.boxes = np.array(boxes, np.float32)
        self.sides = list(sides)

    def write(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), self.image)
        return path


class FakeCamera:
    """Stands for ``cv2.VideoCapture``: camera 0 yields pictures, all others are not there."""

    def __init__(self, images):
        self.images = images
        self.fps = 0.0
        self.released = 0

    def __call__(self, number):
        self.is_there = number == 0
        self.left = list(self.images)
        return self

    def isOpened(self):
        return self.is_there

    def get(self, what):
        return self.fps

    def read(self):
        return (True, self.left.pop(0)) if self.left else (False, None)

    def release(self):
        self.released += 1
