"""Which tensor of a file goes where in a model: decided and checked first, copied last."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch

from .errors import NonFiniteWeightsError, StateMismatchError, bullets

_SAMPLE = 12


@dataclass(frozen=True)
class Assignment:
    """A checked plan of a load.

    Attributes:
        copied (dict[str, torch.Tensor]): What each of the model's keys will receive.
        left_initial (tuple[str, ...]): Keys of the model that keep their initial value.
        skipped (tuple[str, ...]): Keys that do not fit and that the caller allowed to.
    """

    copied: dict[str, torch.Tensor]
    left_initial: tuple[str, ...]
    skipped: tuple[str, ...]


def plan_assignment(
    source: Mapping[str, torch.Tensor],
    target: Mapping[str, torch.Tensor],
    *,
    where: str,
    may_stay_initial: Collection[str] = (),
    allow: Iterable[str] = (),
) -> Assignment:
    """Match the tensors of a file with those of a model, and refuse all that does not fit.

    Args:
        source (Mapping[str, torch.Tensor]): The file's tensors under the model's keys.
        target (Mapping[str, torch.Tensor]): The model's state dict; only names, shapes and
            dtypes matter, so a model on the meta device will do.
        where (str): What to call the checkpoint in messages, such as its path.
        may_stay_initial (Collection[str]): Keys of the model that the file may lack.
        allow (Iterable[str]): Shell-style patterns of keys that may be missing,
            unexpected or of another shape. All other keys must fit.

    Returns:
        Assignment: What will be copied, and what will not.

    Raises:
        StateMismatchError: Keys are missing or unexpected, or shapes differ.
        NonFiniteWeightsError: A weight is NaN or infinite in the model's dtype.
    """
    fitting = {
        key: tensor
        for key, tensor in source.items()
        if key in target and _signature(tensor) == _signature(target[key])
    }
    missing = [key for key in target if key not in source and key not in may_stay_initial]
    unexpected = [key for key in source if key not in target]
    misshapen = [key for key in source if key in target and key not in fitting]

    patterns = tuple(allow)
    skipped = [key for key in (*missing, *unexpected, *misshapen) if _matches(key, patterns)]
    _refuse_misfits(
        where,
        missing=[key for key in missing if key not in skipped],
        unexpected=[key for key in unexpected if key not in skipped],
        mismatched=[
            f"{key}: {_describe(source[key])}, {_describe(target[key])}"
            for key in misshapen
            if key not in skipped
        ],
    )
    refuse_non_finite(where, fitting, target)
    left_initial = tuple(key for key in target if key not in fitting)
    return Assignment(fitting, left_initial, tuple(skipped))


def _refuse_misfits(
    where: str, missing: list[str], unexpected: list[str], mismatched: list[str]
) -> None:
    if missing or unexpected or mismatched:
        raise StateMismatchError(
            f"{where} does not fit the model: {len(missing)} keys missing, {len(unexpected)} "
            f"unexpected, {len(mismatched)} of another shape; nothing was loaded",
            missing,
            unexpected,
            mismatched,
        )


def refuse_non_finite(
    where: str, tensors: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]
) -> None:
    """Refuse NaN and infinity, also those that come from conversion to the model's dtype.

    Args:
        where (str): What to call the checkpoint in messages, such as its path.
        tensors (Mapping[str, torch.Tensor]): What will be copied.
        target (Mapping[str, torch.Tensor]): Under the same keys, what will be overwritten.

    Raises:
        NonFiniteWeightsError: With the keys of all tensors concerned.
    """
    broken = [
        key
        for key, tensor in tensors.items()
        if not torch.isfinite(tensor.to(target[key].dtype)).all()
    ]
    if broken:
        raise NonFiniteWeightsError(
            f"{where} holds weights that are NaN or infinite; nothing was loaded"
            + bullets("in", broken)
        )


def require_overlap(source: Collection[str], target: Collection[str], where: str) -> None:
    """Refuse a file that shares no key at all with the model.

    Args:
        source (Collection[str]): The file's keys, in the model's spelling.
        target (Collection[str]): The model's keys.
        where (str): What to call the checkpoint in messages, such as its path.

    Raises:
        StateMismatchError: With a sample of both sides.
    """
    if not set(source).intersection(target):
        raise StateMismatchError(
            f"{where} has not one tensor that the model could use; nothing was loaded"
            + bullets("the file's keys", source, _SAMPLE)
            + bullets("the model's keys", target, _SAMPLE)
        )


@torch.no_grad()
def assign(assignment: Assignment, target: Mapping[str, torch.Tensor]) -> None:
    """Copy a checked plan into a model's state dict, in place.

    Args:
        assignment (Assignment): From :func:`plan_assignment` for the same ``target``.
        target (Mapping[str, torch.Tensor]): ``model.state_dict()``, whose tensors share
            their memory with the model.
    """
    for key, tensor in assignment.copied.items():
        target[key].copy_(tensor)


def _matches(key: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _signature(tensor: torch.Tensor) -> tuple[torch.Size, bool]:
    # A float may be of any precision, but integers (quantised weights, say) are no floats.
    return tensor.shape, tensor.is_floating_point()


def _describe(tensor: torch.Tensor) -> str:
    shape = str(tuple(tensor.shape))
    return shape if tensor.is_floating_point() else f"{shape} {tensor.dtype}".replace("torch.", "")
