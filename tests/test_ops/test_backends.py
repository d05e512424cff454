"""Which backend runs, how to choose it, and that a slow one is never silent."""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from route_cases import RouteCase, call
from scan_cases import Case, leaves
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import mamba_mm
from mamba_mm.ops import (
    backend_report,
    backends,
    default_backend,
    extension,
    linear_add,
    linear_gelu,
    selective_scan,
    use_backend,
)
from mamba_mm.ops.backends import choose_backend
from mamba_mm.ops.extension import EXTENSION, Extension
from mamba_mm.ops.torch_scan import selective_scan_torch

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
    assert [status.name for status in others] == ["cuda", "triton", "torch", "reference"]
    assert {"torch", "reference"} <= {status.name for status in others if status.usable}
    assert all(status.detail and status.remedy for status in others if not status.usable)
    assert default_backend("cpu") == "cpu"


LOADED = Extension(True, "Triton 9", architectures="80;90;100+PTX")
MISSING = Extension(False, "it is not built", "build it")


@pytest.fixture
def machine(monkeypatch):
    """Pretend that kernels were or were not loaded, that torch is for AMD, that there is a GPU."""

    def pretend(
        cuda=MISSING,
        triton=MISSING,
        cpu=LOADED,
        hip=None,
        toolkit="13.0",
        gpu=None,
        capability=(9, 0),
    ):
        def asked(device):
            return capability if gpu else None

        monkeypatch.setattr(backends, "EXTENSION", cpu)
        monkeypatch.setattr(backends, "CUDA_EXTENSION", cuda)
        monkeypatch.setattr(backends, "TRITON", triton)
        monkeypatch.setattr(torch.version, "hip", hip)
        monkeypatch.setattr(torch.version, "cuda", None if hip else toolkit)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: gpu)
        monkeypatch.setattr(backends.architectures, "compute_capability", asked)
        monkeypatch.setattr(backends, "_WARNED", set())
        monkeypatch.delenv("TRITON_INTERPRET", raising=False)

    return pretend


@pytest.mark.parametrize(
    ("loaded", "expected"),
    [
        ({}, "torch"),
        ({"triton": LOADED}, "triton"),
        ({"cuda": LOADED}, "cuda"),
        ({"cuda": LOADED, "triton": LOADED}, "cuda"),
        ({"cuda": LOADED, "triton": LOADED, "hip": "7.0"}, "triton"),
        ({"cuda": LOADED, "hip": "7.0"}, "torch"),
    ],
    ids=str,
)
def test_a_gpu_gets_cuda_else_triton_else_torch(loaded, expected, machine):
    machine(**loaded)
    assert default_backend("cuda") == expected
    assert default_backend("cpu") == "cpu"
    assert default_backend("xpu") == "torch"


OLD = {"gpu": "T4", "capability": (7, 5)}
TOO_OLD = "its kernels are compiled for 80;90;100+PTX, and the GPU has compute capability 7.5"
REBUILD = "build them for it, from a checkout: MAMBA_MM_CUDA_ARCHS='75' pip install --no-deps ."


def test_a_gpu_older_than_all_compiled_architectures_does_not_get_cuda(machine):
    machine(cuda=LOADED, triton=LOADED, **OLD)
    assert default_backend("cuda") == "triton"
    cuda, triton = backend_report()[1:3]
    assert (cuda.usable, cuda.detail, cuda.remedy) == (False, TOO_OLD, REBUILD)
    assert triton.usable
    with pytest.raises(RuntimeError) as error:
        choose_backend("cuda", "cuda")
    assert str(error.value) == f"backend 'cuda' is not usable: {TOO_OLD}; {REBUILD}"
    machine(cuda=LOADED, **OLD)
    with pytest.warns(UserWarning, match="slow 'torch' backend") as caught:
        assert choose_backend(None, "cuda") == "torch"
    assert f"cuda: {TOO_OLD}; {REBUILD}" in str(caught[0].message)


@pytest.mark.parametrize(("of_machine", "chosen"), [({"gpu": "H200"}, 1.0), (OLD, 2.0)])
def test_the_choice_by_the_gpu_can_be_traced(of_machine, chosen, machine, monkeypatch):
    machine(cuda=LOADED, triton=LOADED, **of_machine)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # of which torch.compile asks

    def number_of_the_choice(x):
        return x + {"cuda": 1.0, "triton": 2.0}[choose_backend(None, "cuda")]

    compiled = torch.compile(number_of_the_choice, fullgraph=True, backend="eager")
    assert compiled(torch.zeros(())).item() == chosen


