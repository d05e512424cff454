"""The table of what the heads of hand meshes cost."""

import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("mmpose")

from mamba_mm.ops import use_backend
from mamba_mm.registry import MODELS

TOOL = Path(__file__).parents[2] / "tools" / "analysis_tools" / "head_costs.py"
WIDTH, RANK = 32, 2  # tokens of the small head, and the rank of its step sizes
PER_STEP = 9 + 1 + RANK  # operations of a scan with one state, the skip, and the step sizes


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(TOOL))


def small_hamba(**others):
    return dict(type="mamba_mm.HambaHead", embed_dims=WIDTH, **others)


@pytest.fixture(scope="module")
def small(tool):
    return tool["measure"](small_hamba(), 48, (48, 64), 16)


def test_tokens(tool, small):
    assert small.tokens == "22 of 12"
    assert tool["measure"](dict(type="mamba_mm.MANOHead"), 48, (192, 256), 16).tokens == "192"
    without = small_hamba(fusion=["joints2d", "global"])
    assert tool["measure"](without, 48, (48, 64), 16).tokens == "12"


def test_scans_are_counted(small):
    regressor = 4 * 4 * 2 * WIDTH * 12 * PER_STEP  # blocks, directions, inner channels, steps
    tokens = 2 * 2 * 2 * WIDTH * 22 * PER_STEP
    assert small.scan_flops == regressor + tokens
    assert small.scan_flops < small.flops


def test_the_regressor_is_listed_beside_the_total(tool, small):
    light = tool["measure"](small_hamba(jr=dict(mode="mlp")), 48, (48, 64), 16)
    assert small.parameters - small.regressor_parameters == (
        light.parameters - light.regressor_parameters
    )
    assert small.flops - small.regressor_flops == light.flops - light.regressor_flops
    assert light.regressor_flops < small.regressor_flops < small.flops


def test_costs_of_the_linear_head(tool):
    costs = tool["measure"](dict(type="mamba_mm.MANOHead"), 48, (48, 64), 16)
    assert costs.parameters == (48 + 1) * (96 + 10 + 3)
    assert costs.regressor_parameters is None
    assert costs.regressor_flops is None
    assert costs.scan_flops == 0


def test_sizes_are_those_of_the_papers(tool):
    """44.1 M with the regressor, 30.2 M without; HaMeR's decoder has 39,497,837."""
    heads, measure = tool["HEADS"], tool["measure"]
    hamba = measure(heads["HambaHead"], 1280, (192, 256), 16)
    assert hamba.tokens == "22 of 192"
    assert hamba.parameters / 1e6 == pytest.approx(44.1, abs=0.05)
    assert (hamba.parameters - hamba.regressor_parameters) / 1e6 == pytest.approx(30.2, abs=0.05)
    assert measure(heads["HaMeRHead"], 1280, (192, 256), 16).parameters == 39_497_837


def test_every_head_of_the_table_can_be_built(tool):
    for name, config in tool["HEADS"].items():
        small = {"embed_dims": WIDTH} if name != "MANOHead" else {}
        toy = dict(output_model=dict(mano=dict(mano_path="toy")))
        assert len(list(MODELS.build({**config, **small, **toy, "in_channels": 48}).parameters()))


def test_scans_that_cannot_be_counted_are_refused(tool):
    with use_backend("torch"), pytest.raises(RuntimeError, match="compiled scan"):
        tool["measure"](small_hamba(jr=dict(mode="mlp")), 48, (48, 64), 16)


def test_table(tool, tmp_path, monkeypatch, capsys):
    out = tmp_path / "costs.md"
    arguments = ["--in-channels", "256", "--stride", "32", "--heads", "MANOHead", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["head_costs.py", *arguments])
    tool["main"]()
    printed = capsys.readouterr().out
    assert printed == out.read_text()
    lines = printed.splitlines()
    assert lines[0].startswith("| Head | Tokens | Parameters |")
    assert lines[2].startswith("| MANOHead | 48 | 0.0 M |  | ")
    assert len({line.count("|") for line in lines}) == 1
