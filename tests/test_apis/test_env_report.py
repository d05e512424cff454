import subprocess
import sys
from importlib import metadata

import pytest

from mamba_mm import __version__
from mamba_mm.apis import env_report
from mamba_mm.apis.env_report import ModuleStatus, environment_report, import_failure

BREAK_MODULES = """
import sys
from importlib.abc import MetaPathFinder

class Broken(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in {broken!r}:
            raise {error}
        return None

sys.meta_path.insert(0, Broken())
import runpy
sys.argv = ["mamba_mm"]
runpy.run_module("mamba_mm", run_name="__main__")
"""


def report_with_broken(modules, error):
    """Run ``python -m mamba_mm`` where importing ``modules`` raises ``error``."""
    code = BREAK_MODULES.format(broken=modules, error=error)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def by_name(report):
    """The lines of the report by their first word; a module, not the backend of its name."""
    lines = {}
    for line in filter(str.strip, report.splitlines()):
        lines.setdefault(line.split()[0], line)
    return lines


def test_the_report_names_distributions_versions_and_backends():
    lines = by_name(environment_report())

    assert lines["mamba_mm"].split() == ["mamba_mm", __version__]
    assert f"torch {metadata.version('torch')}" in lines["torch"]
    assert {"python", "torchvision", "triton", "numpy", "mmengine", "mmcv"} <= set(lines)
    assert {"mmdet", "mmpretrain", "mmseg", "mmpose"} <= set(lines)
    assert {"cpu", "cuda", "torch", "reference"} <= set(lines)


def test_a_module_that_raises_is_reported_with_its_version_and_the_reason():
    pytest.importorskip("mmpretrain")
    report = report_with_broken(
        {"mmpretrain"}, 'AssertionError("MMCV==9 is used but incompatible")'
    )

    line = by_name(report)["mmpretrain"]
    assert "mmpretrain " in line
    assert "import mmpretrain raises AssertionError: MMCV==9 is used but incompatible" in line
    assert "install one line only" in report


def test_an_extension_that_does_not_load_is_reported():
    pytest.importorskip("mmcv")
    error = """ImportError("No module named 'mmcv._ext'")"""
    report = report_with_broken({"mmcv._ext"}, error)

    assert "import mmcv._ext raises ImportError" in by_name(report)["mmcv"]
    assert "mmcv has no compiled ops" in report


def test_the_report_needs_no_toolbox_and_no_mmengine():
    names = {"mmengine", "mmcv", "mmdet", "mmpretrain", "mmseg", "mmpose"}
    report = report_with_broken(names, 'ImportError("hidden by the test")')

    lines = by_name(report)
    for name in names:
        assert "hidden by the test" in lines[name]
    assert "scan backends (a CPU tensor goes to" in report


def test_without_torch_the_report_says_so():
    report = report_with_broken({"torch"}, 'OSError("libtorch.so: cannot open shared object file")')

    assert "import torch raises OSError: libtorch.so" in by_name(report)["torch"]
    assert "scan backends: none; import mamba_mm.ops.backends raises" in report


def test_an_absent_module_is_said_to_be_absent_and_how_to_install_it(monkeypatch):
    absent = env_report._Module("no_such_module", "pip install it")
    status = env_report._status(absent, {})

    assert status == ModuleStatus("no_such_module", (), "not installed", "pip install it")
    assert not status.installed


def test_two_distributions_of_one_module_are_both_named():
    providers = {"numpy": ["pytest", "numpy", "numpy"]}
    status = env_report._status(env_report._Module("numpy", ""), providers)

    expected = tuple(f"{name} {metadata.version(name)}" for name in ("numpy", "pytest"))
    assert status.distributions == expected


def test_import_failure_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "breaks_on_import.py").write_text("raise RuntimeError('first\\nsecond')")
    monkeypatch.syspath_prepend(str(tmp_path))

    expected = "import breaks_on_import raises RuntimeError: first"
    assert import_failure("breaks_on_import") == expected
    assert import_failure("json", "email") == ""


def test_every_backend_that_is_not_usable_has_a_remedy_in_the_report(monkeypatch):
    from mamba_mm.ops import backends

    statuses = [backends.BackendStatus("odd", False, "no compiler", "install a compiler")]
    monkeypatch.setattr(backends, "backend_report", lambda: statuses)

    report = environment_report()
    assert "odd        NOT usable: no compiler" in report
    assert "-> install a compiler" in report


def test_the_report_says_where_tensors_go_by_themselves(monkeypatch):
    from mamba_mm.ops import backends
    from mamba_mm.ops.extension import Extension

    monkeypatch.setattr(backends, "EXTENSION", Extension(False, "not built", "build it"))
    monkeypatch.setattr(backends, "CUDA_EXTENSION", Extension(False, "not built", "build it"))
    monkeypatch.setattr(backends, "TRITON", Extension(True, "Triton 9"))

    report = environment_report()
    assert "(a CPU tensor goes to 'torch' by itself, a GPU tensor to 'triton'):" in report


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [(["--help"], 0, "usage:"), (["nonsense"], 2, "unknown command 'nonsense'")],
)
def test_commands_of_the_module(arguments, status, text, capsys):
    from mamba_mm.__main__ import main

    assert main(arguments) == status
    captured = capsys.readouterr()
    assert text in captured.out + captured.err
