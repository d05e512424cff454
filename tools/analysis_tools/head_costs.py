"""Print what the heads of hand meshes cost: tokens, parameters and operations, as a table.

The heads are Hamba's, with its variants, and those it is compared with. Nothing but the head
counts: the backbone is the same for all. Parameters and operations of the joints regressor, which
Hamba's head contains, and operations of the state-space scans are listed beside the totals.

A multiply-add is one operation, as MMEngine counts, and the scans count as their authors do
(``mamba_mm/ops/flops.py``). The operations are those of one crop.

Examples:
    python tools/analysis_tools/head_costs.py
    python tools/analysis_tools/head_costs.py --in-channels 256 --stride 32
    python tools/analysis_tools/head_costs.py --heads HambaHead HaMeRHead --out costs.md
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.analysis import FlopAnalyzer
from torch import Tensor, nn

from mamba_mm.layers import SSMixer2D
from mamba_mm.registry import MODELS

HEADS: dict[str, dict] = {
    "MANOHead": dict(type="mamba_mm.MANOHead"),
    "HaMeRHead": dict(type="mamba_mm.HaMeRHead"),
    "HambaHead": dict(type="mamba_mm.HambaHead"),
    "HambaHead, 4 directions": dict(type="mamba_mm.HambaHead", gss=dict(num_directions=4)),
    "HambaHead, shared weights": dict(type="mamba_mm.HambaHead", gss=dict(share_weights=True)),
    "HambaHead, 1 block of depth 2, 4 directions": dict(
        type="mamba_mm.HambaHead", gss=dict(num_blocks=1, ssm_depth=2, num_directions=4)
    ),
    "HambaHead, 1 block": dict(type="mamba_mm.HambaHead", gss=dict(num_blocks=1)),
    "HambaHead, light regressor": dict(type="mamba_mm.HambaHead", jr=dict(mode="mlp")),
}
"""By name, what a head's config has beside ``in_channels`` and ``input_size``. The variants of
Hamba are those whose sizes can be compared with the paper's: it does not say how many blocks it
has."""

SCANS = ("selective_scan_fwd", "route_scan_fwd")
COLUMNS = ("Head", "Tokens", "Parameters", "of the regressor", "FLOPs", "of the regressor", "scans")


@dataclass(frozen=True)
class HeadCosts:
    """What a head costs.

    Attributes:
        tokens: What its decoder works on, in words.
        parameters: Number of learned parameters.
        regressor_parameters: Those of the joints regressor; ``None`` where there is none.
        flops: Operations for one crop.
        regressor_flops: Those of the joints regressor; ``None`` where there is none.
        scan_flops: Those of the state-space scans.
    """

    tokens: str
    parameters: int
    regressor_parameters: int | None
    flops: int
    regressor_flops: int | None
    scan_flops: int


class _Tensors(nn.Module):
    """A head from a map to plain tensors, which can be traced."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        outputs = self.head((x,))
        return tuple(tensor for prediction in outputs.values() for tensor in prediction)


def measure(config: Mapping, in_channels: int, input_size: Sequence[int], stride: int) -> HeadCosts:
    """Build a head and count.

    Args:
        config: Its config, without what follows.
        in_channels: Channels of the backbone's map.
        input_size: Width and height of the crop in pixels.
        stride: Pixels between two positions of the map.

    Returns:
        Its costs.

    Raises:
        RuntimeError: When the scans cannot be counted.
    """
    output_model = dict(mano=dict(mano_path="toy"))  # of the size of the licensed model
    head = MODELS.build(
        {
            "in_channels": in_channels,
            "input_size": tuple(input_size),
            "output_model": output_model,
            **config,
        }
    ).eval()
    columns, rows = (math.ceil(side / stride) for side in input_size)
    with torch.no_grad():
        analyzer = FlopAnalyzer(_Tensors(head), torch.zeros(1, in_channels, rows, columns))
        analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        by_operator, by_module = analyzer.by_operator(), analyzer.by_module()
    scan_flops = int(sum(by_operator[name] for name in SCANS))
    if not scan_flops and any(isinstance(module, SSMixer2D) for module in head.modules()):
        raise RuntimeError(
            "the scans ran as many plain PyTorch operators, which MMEngine counts in another way; "
            "the compiled scan is needed here: see python -m mamba_mm"
        )
    regressor = getattr(head, "jr", None)
    return HeadCosts(
        tokens=_tokens(head, rows * columns),
        parameters=_count(head),
        regressor_parameters=None if regressor is None else _count(regressor),
        flops=int(by_module[""]),
        regressor_flops=None if regressor is None else int(by_module["head.jr"]),
        scan_flops=scan_flops,
    )


def table(costs: Mapping[str, HeadCosts]) -> str:
    """Lay the costs of heads, by name, out as a Markdown table."""
    rows = [
        (
            name,
            cost.tokens,
            _millions(cost.parameters),
            _millions(cost.regressor_parameters),
            _giga(cost.flops),
            _giga(cost.regressor_flops),
            _giga(cost.scan_flops),
        )
        for name, cost in costs.items()
    ]
    rule = ["---", "---"] + ["---:"] * (len(COLUMNS) - 2)
    return "\n".join(f"| {' | '.join(row)} |" for row in (COLUMNS, rule, *rows))


def _tokens(head: nn.Module, positions: int) -> str:
    if getattr(head, "gss", None) is not None:
        return f"{head.output_model.num_joints + 1} of {positions}"
    return str(positions)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _millions(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.1f} M"


def _giga(count: int | None) -> str:
    return "" if count is None else f"{count / 1e9:.3f} G"


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--in-channels", type=int, default=1280, help="channels of the map (default: ViT-H's 1280)"
    )
    parser.add_argument(
        "--input-size", type=int, nargs=2, default=(192, 256), metavar=("W", "H"), help="of a crop"
    )
    parser.add_argument("--stride", type=int, default=16, help="of the map (default: 16)")
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS), metavar="HEAD")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    args = parse_args()
    text = table(
        {
            name: measure(HEADS[name], args.in_channels, args.input_size, args.stride)
            for name in args.heads
        }
    )
    print(text)
    if args.out is not None:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
