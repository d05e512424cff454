"""Where in a checkpoint the tensors lie, and which of them belong to the backbone."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from .errors import CheckpointFormatError, bullets

BARE = "bare state dict"

# Looked for in this order when the caller names no key. The EMA weights of a training
# dump are never chosen silently: the published figures belong to `model`.
_CONTAINER_KEYS = ("model", "state_dict", "model_state_dict")
_SAMPLE = 12


@dataclass(frozen=True)
class Container:
    """The state dict found in a checkpoint.

    Attributes:
        key (str): The top-level key it was found under, or :data:`BARE`.
        tensors (dict[str, torch.Tensor]): Its entries, without a leading ``module.``.
    """

    key: str
    tensors: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Selection:
    """The backbone's share of a container.

    Attributes:
        prefix (str): What was taken off the keys, ``''`` if the whole container was taken.
        tensors (dict[str, torch.Tensor]): The backbone's entries, without the prefix.
        others (dict[str, torch.Tensor]): All other entries (neck, heads), keys unchanged.
    """

    prefix: str
    tensors: dict[str, torch.Tensor]
    others: dict[str, torch.Tensor]

    @property
    def ignored(self) -> tuple[tuple[str, int], ...]:
        """Top-level modules outside the backbone, each with its number of tensors."""
        return tuple(sorted(Counter(key.split(".")[0] for key in self.others).items()))

    def spelling(self, own: str) -> str:
        """Name the spelling of the whole file, where the backbone's own is this one.

        D is that of OpenMMLab, which puts a prefix in front.
        """
        return f"D/{own}" if self.prefix else own


def open_container(
    content: object, key: str | None = None, where: str = "The checkpoint"
) -> Container:
    """Find the state dict in the content of a checkpoint.

    Args:
        content (object): What ``torch.load`` returned.
        key (str, optional): Top-level key to take, such as ``model_ema``. By default
            ``model``, ``state_dict`` or ``model_state_dict``, or the content itself if it holds
            only tensors.
        where (str): What to call the checkpoint in messages, such as its path.

    Returns:
        Container: The key and the tensors.

    Raises:
        CheckpointFormatError: No such key, two candidates, not a dict, or other values
            than tensors in it.
    """
    if not isinstance(content, Mapping):
        raise CheckpointFormatError(
            f"{where} holds a {type(content).__name__}, not a dict of tensors"
        )
    if key is not None:
        if not isinstance(content.get(key), Mapping):
            raise CheckpointFormatError(
                f"{where} has no state dict under {key!r}" + _top_level(content)
            )
        return Container(key, _checked_tensors(content[key], where))

    found = [name for name in _CONTAINER_KEYS if isinstance(content.get(name), Mapping)]
    if len(found) > 1:
        raise CheckpointFormatError(
            f"{where} has several state dicts ({', '.join(found)}); name one as the key"
        )
    if found:
        return Container(found[0], _checked_tensors(content[found[0]], where))
    if content and all(isinstance(value, torch.Tensor) for value in content.values()):
        return Container(BARE, _checked_tensors(content, where))
    raise CheckpointFormatError(
        f"{where} has no state dict: neither "
        f"{' nor '.join(map(repr, _CONTAINER_KEYS))} among its keys, nor tensors alone"
        + _top_level(content)
        + _other_state_dicts(content)
    )


def select_backbone(
    tensors: Mapping[str, torch.Tensor],
    prefix: str | None = None,
    where: str = "The checkpoint",
) -> Selection:
    """Take the backbone out of a model's state dict.

    Args:
        tensors (Mapping[str, torch.Tensor]): A whole state dict.
        prefix (str, optional): Where the backbone lies. By default ``backbone.`` if any
            key begins so, else the state dict is the backbone's own.
        where (str): What to call the checkpoint in messages, such as its path.

    Returns:
        Selection: The backbone's tensors and the others.

    Raises:
        CheckpointFormatError: No key begins with the given prefix.
    """
    if prefix is None:
        prefix = "backbone." if any(key.startswith("backbone.") for key in tensors) else ""
    elif prefix and not prefix.endswith("."):
        prefix += "."
    inside = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
    if prefix and not inside:
        raise CheckpointFormatError(
            f"{where} has no key that begins with {prefix!r}"
            + bullets("its modules", sorted({key.split(".")[0] for key in tensors}), _SAMPLE)
        )
    others = {key: value for key, value in tensors.items() if not key.startswith(prefix)}
    return Selection(prefix, inside, others)


def _checked_tensors(state: Mapping, where: str) -> dict[str, torch.Tensor]:
    """Copy a state dict without the ``module.`` that distributed wrappers put in front."""
    if not state:
        raise CheckpointFormatError(f"{where} has an empty state dict")
    foreign = [str(key) for key, value in state.items() if not isinstance(value, torch.Tensor)]
    if foreign:
        raise CheckpointFormatError(
            f"{where} has values among its weights that are no tensors"
            + bullets("their keys", foreign, _SAMPLE)
        )
    tensors = {str(key).removeprefix("module."): value.detach() for key, value in state.items()}
    if len(tensors) < len(state):
        twice = [key for key in state if f"module.{key}" in state]
        raise CheckpointFormatError(
            f"{where} has keys both with and without 'module.'" + bullets("twice", twice)
        )
    return tensors


def _top_level(content: Mapping) -> str:
    return bullets("its top-level keys", content, _SAMPLE)


def _other_state_dicts(content: Mapping) -> str:
    """Name the keys that could be meant, such as ``model_ema``, and how to ask for one."""
    names = [
        name
        for name, value in content.items()
        if isinstance(value, Mapping)
        and value
        and all(isinstance(entry, torch.Tensor) for entry in value.values())
    ]
    return bullets("state dicts that can be asked for (--key of the converter)", names)
