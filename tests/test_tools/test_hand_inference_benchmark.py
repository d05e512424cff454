"""The benchmark of hand inference as a command."""

import csv
import runpy
from pathlib import Path

import pytest

pytest.importorskip("mmpose")

TOOL = Path(__file__).parents[2] / "tools" / "benchmarks" / "hand_inference.py"


def test_the_table(tmp_path, capsys):
    main = runpy.run_path(str(TOOL))["main"]
    small = ["--pictures", "2", "--hands", "2", "--size", "48x64", "--batch-sizes", "1", "4"]
    out = tmp_path / "new" / "table.csv"
    assert (
        main([*small, "--rounds", "2", "--budget", "0", "--threads", "1", "--out", str(out)]) == 0
    )
    printed = capsys.readouterr().out
    assert "2 pictures of 48x64 with 2 hands each" in printed
    # All compute the same.
    assert float(printed.split("agree to ")[1].split()[0]) < 1e-4
    rows = list(csv.DictReader(out.open()))
    assert [row["contender"] for row in rows] == [
        "inference_topdown, a hand a call",
        "inference_topdown, a picture a call",
        "HandMeshInferencer, batch 1",
        "HandMeshInferencer, batch 4",
    ]
    assert float(rows[0]["times_as_fast"]) == 1
    assert all(float(row["ms_a_hand"]) > 0 for row in rows)
    assert {row["hands"] for row in rows} == {"4"}