def test_of_several_gpus_that_of_the_tensors_counts(machine, monkeypatch):
    machine(cuda=LOADED, triton=LOADED, gpu="T4 and H200")
    monkeypatch.setattr(
        backends.architectures,
        "compute_capability",
        lambda device: ((9, 0), (7, 5))[device.index or 0],
    )
    chosen = [choose_backend(None, device) for device in ("cuda", "cuda:0", "cuda:1")]
    assert chosen == ["cuda", "cuda", "triton"]


def test_a_gpu_older_than_triton_gets_neither(machine):
    machine(cuda=LOADED, triton=LOADED, gpu="P100", capability=(6, 0))
    assert default_backend("cuda") == "torch"
    with pytest.raises(RuntimeError, match=r"Triton needs 7.0, and the GPU has .* 6.0; use"):
        choose_backend("triton", "cuda")
    machine(triton=LOADED, hip="7.0", gpu="an AMD GPU", capability=(6, 0))
    assert default_backend("cuda") == "triton"


@pytest.mark.parametrize(
    ("compiled", "runs_on", "not_on"),
    [
        ("80;90;100+PTX", "80 86 89 90 100 103 120", "70 75"),
        ("90+PTX", "90 100 120", "75 80 89"),
        ("90;80+PTX", "80 90 100", "75"),
        ("86;90+PTX", "86 89 90 100", "80 75"),
        ("90a+PTX", "90", "80 100"),
        ("100f+PTX", "100 103", "90 120"),
    ],
)
def test_which_gpus_run_what_is_compiled(compiled, runs_on, not_on):
    for capabilities, expected in ((runs_on, True), (not_on, False)):
        for capability in capabilities.split():
            pair = int(capability[:-1]), int(capability[-1])
            assert backends.architectures.runs(compiled, pair) == expected, capability


