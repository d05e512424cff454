"""VMamba's token mixer: a selective scan along four routes of the map."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba_mm.ops import selective_scan

from .cross_scan import NUM_ROUTES, cross_merge, cross_scan
from .linear import Linear2d
from .norm import NORMS

ACTIVATIONS = {"silu": F.silu, "gelu": F.gelu}

# The range in which the step sizes softplus(dt bias) start: Mamba, arXiv 2312.00752, section 3.6.
DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 1e-1, 1e-4


class SSMixer2D(nn.Module):
    r"""Two-dimensional selective scan (SS2D: VMamba, arXiv 2401.10166, section 4.2).

    ::

        x ── in_proj ── 3x3 depthwise ── act ── four scans, summed ── norm ──(* silu(z))── out_proj
                 └───────────────────── z, only with a gate ────────────────────┘

    With E inner channels, R step-size ranks, N states and four routes k, every route has
    its own projections :math:`(\delta, B, C) = W_k x` and its own :math:`A, D` and bias.

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
        conv_bias: Whether the depthwise convolution has a bias.
        activation: What follows the convolution, ``"silu"`` or ``"gelu"``.
        norm: Norm of the scanned map, ``"ln"`` or ``"bn"``.
        scan_float32: Whether also the inputs of the scan are cast to float32, as the first
            generation of VMamba does.

    Raises:
        ValueError: When a name is not one of those listed, or a size is not positive.
    """

    def __init__(
        self,
        channels: int,
        *,
        d_state: int = 1,
        ssm_ratio: float = 1.0,
        dt_rank: int | None = None,
        gate: bool = False,
        conv_bias: bool = False,
        activation: str = "silu",
        norm: str = "ln",
        scan_float32: bool = False,
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
        self.gate = gate
        self.scan_float32 = scan_float32
        self.activation = ACTIVATIONS[activation]
        self.split_sizes = (dt_rank, d_state, d_state)

        self.in_proj = Linear2d(channels, 2 * inner if gate else inner, bias=False)
        self.conv2d = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=conv_bias)
        self.x_proj_weight = nn.Parameter(torch.empty(NUM_ROUTES, sum(self.split_sizes), inner))
        self.dt_projs_weight = nn.Parameter(torch.empty(NUM_ROUTES, inner, dt_rank))
        self.dt_projs_bias = nn.Parameter(torch.empty(NUM_ROUTES, inner))
        self.A_logs = nn.Parameter(torch.empty(NUM_ROUTES * inner, d_state))
        self.Ds = nn.Parameter(torch.empty(NUM_ROUTES * inner))
        self.out_norm = NORMS[norm](inner)
        self.out_proj = Linear2d(inner, channels, bias=False)
        self.init_scan()

    @torch.no_grad()
    def init_scan(self) -> None:
        """Initialise the parameters of the scan.

        ``x_proj_weight`` like ``nn.Linear``; the step sizes log-uniform in [1e-3, 1e-1] with
        a projection uniform in +-R^-0.5; A real, -1 ... -N for the N states; D one
        (Mamba, arXiv 2312.00752, section 3.6).
        """
        rank, d_state, _ = self.split_sizes
        inner = self.x_proj_weight.shape[-1]
        nn.init.uniform_(self.x_proj_weight, -(inner**-0.5), inner**-0.5)
        nn.init.uniform_(self.dt_projs_weight, -(rank**-0.5), rank**-0.5)

        log_dt = torch.empty_like(self.dt_projs_bias).uniform_(math.log(DT_MIN), math.log(DT_MAX))
        dt = log_dt.exp().clamp(min=DT_FLOOR)
        inverse_softplus = dt + torch.log(-torch.expm1(-dt))
        self.dt_projs_bias.copy_(inverse_softplus)

        states = torch.arange(1, d_state + 1, device=self.A_logs.device)
        self.A_logs.copy_(states.log().expand_as(self.A_logs))
        nn.init.ones_(self.Ds)

    def forward(self, x: Tensor) -> Tensor:
        """Mix a map of shape (B, channels, H, W); the shape stays."""
        x = self.in_proj(x)
        if self.gate:
            x, z = x.chunk(2, dim=1)
        x = self.activation(self.conv2d(x))
        y = self.out_norm(self.scan(x)).to(x.dtype)
        if self.gate:
            y = y * F.silu(z)
        return self.out_proj(y)

    def scan(self, x: Tensor) -> Tensor:
        """Scan a map along the four routes and add the results.

        The projections are pointwise, so they are computed once, on the map, and only their
        few rows walk the routes.

        Args:
            x: Map of shape (B, E, H, W).

        Returns:
            Map of the same shape, in float32, or float64 when ``x`` is.
        """
        height, width = x.shape[-2:]
        projections = F.conv2d(x, self.x_proj_weight.flatten(0, 1)[:, :, None, None])
        walked = cross_scan(projections.unflatten(1, (NUM_ROUTES, -1)))
        dt, B, C = walked.split(self.split_sizes, dim=2)
        delta = torch.matmul(self.dt_projs_weight, dt)
        u = cross_scan(x[:, None].expand(-1, NUM_ROUTES, -1, -1, -1))

        state_dtype = torch.promote_types(x.dtype, torch.float32)
        if self.scan_float32:
            u, delta, B, C = (t.to(state_dtype) for t in (u, delta, B, C))
        # Its inputs have the precision that is wanted; autocast must not lower it.
        with torch.autocast(x.device.type, enabled=False):
            y = selective_scan(
                u.flatten(1, 2),
                delta.flatten(1, 2),
                -torch.exp(self.A_logs.to(state_dtype)),
                B,
                C,
                self.Ds.to(state_dtype),
                delta_bias=self.dt_projs_bias.flatten().to(state_dtype),
                delta_softplus=True,
                out_dtype=state_dtype,
            )
        return cross_merge(y.unflatten(1, (NUM_ROUTES, -1)), height, width)
