"""The 1-D token mixer: a selective scan along a sequence, in one direction or in both."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba_mm.ops import route_scan
from mamba_mm.ops.routes import RouteSet

from .conv1d import depthwise_conv1d
from .scan_init import init_decay_rates, init_step_size_bias, init_step_size_weight
from .ss_mixer import ACTIVATIONS

CONVS = ("causal", "centred")
MERGES = ("sum", "mean")

# What a direction owns, and under which names: those of Mamba, and of Vim for the second.
PARTS = {
    "conv": ("conv1d", "conv1d_b"),
    "x_proj": ("x_proj", "x_proj_b"),
    "dt": ("dt_proj", "dt_proj_b"),
    "A": ("A_log", "A_b_log"),
    "D": ("D", "D_b"),
}


@dataclass(frozen=True)
class _Direction:
    """One way of walking the sequence, and the names of what it uses."""

    routes: RouteSet
    domain: str
    conv: str
    x_proj: str
    dt: str
    A: str
    D: str


def _direction(reverse: bool, conv: str, shared: Collection[str], shift: bool) -> _Direction:
    return _Direction(
        RouteSet(["~row" if reverse else "row"], shift=int(shift)),
        "anticausal" if reverse and conv == "causal" else conv,
        **{part: names[reverse and part not in shared] for part, names in PARTS.items()},
    )


class SSMixer1D(nn.Module):
    r"""Selective scan along a sequence (Mamba, arXiv 2312.00752, section 3.4).

    ::

        x ── in_proj ─┬─ conv1d ── act ── scan forward ───┐
                      └─ conv1d_b ─ act ── scan backward ─┴─ merge ──(* silu(z))── out_proj
                                                                          z, from in_proj

    One direction is Mamba's mixer, two are Vim's (arXiv 2401.09417, algorithm 1). With E inner
    channels, R step-size ranks and N states each direction projects its convolved tokens to
    :math:`(\delta, B, C)` and scans with its own :math:`A, D` and step-size bias; what is named
    in ``shared`` the backward direction takes from the forward one. The parameters are named as
    in the official Mamba and Vim checkpoints, the backward ones with ``_b``.

    No sequence is flipped: the backward scan walks the tokens from the last to the first where
    they lie, after a convolution with the flipped kernel. One gate after the merge equals the
    official gate in each direction, because both see the same z.

    Precision: parameters of the recurrence, its output, the merge and the gate are float32 also
    when the tokens are 16-bit (float64 stays float64).

    Args:
        channels: Channels D of the input and of the output.
        d_state: States N per channel.
        ssm_ratio: E / D.
        dt_rank: Rank R of the step-size projection; ``None`` means ``ceil(D / 16)``.
        conv: ``"causal"``: every direction convolves along its own walk; ``"centred"``: the
            kernel lies around its token, the same way for both directions, as in Hydra
            (arXiv 2407.09941).
        conv_size: Taps of the depthwise convolution; odd if centred.
        conv_bias: Whether that convolution has a bias.
        bidirectional: Whether there is a backward direction too.
        shared: What the backward direction shares with the forward one: any of ``"conv"``,
            ``"x_proj"``, ``"dt"``, ``"A"`` and ``"D"``.
        merge: ``"sum"`` or ``"mean"`` of the directions.
        shift: Whether what each direction's state gives out is delayed by one step of its walk.
            A token then meets itself in the skips alone, one a direction, and the mixer is a
            quasiseparable matrix (Hydra, section 3).
        gate: Whether the merged output is multiplied by ``SiLU(z)``, z being a second half of
            the input projection.
        activation: What follows the convolution, ``"silu"`` or ``"gelu"``.
        fused: Whether the fused scan must (``True``) or must not (``False``) be used; by default
            it is used where there is one. Both compute the same.

    Raises:
        ValueError: When a name is not one of those listed, a size is not positive, a centred
            kernel has an even number of taps, or something is shared or merged in one direction.

    Example:
        >>> import torch
        >>> mixer = SSMixer1D(32, bidirectional=True, merge="mean")
        >>> mixer(torch.zeros(2, 10, 32)).shape
        torch.Size([2, 10, 32])
    """

    def __init__(
        self,
        channels: int,
        *,
        d_state: int = 16,
        ssm_ratio: float = 2.0,
        dt_rank: int | None = None,
        conv: str = "causal",
        conv_size: int = 4,
        conv_bias: bool = True,
        bidirectional: bool = False,
        shared: Collection[str] = (),
        merge: str = "sum",
        shift: bool = False,
        gate: bool = True,
        activation: str = "silu",
        fused: bool | None = None,
    ) -> None:
        super().__init__()
        inner = int(ssm_ratio * channels)
        dt_rank = math.ceil(channels / 16) if dt_rank is None else dt_rank
        if min(inner, d_state, dt_rank, conv_size) < 1:
            raise ValueError(
                "SSMixer1D: ssm_ratio * channels, d_state, dt_rank and conv_size must be at least "
                f"1, got {inner}, {d_state}, {dt_rank} and {conv_size}"
            )
        _check_name("conv", conv, CONVS)
        _check_name("merge", merge, MERGES)
        _check_name("activation", activation, ACTIVATIONS)
        for part in shared:
            _check_name("shared part", part, PARTS)
        if conv == "centred" and conv_size % 2 == 0:
            raise ValueError(f"SSMixer1D: a centred kernel has odd conv_size, got {conv_size}")
        if not bidirectional and (shared or merge != "sum"):
            raise ValueError(
                "SSMixer1D: shared and merge are about two directions; set bidirectional=True, or "
                f"leave them out (shared={tuple(shared)}, merge={merge!r})"
            )
        self.inner_channels = inner
        self.merge = merge
        self.shift = shift
        self.gate = gate
        self.activation = ACTIVATIONS[activation]
        self.fused = fused
        self.split_sizes = (dt_rank, d_state, d_state)

        self.in_proj = nn.Linear(channels, 2 * inner if gate else inner, bias=False)
        self._directions = tuple(
            _direction(bool(b), conv, shared, shift) for b in range(1 + bidirectional)
        )
        for direction in self._directions:
            self._add_parameters(direction, conv_size, conv_bias)
        self.out_proj = nn.Linear(inner, channels, bias=False)
        self.init_scan()

    def _add_parameters(self, direction: _Direction, conv_size: int, conv_bias: bool) -> None:
        """Make what a direction owns; what it shares is there already."""
        inner = self.inner_channels
        rank, states, _ = self.split_sizes
        made = {
            direction.conv: lambda: nn.Conv1d(
                inner, inner, conv_size, groups=inner, bias=conv_bias
            ),
            direction.x_proj: lambda: nn.Linear(inner, rank + 2 * states, bias=False),
            direction.dt: lambda: nn.Linear(rank, inner),
            direction.A: lambda: nn.Parameter(torch.empty(inner, states)),
            direction.D: lambda: nn.Parameter(torch.empty(inner)),
        }
        for name, make in made.items():
            if not hasattr(self, name):
                setattr(self, name, make())

    def init_scan(self) -> None:
        """Initialise the parameters of the scans, both directions alike.

        The step sizes are log-uniform in [1e-3, 1e-1] with a projection uniform in +-R^-0.5;
        A is real, -1 ... -N for the N states; D one (Mamba, section 3.6). All other layers start
        as PyTorch starts them.
        """
        for direction in self._directions:
            dt_proj = getattr(self, direction.dt)
            init_step_size_weight(dt_proj.weight)
            init_step_size_bias(dt_proj.bias)
            init_decay_rates(getattr(self, direction.A))
            nn.init.ones_(getattr(self, direction.D))

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens of shape (B, L, channels), L at least 1; the shape stays."""
        x = self.in_proj(x)
        if self.gate:
            x, z = x.chunk(2, dim=-1)
        y = self.scan(x)
        if self.gate:
            y = y * F.silu(z.to(y.dtype))
        return self.out_proj(y.to(x.dtype))

    def scan(self, x: Tensor) -> Tensor:
        """Convolve and scan tokens in every direction, and merge the results.

        Args:
            x: Tokens (B, L, E).

        Returns:
            Tokens of the same shape, in float32, or float64 when ``x`` is.
        """
        outputs = [self._scan_direction(x, direction) for direction in self._directions]
        y = outputs[0] if len(outputs) == 1 else outputs[0] + outputs[1]
        return y * (1 / len(outputs)) if self.merge == "mean" else y

    def _scan_direction(self, x: Tensor, direction: _Direction) -> Tensor:
        conv1d, dt_proj = getattr(self, direction.conv), getattr(self, direction.dt)
        u = depthwise_conv1d(x, conv1d.weight, conv1d.bias, direction.domain)
        u = self.activation(u)
        params = getattr(self, direction.x_proj)(u)
        skip = getattr(self, direction.D)
        state_dtype = torch.promote_types(u.dtype, torch.float32)
        # Its inputs have the precision that is wanted; autocast must not lower it.
        with torch.autocast(x.device.type, enabled=False):
            y = route_scan(
                u.transpose(1, 2),
                params.transpose(1, 2)[:, None],
                -torch.exp(getattr(self, direction.A).to(state_dtype))[None],
                # The scan would delay its skip too.
                None if self.shift else skip[None],
                dt_proj.bias[None],
                delta_weight=dt_proj.weight[None],
                routes=direction.routes,
                size=(1, u.shape[1]),
                out_dtype=state_dtype,
                fused=self.fused,
            ).transpose(1, 2)
            return y + skip.to(state_dtype) * u if self.shift else y


def _check_name(what: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise ValueError(f"SSMixer1D: unknown {what} {name!r}; known: {', '.join(known)}")
