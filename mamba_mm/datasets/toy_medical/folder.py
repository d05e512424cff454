"""The set as files: images and label maps.

::

    FOLDER/
      toy_medical.json              what was asked for; written last
      img_dir/train/00001.png ...   img_dir/val/...
      ann_dir/train/00001.png ...   ann_dir/val/...   one byte a pixel, the class
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..drawn_folder import write_image
from ..drawn_set import draw_set, generator_of, images_of, refuse_negative, refuse_small_images
from .lesions import LESION_CLASSES, draw_lesion
from .organs import ORGAN_CLASSES, draw_organs

# Raise it with every change of what is drawn: sets of another version are not reused.
DRAWING_VERSION = 1

STAMP = "toy_medical.json"

KINDS: dict[str, tuple[Callable, tuple[str, ...]]] = {
    "lesions": (draw_lesion, LESION_CLASSES),
    "organs": (draw_organs, ORGAN_CLASSES),
}
"""What can be drawn, each with the names of its classes."""


@dataclass(frozen=True)
class ToyMedicalConfig:
    """What to draw. Two equal configs give the same pixels and the same labels.

    Args:
        kind: ``"lesions"`` or ``"organs"``.
        train_images: Number of images to train on.
        val_images: Number of held-out images.
        height: Rows of every image, in pixels.
        width: Columns of every image, in pixels.
        seed: Where chance starts. The splits never share an image.

    Raises:
        ValueError: The kind is unknown, a count or the seed is negative, or an image is too
            small for its smallest parts.
    """

    kind: str = "lesions"
    train_images: int = 400
    val_images: int = 100
    height: int = 128
    width: int = 128
    seed: int = 0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind {self.kind!r}; known: {', '.join(KINDS)}")
        refuse_negative(self)
        refuse_small_images(self.height, self.width, "an aorta would be less than five pixels wide")


def write_toy_medical(
    folder: str | Path,
    config: ToyMedicalConfig,
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
    summary = f"{config.kind} ({', '.join(KINDS[config.kind][1])})"
    return draw_set(
        *(folder, STAMP, DRAWING_VERSION, config),
        lambda root, split: _write_split(root, split, config, report),
        summary,
        force=force,
        report=report,
    )


def _write_split(
    root: Path, split: str, config: ToyMedicalConfig, report: Callable[[str], None]
) -> None:
    draw_one = KINDS[config.kind][0]
    folders = [root / name / split for name in ("img_dir", "ann_dir")]
    for folder in folders:
        folder.mkdir(parents=True)
    count = images_of(config, split)
    for index in range(count):
        rng = generator_of(config.seed, split, index)
        for folder, pixels in zip(folders, draw_one(rng, config.height, config.width), strict=True):
            write_image(folder / f"{index + 1:05d}.png", pixels)
    report(f"{split}: {count} images drawn")
