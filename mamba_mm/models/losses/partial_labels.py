"""What losses share whose labels are partial: weights, precision, and checks of shapes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def weighted_mean(
    distance: Callable[[Tensor], Tensor], difference: Tensor, weight: Tensor
) -> Tensor:
    """Return the mean over the batch of the weighted sum of each sample.

    What is not labelled is replaced, not multiplied by zero, and before the distance is taken:
    zero times NaN is NaN, in the sum as in the gradient. An empty batch gives zero.

    Args:
        distance: Elementwise, and zero at zero.
        difference: (B, ...).
        weight: (B, ...), the leading dimensions of ``difference``.

    Returns:
        A scalar.
    """
    weight = weight.reshape(weight.shape + (1,) * (difference.dim() - weight.dim()))
    labelled = torch.where(weight > 0, difference, difference.new_zeros(()))
    return (distance(labelled) * weight).sum() / max(len(difference), 1)


def at_least_float32(*tensors: Tensor) -> list[Tensor]:
    """Return the tensors with single precision or more, so that no sum overflows under autocast."""
    return [tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in tensors]


def check_shapes(
    loss: nn.Module, pred: Tensor, target: Tensor, **others: tuple[Tensor, tuple[int, ...]]
) -> None:
    """Stop where a wrong shape would be broadcast silently.

    Args:
        loss: Whose inputs these are.
        pred: The prediction, which sets the shapes.
        target: What must have the same shape.
        **others: By argument, the tensor and the shape that it must have.

    Raises:
        ValueError: A shape is another one.
    """
    for name, (tensor, shape) in {"target": (target, pred.shape), **others}.items():
        if tensor.shape != tuple(shape):
            raise ValueError(
                f"{type(loss).__name__}: for a prediction of shape {tuple(pred.shape)}, {name} "
                f"must have the shape {tuple(shape)}, not {tuple(tensor.shape)}"
            )
