"""What nvcc makes of the CUDA kernels: it needs no GPU, and says what registers they take."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from cuda_builds import CUDA, ROOT, compile_for_gpus, parse_ptxas

ARCHITECTURES = ("80", "90", "100")
REGISTER_REPORTS = ROOT / "build" / "ptxas"  # as in setup.py

# Registers a thread, at most. A processor has 65536: blocks of 128 threads of which it is to hold
# so many at a time get so many.
BLOCKS_OF_128 = {3: 168, 4: 128, 5: 96, 6: 80}
LIMITS = {
    "scan_in_registers<float, 1, true>": BLOCKS_OF_128[6],
    "scan_in_registers<float, 1, false>": BLOCKS_OF_128[6],
    "scan_in_registers<float, 16, true>": BLOCKS_OF_128[4],
    "scan_in_registers<float, 16, false>": BLOCKS_OF_128[4],
    "scan_in_tiles<float, true>": BLOCKS_OF_128[4],
    "scan_in_tiles<float, false>": BLOCKS_OF_128[4],
    "scan_adjoint<float, 1>": BLOCKS_OF_128[6],
    "scan_adjoint<float, 4>": BLOCKS_OF_128[6],
    "scan_backward<float, Split<1, 1, 8, false> >": BLOCKS_OF_128[4],
    "scan_backward<float, Split<4, 1, 8, false> >": BLOCKS_OF_128[3],
    "scan_backward<float, Split<4, 2, 8, false> >": BLOCKS_OF_128[4],
    "scan_backward<float, Split<4, 4, 8, true> >": BLOCKS_OF_128[4],
    "route_in_registers<float, 1>": BLOCKS_OF_128[6],
    "route_in_registers<float, 16>": BLOCKS_OF_128[4],
    "route_in_tiles<float>": BLOCKS_OF_128[4],
    "route_ends<float, 1, false>": BLOCKS_OF_128[5],
    "route_ends<float, 1, true>": BLOCKS_OF_128[5],
    "route_ends<float, 4, false>": BLOCKS_OF_128[5],
    "route_ends<float, 4, true>": BLOCKS_OF_128[5],
    "route_backward<float, RouteSplit<1, 1, 8, 4, false> >": BLOCKS_OF_128[4],
    "route_backward<float, RouteSplit<4, 1, 8, 4, false> >": BLOCKS_OF_128[4],
    "route_backward<float, RouteSplit<4, 2, 8, 4, false> >": BLOCKS_OF_128[4],
    "route_backward<float, RouteSplit<4, 4, 8, 4, true> >": BLOCKS_OF_128[4],
}
# One block less where four would spill.
ONE_STATE, _, EIGHT_STATES, MANY_STATES = (
    name for name in LIMITS if name.startswith("scan_backward")
)
EXCEPTIONS = {
    (ONE_STATE, "sm_80"): BLOCKS_OF_128[3],
    (EIGHT_STATES, "sm_80"): BLOCKS_OF_128[3],
    (MANY_STATES, "sm_80"): BLOCKS_OF_128[3],
    (ONE_STATE, "sm_90"): BLOCKS_OF_128[3],
    ("route_backward<float, RouteSplit<1, 1, 8, 4, false> >", "sm_80"): BLOCKS_OF_128[3],
    ("route_backward<float, RouteSplit<4, 1, 8, 4, false> >", "sm_80"): BLOCKS_OF_128[3],
    ("route_backward<float, RouteSplit<4, 2, 8, 4, false> >", "sm_80"): BLOCKS_OF_128[3],
    ("route_backward<float, RouteSplit<4, 4, 8, 4, true> >", "sm_80"): BLOCKS_OF_128[3],
}

pytestmark = pytest.mark.slow


def messages_of_the_build(sources):
    """What setup.py kept, if it compiled these very sources for all architectures."""
    kept = {source.name: REGISTER_REPORTS / f"{source.name}.txt" for source in sources}
    if not all(path.is_file() for path in kept.values()):
        return None
    newest = max(path.stat().st_mtime for path in (ROOT / "csrc").rglob("*.*"))
    if min(path.stat().st_mtime for path in kept.values()) < newest:
        return None
    messages = {name: path.read_text() for name, path in kept.items()}
    everything = "".join(messages.values())
    return messages if all(f"'sm_{arch}'" in everything for arch in ARCHITECTURES) else None


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    """What nvcc said about each file: when the package was built, or now."""
    sources = sorted(CUDA.glob("*.cu"))
    if built := messages_of_the_build(sources):
        return built
    if not shutil.which("nvcc"):
        pytest.skip("no nvcc in PATH")
    folder = tmp_path_factory.mktemp("cuda")
    with ThreadPoolExecutor(2) as pool:
        texts = pool.map(lambda source: compile_for_gpus(source, ARCHITECTURES, folder), sources)
        return dict(zip((source.name for source in sources), texts, strict=True))


@pytest.fixture(scope="module")
def reports(messages):
    return [report for text in messages.values() for report in parse_ptxas(text)]


def test_every_file_compiles_without_a_warning(messages):
    warned = {name: text for name, text in messages.items() if "warning" in text}
    assert not warned


def test_kernels_in_float_do_not_spill(reports):
    spilled = [report for report in reports if "double" not in report.kernel and report.spilled]
    assert not spilled


def test_registers_leave_room_for_as_many_blocks_as_planned(reports):
    found = {(report.kernel, report.architecture): report.registers for report in reports}
    missing = [
        (kernel, arch)
        for kernel in LIMITS
        for arch in ARCHITECTURES
        if (kernel, f"sm_{arch}") not in found
    ]
    assert not missing, f"not among {sorted(found)}"
    over = {
        build: registers
        for build, registers in found.items()
        if build[0] in LIMITS and registers > EXCEPTIONS.get(build, LIMITS[build[0]])
    }
    assert not over


def test_a_library_that_is_built_loads_without_a_gpu():
    """What setup.py built into the package, if it did: in a process of its own."""
    libraries = sorted((ROOT / "mamba_mm").glob("_C_cuda*.so"))
    if not libraries:
        pytest.skip("the package was installed without CUDA kernels")
    code = (
        f"import torch, mamba_mm.ops; torch.ops.load_library({str(libraries[0])!r})\n"
        "for scan in ('selective_scan', 'route_scan'):\n"
        "    for op in (f'mamba_mm::{scan}_fwd', f'mamba_mm::{scan}_bwd'):\n"
        "        assert torch._C._dispatch_has_kernel_for_dispatch_key(op, 'CUDA'), op\n"
        "compiled = torch.ops.mamba_mm.cuda_architectures()\n"
        "assert mamba_mm.ops.extension.CUDA_EXTENSION.architectures == compiled\n"
        "assert compiled.endswith('+PTX') and compiled[0].isdigit(), compiled\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
