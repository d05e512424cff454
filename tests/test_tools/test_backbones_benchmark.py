"""The benchmark of backbones as a command, and the parts that decide what it reports."""

import csv
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mamba_mm.measuring.image_shape import ImageShape
from mamba_mm.measuring.machine import Machine

pytest.importorskip("mmpretrain")
pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools/benchmarks"
MIB = 2**20


@pytest.fixture
def tool(monkeypatch):
    """Import a module of the benchmarks by name."""
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module


def floats(mebibytes):
    return torch.empty(mebibytes * MIB // 4)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Run the smallest class at two shapes in all settings; return folder and output."""
    folder = tmp_path_factory.mktemp("work") / "new/backbones"
    command = [sys.executable, TOOLS / "backbones.py", "--class", "quick", "--out", folder]
    command += ["--shapes", "40@2", "64x80@2", "--format", "contiguous", "--threads", "1"]
    command += ["--rounds", "2", "--budget", "0", "--dtypes", "bfloat16"]
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_command_writes_one_row_a_measurement(report):
    folder, printed = report
    with (folder / "backbones.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    settings = [(mode, "bfloat16") for mode in ("eval", "train")]
    shapes = [("40", "40", "2"), ("64", "80", "2")]
    assert [
        (r["mode"], r["dtype"], r["height"], r["width"], r["batch"], r["model"]) for r in rows
    ] == [
        (*setting, *shape, model)
        for setting in settings
        for shape in shapes
        for model in ("resnet18", "vmamba_nano")
    ]
    for row in rows:
        assert row["threads"] == "1"
        assert row["torch"] == torch.__version__
        assert row["memory_format"] == "contiguous"
        assert row["failure"] == ""
        low, middle, high = (
            float(row[name]) for name in ("lower_quartile", "milliseconds", "upper_quartile")
        )
        assert 0 < low <= middle <= high
        throughput = 1e3 * int(row["batch"]) / middle
        assert float(row["images_per_second"]) == pytest.approx(throughput, rel=1e-4)
        assert float(row["peak_mib"]) > 0
        assert f"{float(row['peak_mib']):.1f}" in printed
        if row["model"] == row["baseline"]:
            assert float(row["ratio"]) == 1
        grows = row["height"] == "64"
        assert (row["growth"] != "") == grows
        assert row["pixel_ratio"] == ("3.2" if grows else "")
    # A training step holds at least the gradients of the 11.2 million weights of ResNet-18.
    assert min(float(r["peak_mib"]) for r in rows[4::2]) > 11.1e6 * 4 / MIB


def test_command_writes_tables_and_a_plot(report):
    folder, _ = report
    text = (folder / "backbones.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## eval, bfloat16",
        "## train, bfloat16",
    ]
    assert text.count("| model | 40x40@2 | 64x80@2 |") == 4
    assert text.count("| model | 64x80@2: 3.20 |") == 2
    assert (folder / "backbones.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(os.listdir(folder)) == ["backbones.csv", "backbones.md", "backbones.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "vmamba_huge"], "invalid choice: 'vmamba_huge' (choose from"),
        (["--baseline", "swin"], "invalid choice: 'swin' (choose from"),
        (["--shapes", "224@"], "shape '224@' is not of the form SIZE or HEIGHTxWIDTH"),
        (["--shapes", "0x32"], "write 224@8 or 800x1280"),
        (["--rounds", "1"], "--rounds must be at least 2, for quartiles; got 1"),
        (["--graphs"], "--graphs: CUDA graphs need --device cuda"),
    ],
)
def test_wrong_arguments_are_explained(tool, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["backbones.py", *arguments])
    with pytest.raises(SystemExit):
        tool("backbones").main()
    assert message in capsys.readouterr().err


def test_every_class_names_backbones_that_exist(tool):
    zoo = tool("backbone_zoo")
    for chosen in zoo.CLASSES.values():
        assert {chosen.baseline, *chosen.others} <= set(zoo.BACKBONES)


@pytest.mark.parametrize(
    "name", ["vmamba_nano", "swin_tiny", "convnext_tiny", "deit_small", "vim_tiny"]
)
def test_backbones_return_four_maps_at_sizes_that_nothing_divides(tool, name):
    model = tool("backbone_zoo").build_backbone(name, 72, 100)
    model.eval()
    with torch.no_grad():
        maps = model(torch.zeros(1, 3, 72, 100))
    assert [m.dim() for m in maps] == [4] * 4
    strides = [16] * 4 if name in ("deit_small", "vim_tiny") else [4, 8, 16, 32]
    for m, stride in zip(maps, strides, strict=True):
        assert 72 // stride <= m.shape[2] <= -(-72 // stride)


