"""The 2-D token mixer: a selective scan along the routes of a map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba_mm.ops import route_scan
from mamba_mm.ops.routes import NUM_CODES, RouteSet, route_set

from .linear import Linear2d
from .norm import NORMS
from .scan_init import init_decay_rates, init_step_size_bias, init_step_size_weight

ACTIVATIONS = {"silu": F.silu, "gelu": F.gelu}

# From this rank on it pays to lay the projections of a map out route by route: a walk then
# touches no memory of the others'.
REGROUP_RANK = 8


class SSMixer2D(nn.Module):
    r"""Two-dimensional selective scan (SS2D: VMamba, arXiv 2401.10166, section 4.2).

    ::

        x ── in_proj ── depthwise conv ── act ── scans, merged ── norm ──(* silu(z))── out_proj
                 └──────────────────── z, only with a gate ──────────────────┘

    With E inner channels, R step-size ranks and N states, every parameter group g of the
    routes has its own projections :math:`(\delta, B, C) = W_g x` and its own :math:`A, D` and
    bias. VMamba walks the ``cross`` set, four routes with a group each; another route set, by
    name or by its fields, makes another mixer.

    Precision: parameters of the recurrence and its output are float32 also when the maps
    are 16-bit (float64 stays float64); the summed map is normed in that precision and cast
    back afterwards.

    Args:
        channels: Channels D of the input and of the output.
        d_state: States N per channel and route.
        ssm_ratio: E / D.
        dt_rank: Rank R of the step-size projection; ``None`` means ``ceil(D / 16)``.
        gate: Whether the normed output is multiplied by ``SiLU(z)``, z being a second half
            of the input projection.
        conv_size: Height and width of the depthwise kernel, one number for both; odd, so that
            the map keeps its size.
        conv_bias: Whether the depthwise convolution has a bias.
        activation: What follows the convolution, ``"silu"`` or ``"gelu"``.
        norm: Norm of the scanned map, ``"ln"`` or ``"bn"``.
        scan_float32: Whether also the inputs of the scan are cast to float32, as the first
            generation of VMamba does.
        routes: A :class:`~mamba_mm.ops.routes.RouteSet` over one map, the name of a preset, a
            mapping of its fields, or a list of routes.
        fused: Whether the fused route scan must (``True``) or must not (``False``) be used; by
            default it is used where there is one. Both compute the same.

    Raises:
        ValueError: When a name is not one of those listed, a size is not positive, or the
            routes need what this mixer does not make.
    """

    def __init__(
        self,
        channels: int,
        *,
        d_state: int = 1,
        ssm_ratio: float = 1.0,
        dt_rank: int | None = None,
        gate: bool = False,
        conv_size: int | tuple[int, int] = 3,
        conv_bias: bool = False,
        activation: str = "silu",
        norm: str = "ln",
        scan_float32: bool = False,
        routes: RouteSet | str | Mapping[str, Any] | Sequence[Any] = "cross",
        fused: bool | None = None,
    ) -> None:
        super().__init__()
        inner = int(ssm_ratio * channels)
        dt_rank = math.ceil(channels / 16) if dt_rank is None else dt_rank
        if min(inner, d_state, dt_rank) < 1:
            raise ValueError(
                "SSMixer2D: ssm_ratio * channels, d_state and dt_rank must be at least 1, "
                f"got {inner}, {d_state} and {dt_rank}"
            )
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"SSMixer2D: unknown activation {activation!r}; known: {', '.join(ACTIVATIONS)}"
            )
        if norm not in NORMS:
            raise ValueError(f"SSMixer2D: unknown norm {norm!r}; known: {', '.join(NORMS)}")
        kernel = (conv_size, conv_size) if isinstance(conv_size, int) else tuple(conv_size)
        if len(kernel) != 2 or any(size < 1 or size % 2 == 0 for size in kernel):
            raise ValueError(
                "SSMixer2D: conv_size must be an odd number, or two of them for height and width, "
                f"got {conv_size!r}"
            )
        self.routes = _check_routes(route_set(routes), inner)
        self.fused = fused
        self.gate = gate
        self.scan_float32 = scan_float32
        self.activation = ACTIVATIONS[activation]
        self.split_sizes = (dt_rank, d_state, d_state)

        self.in_proj = Linear2d(channels, 2 * inner if gate else inner, bias=False)
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv2d = nn.Conv2d(inner, inner, kernel, padding=padding, groups=inner, bias=conv_bias)
        groups = self.routes.num_groups
        width = inner // len(self._heads())
        self.x_proj_weight = nn.Parameter(torch.empty(groups, sum(self.split_sizes), width))
        self.dt_projs_weight = nn.Parameter(torch.empty(groups, width, dt_rank))
        self.dt_projs_bias = nn.Parameter(torch.empty(groups, width))
        self.A_logs = nn.Parameter(torch.empty(groups * width, d_state))
        self.Ds = nn.Parameter(torch.empty(groups * width))
        self.step_codes = None
        if self.routes.codes is not None:
            self.step_codes = nn.Parameter(torch.empty(NUM_CODES, d_state))
        self.out_norm = NORMS[norm](inner)
        self.out_proj = Linear2d(inner, channels, bias=False)
        self.init_scan()

    @torch.no_grad()
    def init_scan(self) -> None:
        """Initialise the parameters of the scan.

        ``x_proj_weight`` like ``nn.Linear``, step sizes and A as Mamba's, D one (arXiv
        2312.00752, section 3.6). Step codes start small, as PlainMamba's do.
        """
        inner = self.x_proj_weight.shape[-1]
        nn.init.uniform_(self.x_proj_weight, -(inner**-0.5), inner**-0.5)
        init_step_size_weight(self.dt_projs_weight)
        init_step_size_bias(self.dt_projs_bias)
        init_decay_rates(self.A_logs)
        nn.init.ones_(self.Ds)
        if self.step_codes is not None:
            nn.init.trunc_normal_(self.step_codes, std=0.02)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Mix a map of shape (B, channels, H, W); the shape stays.

        Args:
            x: The map.
            residual: What the mixed map is added to, of the same shape.
        """
        x = self.in_proj(x)
        if self.gate:
            x, z = x.chunk(2, dim=1)
        x = self._activate(self.conv2d(x))
        y = self.out_norm(self.scan(x)).to(x.dtype)
        if self.gate:
            y = y * F.silu(z)
        return self.out_proj(y, residual)

    def _activate(self, x: Tensor) -> Tensor:
        """Apply the activation to the convolved map, which nobody else reads."""
        if self.activation is F.silu and not x.requires_grad:
            return F.silu(x, inplace=True)
        return self.activation(x)

    def scan(self, x: Tensor) -> Tensor:
        """Scan a map along the routes and merge the results.

        Args:
            x: Map of shape (B, E, H, W).

        Returns:
            Map of the same shape, in float32, or float64 when ``x`` is.
        """
        params = self._project(x)
        state_dtype = torch.promote_types(x.dtype, torch.float32)
        if self.scan_float32:
            x, params = x.to(state_dtype), params.to(state_dtype)
        stack = (self.routes.num_groups, -1)
        # Its inputs have the precision that is wanted; autocast must not lower it.
        with torch.autocast(x.device.type, enabled=False):
            return route_scan(
                x,
                params,
                -torch.exp(self.A_logs.to(state_dtype)).unflatten(0, stack),
                self.Ds.unflatten(0, stack),
                self.dt_projs_bias,
                delta_weight=self.dt_projs_weight,
                routes=self.routes,
                codes=self.step_codes,
                out_dtype=state_dtype,
                fused=self.fused,
            )

    def _project(self, x: Tensor) -> Tensor:
        """Compute what the scan needs of every position, (B, G, R + 2 N, H, W).

        The projections are pointwise, so they are computed once, on the map. Those of a
        position lie side by side, which is how the fused scan reads them.
        """
        x = x.permute(0, 2, 3, 1)
        parts = [
            F.linear(x[..., start:stop], self.x_proj_weight[first:last].flatten(0, 1))
            for (start, stop), (first, last) in self._heads()
        ]
        params = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        params = params.unflatten(-1, (self.routes.num_groups, -1)).permute(0, 3, 1, 2, 4)
        if self.split_sizes[0] >= REGROUP_RANK:
            params = params.contiguous()
        return params.permute(0, 1, 4, 2, 3)

    def _heads(self) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """List the channels (start, stop) of every head, and its parameter groups likewise."""
        routes = self.routes
        if routes.channel_slices is None:
            return [((0, None), (0, routes.num_groups))]
        return [(channels, (min(g), max(g) + 1)) for channels, _, g in routes.heads()]


def _check_routes(routes: RouteSet, channels: int) -> RouteSet:
    """Check that the routes walk one plain map of so many channels."""
    needs = []
    if routes.num_branches > 1:
        needs.append(f"{routes.num_branches} branches")
    if routes.extra_tokens:
        needs.append("an extra token")
    if routes.dynamic:
        needs.append("an order of the tokens")
    if routes.merge == "per_route_gated":
        needs.append("a gate for every route")
    if routes.channel_slices is not None:
        groups = [group for _, _, own in routes.heads() for group in own]
        if groups != list(range(routes.num_groups)):
            needs.append("parameter groups that heads share or that are not in their order")
        if max(stop for _, stop in routes.channel_slices) != channels:
            needs.append(f"channel slices that end at the {channels} inner channels")
    if needs:
        raise ValueError(
            f"SSMixer2D: the routes need {' and '.join(needs)}, and this mixer has one map of "
            "plain tokens; call mamba_mm.ops.route_scan from a mixer of your own"
        )
    return routes
