"""The benchmark of the GPU kernels: its dry run, and that it compares like with like."""

import contextlib
import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from mamba_mm.measuring.interleaved import Timing
from mamba_mm.ops import selective_scan
from mamba_mm.ops.extension import EXTENSION

if not EXTENSION.loaded:
    pytest.skip(f"the compiled op is not built: {EXTENSION.detail}", allow_module_level=True)

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools/benchmarks"


@pytest.fixture
def tool(monkeypatch):
    """Import a module of the benchmarks by name."""
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory):
    """Run everything once, tiny; return what was written and printed."""
    path = tmp_path_factory.mktemp("work") / "new/gpu.json"
    command = [sys.executable, TOOLS / "gpu.py", "--dry-run", "--out", path]
    command += ["--rounds", "2", "--budget", "0", "--dtypes", "float32", "--no-checks"]
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(path.read_text()), done.stdout


def test_the_dry_run_records_every_pass_of_every_contender(dry_run):
    written, _ = dry_run
    found = [(r["case"].partition(":")[0], r["work"], r["contender"]) for r in written["records"]]
    passes = ("forward", "forward+backward")
    assert [line for line in found if line[2] not in ("mamba_ssm", "vmamba")] == [
        *(("tiny map", w, who) for w in passes for who in ("ours", "unfused", "torch")),
        *(("tiny tokens", w, who) for w in passes for who in ("ours", "unfused", "torch")),
        *(("tiny scan", w, who) for w in passes for who in ("ours", "torch")),
        *(
            ("VMamba nano, training step, 32x32, batch 1", "training step", who)
            for who in ("ours", "unfused")
        ),
    ]
    for r in written["records"]:
        assert r["failure"] == ""
        assert 0 < r["lower_quartile"] <= r["milliseconds"] <= r["upper_quartile"]
        assert r["turns"] == 2
        assert r["peak_mib"] > 0
        assert r["x_ours"] == 1 if r["contender"] == "ours" else r["x_ours"] > 0
        is_scan = r["work"] != "training step"
        assert set(r["shares"]) == (
            {"copy", "exp", "issue"} if is_scan and r["contender"] == "ours" else set()
        )
        assert (r["error"] is not None) == is_scan
        assert r["error"] is None or r["error"] < 1e-5


def test_the_dry_run_says_what_and_where(dry_run):
    written, _ = dry_run
    assert written["device"].startswith("dry run on")
    assert (written["ours"], written["torch"]) == ("cpu", torch.__version__)
    assert written["checks"] == {}


@pytest.mark.parametrize(
    ("content", "without_gpu", "passed", "summary"),
    [
        ("def test_it(): assert True", False, True, "1 passed"),
        ("def test_it(): assert False", True, False, "1 failed"),
        ("", False, False, "no tests ran"),
        ("", True, True, "no tests ran"),
    ],
)
def test_the_checks_are_run_by_pytest(
    tool, monkeypatch, tmp_path, content, without_gpu, passed, summary
):
    gpu = tool("gpu_checks")
    assert (ROOT / gpu.CHECKS).is_file()
    log = tmp_path / "work/checks.txt"
    checks = run_own_checks(gpu, monkeypatch, tmp_path, content, log, without_gpu=without_gpu)
    assert checks["passed"] == passed
    assert summary in checks["summary"]
    assert log.read_text().strip().splitlines()[-1].strip(" =") == checks["summary"]


def run_own_checks(gpu, monkeypatch, folder, content, log, expression="", without_gpu=False):
    monkeypatch.setattr(gpu, "CHECKS", "test_it.py")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (folder / "test_it.py").write_text(content)
    return gpu.run_checks(folder, log, expression, without_gpu=without_gpu)


def test_some_checks_are_run_alone_and_what_fails_is_printed(tool, monkeypatch, tmp_path, capfd):
    content = "def test_one(): assert 1 == 2\ndef test_two(): pass\ndef test_three(): pass"
    gpu, log = tool("gpu_checks"), tmp_path / "checks.txt"
    monkeypatch.setattr(gpu.os, "cpu_count", lambda: 1)
    checks = run_own_checks(gpu, monkeypatch, tmp_path, content, log, "one or two")
    assert (checks["passed"], checks["selected"]) == (False, "one or two")
    assert "1 failed, 1 passed, 1 deselected" in checks["summary"]
    printed = capfd.readouterr().out
    assert "FAILED test_it.py::test_one" in printed
    assert "test_two" not in printed
    assert "test_it.py::test_two PASSED" in log.read_text()


@pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="needs pytest-xdist")
def test_checks_run_in_parallel_where_there_are_processors(tool, monkeypatch, tmp_path):
    gpu = tool("gpu_checks")
    monkeypatch.setattr(gpu.os, "cpu_count", lambda: 2)
    content = (
        "import os, pytest\n"
        "@pytest.mark.parametrize('i', range(4))\n"
        "def test_it(i): assert os.environ['PYTEST_XDIST_WORKER_COUNT'] == '2'"
    )
    checks = run_own_checks(gpu, monkeypatch, tmp_path, content, tmp_path / "checks.txt")
    assert "4 passed" in checks["summary"]


@pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="needs pytest-xdist")
@pytest.mark.parametrize(
    ("gibibytes", "cpus", "processes"), [(140, 64, 16), (140, 4, 4), (8, 64, 4), (3, 64, None)]
)
def test_processes_share_the_processors_and_the_memory_of_the_gpu(
    tool, monkeypatch, gibibytes, cpus, processes
):
    gpu = tool("gpu_checks")
    properties = SimpleNamespace(total_memory=gibibytes << 30)
    monkeypatch.setattr(gpu.os, "cpu_count", lambda: cpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: properties)
    arguments = gpu._in_parallel()
    assert arguments == (
        [] if processes is None else ["-p", "xdist", "-n", str(processes), "--dist", "loadgroup"]
    )


def test_what_a_command_said_is_kept_when_it_is_stopped(tool, tmp_path):
    script = tmp_path / "stopped.py"
    script.write_text(
        "import os, signal, sys\n"
        f"sys.path.insert(0, {str(TOOLS)!r})\n"
        "import gpu_checks\n"
        "print_and_wait = 'print(1, flush=True); import time; time.sleep(60)'\n"
        "def stop(line): os.kill(os.getpid(), signal.SIGKILL)\n"
        "command = [sys.executable, '-c', print_and_wait]\n"
        f"gpu_checks.run_logged(command, '.', os.environ, gpu_checks.Path({str(tmp_path)!r}) / "
        "'log.txt', stop)\n"
    )
    subprocess.run([sys.executable, str(script)], check=False)
    assert (tmp_path / "log.txt").read_text() == "1\n"


def test_the_table_comes_last(dry_run):
    lines = dry_run[1].strip().splitlines()[-8:]
    assert lines[0].split()[:6] == ["case", "dtype", "pass", "ours", "ms", "quartiles"]
    assert "unfused x" in lines[0]
    assert "% of copy" in lines[0]
    assert [line.partition(":")[0] for line in lines[1:-1]] == [
        *("tiny map", "tiny map", "tiny tokens", "tiny tokens", "tiny scan", "tiny scan")
    ]
    assert lines[-1].startswith("VMamba nano")


