"""The report on compared trainings: tables, files and picture."""

import csv
import json
import math

import pytest

pytest.importorskip("matplotlib")
import matplotlib.image

from mamba_mm.measuring.training_curves import RunCurves
from mamba_mm.measuring.training_plot import write_plot
from mamba_mm.measuring.training_report import (
    NO_VALUE,
    Compared,
    mean_and_std,
    short_names,
    summary,
    write_csv,
    write_json,
)


def run(loss, metric, seconds=1.0):
    return RunCurves(loss, metric, seconds, ())


@pytest.fixture
def compared():
    ours = {
        0: run({10: 4.0, 20: 2.0}, {1: 0.2, 2: 0.4}, 2.0),
        1: run({10: 5.0, 20: 3.0}, {1: 0.5, 2: 0.1}, 3.0),
    }
    theirs = {0: run({10: 6.0, 20: math.nan}, {1: 0.3}, 5.0)}
    return [
        Compared("ours", "ours.py", True, 1_500_000, 1_000_000, ours),
        Compared("theirs", "theirs.py", False, 1_600_000, 1_100_000, theirs),
    ]


def cells(text, name):
    (row,) = (line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_last_and_best_values_parameters_and_relative_cost(compared):
    text = summary(compared, "m", "greater", ["a note"])

    # Last: 0.4 and 0.1. Best: 0.4 and 0.5. Two values deviate by their difference / sqrt(2).
    assert cells(text, "ours") == [
        *("ours", "1.50 M", "1.00 M", "0.250 ± 0.212", "0.450 ± 0.071", "2", "1.00")
    ]
    assert "no benchmark" in text
    assert text.endswith("a note\n")


def test_a_run_without_a_last_value_does_not_lend_an_earlier_one(compared):
    text = summary(compared, "m", "greater")

    assert cells(text, "theirs")[3:] == [NO_VALUE, "0.300", "1", "2.00"]
    assert "theirs, seed 0: the last validation gave no m" in text
    assert "ours, seed" not in text


def test_models_are_compared_with_the_first_seed_by_seed():
    def model(name, last):
        runs = {seed: run({10: 1.0}, {1: 0.9, 2: value}, 1.0) for seed, value in last.items()}
        return Compared(name, f"{name}.py", False, 1, 1, runs)

    first, second = model("a", {0: 0.5, 1: 0.7, 2: 0.1}), model("b", {0: 0.4, 1: 0.4, 3: 9.0})
    text = summary([first, second], "m", "less")
    assert "b minus a, last, seed by seed: -0.200 ± 0.141 (-0.100, -0.300)." in text
    assert "minus" not in summary([first, model("c", {7: 1.0})], "m", "less")
    assert "minus" not in summary([first], "m", "less")


def test_less_may_be_better(compared):
    assert cells(summary(compared, "m", "less"), "ours")[4] == "0.150 ± 0.071"


def test_a_model_without_any_value_is_in_the_table(compared):
    compared[1] = Compared("theirs", "t.py", False, 1, 1, {0: run({10: 1.0}, {}, math.nan)})
    text = summary(compared, "m", "greater")
    assert cells(text, "theirs")[3:] == [NO_VALUE, NO_VALUE, "1", NO_VALUE]


def test_mean_and_std_as_text():
    assert mean_and_std([]) == NO_VALUE
    assert mean_and_std([0.41149]) == "0.411"
    assert mean_and_std([0.1, 0.2, 0.3]) == "0.200 ± 0.100"


def test_names_are_shortened_to_what_differs():
    assert short_names(["rtm_vmamba-n_fpn_x", "rtm_r18_fpn_x"]) == ["vmamba-n", "r18"]
    assert short_names(["a_b", "a_b_c"]) == ["b", "b_c"]
    assert short_names(["a_b", "c"]) == ["a_b", "c"]
    assert short_names(["x_one", "x_two", "x_one_two"]) == ["one", "two", "one_two"]
    assert short_names(["a_b_c"]) == ["a_b_c"]


def test_the_csv_has_every_step_of_every_curve(compared, tmp_path):
    write_csv(tmp_path / "c.csv", compared, "m")
    rows = list(csv.DictReader((tmp_path / "c.csv").open()))

    assert [(r["model"], r["quantity"], r["step"]) for r in rows] == [
        *(("ours", "loss", "10"), ("ours", "loss", "20"), ("ours", "m", "1"), ("ours", "m", "2")),
        *(("theirs", "loss", "10"), ("theirs", "loss", "20"), ("theirs", "m", "1")),
    ]
    assert float(rows[0]["mean"]) == 4.5
    assert float(rows[0]["std"]) == pytest.approx(math.sqrt(0.5))
    assert (rows[0]["min"], rows[0]["max"], rows[0]["runs"]) == ("4.0", "5.0", "2")
    assert (rows[4]["std"], rows[5]["mean"]) == ("", "")  # of one value; of a loss that was NaN


def test_the_json_has_every_run_and_is_valid_json(compared, tmp_path):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    write_json(tmp_path / "c.json", compared, "m", {"seeds": [0, 1]})
    content = json.loads((tmp_path / "c.json").read_text(), parse_constant=refuse)

    assert content["seeds"] == [0, 1]
    ours, theirs = content["models"]
    assert ours["runs"]["1"]["m"] == {"1": 0.5, "2": 0.1}
    assert ours["over_seeds"]["m"]["mean"] == pytest.approx([0.35, 0.25])
    assert theirs["runs"]["0"]["loss"] == {"10": 6.0, "20": None}


def drawn_axes(monkeypatch, compared, tmp_path, **settings):
    """Write the picture; return its axes and its legend's texts."""
    from matplotlib.figure import Figure

    figures = []
    subplots = Figure.subplots
    monkeypatch.setattr(
        Figure,
        "subplots",
        lambda figure, *a, **k: figures.append(figure) or subplots(figure, *a, **k),
    )
    chosen = dict(metric="m", smoothing=1, window=20, unit="epoch") | settings
    write_plot(tmp_path / "c.png", compared, **chosen)
    assert matplotlib.image.imread(tmp_path / "c.png").std() > 0.01
    (figure,) = figures
    return figure.axes, [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_picture_has_means_bands_and_a_legend(monkeypatch, compared, tmp_path):
    (loss, metric), legend = drawn_axes(monkeypatch, compared, tmp_path)

    assert legend == ["ours: 1.50 M parameters, 2 seeds", "theirs: 1.60 M parameters, 1 seed"]
    assert loss.lines[0].get_xydata().tolist() == [[10, 4.5], [20, 2.5]]
    assert metric.lines[0].get_ydata() == pytest.approx([0.35, 0.25])
    corners = metric.collections[0].get_paths()[0].vertices
    assert {0.1, 0.2, 0.4, 0.5} == {round(y, 6) for y in corners[:, 1]}
    assert (loss.get_xlabel(), metric.get_xlabel(), metric.get_ylabel()) == (
        *("iteration", "epoch"),
        "m",
    )


def test_steps_that_a_run_lacks_are_not_drawn(monkeypatch, compared, tmp_path):
    compared[0].runs[1].metric.pop(2)
    (_, metric), _ = drawn_axes(monkeypatch, compared, tmp_path)
    assert metric.lines[0].get_ydata()[0] == pytest.approx(0.35)
    assert math.isnan(metric.lines[0].get_ydata()[1])


def test_the_picture_says_how_the_loss_is_smoothed(monkeypatch, compared, tmp_path):
    for model in compared:
        for curves in model.runs.values():
            curves.loss.clear()
            curves.loss.update({10: 1.0, 20: 5.0, 30: 3.0})
    (loss, _), _ = drawn_axes(monkeypatch, compared, tmp_path, smoothing=3)

    assert loss.lines[0].get_ydata().tolist() == [1.0, 3.0, 3.0]
    assert "20 iterations" in loss.get_title()
    assert "of 3 " in loss.get_title()
