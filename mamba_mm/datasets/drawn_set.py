"""What the sets that we draw have in common: two splits, chance from a seed, a command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from .drawn_folder import draw_folder

SPLITS = ("train", "val")
LEAST_SIZE = 64
"""Rows and columns that every image has at least, in pixels."""


def refuse_negative(config: object) -> None:
    """Refuse a negative number of images, or a negative seed.

    Raises:
        ValueError: ``train_images``, ``val_images`` or ``seed`` of ``config`` is negative.
    """
    for name in ("train_images", "val_images", "seed"):
        if getattr(config, name) < 0:
            raise ValueError(f"{name} must not be negative, got {getattr(config, name)}")


def refuse_small_images(height: int, width: int, reason: str) -> None:
    """Refuse images in which the smallest things to draw would be no more than a few pixels.

    Args:
        height: Rows of every image.
        width: Columns of every image.
        reason: What would be too small, for the message.

    Raises:
        ValueError: A side is shorter than ``LEAST_SIZE`` pixels.
    """
    if min(height, width) < LEAST_SIZE:
        raise ValueError(
            f"images must be at least {LEAST_SIZE} pixels high and wide, "
            f"got {height}x{width}: {reason}"
        )


def shows_share(share: float, index: int) -> bool:
    """Say whether an image is one of a share of the images that is spread evenly over its split.

    Args:
        share: 0..1.
        index: Of the image in its split, from 0.
    """
    # The number of such images before an image grows by one where it is one.
    return int((index + 1) * share) != int(index * share)


def generator_of(seed: int, split: str, index: int) -> np.random.Generator:
    """Return the generator of one image.

    Each has its own, so the first images of a longer set are those of a shorter one, and the
    splits share none.

    Args:
        seed: Of the set.
        split: ``"train"`` or ``"val"``.
        index: Of the image in its split, from 0.
    """
    return np.random.default_rng([seed, SPLITS.index(split), index])


def draw_set(
    folder: str | Path,
    stamp_name: str,
    version: int,
    config: object,
    write_split: Callable[[Path, str], None],
    summary: str,
    *,
    force: bool,
    report: Callable[[str], None],
) -> bool:
    """Draw the set that ``config`` describes, unless it is there already.

    Args:
        folder: Where the set goes; it ends up absent, what it was, or complete.
        stamp_name: Name of the file that says what was asked for.
        version: Of the drawing; sets of another version are not reused.
        config: A dataclass.
        write_split: Draws the files of a split, by its name, into the folder that it is given.
        summary: What is said of the folder when the set has been drawn.
        force: Replace whatever ``folder`` holds.
        report: Called with one line when the set is there.

    Returns:
        True if the set was drawn, False if ``folder`` already held this very set.

    Raises:
        FileExistsError: ``folder`` holds something else and ``force`` is not set.
    """

    def draw(partial: Path) -> None:
        for split in SPLITS:
            write_split(partial, split)

    stamp = {"drawing_version": version, **asdict(config)}
    drawn = draw_folder(folder, stamp_name, stamp, draw, force=force, report=report)
    if drawn:
        report(f"{folder}: {summary}")
    return drawn


def images_of(config: object, split: str) -> int:
    """Return how many images ``split`` ("train" or "val") holds, as ``config`` says."""
    return getattr(config, f"{split}_images")


def report_progress(report: Callable[[str], None], split: str, drawn: int, count: int) -> None:
    """Report every hundredth image of a split, and the last.

    Args:
        report: Called with a line.
        split: ``"train"`` or ``"val"``.
        drawn: How many of its images there are now.
        count: How many there will be.
    """
    if drawn % 100 == 0 or drawn == count:
        report(f"{split}: {drawn}/{count} images drawn")


def drawing_command(
    arguments: list[str] | None,
    description: str,
    config_class: type,
    write: Callable[..., bool],
    own_arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> int:
    """Read a command line and draw the set that it asks for.

    Every set has a folder, ``--train-images``, ``--val-images``, ``--seed`` and ``--force``, and
    ``--size`` if its config has a height and a width, or ``--image-size`` if that is one number.

    Args:
        arguments: Those of the command; None for the ones that this process got.
        description: What the help says first.
        config_class: A dataclass with defaults. Arguments go to its fields by name.
        write: Called as ``write(folder, config, force=..., report=...)``.
        own_arguments: Adds the arguments that only this set has, before the common ones.

    Returns:
        The exit status: 1 if something was wrong, which one line on stderr then explains.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    own_arguments(parser)
    _add_common_arguments(parser, config_class())
    args = parser.parse_args(arguments)
    if "size" in args:
        args.height, args.width = args.size
    settings = {
        field.name: getattr(args, field.name)
        for field in fields(config_class)
        if field.name in args
    }
    try:
        write(
            args.folder,
            config_class(**settings),
            force=args.force,
            report=lambda line: print(line, flush=True),
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def add_number(
    parser: argparse.ArgumentParser, defaults: object, name: str, unit: str, meaning: str
) -> None:
    """Add an argument for a field of a config that holds a number.

    Args:
        parser: Gets ``--NAME``, with dashes for underscores.
        defaults: The config with its defaults.
        name: Of the field.
        unit: What the help calls the value.
        meaning: What the help says of it, before the default.
    """
    default = getattr(defaults, name)
    parser.add_argument(
        f"--{name.replace('_', '-')}",
        type=type(default),
        default=default,
        metavar=unit,
        help=f"{meaning} (default: %(default)s)",
    )


def _add_common_arguments(parser: argparse.ArgumentParser, defaults: object) -> None:
    parser.add_argument("folder", help="where the set goes")
    parser.add_argument("--train-images", type=int, default=defaults.train_images, metavar="N")
    parser.add_argument("--val-images", type=int, default=defaults.val_images, metavar="N")
    if hasattr(defaults, "height"):
        parser.add_argument(
            "--size",
            type=int,
            nargs=2,
            default=(defaults.height, defaults.width),
            metavar=("HEIGHT", "WIDTH"),
            help="of every image, in pixels (default: %(default)s)",
        )
    if hasattr(defaults, "image_size"):
        add_number(
            parser, defaults, "image_size", "N", "rows and columns of every image, in pixels"
        )
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--force", action="store_true", help="replace what the folder holds")
