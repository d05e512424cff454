"""The last validation of a training."""

import json

import pytest

pytest.importorskip("mmengine")

from mamba_mm.ablation.measured import Measured, last_metrics
from mamba_mm.ablation.variants import FULL

LAST = {"PA-MPJPE": 14.5, "PA-MPVPE": 10.75, "F@5": 0.5, "F@15": 0.9}


def log(folder, *validations):
    path = folder / "20260101_000000" / "vis_data" / "scalars.json"
    path.parent.mkdir(parents=True)
    lines = [dict(loss=3.0, time=0.5, iter=20, step=20)]
    lines += [
        {f"mesh/{name}": value for name, value in metrics.items()} | {"step": step}
        for step, metrics in enumerate(validations, start=1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_last_validation_counts(tmp_path):
    log(tmp_path, {name: 2 * value for name, value in LAST.items()}, LAST)
    assert last_metrics(tmp_path) == LAST


def test_a_missing_metric_is_named(tmp_path):
    log(tmp_path, {name: value for name, value in LAST.items() if name != "F@5"})
    with pytest.raises(ValueError, match=r"logged mesh/F@5; the recipe's val_evaluator must be"):
        last_metrics(tmp_path)


def test_values_are_by_seed():
    runs = {0: LAST, 4: LAST | {"F@5": 0.6}}
    assert Measured(FULL, 1, runs).values("F@5") == {0: 0.5, 4: 0.6}
