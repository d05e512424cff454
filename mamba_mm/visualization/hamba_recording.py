"""What Hamba's head does inside: where it samples tokens, and how its graph mixes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from mamba_mm.models.heads.graph_conv import HandGraphConv
from mamba_mm.models.heads.token_sampler import TokenSampler


@dataclass
class SampledTokens:
    """Where a token sampler has looked.

    Attributes:
        points: Of each call, points (B, K, 2) in pixels of the network's input.
        map_sizes: Of each call, height and width of the map.
    """

    points: list[np.ndarray] = field(default_factory=list)
    map_sizes: list[tuple[int, int]] = field(default_factory=list)


@contextmanager
def recorded_tokens(sampler: TokenSampler) -> Iterator[SampledTokens]:
    """Record the points that a sampler is given while this lasts.

    Args:
        sampler: Of a :class:`mamba_mm.HambaHead`, its ``ts``.

    Yields:
        The record; it grows with every call.
    """
    record = SampledTokens()

    def keep(module: nn.Module, inputs: tuple[Tensor, Tensor]) -> None:
        feature_map, points = inputs
        record.points.append(points.detach().float().cpu().numpy())
        record.map_sizes.append(tuple(feature_map.shape[2:]))

    handle = sampler.register_forward_pre_hook(keep)
    try:
        yield record
    finally:
        handle.remove()


@torch.no_grad()
def token_centres(
    sampler: TokenSampler, map_size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return where the tokens of a map are centred, by the sampler's own geometry.

    Args:
        sampler: The sampler.
        map_size: Height and width of the map.

    Returns:
        Pixels of the network's input, x of the columns (W,) and y of the rows (H,).
    """
    # The sampler maps pixels to the coordinates of ``grid_sample``, linearly: two of them tell.
    first, second = sampler.grid(
        torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64), map_size
    )
    centres = []
    for axis, count in enumerate(reversed(map_size)):
        wanted = (2 * np.arange(count) + 1) / count - 1
        start, slope = float(first[axis]), float(second[axis] - first[axis])
        centres.append((wanted - start) / slope)
    return centres[0], centres[1]


@torch.no_grad()
def learnt_mixings(head: nn.Module) -> list[np.ndarray]:
    """Return how the graph convolution of each GSS block mixes joints.

    Args:
        head: A :class:`mamba_mm.HambaHead`, or any module.

    Returns:
        For each graph convolution, in the order of the blocks, (N, N): what share of its
        neighbour j joint i takes. Rows sum to 1.
    """
    convolutions = [module for module in head.modules() if isinstance(module, HandGraphConv)]
    return [convolution.mixing().float().cpu().numpy() for convolution in convolutions]
