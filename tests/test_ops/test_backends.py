"""Which backend runs, how to choose it, and that a slow one is never silent."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from scan_cases import Case, leaves

import mamba_mm
from mamba_mm.ops import backend_report, default_backend, selective_scan, use_backend
from mamba_mm.ops.extension import EXTENSION

PACKAGE = Path(mamba_mm.__file__).parent


def run_python(code, path, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(path), **environment},
        cwd=path,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def package_without_library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pure")
    shutil.copytree(
        PACKAGE, folder / "mamba_mm", ignore=shutil.ignore_patterns("*.so", ".mim", "__pycache__")
    )
    return folder


SMALL_CALL = """
import torch
from mamba_mm.ops import backend_report, selective_scan
u = torch.ones(1, 4, 6)
for _ in range(2):
    selective_scan(u, u, -torch.ones(4, 2), torch.ones(1, 2, 6), torch.ones(1, 2, 6))
for status in backend_report():
    print(status.name, status.usable, status.detail, status.remedy)
"""


def test_without_the_library_the_slow_backend_says_so_once(package_without_library):
    result = run_python(SMALL_CALL, package_without_library)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("runs on the slow 'torch' backend") == 1
    assert "pip install" in result.stderr
    assert "cpu False no compiled library in" in result.stdout


def test_a_backend_that_is_not_built_raises(package_without_library):
    code = SMALL_CALL.replace("torch.ones(1, 2, 6))\n", "torch.ones(1, 2, 6), backend='cpu')\n")
    result = run_python(code, package_without_library)
    assert "RuntimeError: backend 'cpu' is not usable: no compiled library" in result.stderr


def test_a_broken_library_is_reported_with_the_reason(package_without_library, tmp_path):
    shutil.copytree(package_without_library / "mamba_mm", tmp_path / "mamba_mm")
    (tmp_path / "mamba_mm" / "_C.abi3.so").write_bytes(b"not a library")
    result = run_python(SMALL_CALL, tmp_path)
    assert "cpu False _C.abi3.so does not load under torch" in result.stdout


@pytest.mark.usefixtures("compiled")
def test_report_names_the_instruction_set():
    cpu, *others = backend_report()
    assert cpu.name == "cpu"
    assert cpu.usable
    assert torch.ops.mamba_mm.cpu_instruction_set() in cpu.detail
    assert [status.name for status in others if status.usable] == ["torch", "reference"]
    assert all(status.detail and status.remedy for status in others if not status.usable)
    assert default_backend("cpu") == "cpu"
    assert default_backend("cuda") == "torch"


@pytest.mark.usefixtures("compiled")
def test_an_unknown_instruction_set_is_refused(monkeypatch):
    monkeypatch.setenv("MAMBA_MM_ISA", "sse9")
    with pytest.raises(RuntimeError, match="MAMBA_MM_ISA is 'sse9'"):
        selective_scan(**Case().arguments)
    cpu = backend_report()[0]
    assert (cpu.usable, cpu.remedy) == (False, "unset MAMBA_MM_ISA")
    assert "sse9" in cpu.detail


@pytest.mark.usefixtures("compiled")
def test_the_choice_can_be_forced():
    arguments = leaves(Case(dtype=torch.float64, length=40).arguments)
    by_default = selective_scan(**arguments)
    by_call = selective_scan(**arguments, backend="torch")
    with use_backend("torch"):
        by_block = selective_scan(**arguments)
        compiled = torch.compile(selective_scan, fullgraph=True, backend="eager")(**arguments)
    # The compiled op is one node of the graph; the torch backend is many.
    names = {type(y.grad_fn).__name__ for y in (by_call, by_block, compiled)}
    assert len(names) == 1
    assert type(by_default.grad_fn).__name__ not in names
    assert type(selective_scan(**arguments).grad_fn) is type(by_default.grad_fn)
    assert torch.allclose(by_call, by_default, rtol=1e-12, atol=1e-12)


def test_the_environment_forces_the_choice():
    code = SMALL_CALL.replace("selective_scan(u", "y = selective_scan(u.requires_grad_()", 1)
    code += "print(type(y.grad_fn).__name__)"
    root = PACKAGE.parent
    forced = run_python(code, root, MAMBA_MM_BACKEND="torch")
    assert forced.returncode == 0, forced.stderr
    assert "selective_scan_fwd" not in forced.stdout
    unknown = run_python(code, root, MAMBA_MM_BACKEND="mkl")
    assert "ValueError: MAMBA_MM_BACKEND is 'mkl'; expected one of cpu" in unknown.stderr


def test_unknown_names_list_the_known_ones():
    arguments = Case().arguments
    with pytest.raises(ValueError, match="backend is 'mkl'; expected one of cpu, torch, reference"):
        selective_scan(**arguments, backend="mkl")
    with pytest.raises(ValueError, match="use_backend is 'mkl'"), use_backend("mkl"):
        pass


def test_the_cpu_backend_refuses_other_devices():
    arguments = {name: t.to("meta") for name, t in Case().arguments.items()}
    with pytest.raises(ValueError, match="backend 'cpu' was asked for tensors on 'meta'"):
        selective_scan(**arguments, backend="cpu")


OTHER_TORCH = """
import sys, torch
from mamba_mm.ops import backend_report, selective_scan, selective_scan_ref
torch.manual_seed(0)
u, delta = torch.randn(2, 2, 20, 70).unbind(0)
A, B, C = -torch.rand(20, 3), torch.randn(2, 3, 70), torch.randn(2, 3, 70)
inputs = [t.requires_grad_() for t in (u, delta, A, B, C)]
grads = []
for scan in (selective_scan, selective_scan_ref):
    y = scan(*inputs, delta_softplus=True)
    grads.append((y, *torch.autograd.grad(y.square().sum(), inputs)))
assert backend_report()[0].usable, backend_report()[0]
for a, b in zip(*grads):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
torch.library.opcheck(torch.ops.mamba_mm.selective_scan_fwd,
                      (*inputs[:3], *(t[:, None] for t in inputs[3:]), None, None, None, True, True,
                       torch.float32))
print("torch", torch.__version__, "ok")
"""


@pytest.mark.slow
@pytest.mark.usefixtures("compiled")
def test_the_same_binary_serves_another_torch(tmp_path):
    """MAMBA_MM_OTHER_PYTHON names an interpreter that has another torch release."""
    python = os.environ.get("MAMBA_MM_OTHER_PYTHON")
    if not python:
        pytest.skip("MAMBA_MM_OTHER_PYTHON names no interpreter with another torch")
    # Only the files of the package travel: the library is the one built for this torch.
    (tmp_path / "mamba_mm").symlink_to(PACKAGE)
    environment = {"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}
    for interpreter in (sys.executable, python):
        result = subprocess.run(
            [interpreter, "-c", OTHER_TORCH],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert "ok" in result.stdout
    version = "import torch; print(torch.__version__)"
    other = subprocess.run([python, "-c", version], capture_output=True, text=True, check=True)
    assert other.stdout.strip() != torch.__version__


def test_the_library_file_is_named_for_every_python():
    if not EXTENSION.loaded:
        pytest.skip(f"the compiled op is not built: {EXTENSION.detail}")
    assert Path(EXTENSION.detail).name == "_C.abi3.so"
