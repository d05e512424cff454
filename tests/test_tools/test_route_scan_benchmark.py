"""The benchmark of the route scan as a command, and that it compares like with like."""

import csv
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mamba_mm.layers import SSMixer2D
from mamba_mm.ops.extension import EXTENSION

if not EXTENSION.loaded:
    pytest.skip(f"the compiled op is not built: {EXTENSION.detail}", allow_module_level=True)

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools/benchmarks"
UNFUSED = "torch routes + our scan"
CONTENDERS = ["ours", f"{UNFUSED}, NCHW", f"{UNFUSED}, NHWC", "pure torch, loop"]


@pytest.fixture
def tool(monkeypatch):
    """Import a module of the benchmarks by name."""
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Run two tiny maps, the second too large for the loop; return folder and output."""
    folder = tmp_path_factory.mktemp("work") / "new"
    command = [sys.executable, TOOLS / "route_scan.py", "--dims", "16", "--states", "1"]
    command += ["--maps", "7x5", "6x6", "--rounds", "2", "--budget", "0", "--threads", "1"]
    command += ["--pure-forward", "7x5", "--pure-training", "1x1", "--fresh"]
    command += ["--out", folder / "routes.csv", folder / "routes.md"]
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_command_records_every_pass_of_every_contender(report):
    folder, printed = report
    with (folder / "routes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    compiled = CONTENDERS[:3]
    assert [(r["height"], r["work"], r["contender"]) for r in rows] == [
        *(("7", "forward", name) for name in [*CONTENDERS, UNFUSED]),
        *(("7", "forward + backward", name) for name in [*compiled, UNFUSED]),
        ("7", "backward", "ours"),
        *(("6", "forward", name) for name in [*compiled, UNFUSED]),
        *(("6", "forward + backward", name) for name in [*compiled, UNFUSED]),
        ("6", "backward", "ours"),
    ]
    for row in rows:
        assert (row["batch"], row["dim"], row["states"], row["rank"]) == ("1", "16", "1", "1")
        assert (row["threads"], row["memory"], row["torch"]) == ("1", "fresh", torch.__version__)
        assert row["isa"] in ("avx512", "avx2", "generic")
        assert 0 < float(row["best_ms"]) <= float(row["median_ms"])
        assert row["turns"] == "2"
        ours, work = row["contender"] == "ours", row["work"]
        assert float(row["x_ours"]) == 1 if ours else float(row["x_ours"]) > 0
        assert (row["floor_share"] != "") == (ours and work != "forward + backward")
        assert (row["fused_floor_share"] != "") == (ours and work == "forward")
        assert (row["error"] != "") == (ours and work == "forward")
        assert (row["peak_maps"] != "") == (
            work != "backward" and row["contender"] in ("ours", UNFUSED)
        )
        if row["error"]:
            assert float(row["error"]) < 1e-5
    assert printed.count("the faster memory format: " + UNFUSED) == 4


def test_the_faster_format_is_the_one_compared(report):
    with (report[0] / "routes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    passes = {(r["height"], r["work"]) for r in rows if r["work"] != "backward"}
    for key in passes:
        medians = {
            r["contender"]: float(r["median_ms"]) for r in rows if (r["height"], r["work"]) == key
        }
        assert medians[UNFUSED] == min(medians[name] for name in CONTENDERS[1:3])


def test_command_writes_a_line_a_shape(report):
    lines = (report[0] / "routes.md").read_text().splitlines()
    assert "threads: 1" in lines[0]
    head, rule, *shapes = ([cell.strip() for cell in s.split("|")[1:-1]] for s in lines[2:])
    assert head[:8] == [
        *("B", "D", "N", "R", "map", "forward: ours, ms"),
        *("pure torch, loop", UNFUSED),
    ]
    assert set(rule) == {"---"}
    assert [cells[:5] for cells in shapes] == [
        ["1", "16", "1", "1", "7x5"],
        ["1", "16", "1", "1", "6x6"],
    ]
    assert {len(cells) for cells in shapes} == {len(head)}
    # The loop has no time where it takes no part.
    loops = [i for i, name in enumerate(head) if name == "pure torch, loop"]
    assert [[cells[i] == "-" for i in loops] for cells in shapes] == [[False, True], [True, True]]


@pytest.mark.parametrize(("batch", "states"), [(1, 1), (2, 3)])
def test_all_contenders_compute_the_same(tool, batch, states):
    contenders, work = tool("route_contenders"), tool("route_work")
    inputs = contenders.make_inputs(work.RouteShape(batch, 40, states, 7, 5))
    everyone = contenders.chosen_contenders(list(contenders.CHOICES))
    differences = contenders.largest_difference(everyone, inputs)
    assert list(differences) == [*CONTENDERS, "pure torch, log-depth"]
    assert max(differences.values()) < 2e-5
    assert contenders.error_against_float64(inputs) < 1e-5


def test_a_wrong_contender_would_be_noticed(tool):
    contenders, work = tool("route_contenders"), tool("route_work")
    inputs = contenders.make_inputs(work.RouteShape(1, 16, 1, 7, 5))
    flipped = contenders.Contender(
        lambda own: contenders.fused_routes(own).flip(-1), torch.channels_last
    )
    both = contenders.OURS | {"flipped": flipped}
    assert contenders.largest_difference(both, inputs)["flipped"] > 0.1


def test_ours_is_what_the_mixer_computes(tool):
    contenders, work = tool("route_contenders"), tool("route_work")
    inputs = contenders.make_inputs(work.RouteShape(2, 16, 2, 6, 9))
    mixer = SSMixer2D(8, d_state=2, ssm_ratio=2.0)
    with torch.no_grad():
        mixer.x_proj_weight.copy_(inputs.x_proj)
        mixer.dt_projs_weight.copy_(inputs.dt_proj)
        mixer.dt_projs_bias.copy_(inputs.delta_bias)
        torch.testing.assert_close(contenders.fused_routes(inputs), mixer.scan(inputs.x))


def test_backward_alone_is_the_backward_of_training(tool):
    contenders, work = tool("route_contenders"), tool("route_work")
    inputs = contenders.make_inputs(work.RouteShape(1, 16, 1, 7, 5))
    ours = contenders.OURS["ours"]
    alone = contenders.backward_run(ours, inputs)
    for _ in range(2):
        torch.testing.assert_close(alone(), contenders.training_run(ours, inputs)()[1:])


def test_floors_count_what_they_say(tool):
    work, limits = tool("route_work"), tool("machine_limits").MachineLimits(1, 1.0, 1.0, 1.0)
    shape = work.RouteShape(1, 192, 1, 56, 56)
    elements = 4 * 192 * 56 * 56
    forward, backward = work.forward_floor(shape, limits), work.backward_floor(shape, limits)
    assert (shape.rank, shape.elements) == (6, elements)
    assert forward.arithmetic == elements * (10 + 40 + 6 + 8)
    assert forward.exponentials == elements * 2
    assert forward.memory == pytest.approx(elements * (8 / 4 + 4 * 8 / 192))
    assert backward.arithmetic == elements * (18 + 63 + 18 + 16)
    assert backward.memory == pytest.approx(elements * (12 / 4 + 8 * 8 / 192 + 4 / 32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dims", "15"], "'15' is not an even number of channels"),
        (["--maps", "56"], "map '56' is not of the form HEIGHTxWIDTH"),
        (["--out", "a.txt"], "'a.txt' does not end in .csv or .md"),
        (["--contenders", "triton"], "invalid choice: 'triton'"),
    ],
)
def test_wrong_arguments_are_explained(tool, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["route_scan.py", *arguments])
    with pytest.raises(SystemExit):
        tool("route_scan").main()
    assert message in capsys.readouterr().err