def run_main(tool, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gpu.py", *map(str, arguments)])
    return tool("gpu").main()


def test_without_a_gpu_it_stops_and_says_why(tool, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run_main(tool, monkeypatch, "--out", tmp_path / "gpu.json") == 2
    assert "finds no GPU, so there is nothing to measure" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_kernels_it_stops_and_says_what_to_do(tool, monkeypatch, capsys, tmp_path):
    status = SimpleNamespace(name="cpu", usable=False, detail="not built", remedy="build it")
    monkeypatch.setattr(tool("gpu_contenders"), "backend_report", lambda: [status])
    arguments = ("--dry-run", "--no-checks", "--out", tmp_path / "gpu.json")
    assert run_main(tool, monkeypatch, *arguments) == 2
    assert "cpu: not built -> build it" in capsys.readouterr().err


def test_a_failed_check_or_contender_shows_in_the_exit_status(tool, monkeypatch):
    gpu, runs, measure = tool("gpu"), tool("gpu_run"), tool("gpu_measure")
    outcomes = {"": 0, measure.OUT_OF_MEMORY: 0, "RuntimeError: broken": 1}
    for failure, status in outcomes.items():
        record = measure.Record("case", "float32", "forward", "ours", failure=failure)
        monkeypatch.setattr(runs, "run", lambda options, checks, r=record: ([r], True))
        assert run_main(tool, monkeypatch, "--dry-run", "--no-checks") == status
    monkeypatch.setattr(runs, "run", lambda options, checks: ([], False))
    assert run_main(tool, monkeypatch, "--dry-run", "--no-checks") == 1
    monkeypatch.setattr(runs, "run", lambda options, checks: ([], True))
    for passed in (True, False):
        monkeypatch.setattr(gpu, "run_checks", lambda *_, p=passed, **__: {"passed": p})
        assert run_main(tool, monkeypatch, "--dry-run") == int(not passed)


def test_checks_are_run_without_the_cases(tool, monkeypatch, tmp_path):
    gpu, runs, asked = tool("gpu"), tool("gpu_run"), []
    monkeypatch.setattr(runs, "run", lambda *_: pytest.fail("cases were timed"))
    for passed in (True, False):
        monkeypatch.setattr(
            gpu,
            "run_checks",
            lambda root, log, expression, without_gpu, p=passed: (
                asked.append((root, log, expression)) or {"passed": p}
            ),
        )
        arguments = ("--dry-run", "--checks-only", "--checks", "cuda", "--out", tmp_path / "a.json")
        assert run_main(tool, monkeypatch, *arguments) == int(not passed)
    assert asked[0] == (ROOT, tmp_path / "gpu_checks.txt", "cuda")


def dry_records(tool, monkeypatch, path, *arguments):
    arguments = ("--dry-run", "--no-checks", "--rounds", "2", "--budget", "0", *arguments)
    status = run_main(tool, monkeypatch, *arguments, "--dtypes", "float32", "--out", path)
    return status, json.loads(path.read_text())["records"]


def test_the_table_comes_when_time_runs_out(tool, monkeypatch, tmp_path, capsys):
    times = iter([0.0, 0.0, 59.0, 61.0])
    clock = SimpleNamespace(monotonic=lambda: next(times))
    monkeypatch.setattr(tool("gpu_run"), "time", clock)
    arguments = ("--minutes", "1", "--only", "tiny")
    status, records = dry_records(tool, monkeypatch, tmp_path / "gpu.json", *arguments)
    assert status == 1
    assert {(r["case"].partition(":")[0], r["work"]) for r in records} == {
        ("tiny map", "forward"),
        ("tiny map", "forward+backward"),
    }
    lines = capsys.readouterr().out.strip().splitlines()
    assert "ended after 2 of 6 passes; the next was tiny tokens" in "\n".join(lines)
    assert lines[-1].startswith("tiny map")


def test_contenders_can_be_left_out(tool, monkeypatch, tmp_path):
    arguments = ("--leave-out", "torch", "unfused", "--only", "tiny map|training")
    status, records = dry_records(tool, monkeypatch, tmp_path / "gpu.json", *arguments)
    assert status == 0
    assert {(r["work"], r["contender"]) for r in records} == {
        *((work, "ours") for work in ("forward", "forward+backward", "training step"))
    }


def test_the_names_of_contenders_are_those_of_the_options(tool):
    contenders = tool("gpu_contenders")
    ours = {contenders.UNFUSED, contenders.TRITON, contenders.TORCH}
    assert set(tool("gpu").CONTENDERS) == ours | {"mamba_ssm", "vmamba"}


def test_the_checkout_is_measured_whatever_is_installed(tmp_path):
    """Without PYTHONPATH, and with another mamba_mm in the way."""
    (tmp_path / "mamba_mm").mkdir()
    (tmp_path / "mamba_mm/__init__.py").write_text("raise RuntimeError('the wrong one')")
    command = [sys.executable, TOOLS / "gpu.py", "--dry-run", "--no-checks", "--only", "nothing"]
    done = subprocess.run(
        [*map(str, command), "--out", str(tmp_path / "gpu.json")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("own", [None, "75"])
@pytest.mark.parametrize("there", [(), ("_C",), ("_C_cuda",), ("_C", "_C_cuda")])
def test_missing_libraries_are_built_for_the_gpu_that_is_there(
    tool, monkeypatch, tmp_path, there, own
):
    gpu, calls = tool("gpu"), []
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(
        gpu,
        "run_logged",
        lambda command, folder, environment, log: (
            calls.append((command[1:], folder, environment)) or (0, [])
        ),
    )
    if own:
        monkeypatch.setenv("MAMBA_MM_CUDA_ARCHS", own)
    else:
        monkeypatch.delenv("MAMBA_MM_CUDA_ARCHS", raising=False)
    (tmp_path / "mamba_mm").mkdir()
    for name in there:
        (tmp_path / f"mamba_mm/{name}.abi3.so").touch()
    gpu._build_libraries(tmp_path / "build.txt")
    if len(there) == 2:
        assert not calls
        return
    ((command, folder, environment),) = calls
    assert command == ["setup.py", "build_ext", "--inplace"]
    assert folder == tmp_path
    assert environment["MAMBA_MM_CUDA_ARCHS"] == (own or "90")


def test_a_failed_build_is_told_in_few_lines(tool, monkeypatch, tmp_path, capsys):
    gpu = tool("gpu")
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    (tmp_path / "setup.py").write_text("for i in range(500): print('line', i)\nraise SystemExit(3)")
    gpu._build_libraries(tmp_path / "build.txt")
    printed = capsys.readouterr().out.splitlines()
    assert "line 499" in printed
    assert len(printed) < 50
    assert "the build failed; going on with what is there" in printed
    assert len((tmp_path / "build.txt").read_text().splitlines()) == 500


def test_the_cases_are_those_of_the_models(tool):
    cases = tool("gpu_cases").all_cases()
    assert len({str(case) for case in cases}) == len(cases)
    stages = [c for c in cases if c.routes == "cross"]
    assert {c.states for c in stages} == {1, 16}
    assert {c.batch for c in stages} == {1, 64}
    # First: the stage that the bars are about, with the channels and ranks of VMamba-T.
    first = cases[0]
    assert (first.batch, first.dim, first.states, first.rank, first.length) == (64, 192, 1, 6, 3136)
    assert [(c.dim, c.rank, c.length) for c in cases[1:4]] == [
        *((384, 12, 784), (768, 24, 196), (1536, 48, 49))
    ]
    assert {c.length for c in stages} >= {200 * 320, 100 * 160, 50 * 80, 25 * 40}
    others = {(c.batch, c.length) for c in cases if c.routes == "row"}
    assert others >= {(128, 197), (8, 6085), (64, 22), (64, 192)}


def results(contender, inputs):
    """Output and all gradients."""
    leaves = inputs.map(lambda t: t.detach().requires_grad_())
    y = contender.run(contender.prepare(leaves))
    generator = torch.Generator().manual_seed(1)
    gradient = torch.randn(y.shape, generator=generator)
    return y.detach(), *torch.autograd.grad(y, leaves.tensors(), gradient)


def fake_mamba_ssm():
    def selective_scan_fn(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
        assert u.stride(-1) == B.stride(-1) == 1
        return selective_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus)

    module = ModuleType("mamba_ssm.ops.selective_scan_interface")
    module.selective_scan_fn = selective_scan_fn
    packages = {name: ModuleType(name) for name in ("mamba_ssm", "mamba_ssm.ops")}
    return packages | {module.__name__: module}


def fake_oflex():
    def fwd(u, delta, A, B, C, D, delta_bias, delta_softplus, rows, out_float):
        tensors = (u, delta, A, B, C, D, None, delta_bias)
        out_dtype = torch.float32 if out_float else u.dtype
        y, _, states = torch.ops.mamba_mm.selective_scan_fwd(
            *tensors, delta_softplus, True, out_dtype
        )
        return [y, states]

    def bwd(u, delta, A, B, C, D, delta_bias, dout, x, delta_softplus, rows):
        tensors = (u, delta, A, B, C, D, None, delta_bias)
        *grads, _, of_bias = torch.ops.mamba_mm.selective_scan_bwd(
            dout, None, *tensors, delta_softplus, x
        )
        return [*grads, of_bias]

    module = ModuleType("selective_scan_cuda_oflex")
    module.fwd, module.bwd = fwd, bwd
    return {module.__name__: module}


@pytest.mark.parametrize("number", range(3))
def test_all_contenders_compute_the_same(tool, monkeypatch, number):
    for name, module in (fake_mamba_ssm() | fake_oflex()).items():
        monkeypatch.setitem(sys.modules, name, module)
    cases, contenders = tool("gpu_cases"), tool("gpu_contenders")
    case = cases.tiny_cases()[number]
    inputs = cases.make_inputs(case, torch.float32, "cpu")
    found = contenders.contenders_for(case, "cpu")
    expected = ["ours", *(["unfused"] if case.rank else []), "torch", "mamba_ssm", "vmamba"]
    assert list(found) == expected
    ours = results(found["ours"], inputs)
    exact = contenders.exact_output(case, inputs)
    assert exact.shape[:2] == (1, 8)
    for name, contender in found.items():
        for a, b in zip(results(contender, inputs), ours, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4, msg=name)
        assert contenders.output_error(contender, inputs, exact) < 1e-5
    wrong = contenders.Contender(lambda own: found["ours"].run(own).flip(-1))
    assert contenders.output_error(wrong, inputs, exact) > 0.1


def test_rivals_that_cannot_be_imported_take_no_part(tool, monkeypatch):
    for name in ("mamba_ssm", "selective_scan_cuda_oflex"):
        monkeypatch.setitem(sys.modules, name, None)
    assert tool("gpu_rivals").importable_rivals() == {}


@pytest.mark.parametrize(
    ("states", "microseconds"), [(1, (78, 111, 175)), (16, (100, 663, 581))], ids=str
)
def test_the_work_of_a_fused_pass_is_that_of_the_design(tool, states, microseconds):
    # The floors of an H200, from the table of the design: first stage of VMamba-T, batch 64.
    work = tool("gpu_work")
    case = next(c for c in tool("gpu_cases").all_cases() if c.states == states)
    limits = work.Limits(4.3e12, 4.18e12, 33.5e12)
    shares = work.forward_work(case, 4).shares(1e-6, limits)
    assert [round(share) for share in shares.values()] == pytest.approx(microseconds, rel=0.01)


def test_the_work_of_a_backward_pass_and_of_a_scan_alone(tool):
    work, cases = tool("gpu_work"), tool("gpu_cases")
    routes = cases.Case("", 1, 192, 1, 6, 56, 56)
    elements = 4 * 192 * 56 * 56
    backward = work.backward_work(routes, 4)
    assert routes.elements == elements
    assert backward.bytes == pytest.approx(elements * (12 / 4 + 8 * 8 / 192 + 8 / 32))
    assert (backward.exponentials, backward.instructions) == (4 * elements, 110 * elements)
    scan = cases.Case("", 1, 384, 16, 0, 1, 197, "row")
    assert work.forward_work(scan, 4).bytes == pytest.approx(384 * 197 * (12 + 8 * 16 / 384))
    both = tool("gpu_measure").work_of(scan, "forward+backward", 4)
    assert both == work.forward_work(scan, 4) + work.backward_work(scan, 4)


def bench(tool, cache_bytes=0):
    timing = tool("gpu_timing")
    limits = tool("gpu_work").Limits(1.0, 1.0, 1.0)
    effort = timing.Effort(rounds=2, budget=0)
    return tool("gpu_measure").Bench("cpu", timing.WallClock(), limits, effort, cache_bytes)


def test_inputs_rotate_through_more_than_the_cache(tool):
    measure, cases = tool("gpu_measure"), tool("gpu_cases")
    case = cases.tiny_cases()[0]
    inputs = cases.make_inputs(case, torch.float32, "cpu")
    for cache, expected in ((0, 1), (4 * inputs.bytes, 8), (10**9, measure.MOST_COPIES)):
        copies = measure._copies(case, inputs, bench(tool, cache))
        assert len(copies) == expected
        assert len({copy.x.data_ptr() for copy in copies}) == expected


def test_a_contender_that_fails_does_so_alone(tool, monkeypatch, capsys):
    measure, contenders = tool("gpu_measure"), tool("gpu_contenders")
    case = tool("gpu_cases").tiny_cases()[0]

    def broken(inputs):
        raise RuntimeError("no kernel image\nmore")

    found = contenders.contenders_for(case, "cpu") | {
        "broken": contenders.Contender(broken),
        "large": contenders.Contender(lambda inputs: torch.empty(2**58)),
    }
    monkeypatch.setattr(measure, "contenders_for", lambda *_: found)
    records = measure.measure_case(case, torch.float32, "forward", bench(tool))
    failures = {r.contender: r.failure for r in records if r.failure}
    assert failures == {"broken": "RuntimeError: no kernel image", "large": "out of memory"}
    assert "broken failed: RuntimeError: no kernel image\nmore" in capsys.readouterr().out
    table = tool("gpu_report").table(records)
    assert "out of memory" in table
    assert "failed" in table


def test_ratios_hold_without_ours(tool):
    measure, report = tool("gpu_measure"), tool("gpu_report")
    ours = measure.Record("case", "float32", "forward", "ours", failure="RuntimeError: broken")
    rival = measure.Record("case", "float32", "forward", "torch")
    timings = {"torch": Timing([0.002, 0.002])}
    rival = measure.with_times(rival, timings, None, bench(tool).limits)
    assert (rival.milliseconds, rival.x_ours) == (2, None)
    assert report.table([ours, rival]).splitlines()[1].split()[3:6] == ["failed", "-", "2"]


def test_turns_are_timed_by_the_work_done(tool):
    timing, asked = tool("gpu_timing"), []

    class Counter:
        """A clock on which every call takes a hundredth of a second."""

        def seconds(self, run, calls):
            asked.append(calls)
            return 0.01

    runs = {"one": timing.Run(lambda: None, 1), "four": timing.Run(lambda: None, 4)}
    timings = timing.time_in_turns(runs, timing.Effort(3, 10), Counter())
    assert sum(calls == 1 for calls in asked) >= timing.WARM_SECONDS / 0.01
    assert {name: t.seconds for name, t in timings.items()} == {
        "one": [0.01] * 3,
        "four": [0.0025] * 3,
    }


def test_events_of_the_gpu_are_read_in_seconds(tool, monkeypatch):
    log = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            log.append("record")

        def synchronize(self):
            log.append("synchronize")

        def elapsed_time(self, end):
            return 6.0  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    seconds = tool("gpu_timing").EventClock().seconds(lambda: log.append("call"), 2)
    assert seconds == pytest.approx(0.003)
    assert log == ["record", "call", "call", "record", "synchronize"]


def test_all_calls_are_made_before_they_are_captured(tool, monkeypatch):
    log = []

    class Stream:
        def wait_stream(self, other):
            log.append("wait")

    class Graph:
        def replay(self):
            log.append("replay")

    @contextlib.contextmanager
    def capture(graph):
        log.append("begin")
        yield
        log.append("end")

    fakes = {"Stream": Stream, "current_stream": Stream, "CUDAGraph": Graph, "graph": capture}
    for name, fake in fakes.items() | {("stream", contextlib.nullcontext)}:
        monkeypatch.setattr(torch.cuda, name, fake)
    calls = [functools.partial(log.append, name) for name in ("first", "second")]
    tool("gpu_timing").EventClock().replayable(calls)()
    made, captured = log[: log.index("begin")], log[log.index("begin") :]
    assert made == ["wait", "first", "first", "second", "wait"]
    assert captured == ["begin", "first", "second", "end", "replay"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "1"], "--rounds must be at least 2, for quartiles; got 1"),
        (["--dtypes", "int8"], "invalid choice: 'int8'"),
        (["--only", "("], "'(' is no regular expression"),
        (["--leave-out", "ours"], "invalid choice: 'ours'"),
        (["--no-checks", "--checks-only"], "--no-checks leaves out what --checks and"),
        (["--no-checks", "--checks", "cuda"], "--no-checks leaves out what --checks and"),
    ],
)
def test_wrong_arguments_are_explained(tool, monkeypatch, capsys, arguments, message):
    with pytest.raises(SystemExit):
        run_main(tool, monkeypatch, *arguments)
    assert message in capsys.readouterr().err
