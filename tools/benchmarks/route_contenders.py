"""Ways to run the four-route mixer's scan on a CPU, from the same map and parameters.

All include the projection of the map to the inputs of the routes, and all compute the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial

import torch
import torch.nn.functional as F
from route_work import ROUTES, RouteShape
from torch import Tensor
from torch_cross_scan import cross_merge, cross_scan
from torch_scans import materialised_scan, odd_even_recurrence

from mamba_mm.layers import SSMixer2D
from mamba_mm.ops import route_scan, selective_scan, selective_scan_ref


@dataclass(frozen=True)
class Inputs:
    """What every contender gets.

    Attributes:
        x: Map (B, D, H, W).
        x_proj: Projection to step-size ranks, B and C of every route, (4, R + 2 N, D).
        dt_proj: Projection of the ranks to step sizes, (4, D, R).
        A: Decay rates (4, D, N).
        D: Skip weights (4, D).
        delta_bias: Bias of the step sizes, (4, D).
    """

    x: Tensor
    x_proj: Tensor
    dt_proj: Tensor
    A: Tensor
    D: Tensor
    delta_bias: Tensor

    def tensors(self) -> list[Tensor]:
        """List the map and the parameters."""
        return [getattr(self, field.name) for field in fields(self)]

    def leaves(self) -> Inputs:
        """Return the same values as leaves that want a gradient."""
        return Inputs(*(t.detach().requires_grad_() for t in self.tensors()))

    def in_format(self, memory_format: torch.memory_format) -> Inputs:
        """Return the same with the map in a memory format."""
        return replace(self, x=self.x.contiguous(memory_format=memory_format))


def make_inputs(shape: RouteShape) -> Inputs:
    """Return a random map and the parameters of a freshly initialised mixer of ratio 2."""
    torch.manual_seed(0)
    mixer = SSMixer2D(shape.dim // 2, d_state=shape.states, ssm_ratio=2.0, dt_rank=shape.rank)
    x = torch.randn(shape.batch, shape.dim, shape.height, shape.width)
    return Inputs(
        x.contiguous(memory_format=torch.channels_last),
        mixer.x_proj_weight.detach(),
        mixer.dt_projs_weight.detach(),
        -mixer.A_logs.detach().exp().unflatten(0, (ROUTES, -1)),
        mixer.Ds.detach().unflatten(0, (ROUTES, -1)),
        mixer.dt_projs_bias.detach(),
    )


def fused_routes(inputs: Inputs) -> Tensor:
    """Run the fused op, as the mixer does on a channels-last map; never anything else."""
    tokens = inputs.x.permute(0, 2, 3, 1)
    params = F.linear(tokens, inputs.x_proj.flatten(0, 1))
    return route_scan(
        inputs.x,
        params.unflatten(-1, (ROUTES, -1)).permute(0, 3, 4, 1, 2),
        inputs.A,
        inputs.D,
        inputs.delta_bias,
        delta_weight=inputs.dt_proj,
        routes="cross",
        fused=True,
        backend="cpu",
    )


def torch_routes(scan: Callable[..., Tensor], inputs: Inputs) -> Tensor:
    """Walk and merge the routes in PyTorch around a scan of sequences.

    The map is projected once and only the few projected rows walk the routes, which beats
    projecting four walked maps.

    Args:
        scan: Takes u, delta, A, B, C, D and delta_bias as :func:`selective_scan` does, and
            applies softplus to the step sizes.
        inputs: Map and parameters.
    """
    weight = inputs.x_proj.flatten(0, 1)[:, :, None, None]
    params = F.conv2d(inputs.x, weight).unflatten(1, (ROUTES, -1))
    return walk_and_scan(scan, params, inputs)


def walk_and_scan(scan: Callable[..., Tensor], params: Tensor, inputs: Inputs) -> Tensor:
    """Do the part of :func:`torch_routes` that treats every channel on its own.

    Args:
        scan: As there.
        params: Step-size ranks, B and C of every route, (B, 4, R + 2 N, H, W).
        inputs: Map and parameters; ``x_proj`` is not read.
    """
    rank, states = inputs.dt_proj.shape[-1], inputs.A.shape[-1]
    low, B, C = cross_scan(params).split((rank, states, states), dim=2)
    y = scan(
        u=cross_scan(inputs.x[:, None].expand(-1, ROUTES, -1, -1, -1)).flatten(1, 2),
        delta=torch.matmul(inputs.dt_proj, low).flatten(1, 2),
        A=inputs.A.flatten(0, 1),
        B=B,
        C=C,
        D=inputs.D.flatten(),
        delta_bias=inputs.delta_bias.flatten(),
    )
    return cross_merge(y.unflatten(1, (ROUTES, -1)), *inputs.x.shape[-2:])


our_scan = partial(selective_scan, delta_softplus=True, backend="cpu")
loop_scan = partial(selective_scan_ref, delta_softplus=True)
log_depth_scan = partial(materialised_scan, odd_even_recurrence)


@dataclass(frozen=True)
class Contender:
    """One way to run it.

    Attributes:
        run: Computes the merged map from the inputs.
        memory_format: How the map lies in memory.
        pure_torch: Whether no compiled kernel of ours takes part.
    """

    run: Callable[[Inputs], Tensor]
    memory_format: torch.memory_format
    pure_torch: bool = False


NCHW, NHWC = torch.contiguous_format, torch.channels_last
UNFUSED = {
    "torch routes + our scan, NCHW": Contender(partial(torch_routes, our_scan), NCHW),
    "torch routes + our scan, NHWC": Contender(partial(torch_routes, our_scan), NHWC),
}
LOOP = {"pure torch, loop": Contender(partial(torch_routes, loop_scan), NCHW, pure_torch=True)}
LOG_DEPTH = {
    "pure torch, log-depth": Contender(partial(torch_routes, log_depth_scan), NCHW, pure_torch=True)
}
OURS = {"ours": Contender(fused_routes, NHWC)}
CHOICES = {"unfused": UNFUSED, "loop": LOOP, "log-depth": LOG_DEPTH}


def chosen_contenders(choices: list[str]) -> dict[str, Contender]:
    """Return ours and the contenders behind the chosen names."""
    contenders = dict(OURS)
    for choice in choices:
        contenders |= CHOICES[choice]
    return contenders


def forward_run(contender: Contender, inputs: Inputs) -> Callable[[], Tensor]:
    """Return a forward call without gradients."""
    own = inputs.in_format(contender.memory_format)

    def run() -> Tensor:
        with torch.no_grad():
            return contender.run(own)

    return run


def training_run(contender: Contender, inputs: Inputs) -> Callable[[], tuple[Tensor, ...]]:
    """Return a forward and backward call, which returns output and all gradients.

    The gradient of the output lies in memory as the map does.
    """
    own = inputs.in_format(contender.memory_format)
    gradient = _output_gradient(own)

    def run() -> tuple[Tensor, ...]:
        leaves = own.leaves()
        y = contender.run(leaves)
        # Not backward(): it would bring the gradient of x, no leaf in a network, to x's strides.
        return y.detach(), *torch.autograd.grad(y, leaves.tensors(), gradient)

    return run


def backward_run(contender: Contender, inputs: Inputs) -> Callable[[], tuple[Tensor, ...]]:
    """Return a call of the backward pass alone."""
    leaves = inputs.in_format(contender.memory_format).leaves()
    gradient = _output_gradient(leaves)
    y = contender.run(leaves)
    return lambda: torch.autograd.grad(y, leaves.tensors(), gradient, retain_graph=True)


def _output_gradient(inputs: Inputs) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    gradient = torch.randn(inputs.x.shape, generator=generator)
    return torch.empty_like(inputs.x).copy_(gradient).detach()


def error_against_float64(inputs: Inputs, channels: int = 8) -> float:
    """Largest error of our output over its largest value, in a few channels of all batches.

    A few, because the plain loop holds B and C of every channel in float64.
    """
    rows = torch.linspace(0, inputs.x.shape[1] - 1, channels).round().long().unique()
    double = Inputs(*(t.double() for t in inputs.tensors()))
    params = F.conv2d(double.x, double.x_proj.flatten(0, 1)[:, :, None, None])
    few = replace(
        double,
        x=double.x[:, rows],
        dt_proj=double.dt_proj[:, rows],
        A=double.A[:, rows],
        D=double.D[:, rows],
        delta_bias=double.delta_bias[:, rows],
    )
    with torch.no_grad():
        y = fused_routes(inputs)[:, rows]
        exact = walk_and_scan(loop_scan, params.unflatten(1, (ROUTES, -1)), few)
    return _relative_error(y, exact)


def largest_difference(contenders: dict[str, Contender], inputs: Inputs) -> dict[str, float]:
    """Return how far each contender is from the first, in its output and all gradients.

    Every tensor's largest difference is taken over its largest value.
    """
    results = {name: training_run(c, inputs)() for name, c in contenders.items()}
    expected = next(iter(results.values()))
    return {
        name: max(_relative_error(t, e) for t, e in zip(result, expected, strict=True))
        for name, result in results.items()
    }


def _relative_error(t: Tensor, expected: Tensor) -> float:
    return ((t - expected).abs().max() / expected.abs().max()).item()