def test_plain_attention_is_the_same_attention(tool, monkeypatch):
    zoo = tool("backbone_zoo")
    images = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    called = []
    plain = zoo.plain_attention
    monkeypatch.setattr(zoo, "plain_attention", lambda *a, **k: called.append(1) or plain(*a, **k))
    maps = {}
    for name in ("deit_tiny_plain", "deit_tiny"):
        model = zoo.build_backbone(name, 32, 48)
        model.eval()
        with torch.no_grad():
            maps[name] = model(images)
    assert len(called) == 12
    for a, b in zip(*maps.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.fixture
def small_model(tool, monkeypatch):
    """Let the contenders be this small model; return the module of runs."""
    runs = tool("backbone_runs")

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 2, 1)

        def forward(self, images):
            return (self.conv(images),)

    monkeypatch.setattr(runs, "build_backbone", lambda *_: Model())
    return runs


def test_a_compiled_backbone_is_compiled_for_its_size(small_model, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda model, **kw: asked.append(kw) or model)
    setting = small_model.Setting("train", "float32", "cpu", compiled=True)
    small_model.prepare("any", ImageShape(8, 8, 1), setting, "contiguous").run()
    assert asked == [{"dynamic": False}]
    assert setting.execution == "compiled"


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_pass_of_a_graph_is_replayed_and_its_memory_that_of_a_launched_one(
    small_model, tool, monkeypatch, mode
):
    log = []

    def cuda_graph_of(calls):
        for call in calls:
            call()  # nothing in it may wait for the device
        return lambda: log.append("replay")

    monkeypatch.setattr(small_model, "cuda_graph_of", cuda_graph_of)
    monkeypatch.setattr(small_model.Setting, "synchronize", lambda self: log.append("wait"))
    setting = small_model.Setting(mode, "float32", "cpu", in_graph=True)
    assert setting.execution == "graph"
    contender = small_model._contender("any", ImageShape(8, 8, 1), setting, "contiguous")
    assert log == []
    contender.run()
    assert log == ["replay", "wait"]
    shape = ImageShape(64, 64, 1)
    effort = tool("backbone_measure").Effort(rounds=2, budget=0)
    (measured,) = tool("backbone_measure").measure(
        ["any"], shape, shape, setting, "contiguous", effort
    )
    assert measured.peak_mib > 0
    assert measured.setting == (mode, "float32", "graph")


def contenders(tool, monkeypatch, runs):
    """Let ``measure`` run these calls instead of backbones; return its arguments."""
    runs_module, measure_module = tool("backbone_runs"), tool("backbone_measure")

    def prepare(name, shape, setting, memory_format):
        return runs_module.Contender(memory_format, lambda: runs[name](shape))

    monkeypatch.setattr(measure_module, "prepare", prepare)
    small, large = ImageShape(10, 10, 1), ImageShape(20, 20, 1)
    setting = runs_module.Setting("eval", "float32", "cpu")
    effort = measure_module.Effort(rounds=5, budget=10)
    return list(runs), large, small, setting, "contiguous", effort


def test_ratio_growth_and_memory_are_those_of_the_calls(tool, monkeypatch):
    runs = {
        "base": lambda shape: (floats(8), time.sleep(2e-3 * shape.height)),
        "ours": lambda shape: (floats(shape.height), time.sleep(5e-4 * shape.height)),
    }
    arguments = contenders(tool, monkeypatch, runs)
    base, ours = tool("backbone_measure").measure(*arguments)
    assert base.ratio == 1
    assert 3 < ours.ratio < 5
    assert 1.3 < ours.growth < 2.7
    assert ours.pixel_ratio == 4
    assert (base.peak_mib, ours.peak_mib) == (8, 20)


def test_what_does_not_fit_in_memory_is_reported_and_the_rest_measured(tool, monkeypatch):
    runs = {
        "base": lambda shape: torch.empty(2**58),
        "ours": lambda shape: floats(1),
    }
    arguments = contenders(tool, monkeypatch, runs)
    base, ours = tool("backbone_measure").measure(*arguments)
    assert (base.failure, base.milliseconds) == ("out of memory", None)
    assert ours.failure == ""
    assert ours.milliseconds > 0
    assert ours.ratio is None


def test_other_errors_are_not_hidden(tool, monkeypatch):
    runs = {"base": lambda shape: floats(1) @ floats(2)}
    arguments = contenders(tool, monkeypatch, runs)
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        tool("backbone_measure").measure(*arguments)


def test_report_has_room_for_failures(tool, tmp_path):
    measurement = tool("backbone_measure").Measurement
    report, plot = tool("backbone_report"), tool("backbone_plot")
    measured = [
        measurement(
            *("swin_tiny", "swin_tiny", 8, 8, 1, "eval", "float32"), failure="out of memory"
        ),
        measurement(
            *("resnet50", "swin_tiny", 8, 8, 1, "eval", "float32", "channels_last"),
            *(5, 2.0, 1.0, 3.0, 500.0),
            peak_mib=1.0,
        ),
    ]
    machine = Machine.here("cpu")
    report.write_markdown(tmp_path / "table.md", machine, measured)
    plot.write_plot(tmp_path / "plot.png", "title", measured)
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert "| swin_tiny | out of memory |" in lines
    assert "| resnet50 | 500.00 (_cl_) |" in lines
    assert (tmp_path / "plot.png").stat().st_size > 0
