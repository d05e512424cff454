"""Ablations as Markdown, CSV and JSON. Published figures never share a column with ours."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mamba_mm.measuring.training_curves import sample_std

from .measured import Measured
from .paired import CONFIDENCE, PairedDifference, paired_difference
from .variants import FULL, HIGHER_IS_BETTER, METRICS, PAPER, PAPER_NOTE, Variant

ABSENT = "-"


@dataclass(frozen=True)
class Ablation:
    """All that a report says.

    Attributes:
        measured: The variants, the full one first.
        data: What was trained on, for the columns of our figures.
        metric: The one that the first table and the picture are about.
        mean_hand: What one and the same hand for every image would score, by metric; may be empty.
        notes: Lines to be said below.
    """

    measured: Sequence[Measured]
    data: str
    metric: str
    mean_hand: Mapping[str, float]
    notes: Sequence[str] = ()

    @property
    def ours(self) -> str:
        """Heads the columns of our figures."""
        return f"ours, {self.data}"

    def difference(self, measured: Measured, metric: str) -> PairedDifference:
        """Return how far a variant is from the full model."""
        return paired_difference(measured.values(metric), self.measured[0].values(metric))

    def verdict(self, measured: Measured, metric: str) -> str:
        """Say whether a variant is worse or better than the full model, or neither."""
        return self.difference(measured, metric).verdict(
            higher_is_better=metric in HIGHER_IS_BETTER
        )


def markdown(ablation: Ablation) -> str:
    """Write the tables: the chosen metric with its differences, all metrics, and what they mean."""
    return "\n\n".join(
        [
            f"## {ablation.metric}: what each part is worth",
            _differences_table(ablation),
            "\n".join(_explanations(ablation)),
            f"## All metrics, {ablation.ours}",
            _our_table(ablation),
            f"## All metrics, {PAPER}: published, not measured here",
            _paper_table([m.variant for m in ablation.measured]),
            PAPER_NOTE,
            "## The variants",
            "\n".join(f"- **{m.variant.name}**: {m.variant.meaning}" for m in ablation.measured),
        ]
    )


def _differences_table(ablation: Ablation) -> str:
    metric = ablation.metric
    rows = [
        (
            "variant",
            "parameters",
            "runs",
            f"{ablation.ours}: {_with_unit(metric)}",
            f"{ablation.ours}: minus full, by seed",
            f"{ablation.ours}: than full",
            f"{PAPER}: {_with_unit(metric)}",
            f"{PAPER}: minus full",
        )
    ]
    for measured in ablation.measured:
        is_full = measured.variant.name == FULL.name
        published = measured.variant.published.get(metric)
        beside = None if published is None else published - FULL.published[metric]
        rows.append(
            (
                measured.variant.name,
                _thousands(measured.parameters),
                str(len(measured.runs)),
                mean_and_std(list(measured.values(metric).values()), metric),
                "" if is_full else signed(ablation.difference(measured, metric), metric),
                "" if is_full else ablation.verdict(measured, metric),
                _published(published, metric),
                "" if is_full else _published(beside, metric, sign="+"),
            )
        )
    return _table(rows)


def _explanations(ablation: Ablation) -> list[str]:
    lines = [
        "Ours: mean ± standard deviation over the runs, one a seed (n - 1). Minus full: mean of "
        "the differences between runs of the same seed ± its standard error. Worse or better: "
        f"the {CONFIDENCE * 100:.0f} % interval of that mean (Student's t) leaves 0 out; of twenty "
        "variants without any effect, one would.",
    ]
    if ablation.metric in ablation.mean_hand:
        lines.append(
            "One and the same hand for every image, the mean of the training set, would score "
            f"{_number(ablation.mean_hand[ablation.metric], ablation.metric)}."
        )
    return [*lines, *ablation.notes]


def _our_table(ablation: Ablation) -> str:
    rows = [("variant", *(_with_unit(metric) for metric in METRICS))]
    for measured in ablation.measured:
        cells = (mean_and_std(list(measured.values(m).values()), m) for m in METRICS)
        rows.append((measured.variant.name, *cells))
    return _table(rows)


def _paper_table(variants: Sequence[Variant]) -> str:
    rows = [("variant", "called there", *(_with_unit(metric) for metric in METRICS))]
    for variant in variants:
        if variant.published:
            cells = (_published(variant.published[metric], metric) for metric in METRICS)
            rows.append((variant.name, variant.paper_name, *cells))
    return _table(rows)


def mean_and_std(values: Sequence[float], metric: str) -> str:
    """Write ``14.50 ± 0.31``, or the value alone if there is one."""
    if not values:
        return ABSENT
    mean = _number(float(np.mean(values)), metric)
    return mean if len(values) == 1 else f"{mean} ± {_number(sample_std(values), metric)}"


def signed(difference: PairedDifference, metric: str) -> str:
    """Write ``+0.52 ± 0.11``, or the mean alone if there is one seed."""
    if not difference.by_seed:
        return ABSENT
    mean = f"{difference.mean:+.{_digits(metric)}f}"
    if len(difference.by_seed) < 2:
        return mean
    return f"{mean} ± {_number(difference.standard_error, metric)}"


def write_csv(path: Path, ablation: Ablation) -> None:
    """Write a row for each variant, metric and source; the source tells ours from the paper's."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _CSV_COLUMNS)
        writer.writeheader()
        for measured in ablation.measured:
            writer.writerows(_our_row(ablation, measured, metric) for metric in METRICS)
            writer.writerows(
                {
                    "source": PAPER,
                    "variant": measured.variant.name,
                    "metric": metric,
                    "mean": value,
                    "difference": round(value - FULL.published[metric], 3),
                }
                for metric, value in measured.variant.published.items()
            )


