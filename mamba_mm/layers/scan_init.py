"""How the parameters of a selective scan start (Mamba, arXiv 2312.00752, section 3.6)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# The range in which the step sizes softplus(dt bias) start.
DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 1e-1, 1e-4


@torch.no_grad()
def init_step_size_bias(bias: Tensor) -> None:
    """Draw biases of the step sizes: softplus of them is log-uniform in [1e-3, 1e-1].

    Args:
        bias: The biases, of any shape, overwritten.
    """
    log_dt = torch.empty_like(bias).uniform_(math.log(DT_MIN), math.log(DT_MAX))
    dt = log_dt.exp().clamp(min=DT_FLOOR)
    inverse_softplus = dt + torch.log(-torch.expm1(-dt))
    bias.copy_(inverse_softplus)


def init_step_size_weight(weight: Tensor) -> None:
    """Draw the projection of the step sizes, uniform in +-R^-0.5.

    Args:
        weight: Of shape (..., R), overwritten.
    """
    bound = weight.shape[-1] ** -0.5
    nn.init.uniform_(weight, -bound, bound)


@torch.no_grad()
def init_decay_rates(A_log: Tensor) -> None:
    """Set the decay rates A = -exp(A_log) to -1 ... -N for the N states (S4D-real).

    Args:
        A_log: Of shape (..., N), overwritten.
    """
    states = torch.arange(1, A_log.shape[-1] + 1, device=A_log.device)
    A_log.copy_(states.log().expand_as(A_log))
