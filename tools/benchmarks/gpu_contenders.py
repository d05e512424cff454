"""Ways to run a case of the GPU benchmark; all compute the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from gpu_cases import Case, Inputs
from gpu_rivals import Scan, importable_rivals
from torch import Tensor
from torch_cross_scan import cross_merge, cross_scan

from mamba_mm.ops import backend_report, route_scan, selective_scan

OURS, UNFUSED, TRITON, TORCH = "ours", "unfused", "triton", "torch"


@dataclass(frozen=True)
class Contender:
    """One way to run a case.

    Attributes:
        run: Computes the output from the inputs.
        contiguous: Whether it gets maps in NCHW, with positions last; else channels last.
        in_graph: Whether it is replayed as a CUDA graph. PyTorch's own loop is thousands of
            kernels, which are launched one by one as its users would.
    """

    run: Callable[[Inputs], Tensor]
    contiguous: bool = False
    in_graph: bool = True

    def prepare(self, inputs: Inputs) -> Inputs:
        """Lay inputs out as this contender wants them."""
        return inputs.map(lambda t: t.contiguous()) if self.contiguous else inputs


class NoKernelsError(RuntimeError):
    """None of our kernels can be used on this machine."""


def our_backend(device: str) -> str:
    """Return the kernels of ours that serve the device.

    Raises:
        NoKernelsError: There are none.
    """
    candidates = ("cpu",) if device == "cpu" else ("cuda", "triton")
    report = {status.name: status for status in backend_report() if status.name in candidates}
    usable = [name for name in candidates if report[name].usable]
    if usable:
        return usable[0]
    reasons = [f"{s.name}: {s.detail} -> {s.remedy}" for s in report.values()]
    raise NoKernelsError("none of our kernels can be used here. " + "; ".join(reasons))


def contenders_for(case: Case, device: str) -> dict[str, Contender]:
    """Return who takes part in a case, ours first."""
    backend = our_backend(device)
    found = _route_scans(case, backend, device) if case.rank else _scans(backend, device)
    for name, scan in importable_rivals().items():
        found[name] = Contender(partial(_chain, scan, case.routes), contiguous=True)
    return found


def _scans(backend: str, device: str) -> dict[str, Contender]:
    def with_backend(name: str) -> Callable[[Inputs], Tensor]:
        scan = partial(selective_scan, delta_softplus=True, backend=name)
        return partial(_chain, scan, "row")

    found = {OURS: Contender(with_backend(backend))}
    if backend != TRITON and _has_triton(device):
        found[TRITON] = Contender(with_backend(TRITON))
    return found | {TORCH: Contender(with_backend(TORCH), contiguous=True, in_graph=False)}


def _route_scans(case: Case, backend: str, device: str) -> dict[str, Contender]:
    def with_options(**options) -> Callable[[Inputs], Tensor]:
        return partial(_route_scan, case.routes, **options)

    found = {
        OURS: Contender(with_options(backend=backend)),
        UNFUSED: Contender(with_options(backend=backend, fused=False), contiguous=True),
    }
    if backend != TRITON and _has_triton(device):
        found[TRITON] = Contender(with_options(backend=TRITON))
    pure = Contender(with_options(backend=TORCH), contiguous=True, in_graph=False)
    return found | {TORCH: pure}


def _has_triton(device: str) -> bool:
    usable = {status.name for status in backend_report() if status.usable}
    return device != "cpu" and TRITON in usable


def _route_scan(routes: str, inputs: Inputs, **options) -> Tensor:
    return route_scan(
        inputs.x,
        inputs.params,
        inputs.A,
        inputs.D,
        inputs.bias,
        delta_weight=inputs.weight,
        routes="unidirectional" if routes == "row" else routes,
        **options,
    )


def _chain(scan: Scan, routes: str, inputs: Inputs) -> Tensor:
    """Walk the routes in PyTorch, scan sequences, merge: what a scan without routes needs."""
    height, width = inputs.x.shape[-2:]
    sequences, states = inputs.A.shape[0], inputs.A.shape[2]
    walk = cross_scan if routes == "cross" else partial(torch.flatten, start_dim=3)
    rank = inputs.params.shape[2] - 2 * states
    low, B, C = walk(inputs.params).split((rank, states, states), dim=2)
    if inputs.delta is None:
        delta = torch.matmul(inputs.weight.to(low.dtype), low)
    else:
        delta = walk(inputs.delta)
    y = scan(
        walk(inputs.x[:, None].expand(-1, sequences, -1, -1, -1)).flatten(1, 2),
        delta.flatten(1, 2),
        inputs.A.flatten(0, 1),
        B,
        C,
        inputs.D.flatten(),
        delta_bias=inputs.bias.flatten(),
    ).unflatten(1, (sequences, -1))
    if routes == "cross":
        return cross_merge(y, height, width)
    return y[:, 0].unflatten(-1, (height, width))


def exact_output(case: Case, inputs: Inputs, channels: int = 8) -> Tensor:
    """Return the output in float64, of a few channels of the first map."""
    few = inputs.of_few_channels(channels).map(lambda t: t.detach().double())
    scan = partial(selective_scan, delta_softplus=True, backend=TORCH)
    with torch.no_grad():
        return _chain(scan, case.routes, few)


def output_error(contender: Contender, inputs: Inputs, exact: Tensor) -> float:
    """Return the largest error over the largest value, where ``exact`` has values."""
    with torch.no_grad():
        y = contender.run(contender.prepare(inputs)).detach()
    rows = torch.linspace(0, y.shape[1] - 1, exact.shape[1]).round().long().to(y.device)
    return ((y[:1, rows] - exact).abs().max() / exact.abs().max()).item()