_CSV_COLUMNS = (
    *("source", "variant", "parameters", "metric", "mean", "std", "runs"),
    *("difference", "standard_error", "margin_of_error_95", "verdict"),
)


def _our_row(ablation: Ablation, measured: Measured, metric: str) -> dict[str, object]:
    values = list(measured.values(metric).values())
    difference = ablation.difference(measured, metric)
    return {
        "source": ablation.ours,
        "variant": measured.variant.name,
        "parameters": measured.parameters,
        "metric": metric,
        "mean": _or_none(np.mean(values)) if values else None,
        "std": _or_none(sample_std(values)),
        "runs": len(values),
        "difference": _or_none(difference.mean),
        "standard_error": _or_none(difference.standard_error),
        "margin_of_error_95": _or_none(difference.margin_of_error),
        "verdict": ablation.verdict(measured, metric),
    }


def write_json(path: Path, ablation: Ablation, circumstances: Mapping[str, object]) -> None:
    """Write every value of every seed, the differences, and the published figures apart."""
    variants = []
    for measured in ablation.measured:
        variants.append(
            {
                "name": measured.variant.name,
                "meaning": measured.variant.meaning,
                "options": list(measured.variant.cfg_options),
                "parameters": measured.parameters,
                ablation.ours: {str(seed): dict(run) for seed, run in measured.runs.items()},
                "minus_full": {m: _difference(ablation, measured, m) for m in METRICS},
                PAPER: dict(measured.variant.published),
            }
        )
    content = {
        **circumstances,
        "metric": ablation.metric,
        "mean_hand": dict(ablation.mean_hand),
        "notes": [*ablation.notes, PAPER_NOTE],
        "variants": variants,
    }
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _difference(ablation: Ablation, measured: Measured, metric: str) -> dict[str, object]:
    difference = ablation.difference(measured, metric)
    return {
        "by_seed": {str(seed): value for seed, value in difference.by_seed.items()},
        "mean": _or_none(difference.mean),
        "standard_error": _or_none(difference.standard_error),
        "margin_of_error_95": _or_none(difference.margin_of_error),
        "verdict": ablation.verdict(measured, metric),
    }


def _table(rows: Sequence[Sequence[str]]) -> str:
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _with_unit(metric: str) -> str:
    return f"{metric}, {METRICS[metric]}" if METRICS[metric] else metric


def _digits(metric: str) -> int:
    return 2 if METRICS[metric] == "mm" else 3


def _number(value: float, metric: str) -> str:
    return f"{value:.{_digits(metric)}f}"


def _published(value: float | None, metric: str, sign: str = "") -> str:
    """Write a published figure with the digits that it was published with."""
    digits = 1 if METRICS[metric] == "mm" else 3
    return ABSENT if value is None else f"{value:{sign}.{digits}f}"


def _thousands(count: int) -> str:
    return f"{count:,}".replace(",", " ")


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
