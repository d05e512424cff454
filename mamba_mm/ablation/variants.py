"""The variants of Hamba that its ablations compare, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

METRICS: Mapping[str, str] = {
    "PA-MPJPE": "mm",
    "PA-MPVPE": "mm",
    "F@5": "",
    "F@15": "",
}
"""What the paper's table has, and in which unit."""

HIGHER_IS_BETTER = frozenset({"F@5", "F@15"})

PAPER = "paper, FreiHAND"
"""Heads the columns of published figures."""

PAPER_NOTE = (
    "Published figures: Hamba (Dong et al., NeurIPS 2024, arXiv 2407.09646), the table of its "
    "ablations: ViT-H, FreiHAND, 60 k steps; how many trainings, and with what spread, it does not "
    "say. Another network, other images and another length than ours: compare which parts matter, "
    "not the values."
)


@dataclass(frozen=True)
class Variant:
    """One row of the ablations.

    Attributes:
        name: What commands and folders call it.
        meaning: What is different.
        options: The values of the config that make it, by dotted name.
        published: What the paper reports, by names of :data:`METRICS`; empty where it has none.
        paper_name: What the paper calls it; empty where it has none.
    """

    name: str
    meaning: str
    options: Mapping[str, object] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)
    paper_name: str = ""

    @property
    def cfg_options(self) -> tuple[str, ...]:
        """The options as the toolboxes' ``--cfg-options`` take them."""
        return tuple(f"{name}={_text(value)}" for name, value in self.options.items())


def _text(value: object) -> str:
    """Write a value as MMEngine reads it: lists without spaces and quotation marks."""
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_text, value))}]"
    return str(value)


def _published(joints: float, vertices: float, f5: float, f15: float) -> dict[str, float]:
    return dict(zip(METRICS, (joints, vertices, f5, f15), strict=True))


FULL = Variant("full", "all parts", {}, _published(6.6, 6.3, 0.738, 0.988), "full model")

# "Without the token sampler" does not say what stands in its place, so there are two.
_NO_SAMPLER = _published(6.8, 6.6, 0.717, 0.986)
_NOT_SAMPLED = ("gss", "joints2d", "global")

VARIANTS: tuple[Variant, ...] = (
    FULL,
    Variant(
        "no-ts-branch",
        "sampled tokens not among the fused features",
        {"model.head.fusion": ("gss", "joints2d", "global")},
        _published(6.8, 6.5, 0.722, 0.987),
        "w/o TS branch",
    ),
    Variant(
        "no-joints2d-branch",
        "2-D joints not among the fused features",
        {"model.head.fusion": ("gss", "global", "ts")},
        _published(6.8, 6.6, 0.718, 0.986),
        "w/o 2-D joints branch",
    ),
    Variant(
        "no-gss-branch",
        "GSS tokens not among the fused features, so no GSS blocks at all",
        {"model.head.fusion": ("joints2d", "global", "ts")},
        _published(6.9, 6.6, 0.717, 0.986),
        "w/o GSS token branch",
    ),
    Variant(
        "no-global-branch",
        "mean of the map not among the fused features",
        {"model.head.fusion": ("gss", "joints2d", "ts")},
        _published(7.3, 7.2, 0.680, 0.982),
        "w/o global mean branch",
    ),
    Variant(
        "learned-tokens",
        "no token sampler: learned tokens, the same for every image",
        {"model.head.tokens": "learned", "model.head.fusion": _NOT_SAMPLED},
        _NO_SAMPLER,
        "w/o token sampler",
    ),
    Variant(
        "mean-tokens",
        "no token sampler: the mean of the map for every joint",
        {"model.head.tokens": "mean", "model.head.fusion": _NOT_SAMPLED},
        _NO_SAMPLER,
        "w/o token sampler",
    ),
    Variant(
        "one-directional",
        "GSS blocks scan forwards only",
        {"model.head.gss.bidirectional": False},
        _published(6.9, 6.6, 0.718, 0.986),
        "w/o bidirectional scan",
    ),
    Variant(
        "no-gcn",
        "no graph convolution in the GSS blocks",
        {"model.head.gss.use_gcn": False},
        _published(7.3, 7.2, 0.673, 0.983),
        "w/o GCN",
    ),
    Variant(
        "no-graph-guided-bi-scan",
        "no graph convolution, and scans forwards only",
        {"model.head.gss.use_gcn": False, "model.head.gss.bidirectional": False},
        _published(7.3, 7.1, 0.680, 0.983),
        "w/o graph-guided bi-scan",
    ),
    Variant(
        "no-mamba",
        "no scans and no feed-forward branches in the GSS blocks; the regressor keeps its own",
        {"model.head.gss.use_ssm": False},
        _published(7.3, 7.2, 0.675, 0.983),
        "w/o Mamba (SS2D, LN, FFN)",
    ),
    Variant("one-block", "1 GSS block instead of 2", {"model.head.gss.num_blocks": 1}),
    Variant("three-blocks", "3 GSS blocks instead of 2", {"model.head.gss.num_blocks": 3}),
    Variant(
        "shared-weights",
        "one matrix for all joints in the graph convolution",
        {"model.head.gss.share_weights": True},
    ),
)
"""The paper's ablations, and three of this project's own. The first is what the others differ
from: the recipe as it is, with two GSS blocks."""


def select(names: Sequence[str], known: Sequence[Variant] = VARIANTS) -> list[Variant]:
    """Return the variants of these names, the full one always and first.

    Raises:
        ValueError: A name is unknown or comes twice.
    """
    by_name = {variant.name: variant for variant in known}
    if unknown := [name for name in names if name not in by_name]:
        raise ValueError(f"there is no variant {unknown[0]!r}; known: {', '.join(by_name)}")
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"the variant {repeated[0]} was given twice")
    return [FULL, *(by_name[name] for name in names if name != FULL.name)]


def own_variant(name: str, options: Sequence[str]) -> Variant:
    """Make a variant of one's own.

    Args:
        name: Of its folder and row.
        options: As of ``--cfg-options``, ``NAME=VALUE`` each.

    Raises:
        ValueError: The name is taken or no name of a folder, there are no options, or one of
            them is not of that form.
    """
    if any(variant.name == name for variant in VARIANTS):
        raise ValueError(f"there is a variant {name} already; choose another name")
    if not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(
            f"{name!r} names a folder too: letters, digits, - and _ are allowed in it, no more"
        )
    if not options or any("=" not in option for option in options):
        raise ValueError(f"the variant {name} needs options NAME=VALUE, got {list(options)}")
    return Variant(name, ", ".join(options), dict(o.split("=", 1) for o in options))
