"""The scans of published models that the GPU benchmark times, and random inputs for them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

ROUTES = {"cross": 4, "row": 1}


@dataclass(frozen=True)
class Case:
    """One scan of one model.

    Attributes:
        name: Which model, stage and images.
        batch: Maps at once.
        dim: Channels D of a route.
        states: States N.
        rank: Rank R of the step sizes, 0 where they are given: then it is a plain
            ``selective_scan``, else a ``route_scan``.
        height: Rows of the map.
        width: Columns of the map.
        routes: ``"cross"``, VMamba's four walks, or ``"row"``, one sequence.
    """

    name: str
    batch: int
    dim: int
    states: int
    rank: int
    height: int
    width: int
    routes: str = "cross"

    @property
    def sequences(self) -> int:
        """Number K of sequences."""
        return ROUTES[self.routes]

    @property
    def length(self) -> int:
        """Steps L of a sequence."""
        return self.height * self.width

    @property
    def elements(self) -> int:
        """Element-routes, which the work is counted by."""
        return self.batch * self.sequences * self.dim * self.length

    def __str__(self) -> str:
        sizes = f"D {self.dim}, N {self.states}, R {self.rank}, {self.height}x{self.width}"
        return f"{self.name}: {sizes}, batch {self.batch}"


def _vmamba(name: str, dim: int, batch: int, height: int, width: int, states: int) -> list[Case]:
    """Return the four stages of a model of ratio 2; the first has ``dim`` channels."""
    return [
        Case(
            f"{name} stage {stage + 1}",
            batch,
            dim << stage,
            states,
            math.ceil((dim << stage) / 2 / 16),
            height // (4 << stage),
            width // (4 << stage),
        )
        for stage in range(4)
    ]


def _vim(name: str, dim: int, batch: int, patches: int) -> Case:
    """Return one direction; there is a class token beside the patches."""
    rank = math.ceil(dim / 2 / 16)
    return Case(name, batch, dim, 16, rank, 1, patches**2 + 1, "row")


def all_cases() -> list[Case]:
    """Return the cases, those that the bars are about first."""
    cases = []
    for states in (1, 16):
        for model, dim in (("VMamba-T/S", 192), ("VMamba-B", 256)):
            cases += _vmamba(model, dim, 64, 224, 224, states)
            cases += _vmamba(model, dim, 1, 224, 224, states)
            cases += _vmamba(f"{model} 800x1280", dim, 1, 800, 1280, states)
    return [
        *cases,
        _vim("Vim-T", 384, 128, 14),
        _vim("Vim-S", 768, 128, 14),
        _vim("Vim-T 1248x1248", 384, 8, 78),
        _vim("Vim-S 1248x1248", 768, 8, 78),
        Case("22 tokens", 64, 512, 16, 0, 1, 22, "row"),
        Case("192 tokens", 64, 1024, 16, 0, 1, 192, "row"),
        Case("one Vim-T direction, scan alone", 128, 384, 16, 0, 1, 197, "row"),
        Case("VMamba-T stage 1, scan alone", 64, 768, 1, 0, 1, 3136, "row"),
    ]


def tiny_cases() -> list[Case]:
    """Return one case of each kind, to try the benchmark on a CPU."""
    return [
        Case("tiny map", 2, 8, 1, 2, 3, 5),
        Case("tiny tokens", 2, 8, 2, 2, 1, 7, "row"),
        Case("tiny scan", 2, 8, 2, 0, 1, 7, "row"),
    ]


@dataclass(frozen=True)
class Inputs:
    """Tensors of one call, with maps as (B, D, H, W).

    Attributes:
        x: Input (B, D, H, W).
        params: Step-size ranks, B and C of every route, (B, K, R + 2 N, H, W).
        A: Decay rates (K, D, N).
        D: Skip weights (K, D).
        bias: Bias of the step sizes, (K, D).
        weight: Projection of the step sizes (K, D, R), or None.
        delta: Step sizes (B, K, D, H, W) where they are given, or None.
    """

    x: Tensor
    params: Tensor
    A: Tensor
    D: Tensor
    bias: Tensor
    weight: Tensor | None
    delta: Tensor | None

    def tensors(self) -> list[Tensor]:
        """List what is there."""
        return [t for t in vars(self).values() if t is not None]

    def map(self, function) -> Inputs:
        """Return the same with a function applied to every tensor."""
        return Inputs(**{n: None if t is None else function(t) for n, t in vars(self).items()})

    @property
    def bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(t.nbytes for t in self.tensors())

    def of_few_channels(self, channels: int) -> Inputs:
        """Return the first map alone and some of its channels; channels are independent."""
        rows = torch.linspace(0, self.x.shape[1] - 1, channels).round().long().unique()
        rows = rows.to(self.x.device)
        return Inputs(
            self.x[:1, rows],
            self.params[:1],
            *(t[:, rows] for t in (self.A, self.D, self.bias)),
            None if self.weight is None else self.weight[:, rows],
            None if self.delta is None else self.delta[:1, :, rows],
        )


def make_inputs(case: Case, dtype: torch.dtype, device: str, seed: int = 0) -> Inputs:
    """Return random maps and the parameters of a freshly initialised mixer.

    Maps lie channels last and the projections of a position side by side, as linear layers
    leave them.
    """
    generator = torch.Generator(device).manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    k, d, n, r = case.sequences, case.dim, case.states, case.rank
    x = randn(case.batch, case.height, case.width, d).to(dtype).permute(0, 3, 1, 2)
    params = randn(case.batch, case.height, case.width, k, r + 2 * n).to(dtype)
    # Step sizes between 0.001 and 0.1, evenly in their logarithm.
    steps = torch.exp(torch.rand(k, d, generator=generator, device=device) * 4.6 - 6.9)
    delta = None
    if not r:
        delta = randn(case.batch, case.height, case.width, k, d).to(dtype) / 4
        delta = delta.permute(0, 3, 4, 1, 2)
    return Inputs(
        x,
        params.permute(0, 3, 4, 1, 2),
        -torch.arange(1.0, n + 1, device=device).repeat(k, d, 1),
        torch.ones(k, d, device=device),
        torch.log(torch.expm1(steps)),
        randn(k, d, r) / r**0.5 / 4 if r else None,
        delta,
    )
