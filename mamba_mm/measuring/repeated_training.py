"""Trainings of several configs with several seeds, in turns, each done once.

::

    FOLDER/
      CONFIG/seed-0/
        recipe.json       what the training runs with; a folder serves one recipe
        train.log         what the toolbox's script printed
        TIME/vis_data/    the log that curves are read from
        finished          there when the training ended as it should
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .recipes import differences, listed, read_config, recipe_of, with_options

LINES_OF_A_FAILURE = 25
"""How much of a log's end is shown when a training fails."""

DATA_KEY = "drawn data"
"""Of a training's recipe, beside its config: on other images it is another training."""

Launch = Callable[[Sequence[str], Path], int]
"""Runs a command with its output added to a file; returns the exit status."""


class OtherRecipeError(Exception):
    """A folder holds a training of another recipe; the message says what differs."""


@dataclass(frozen=True)
class Training:
    """One training: a config and a seed.

    Attributes:
        config: The config file.
        seed: Of the random numbers.
        folder: Its work directory.
        recipe: What it runs with, as :func:`~mamba_mm.measuring.recipes.recipe_of` gives it.
        options: Its ``--cfg-options`` beside the seed, as text ``NAME=VALUE``.
    """

    config: Path
    seed: int
    folder: Path
    recipe: Mapping[str, str]
    options: tuple[str, ...]

    @property
    def log(self) -> Path:
        """The file that the training's output goes to."""
        return self.folder / "train.log"

    @property
    def finished(self) -> bool:
        """Whether the training was done to its end."""
        return (self.folder / "finished").is_file()


@contextmanager
def one_call_at_a_time(folder: Path) -> Iterator[None]:
    """Keep other calls out of a folder of trainings.

    Two that train the same at the same time would mix their logs in one folder. The lock ends with
    the process, however that ends.

    Args:
        folder: Where the trainings of this call go; it is made if it is missing.

    Raises:
        BlockingIOError: Another call trains there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(
                f"another call still trains in {folder}; wait for it, end it or name another folder"
            ) from error
        yield


def refuse_repeated(kind: str, given: Sequence[object]) -> None:
    """Refuse what would give two trainings one folder.

    Args:
        kind: What is given, for the message.
        given: Names of configs, or seeds.

    Raises:
        ValueError: One comes twice.
    """
    for item in given:
        if given.count(item) > 1:
            raise ValueError(f"the {kind} {item} was given twice; each has one folder")


def in_turns(
    configs: Mapping[Path, Mapping[str, str]],
    seeds: Sequence[int],
    folder: Path,
    options: Mapping[Path, Sequence[str]],
) -> list[Training]:
    """Order trainings so that an early end leaves as many seeds of one config as of another.

    Args:
        configs: Recipe by config file.
        seeds: All configs are trained with each of them.
        folder: Work directories go to ``folder/CONFIG/seed-N``.
        options: ``--cfg-options`` by config file, as text ``NAME=VALUE``.

    Returns:
        The first seed of all configs, then the second of all, and so on.
    """
    return [
        Training(
            config, seed, folder / config.stem / f"seed-{seed}", recipe, tuple(options[config])
        )
        for seed in seeds
        for config, recipe in configs.items()
    ]


def train(training: Training, script: Path, launch: Launch | None = None) -> bool:
    """Train unless that was done; go on from the last checkpoint if it was interrupted.

    Args:
        training: What to train.
        script: The ``train.py`` that takes a config and the toolboxes' common flags.
        launch: How to run a command.

    Returns:
        Whether the training has been done to its end; if not, its log says why.

    Raises:
        OtherRecipeError: The folder holds a training of another recipe.
    """
    refuse_another_recipe(training)
    if training.finished:
        return True
    training.folder.mkdir(parents=True, exist_ok=True)
    (training.folder / "recipe.json").write_text(json.dumps(training.recipe, indent=1) + "\n")
    status = (launch or run_logged)(command_of(training, script), training.log)
    if status == 0:
        (training.folder / "finished").touch()
    return status == 0


def refuse_another_recipe(training: Training) -> None:
    """Look whether a training's folder can be used for it.

    Raises:
        OtherRecipeError: It holds a training of another recipe.
    """
    path = training.folder / "recipe.json"
    if not path.is_file():
        return
    if found := differences(json.loads(path.read_text()), training.recipe):
        raise OtherRecipeError(
            f"{training.folder} holds a training of another recipe; name another folder, or delete "
            f"this one. It differs in (there / now):\n{listed(found)}"
        )


def refuse_a_changed_config(training: Training) -> None:
    """Refuse to train by a config that was edited since the first of its trainings.

    Raises:
        ValueError: What the file asks for now is not the training's recipe.
    """
    now = recipe_of(with_options(read_config(training.config), training.options))
    if found := differences(training.recipe, now | {DATA_KEY: training.recipe[DATA_KEY]}):
        raise ValueError(
            f"{training.config} has changed since this comparison began, in (then / now):\n"
            f"{listed(found)}\nRestore it, or compare anew in another folder"
        )


def command_of(training: Training, script: Path) -> list[str]:
    """Return the command that trains, or goes on if there is a checkpoint."""
    has_checkpoint = (training.folder / "last_checkpoint").is_file()
    return [
        *(sys.executable, str(script), str(training.config)),
        *("--work-dir", str(training.folder)),
        *(["--resume"] if has_checkpoint else []),
        *("--cfg-options", f"randomness.seed={training.seed}", *training.options),
    ]


def run_logged(command: Sequence[str], log: Path) -> int:
    """Run a command, its output added to the file ``log``; return its exit status."""
    with log.open("a", encoding="utf-8") as output:
        return subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, check=False
        ).returncode


def end_of(log: Path, lines: int = LINES_OF_A_FAILURE) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
