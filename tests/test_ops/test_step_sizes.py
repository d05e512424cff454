"""Step sizes dt = softplus(delta) over the whole range of float32, alone in the output.

An input that is not zero at one position only, read out there with B = C = 1, gives dt itself; its
gradient by delta is the sigmoid.
"""

import math

import pytest
import torch

from mamba_mm.ops import route_scan, selective_scan

# Beyond what polynomials on intervals cover, around every border between two of them, where a
# sum of 1.5 * 2^23 rounds, and where only a few bits tell a huge number from a small one.
BORDERS = [i + 0.5 for i in range(-22, 13)]
HUGE = [2.0**k for k in (7, 20, 22, 23, 24, 30, 100)]


def deltas():
    around = [math.nextafter(b, way) for b in BORDERS for way in (-math.inf, math.inf)]
    huge = [*HUGE, 12582912.0, 12582930.0, 4194304.0]
    generator = torch.Generator().manual_seed(0)
    uniform = (torch.rand(4000, generator=generator) * 40 - 24).tolist()
    values = [0.0, -0.0, *BORDERS, *around, *huge, *(-h for h in huge), *uniform]
    values += [-60.0, -86.0, 60.0, 86.0]
    return torch.tensor(values, dtype=torch.float32)


def exact(delta):
    wide = delta.double()
    step = torch.clamp(wide, min=0) + torch.log1p(torch.exp(-wide.abs()))
    return step, torch.sigmoid(wide)


def assert_relatively_close(actual, expected, instruction_set):
    # Without fused multiply-adds the argument of the exponential is rounded once more.
    tolerance = 1.5e-6 if instruction_set == "generic" else 5e-7
    # Steps below 1e-9 are exact to a few times 1e-16.
    error = (actual.double() - expected).abs() / expected.clamp(min=1e-9)
    worst = error.argmax()
    assert error[worst] < tolerance, f"{actual[worst]} instead of {expected[worst]}"


def scanned_steps(delta):
    """Return the steps of a scan of one position a channel."""
    u = torch.ones(1, delta.numel(), 1)
    ones = torch.ones(1, 1, 1)
    y = selective_scan(
        u, delta.view(1, -1, 1), -torch.ones(delta.numel(), 1), ones, ones, delta_softplus=True
    )
    return y.flatten()


def walked_steps(delta, at):
    """Return the steps at one of eight positions; at the others delta is moderate."""
    batch = delta.numel() // 16
    x = torch.zeros(batch, 16, 1, 8)
    x[..., at] = 1
    # Rank 16: every channel picks an entry of its own.
    params = torch.full((batch, 1, 18, 1, 8), -1.0)
    params[:, :, 16:] = 1
    params[:, 0, :16, 0, at] = delta[: batch * 16].view(batch, 16)
    weight = torch.eye(16)[None]
    A = -torch.ones(1, 16, 1)
    y = route_scan(
        x, params, A, None, None, delta_weight=weight, delta_softplus=True, routes=["row"]
    )
    return y[..., at].flatten()


@pytest.mark.parametrize("at", [0, 3, 7])
def test_steps_inside_a_block_are_exact(at, instruction_set):
    delta = deltas()
    delta = delta[: delta.numel() // 16 * 16].requires_grad_()
    steps = walked_steps(delta, at)
    step, slope = exact(delta.detach())
    assert_relatively_close(steps.detach(), step, instruction_set)
    steps.sum().backward()
    assert_relatively_close(delta.grad, slope, instruction_set)


def test_steps_of_the_scan_are_exact(instruction_set):
    delta = deltas().requires_grad_()
    steps = scanned_steps(delta)
    step, slope = exact(delta.detach())
    assert_relatively_close(steps.detach(), step, instruction_set)
    steps.sum().backward()
    assert_relatively_close(delta.grad, slope, instruction_set)