def test_a_gpu_without_kernels_is_warned_of_once_with_every_reason(machine):
    machine(triton=Extension(False, "Triton is not installed", "pip install triton"))
    with pytest.warns(UserWarning, match="slow 'torch' backend") as caught:
        assert [choose_backend(None, "cuda") for _ in range(2)] == ["torch", "torch"]
    (warning,) = caught
    reasons = "cuda: it is not built; build it. triton: Triton is not installed; pip install triton"
    assert reasons in str(warning.message)
    machine(cuda=LOADED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose_backend(None, "cuda") == "cuda"


@pytest.mark.parametrize("name", ["cuda", "triton"])
def test_a_forced_backend_that_is_missing_raises(name, machine):
    machine()
    message = f"backend '{name}' is not usable: it is not built; build it"
    with pytest.raises(RuntimeError, match=message):
        choose_backend(name, "cuda")
    with use_backend(name), pytest.raises(RuntimeError, match=message):
        choose_backend(None, "cuda")


def test_the_cuda_library_does_not_serve_gpus_of_amd(machine):
    machine(cuda=LOADED, hip="7.0")
    with pytest.raises(RuntimeError, match=r"is for AMD's GPUs; .*'triton' serves them"):
        choose_backend("cuda", "cuda")


@pytest.mark.parametrize(
    ("name", "device", "place"),
    [
        ("cpu", "cuda", "the CPU"),
        ("cuda", "cpu", "a GPU"),
        ("triton", "cpu", "a GPU"),
        ("triton", "xpu", "a GPU"),
    ],
)
def test_a_forced_backend_that_does_not_serve_the_device_raises(name, device, place, machine):
    machine(cuda=LOADED, triton=LOADED)
    message = f"backend '{name}' was asked for tensors on '{device}'; move them to {place} or leave"
    with pytest.raises(ValueError, match=message):
        choose_backend(name, device)


def test_the_interpreter_of_triton_serves_the_cpu_when_asked(machine, monkeypatch):
    machine(triton=LOADED)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert choose_backend("triton", "cpu") == "triton"
    assert default_backend("cpu") == "cpu"
    triton = backend_report()[2]
    assert (triton.usable, triton.detail) == (True, "Triton 9, interpreted, for tests only")


def test_triton_is_called_as_the_torch_backend_is(machine, monkeypatch):
    machine(triton=LOADED)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    kernels = SimpleNamespace(selective_scan_triton=selective_scan_torch)
    monkeypatch.setitem(sys.modules, "mamba_mm.ops.triton.selective_scan", kernels)
    arguments = Case(dtype=torch.bfloat16, groups=2).arguments
    keywords = {"delta_softplus": True, "return_last_state": True, "out_dtype": torch.float32}
    results = [
        selective_scan(**arguments, **keywords, backend=name) for name in ("triton", "torch")
    ]
    for actual, expected in zip(*results, strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize(
    ("of_machine", "cuda", "triton"),
    [
        (
            {"gpu": "H200"},
            (True, "built from CUDA C++, GPU: H200", ""),
            (True, "Triton 9, GPU: H200", ""),
        ),
        (
            {},
            (False, "built from CUDA C++, but there is no GPU", "run on the CPU"),
            (False, "Triton 9, but there is no GPU", "run on the CPU"),
        ),
        (
            {"toolkit": None},
            (
                False,
                f"built, but torch {torch.__version__} is a build without CUDA",
                "install a CUDA build of torch, or run on the CPU",
            ),
            (False, "Triton 9, but there is no GPU", "run on the CPU"),
        ),
        (
            {"hip": "7.0", "gpu": "MI300X"},
            (
                False,
                f"torch {torch.__version__} is for AMD's GPUs",
                "leave the choice of the backend open: 'triton' serves them",
            ),
            (True, "Triton 9, GPU: MI300X", ""),
        ),
    ],
    ids=["GPU", "no GPU", "torch for the CPU", "AMD"],
)
def test_the_report_says_what_a_gpu_backend_lacks(of_machine, cuda, triton, machine):
    machine(cuda=LOADED, triton=LOADED, **of_machine)
    _, *found = backend_report()[:3]
    assert [(s.usable, s.detail, s.remedy) for s in found] == [cuda, triton]


def test_the_report_passes_on_why_kernels_were_not_loaded(machine):
    machine(gpu="H200")
    for status in backend_report()[1:3]:
        assert (status.usable, status.detail, status.remedy) == (
            False,
            "it is not built",
            "build it",
        )


class Names(TorchDispatchMode):
    """The names of the ops of this package that are called, and of PyTorch's GELU and product."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        self.seen.append(str(op))
        return op(*args, **(kwargs or {}))


def on_fake_gpu(arguments):
    return {
        name: t if t is None else torch.empty_like(t, device="cuda")
        for name, t in arguments.items()
    }


@pytest.mark.usefixtures("compiled")
def test_calls_with_gpu_tensors_reach_the_ops_of_the_library(machine):
    # Shapes alone run, so no GPU is needed.
    machine(cuda=LOADED, cpu=EXTENSION)
    route = RouteCase()
    with FakeTensorMode(), Names() as names:
        y = selective_scan(**on_fake_gpu(Case(dtype=torch.float16).arguments))
        assert (y.device.type, y.dtype) == ("cuda", torch.float16)
        assert "mamba_mm.selective_scan_fwd.default" in names.seen
        y = call(on_fake_gpu(route.arguments()), **route.keywords())
        assert (y.device.type, y.shape) == ("cuda", route.arguments()["x"].shape)
        assert "mamba_mm.route_scan_fwd.default" in names.seen


def test_plain_pytorch_has_no_fused_route_scan(machine):
    machine(cuda=LOADED, triton=LOADED, cpu=EXTENSION)
    route = RouteCase()
    with FakeTensorMode():
        arguments = on_fake_gpu(route.arguments())
        with pytest.raises(ValueError, match="backend 'torch' has no fused op"):
            call(arguments, **route.keywords(), fused=True, backend="torch")


@pytest.mark.usefixtures("compiled")
def test_triton_gets_what_the_compiled_route_scan_gets(machine, monkeypatch):
    def route_scan_triton(*arguments):
        *given, out_dtype = arguments
        return torch.ops.mamba_mm.route_scan_fwd(*given, False, out_dtype)[0]

    machine(triton=LOADED, cpu=EXTENSION)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    kernels = SimpleNamespace(route_scan_triton=route_scan_triton)
    monkeypatch.setitem(sys.modules, "mamba_mm.ops.triton.route_scan", kernels)
    route = RouteCase("serpentine")
    results = [
        call(route.arguments(), **route.keywords(), out_dtype=torch.float64, backend=name)
        for name in ("triton", "cpu")
    ]
    assert results[0].dtype == torch.float64
    assert torch.equal(*results)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(("rank", "outside"), [(32, False), (33, True)])
def test_a_gpu_projects_large_ranks_by_a_matrix_product(rank, outside, machine):
    machine(cuda=LOADED, cpu=EXTENSION)
    route = RouteCase(rank=rank)
    with FakeTensorMode(), Names() as names:
        call(on_fake_gpu(route.arguments()), **route.keywords())
    assert ("aten.bmm.default" in names.seen) == outside


def test_linear_layers_of_a_gpu_are_those_of_pytorch():
    with FakeTensorMode(), Names() as names:
        x, weight = torch.empty(2, 3, 4, device="cuda"), torch.empty(5, 4, device="cuda")
        bias, residual = torch.empty(5, device="cuda"), torch.empty(2, 3, 5, device="cuda")
        with torch.no_grad():
            assert linear_gelu(x, weight, bias).shape == (2, 3, 5)
            assert linear_add(x, weight, bias, residual).shape == (2, 3, 5)
    assert "aten.gelu.default" in names.seen
    assert not [name for name in names.seen if "mamba_mm" in name or "addmm_" in name]


def test_the_cuda_library_is_loaded_after_that_of_the_cpu(tmp_path):
    missing = extension._load_cuda_extension(tmp_path, EXTENSION)
    assert missing == Extension(False, *(missing.detail, missing.remedy))
    assert (missing.detail, "nvcc" in missing.remedy) == (
        f"no compiled CUDA library in {tmp_path}",
        True,
    )
    (tmp_path / "_C_cuda.abi3.so").write_bytes(b"not a library")
    broken = extension._load_cuda_extension(tmp_path, EXTENSION)
    assert broken.detail.startswith("_C_cuda.abi3.so does not load under torch")
    # The schemas of its ops are in the other library, which is another file.
    cpu = extension._load_extension(tmp_path)
    assert cpu.detail == f"no compiled library in {tmp_path}"
    without = extension._load_cuda_extension(tmp_path, cpu)
    assert without.detail == f"it needs the library of the CPU, which is missing: {cpu.detail}"


def test_a_cuda_library_of_an_earlier_version_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setattr(extension, "_load_library", lambda *_: Extension(True, "_C_cuda.so"))
    ops = SimpleNamespace(mamba_mm=SimpleNamespace())
    monkeypatch.setattr(extension, "torch", SimpleNamespace(ops=ops))
    outdated = extension._load_cuda_extension(tmp_path, LOADED)
    assert not outdated.loaded
    assert outdated.detail == "_C_cuda.so was built from an earlier version of this package"
    assert "build it again" in outdated.remedy
    ops.mamba_mm.cuda_architectures = lambda: "80+PTX"
    assert extension._load_cuda_extension(tmp_path, LOADED).architectures == "80+PTX"


def test_why_triton_cannot_be_used_is_remembered(monkeypatch):
    def fails(error):
        def import_module(name):
            raise error

        monkeypatch.setattr(extension.importlib, "import_module", import_module)
        return extension._load_triton()

    absent = fails(ModuleNotFoundError("No module named 'triton'", name="triton"))
    assert (absent.detail, absent.remedy) == ("Triton is not installed", "pip install triton")
    broken = fails(OSError("libcuda.so.1: cannot open\nmore"))
    assert not broken.loaded
    assert broken.detail == ("importing Triton's kernels raises OSError: libcuda.so.1: cannot open")


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
    known = "expected one of cpu, cuda, triton, torch, reference"
    with pytest.raises(ValueError, match=f"backend is 'mkl'; {known}"):
        selective_scan(**arguments, backend="mkl")
    with pytest.raises(ValueError, match="use_backend is 'mkl'"), use_backend("mkl"):
        pass


def test_the_cpu_backend_refuses_other_devices():
    arguments = {name: t.to("meta") for name, t in Case().arguments.items()}
    with pytest.raises(ValueError, match="backend 'cpu' was asked for tensors on 'meta'"):
        selective_scan(**arguments, backend="cpu")


OTHER_TORCH = """
import sys, torch
from torch import library
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
arguments = (*inputs[:3], *(t[:, None] for t in inputs[3:]), None, None, None, True, True)
library.opcheck(torch.ops.mamba_mm.selective_scan_fwd, (*arguments, torch.float32))
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
