"""What loading has in common in all families: its first step, and its last."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from .assignment import assign, plan_assignment
from .containers import Container, open_container
from .reading import read_checkpoint
from .report import LoadReport


@dataclass(frozen=True)
class OpenedCheckpoint:
    """A checkpoint whose state dict was found.

    Attributes:
        where (str): What to call it in messages: its path.
        sha256 (str): Hash of the file.
        content (object): All that the file holds.
        container (Container): The state dict in it.
    """

    where: str
    sha256: str
    content: object
    container: Container


@dataclass(frozen=True)
class Placed:
    """Weights of a file after they were matched with what a model has.

    Attributes:
        tensors (dict[str, torch.Tensor]): Entries under the model's keys.
        dropped (tuple[str, ...]): What the model has no use for.
        may_stay_initial (tuple[str, ...]): Keys of the model that such a file does not hold.
    """

    tensors: dict[str, torch.Tensor]
    dropped: tuple[str, ...] = ()
    may_stay_initial: tuple[str, ...] = ()


@dataclass(frozen=True)
class Origin:
    """What the weights of a file are, for the report.

    Attributes:
        family (str): Name of the family.
        arch (str): Name of the preset, or ``'custom'``.
        spelling (str): Spelling of the keys.
        ignored (tuple[tuple[str, int], ...]): Other modules of the file, with their numbers of
            tensors.
        notes (tuple[str, ...]): What was changed on the way, in words.
    """

    family: str
    arch: str
    spelling: str
    ignored: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()


def open_checkpoint(
    checkpoint: str | os.PathLike, key: str | None = None, trusted: bool = False
) -> OpenedCheckpoint:
    """Read a file and find its state dict.

    Args:
        checkpoint (str | os.PathLike): Path or ``http(s)`` URL.
        key (str, optional): Top-level key of the state dict, such as ``model_ema``.
        trusted (bool): Allow the file to run code while it is read. Defaults to False.

    Raises:
        CheckpointReadError: The file is missing or cannot be read safely.
        CheckpointFormatError: There is no state dict where it should be.
    """
    file = read_checkpoint(checkpoint, trusted)
    where = str(file.path)
    return OpenedCheckpoint(
        where, file.sha256, file.content, open_container(file.content, key, where)
    )


def fill(
    target: Mapping[str, torch.Tensor],
    placed: Placed,
    origin: Origin,
    opened: OpenedCheckpoint,
    allow: Iterable[str],
) -> LoadReport:
    """Copy weights into a model, completely or not at all, and log the report.

    Args:
        target (Mapping[str, torch.Tensor]): ``model.state_dict()`` of the model.
        placed (Placed): The weights.
        origin (Origin): What they are.
        opened (OpenedCheckpoint): Where they are from.
        allow (Iterable[str]): Shell-style patterns of keys that need not fit.

    Raises:
        StateMismatchError: Keys are missing or unexpected, or shapes differ.
        NonFiniteWeightsError: Weights are NaN or infinite.
    """
    assignment = plan_assignment(
        placed.tensors,
        target,
        where=opened.where,
        may_stay_initial=placed.may_stay_initial,
        allow=allow,
    )
    assign(assignment, target)
    report = LoadReport(
        checkpoint=opened.where,
        sha256=opened.sha256,
        container=opened.container.key,
        spelling=origin.spelling,
        arch=origin.arch,
        copied=tuple(assignment.copied),
        dropped=placed.dropped,
        left_initial=assignment.left_initial,
        skipped=assignment.skipped,
        ignored_modules=origin.ignored,
        family=origin.family,
        notes=origin.notes,
    )
    report.log()
    return report
