"""The set as files.

::

    FOLDER/
      toy_hands.json                     what was asked for; written last
      training/{rgb,mask}/00000000.jpg   right hands in the official FreiHAND layout, the train
      training_{K,xyz,...}.json          split
      training/depth/00000000.png        depth maps, which FreiHAND does not have: 16 bits, tenths
                                         of a millimetre, 0 where it is unknown
      evaluation/...  evaluation_*.json  the val split
      left/{training,evaluation}/...     images of left hands, which FreiHAND does not have
      annotations/toy_hands_train.json   both hands in COCO's format; file names from FOLDER on
      annotations/toy_hands_val.json
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..drawn_folder import write_image
from ..drawn_set import draw_set, generator_of, images_of, report_progress, shows_share
from .appearance import paint_hand, palm_share
from .coco import CocoHands
from .depth import draw_depth_map
from .freihand import SPLIT_NAMES, FreiHANDLabels
from .hands import Hand, HandFactory
from .refusal import refuse_impossible_hands

# Raise it with every change of what is drawn: sets of another version are not reused.
DRAWING_VERSION = 2

STAMP = "toy_hands.json"

_BATCH = 64


@dataclass(frozen=True)
class ToyHandsConfig:
    """What to draw. Two equal configs give the same pixels and the same labels.

    Args:
        train_images: Number of images to train on.
        val_images: Number of held-out images.
        image_size: Rows and columns of every image, in pixels.
        left_share: Share of the images that show a left hand, 0..1, spread evenly.
        orientation_spread: Degrees by which hands are turned at most from the palm to the
            camera and the fingers up; 180 gives all orientations the same chance.
        seed: Where chance starts. The splits never share an image.

    Raises:
        ValueError: A count or the seed is negative, a share or an angle is out of its range, or
            images are too small.
    """

    train_images: int = 2000
    val_images: int = 300
    image_size: int = 224
    left_share: float = 0.3
    orientation_spread: float = 60.0
    seed: int = 0

    def __post_init__(self):
        refuse_impossible_hands(self, "left_share")

    def is_right(self, index: int) -> bool:
        """Say whether image ``index`` of a split shows a right hand."""
        return not shows_share(self.left_share, index)


def write_toy_hands(
    folder: str | Path,
    config: ToyHandsConfig,
    *,
    force: bool = False,
    report: Callable[[str], None] = print,
) -> bool:
    """Draw the set into ``folder``, which ends up absent, what it was, or complete.

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
    root: Path, split: str, config: ToyHandsConfig, report: Callable[[str], None]
) -> None:
    factory = HandFactory(config.image_size, config.orientation_spread)
    palm = palm_share(factory.layer.model.v_template, factory.layer.faces)
    name, count = SPLIT_NAMES[split], images_of(config, split)
    for side in ("", "left/"):
        for kind in ("rgb", "mask", "depth"):
            (root / f"{side}{name}" / kind).mkdir(parents=True)
    coco = CocoHands(split)
    lefts = 0
    with FreiHANDLabels(root, name, factory.layer.model.hands_mean) as labels:
        for index, (rng, hand) in enumerate(_hands(factory, split, config)):
            picture, mask, surface = paint_hand(rng, hand, factory.faces(hand.is_right), palm)
            if hand.is_right:
                place, number = name, labels.count
                labels.add(hand)
            else:
                place, number = f"left/{name}", lefts
                lefts += 1
            file_name = f"{place}/rgb/{number:08d}.jpg"
            depth_file = f"{place}/depth/{number:08d}.png"
            write_image(root / file_name, picture)
            write_image(root / place / "mask" / f"{number:08d}.jpg", np.uint8(255) * mask)
            # Last of what chance decides, so that pictures are the same as before there was depth.
            write_image(root / depth_file, draw_depth_map(rng, surface))
            coco.add(index + 1, file_name, depth_file, hand, mask, surface)
            report_progress(report, split, index + 1, count)
    coco.write(root / "annotations" / f"toy_hands_{split}.json")


def _hands(
    factory: HandFactory, split: str, config: ToyHandsConfig
) -> Iterator[tuple[np.random.Generator, Hand]]:
    """Draw hands in batches, each from a generator of its own that then paints it."""
    count = images_of(config, split)
    for start in range(0, count, _BATCH):
        indices = range(start, min(start + _BATCH, count))
        rngs = [generator_of(config.seed, split, index) for index in indices]
        sides = [config.is_right(index) for index in indices]
        yield from zip(rngs, factory.draw(rngs, sides), strict=True)
