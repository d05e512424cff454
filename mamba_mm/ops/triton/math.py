"""Exponentials and what is made of them, to the rounding of float32 or float64, for kernels.

NaN and the infinities pass through as in PyTorch. ``tl.exp`` is avoided: ``exp2`` is a single
instruction on every GPU.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def log1p_unit(t):
    """``log(1 + t)`` for t in [0, 1].

    The logarithm of the rounded sum ``1 + t`` alone would lose the digits of a small t, and
    step sizes are small.
    """
    if t.dtype == tl.float64:
        # What rounding took from the sum comes back by the derivative of the logarithm.
        total = 1.0 + t
        return tl.log(total) + (t - (total - 1.0)) / total
    # Minimax polynomial of log1p(t) / t, relative error 3e-8, in two halves side by side.
    t2 = t * t
    low = (-0.248429827 * t + 0.333190969) * t2 + (-0.499994931 * t + 0.99999997)
    high = (-0.02950524 * t + 0.0782259608) * t2 + (-0.136632473 * t + 0.191060079)
    t4 = t2 * t2
    return t * ((0.00523269368 * t4 + high) * t4 + low)


@triton.jit
def softplus(x):
    """``log(1 + exp(x))``."""
    return tl.maximum(x, 0.0) + log1p_unit(tl.exp2(-tl.abs(x) * LOG2_E))


@triton.jit
def softplus_and_slope(x):
    """Softplus and its derivative, the sigmoid, from one exponential."""
    e = tl.exp2(-tl.abs(x) * LOG2_E)
    slope = tl.where(x >= 0, 1.0, e) / (1.0 + e)
    return tl.maximum(x, 0.0) + log1p_unit(e), slope


@triton.jit
def sigmoid(x):
    """``1 / (1 + exp(-x))``: zero and one at the infinities."""
    return 1.0 / (1.0 + tl.exp2(-x * LOG2_E))


@triton.jit
def silu(x):
    """``x sigmoid(x)``."""
    return x * sigmoid(x)


@triton.jit
def silu_and_slope(x):
    """SiLU and its derivative."""
    s = sigmoid(x)
    return x * s, s * (1.0 + x * (1.0 - s))
