"""Weights for photos, in models that read further channels."""

from collections.abc import Mapping

import torch
from torch import nn

from mamba_mm.layers.extended_input import ExtendedInputConv2d

from .errors import StateMismatchError


def extend_inputs(
    tensors: Mapping[str, torch.Tensor], model: nn.Module, where: str
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Extend the weights of those layers of a model that allow it.

    Args:
        tensors (Mapping[str, torch.Tensor]): A file's weights under the model's keys.
        model (nn.Module): The model to fill.
        where (str): What to call the checkpoint in messages, such as its path.

    Returns:
        tuple[dict[str, torch.Tensor], tuple[str, ...]]: The weights, and what was done to them, in
        words.

    Raises:
        StateMismatchError: Such a weight differs in more than the channels of the input.
    """
    extended, notes = dict(tensors), []
    for name, module in model.named_modules():
        key = f"{name}.weight"
        if not isinstance(module, ExtendedInputConv2d) or key not in tensors:
            continue
        try:
            extended[key] = module.extended(tensors[key])
        except ValueError as error:
            raise StateMismatchError(
                f"{where} does not fit the model; nothing was loaded",
                mismatched=[f"{key}: {error}"],
            ) from error
        before, after = tensors[key].shape[1], extended[key].shape[1]
        if before != after:
            notes.append(
                f"{key} extended from {before} to {after} channels, weights: {module.new_weights}"
            )
    return extended, tuple(notes)
