"""ISIC 2017 (part 1) and 2018 (task 1): skin lesions.

Three layouts are known, and found by the names of their folders:

- the challenge of 2017: ``ISIC-2017_Training_Data`` and ``..._Part1_GroundTruth``, also
  ``Validation`` and ``Test_v2``;
- the challenge of 2018: ``ISIC2018_Task1-2_Training_Input`` and
  ``ISIC2018_Task1_Training_GroundTruth``, also ``Validation`` and ``Test``;
- folders as medical segmentation code shares them: ``train/images`` and ``train/masks``, also
  ``val`` and ``test``.

What is written::

    FOLDER/
      isic.json                     what was asked for; written last
      img_dir/train/*.jpg           ann_dir/train/*.png      labels 0 and 1
      img_dir/val/*                 ann_dir/val/*.png        and test, where there is one
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from ..drawn_folder import draw_folder, write_image

STAMP = "isic.json"

Pair = tuple[Path, Path]

_SPLITS = {"train": "Training", "val": "Validation", "test": "Test"}


def _challenge_2017(split: str) -> tuple[str, str]:
    name = "Test_v2" if split == "test" else _SPLITS[split]
    return f"ISIC-2017_{name}_Data", f"ISIC-2017_{name}_Part1_GroundTruth"


def _challenge_2018(split: str) -> tuple[str, str]:
    name = _SPLITS[split]
    return f"ISIC2018_Task1-2_{name}_Input", f"ISIC2018_Task1_{name}_GroundTruth"


def _shared(split: str) -> tuple[str, str]:
    return f"{split}/images", f"{split}/masks"


LAYOUTS: dict[str, Callable[[str], tuple[str, str]]] = {
    "challenge of 2017": _challenge_2017,
    "challenge of 2018": _challenge_2018,
    "shared folders": _shared,
}
"""Where each layout has the images and the masks of a split."""


def convert_isic(
    source: str | Path,
    folder: str | Path,
    *,
    size: tuple[int, int] | None = None,
    train_share: float | None = None,
    seed: int = 0,
    force: bool = False,
    report: Callable[[str], None] = print,
) -> bool:
    """Write the folders that :class:`mamba_mm.ISICDataset` reads.

    Args:
        source: The folder with the unpacked files.
        folder: Where the result goes; it ends up absent, what it was, or complete.
        size: Rows and columns that images and masks are resized to. By default images are
            copied as they are, but for those that are no JPEGs yet.
        train_share: Pool the images of ``train`` and ``val`` and divide them anew, by chance,
            this share for training. By default the splits of the source stay.
        seed: Where the chance of ``train_share`` starts.
        force: Replace whatever ``folder`` holds.
        report: Called with one line now and then.

    Returns:
        True if the folders were written, False if they were there already.

    Raises:
        FileNotFoundError: The layout is not known, or an image has no mask.
        FileExistsError: ``folder`` holds something else and ``force`` is not set.
        ValueError: A file is no image, or ``train_share`` is not between 0 and 1.
    """
    layout, splits = find_pairs(source)
    report(f"{source}: {layout}, " + ", ".join(f"{len(v)} {k}" for k, v in splits.items()))
    if train_share is not None:
        splits = _divide(splits, train_share, seed)

    def draw(partial: Path) -> None:
        for split, pairs in splits.items():
            _write_split(partial, split, pairs, size)
            report(f"{split}: {len(pairs)} images")

    stamp = {
        "layout": layout,
        "images": {split: len(pairs) for split, pairs in splits.items()},
        "size": None if size is None else list(size),
        "train_share": train_share,
        "seed": seed,
    }
    return draw_folder(folder, STAMP, stamp, draw, force=force, report=report)


def find_pairs(source: str | Path) -> tuple[str, dict[str, list[Pair]]]:
    """Find the images of each split, and their masks.

    Returns:
        The name of the layout, and (image, mask) pairs by split, sorted.

    Raises:
        FileNotFoundError: The layout is not known, or an image has no mask.
    """
    source = Path(source)
    for layout, places in LAYOUTS.items():
        folders = {split: [source / name for name in places(split)] for split in _SPLITS}
        present = {split: both for split, both in folders.items() if both[0].is_dir()}
        if present:
            return layout, {split: _pairs_of(*both) for split, both in present.items()}
    expected = "; ".join(f"{name}: {places('train')[0]}" for name, places in LAYOUTS.items())
    found = sorted(os.listdir(source))[:8] if source.is_dir() else "no folder"
    raise FileNotFoundError(
        f"{source} is no known layout of ISIC; expected one of ({expected}), found {found}"
    )


def _pairs_of(images: Path, masks: Path) -> list[Pair]:
    pairs, missing = [], []
    for image in sorted(images.iterdir()):
        if image.suffix.lower() not in (".jpg", ".png") or "superpixels" in image.stem:
            continue
        names = (f"{image.stem}_segmentation.png", f"{image.stem}.png")
        mask = next((masks / name for name in names if (masks / name).is_file()), None)
        if mask is None:
            missing.append(image.name)
        else:
            pairs.append((image, mask))
    if missing or not pairs:
        what = f"{len(missing)} images without one, such as {missing[:3]}" if missing else "none"
        raise FileNotFoundError(f"the masks of {images} should be in {masks}; there are {what}")
    return pairs


def _divide(
    splits: Mapping[str, Sequence[Pair]], train_share: float, seed: int
) -> dict[str, list[Pair]]:
    if not 0 < train_share < 1:
        raise ValueError(f"train_share must lie between 0 and 1, got {train_share}")
    pool = [pair for split in ("train", "val") for pair in splits.get(split, ())]
    order = np.random.default_rng(seed).permutation(len(pool))
    count = round(train_share * len(pool))
    divided = {
        "train": [pool[i] for i in sorted(order[:count])],
        "val": [pool[i] for i in sorted(order[count:])],
    }
    return divided | {split: list(pairs) for split, pairs in splits.items() if split == "test"}


def _write_split(
    root: Path, split: str, pairs: Sequence[Pair], size: tuple[int, int] | None
) -> None:
    images, labels = root / "img_dir" / split, root / "ann_dir" / split
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for image, mask in pairs:
        label = _label(_read(mask, cv2.IMREAD_GRAYSCALE))
        target = images / f"{image.stem}.jpg"
        if size is None and image.suffix.lower() == ".jpg":
            shutil.copyfile(image, target)
        else:
            write_image(target, _resized(_read(image, cv2.IMREAD_COLOR), size, cv2.INTER_AREA))
        write_image(labels / f"{image.stem}.png", _resized(label, size, cv2.INTER_NEAREST))


def _resized(pixels: np.ndarray, size: tuple[int, int] | None, interpolation: int) -> np.ndarray:
    if size is None:
        return pixels
    return cv2.resize(pixels, (size[1], size[0]), interpolation=interpolation)


def _read(path: Path, mode: int) -> np.ndarray:
    pixels = cv2.imread(str(path), mode)
    if pixels is None:
        raise ValueError(f"{path} cannot be read as an image")
    return pixels


def _label(mask: np.ndarray) -> np.ndarray:
    """Masks are black and white; some shared ones hold the labels themselves, 0 and 1."""
    return (mask > (0 if mask.max() <= 1 else 127)).astype(np.uint8)
