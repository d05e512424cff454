"""What a config asks for apart from its backbone, and where two configs differ in it.

A recipe is flat: ``{"optim_wrapper.optimizer.lr": "0.002", ...}``, so that a difference has a name.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from mamba_mm.measuring.quiet import mmengine_logs_only

ABSENT = "absent"
"""Stands for the value that one of two recipes does not have."""

# What a training runs with is what the Runner is built from; helper variables are not.
_NOT_OF_THE_RECIPE = {"self", "cfg", "work_dir", "experiment_name", "launcher", "resume"}
_RECIPE_KEYS = set(inspect.signature(Runner.__init__).parameters) - _NOT_OF_THE_RECIPE

# The backbone, and the channels of the part that reads its maps.
_OF_THE_BACKBONE = re.compile(
    r"model\.(backbone|(neck|head|decode_head|auxiliary_head)\.in_channels)(\.|$)"
)

# Of a scheduler that counts epochs: what is a number of epochs, or a list of them.
_EPOCHS_OF_A_SCHEDULER = ("begin", "end", "T_max", "milestones", "step_size")


def read_config(path: Path) -> Config:
    """Read a config, without the line that MMEngine prints for each variable it replaces."""
    with mmengine_logs_only(logging.WARNING):
        return Config.fromfile(path)


def with_options(config: Config, options: Sequence[str]) -> Config:
    """Change a config in place by ``NAME=VALUE`` as the toolboxes' scripts do; return it.

    Raises:
        ValueError: One is not of that form.
    """
    if wrong := [option for option in options if "=" not in option]:
        raise ValueError(f"--cfg-options takes NAME=VALUE, got {wrong[0]!r}")
    parser = argparse.ArgumentParser()
    parser.add_argument("--options", nargs="*", action=DictAction, default={})
    config.merge_from_dict(parser.parse_args(["--options", *options]).options)
    return config


def recipe_of(config: Config) -> dict[str, str]:
    """Return all that a training runs with, by dotted name.

    Helper variables of the config, the work directory and the seed are no part of it.
    """
    chosen = {key: value for key, value in config.to_dict().items() if key in _RECIPE_KEYS}
    recipe = dict(_flattened("", chosen))
    recipe.pop("randomness.seed", None)
    return recipe


def differences(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return the values that differ, by name; a value that is not there is ``ABSENT``."""
    names = sorted(first.keys() | second.keys())
    pairs = {name: (first.get(name, ABSENT), second.get(name, ABSENT)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def differences_beside_the_backbone(
    first: Mapping[str, str], second: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Return the differences that a comparison of backbones must not have, by name.

    The backbone itself may differ, and the ``in_channels`` of the neck or head that reads it.
    """
    found = differences(first, second)
    return {name: pair for name, pair in found.items() if not _OF_THE_BACKBONE.match(name)}


def listed(differing: Mapping[str, tuple[str, str]]) -> str:
    """Write differences as text, a line each."""
    return "\n".join(f"  {name}: {a} / {b}" for name, (a, b) in differing.items())


def options_for_epochs(config: Config, epochs: int) -> dict[str, object]:
    """Return the ``--cfg-options`` that make a training last ``epochs`` with the same course.

    The parts of a learning-rate schedule that count epochs shrink or grow with the training;
    a warm-up that counts iterations stays.

    Raises:
        ValueError: ``epochs`` is below 1, or the training counts iterations.
    """
    if epochs < 1:
        raise ValueError(f"a training lasts 1 epoch or more, got {epochs}")
    if "max_epochs" not in config.train_cfg:
        raise ValueError(
            f"{config.filename} trains for a number of iterations, so its epochs cannot be set; "
            "use --cfg-options train_cfg.max_iters=N with the schedule's own numbers"
        )
    factor = epochs / config.train_cfg.max_epochs
    options: dict[str, object] = {"train_cfg.max_epochs": epochs}
    schedulers = config.get("param_scheduler") or []
    listed_ones = isinstance(schedulers, (list, tuple))
    for index, scheduler in enumerate(schedulers if listed_ones else [schedulers]):
        if not scheduler.get("by_epoch", True):
            continue
        place = f"param_scheduler.{index}" if listed_ones else "param_scheduler"
        for name in _EPOCHS_OF_A_SCHEDULER:
            if name in scheduler:
                options[f"{place}.{name}"] = _scaled(scheduler[name], factor)
    return options


def as_cfg_options(options: Mapping[str, object]) -> list[str]:
    """Write options as ``NAME=VALUE``, as ``--cfg-options`` takes them."""
    # MMEngine reads a list from a text without spaces.
    return [f"{name}={value}".replace(" ", "") for name, value in options.items()]


def _scaled(value: object, factor: float) -> object:
    if isinstance(value, (list, tuple)):
        return [_scaled(item, factor) for item in value]
    # MMEngine's "for ever" is a large number, and None stands for a default; 0 is the start.
    if not value or value >= 10**6:
        return value
    return max(1, round(value * factor))


def _flattened(name: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        items = None
    if not value or items is None:  # a value, or an empty container
        yield name, repr(value)
        return
    for key, item in items:
        yield from _flattened(f"{name}.{key}" if name else str(key), item)
