"""What the commands that train several times have in common: arguments, drawn data, their end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .repeated_training import OtherRecipeError


def add_training_arguments(
    parser: argparse.ArgumentParser, trained: str, drawn: str, data: Path
) -> None:
    """Add ``--seeds``, ``--epochs``, ``--cfg-options`` and ``--data``.

    Args:
        parser: Gets them.
        trained: What is trained, for the help, such as ``"configs"``.
        drawn: What the project draws for it, such as ``"shapes"``.
        data: Where that goes by default.
    """
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="SEED")
    parser.add_argument("--epochs", type=int, help="train so long; the schedule is fitted to it")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help=f"changes of all {trained}, as tools/train.py takes them",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=data,
        metavar="FOLDER",
        help=f"of the drawn {drawn}, which are drawn if it is missing (default: %(default)s)",
    )


def drawn_data(
    stamp: Path,
    recipes: Sequence[Mapping[str, str]],
    asked: Mapping[str, object],
    draw: Callable[[dict[str, object]], object],
    advice: str,
) -> str:
    """Draw a set if a recipe reads it and it is missing.

    A set that is there is taken as it is unless something of it is asked for.

    Args:
        stamp: The file of the set that says what it was drawn by.
        recipes: What is trained, as :func:`~mamba_mm.measuring.recipes.recipe_of` gives it.
        asked: Settings of the set by name; those that are ``None`` are not asked for.
        draw: Draws the set by those that are asked for.
        advice: What to do if the folder holds something else.

    Returns:
        What the set was drawn by, or nothing if no recipe reads it.

    Raises:
        FileExistsError: The folder holds something else than was asked for.
    """
    folder = str(stamp.parent.resolve())
    if not any(folder in value for recipe in recipes for value in recipe.values()):
        return ""
    chosen = {name: value for name, value in asked.items() if value is not None}
    if chosen or not stamp.is_file():
        try:
            draw(chosen)
        except FileExistsError as error:
            raise FileExistsError(f"{error}. Here: {advice}") from error
    return stamp.read_text().strip()


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def exit_status_of(work: Callable[[], bool]) -> int:
    """Train, and say in one line what stood in the way.

    Args:
        work: Trains; returns whether all was done.

    Returns:
        0 if all was done, 1 if a training failed, 2 if it was asked for the impossible, 130 if it
        was interrupted.
    """
    try:
        return 0 if work() else 1
    except (OtherRecipeError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on", file=sys.stderr)
        return 130
