"""What the converter has to know about a family of official checkpoints."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Converted:
    """Official weights in the form of an MMEngine model.

    Attributes:
        preset (str): Name of the released model.
        config (str | None): Config whose model the weights fill strictly, as a path that
            begins with ``configs/``; ``None`` where the weights alone do not decide it.
        spelling (str): How the keys of the source were spelt.
        state_dict (dict[str, torch.Tensor]): Entries under the keys of the config's model.
        dropped (tuple[str, ...]): Keys of the source that were left out.
        config_options (Mapping[str, object]): What that config needs besides, as its
            ``--cfg-options``.
        meta (Mapping[str, object]): What else the written file should say about itself; plain
            Python values.
    """

    preset: str
    config: str | None
    spelling: str
    state_dict: dict[str, torch.Tensor]
    dropped: tuple[str, ...] = ()
    config_options: Mapping[str, object] = field(default_factory=dict)
    meta: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """One family of official checkpoints.

    Attributes:
        name (str): Short name, written to the ``meta`` of converted files.
        detect (Callable): Tells from the keys of a state dict whether it is of this family.
        convert (Callable): Called as ``convert(tensors, where=..., arch=..., drop_head=...)``
            with the whole state dict, the name of the file for messages, the preset that the
            user asserts or ``None``, and whether to leave out the head. Raises a
            :class:`~.errors.CheckpointError` for all that does not fit.
        takes_img_size (bool): Whether ``convert`` takes ``img_size=(height, width)`` too,
            because weights of the family depend on it.
    """

    name: str
    detect: Callable[[Iterable[str]], bool]
    convert: Callable[..., Converted]
    takes_img_size: bool = False
