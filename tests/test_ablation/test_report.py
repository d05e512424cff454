"""Tables, files and picture of ablations, against figures worked out by hand."""

import csv
import json

import pytest

pytest.importorskip("matplotlib")

from ablation_samples import ablation
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.image import imread

from mamba_mm.ablation.ablation_plot import PAPER_COLOR, SEED_COLORS, draw, write_plot
from mamba_mm.ablation.report import markdown, write_csv, write_json


def tables(text):
    """The rows of each table as lists of cells, by heading of its section."""
    found = {}
    for section in text.split("## ")[1:]:
        lines = [line for line in section.splitlines() if line.startswith("|")]
        if lines:
            rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
            found[section.splitlines()[0]] = [rows[0], *rows[2:]]
    return found


def test_the_first_table():
    heading, rows = next(iter(tables(markdown(ablation())).items()))
    assert heading == "PA-MPJPE: what each part is worth"
    assert rows == [
        [
            *("variant", "parameters", "runs"),
            "ours, drawn hands: PA-MPJPE, mm",
            "ours, drawn hands: minus full, by seed",
            "ours, drawn hands: than full",
            "paper, FreiHAND: PA-MPJPE, mm",
            "paper, FreiHAND: minus full",
        ],
        ["full", "786 794", "3", "11.00 ± 1.00", "", "", "6.6", ""],
        # Differences 1, 2 and 3: deviation 1, over root 3.
        [
            *("no-gcn", "442 320", "3", "13.00 ± 1.73", "+2.00 ± 0.58", "within the spread"),
            *("7.3", "+0.7"),
        ],
        # -1 and -0.5, of the seeds that both have: mean -0.75, error 0.25.
        [
            *("shared-weights", "459 114", "2", "10.25 ± 1.77", "-0.75 ± 0.25"),
            *("within the spread", "-", "-"),
        ],
        ["deep", "900 000", "1", "11.00", "-1.00", "no spread known", "-", "-"],
    ]


def test_another_metric_has_its_own_digits_and_direction():
    rows = next(iter(tables(markdown(ablation("F@5"))).values()))
    assert rows[0][3] == "ours, drawn hands: F@5"
    # The same 0.01 less for every seed: no spread at all, and a higher score is better.
    assert rows[2][3:] == [
        *("0.440 ± 0.050", "-0.010 ± 0.000", "worse"),
        *("0.673", "-0.065"),
    ]


def test_no_table_but_the_first_has_both_sources():
    found = tables(markdown(ablation()))
    ours = found["All metrics, ours, drawn hands"]
    paper = found["All metrics, paper, FreiHAND: published, not measured here"]
    assert ours[2] == ["no-gcn", "13.00 ± 1.73", "13.00 ± 1.73", "0.440 ± 0.050", "0.440 ± 0.050"]
    assert [row[0] for row in ours[1:]] == ["full", "no-gcn", "shared-weights", "deep"]
    assert paper[1:] == [
        ["full", "full model", "6.6", "6.3", "0.738", "0.988"],
        ["no-gcn", "w/o GCN", "7.3", "7.2", "0.673", "0.983"],
    ]


def test_the_text_explains_and_passes_notes_on():
    text = markdown(ablation(notes=["no-gcn, seed 3: the training failed."]))
    assert "the mean of the training set, would score 20.00." in text
    assert "\nno-gcn, seed 3: the training failed.\n" in text
    assert "compare which parts matter, not the values" in text
    assert "- **deep**: model.head.gss.ssm_depth=2" in text
    assert "one hand" not in markdown(ablation("F@5"))  # whose score is not known


def test_csv_tells_the_sources_apart(tmp_path):
    write_csv(tmp_path / "a.csv", ablation())
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["source"] for row in rows} == {"ours, drawn hands", "paper, FreiHAND"}
    ours, paper = (
        next(r for r in rows if (r["source"], r["variant"], r["metric"]) == key)
        for key in (
            ("ours, drawn hands", "no-gcn", "PA-MPJPE"),
            ("paper, FreiHAND", "no-gcn", "PA-MPJPE"),
        )
    )
    assert (ours["mean"], ours["difference"], ours["runs"]) == ("13.0", "2.0", "3")
    assert float(ours["margin_of_error_95"]) == pytest.approx(2.484, abs=1e-3)
    assert (paper["mean"], paper["difference"], paper["runs"]) == ("7.3", "0.7", "")
    single = [row for row in rows if row["variant"] == "deep"]
    assert len(single) == 4
    assert {row["std"] for row in single} == {""}


def test_json_has_every_seed(tmp_path):
    write_json(tmp_path / "a.json", ablation(), {"seeds": [0, 1, 2]})
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["seeds"] == [0, 1, 2]
    _, no_gcn, _, deep = content["variants"]
    assert no_gcn["ours, drawn hands"]["2"]["PA-MPJPE"] == 14.0
    assert no_gcn["paper, FreiHAND"]["F@5"] == 0.673
    assert no_gcn["options"] == ["model.head.gss.use_gcn=False"]
    assert no_gcn["minus_full"]["PA-MPJPE"]["by_seed"] == {"0": 1.0, "1": 2.0, "2": 3.0}
    assert deep["minus_full"]["PA-MPJPE"]["standard_error"] is None
    assert deep["paper, FreiHAND"] == {}


def test_the_picture_has_a_point_a_seed_and_the_paper_apart():
    values, differences, published = draw(ablation()).axes
    scattered = [c for c in differences.collections if isinstance(c, PathCollection)]
    points = [(*c.get_offsets()[0], to_hex(c.get_facecolor()[0])) for c in scattered]
    points = [(x, round(y), color) for x, y, color in points]
    assert [p for p in points if p[1] == 1] == [
        (1.0, 1, SEED_COLORS[0]),
        (2.0, 1, SEED_COLORS[1]),
        (3.0, 1, SEED_COLORS[2]),
    ]
    assert [p for p in points if p[1] == 3] == [(-1.0, 3, SEED_COLORS[1])]
    assert differences.get_xlim() == (-6.0, 6.0)  # not the 12.7 errors of two seeds
    assert len(values.collections) == 3 + 3 + 2 + 1
    (bar,) = published.patches
    assert bar.get_width() == pytest.approx(0.7)
    assert to_hex(bar.get_facecolor()) == PAPER_COLOR
    assert [text.get_text().strip() for text in published.texts] == ["not published"] * 2
    assert "published" in published.get_title()
    names = [label.get_text() for label in values.get_yticklabels()]
    assert names == ["full", "no-gcn", "shared-weights", "deep"]


def test_the_picture_is_written(tmp_path):
    write_plot(tmp_path / "a.png", ablation())
    height, width = imread(tmp_path / "a.png").shape[:2]
    assert width == 1690
    assert height > 300
