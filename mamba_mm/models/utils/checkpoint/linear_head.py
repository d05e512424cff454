"""The linear head of an official classifier, as MMPretrain's ``LinearClsHead``."""

from collections.abc import Mapping

import torch

from .assignment import plan_assignment
from .errors import StateMismatchError

NUM_CLASSES = 1000
"""Classes of the heads in the classifier configs."""


def fit_linear_head(
    head: Mapping[str, torch.Tensor], prefix: str, channels: int, where: str
) -> dict[str, torch.Tensor]:
    """Rename an official linear head to MMPretrain's, if it has as many classes.

    Args:
        head (Mapping[str, torch.Tensor]): Its entries under their official keys.
        prefix (str): What their keys begin with, such as ``'classifier.head.'``.
        channels (int): Channels of the features.
        where (str): What to call the checkpoint in messages, such as its path.

    Returns:
        dict[str, torch.Tensor]: The weight and the bias under ``head.fc.``.

    Raises:
        StateMismatchError: The head has other classes, or keys or shapes do not fit.
        NonFiniteWeightsError: A weight is NaN or infinite.
    """
    target = {
        f"{prefix}weight": torch.empty(NUM_CLASSES, channels, device="meta"),
        f"{prefix}bias": torch.empty(NUM_CLASSES, device="meta"),
    }
    classes = {tuple(tensor.shape[:1]) for tensor in head.values()}
    if classes and classes != {(NUM_CLASSES,)}:
        raise StateMismatchError(
            f"{where} has a head of other classes than the config's {NUM_CLASSES}; "
            "pass --drop-head to convert the backbone alone",
            mismatched=[
                f"{key}: {tuple(tensor.shape)}, {tuple(target[key].shape)}"
                for key, tensor in head.items()
                if key in target
            ],
        )
    fitting = plan_assignment(head, target, where=where).copied
    return {f"head.fc.{key.removeprefix(prefix)}": fitting[key] for key in target}
