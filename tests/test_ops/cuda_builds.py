"""Builds of the CUDA sources without a GPU: as an emulation on the CPU, and by nvcc for counts."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
CUDA = ROOT / "csrc" / "cuda"
CHECKS = Path(__file__).with_name("emulation_checks.cu")
TORCH = Path(torch.__file__).parent

# Contracted multiply-adds as on a GPU; -O1 compiles in half the time of -O2.
EMULATION_FLAGS = [
    *("-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast", "-mfma"),
    *("-DMAMBA_MM_EMULATED", "-DTORCH_TARGET_VERSION=0x020a000000000000"),
    *("-Wall", "-Werror", "-Wno-unknown-pragmas"),
]


def includes() -> list[str]:
    torch_include = TORCH / "include"
    folders = (ROOT / "csrc", CUDA, torch_include, torch_include / "torch/csrc/api/include")
    return [f"-I{folder}" for folder in folders]


def digest(sources: list[Path], *more: str) -> str:
    """What a build depends on: its sources, all headers, the flags and the torch version."""
    headers = [*(ROOT / "csrc").glob("*.h"), *CUDA.glob("*.h")]
    state = hashlib.sha256(repr((more, torch.__version__)).encode())
    for path in sorted({*sources, *headers}):
        state.update(path.name.encode() + path.read_bytes())
    return state.hexdigest()[:16]


def cache() -> Path:
    folder = Path(tempfile.gettempdir()) / f"mamba_mm_cuda_builds.{os.getuid()}"
    folder.mkdir(exist_ok=True)
    return folder


def command(*arguments: str | Path) -> str:
    """Run a compiler and return what it said; its errors are the test's."""
    outcome = subprocess.run(
        [str(argument) for argument in arguments], capture_output=True, text=True, check=False
    )
    said = outcome.stdout + outcome.stderr
    if outcome.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, arguments))}\n{said}")
    return said


def build_emulation() -> Path:
    """The emulated library: object files are kept from run to run, by a hash of what is in them."""
    of_ops = (path for path in CUDA.glob("*.cpp") if path.name != "architectures.cpp")
    sources = [*CUDA.glob("*.cu"), *of_ops, CHECKS]
    # Sanitizers, say: AddressSanitizer does not know the fibers, UndefinedBehavior's does no harm.
    flags = [*EMULATION_FLAGS, *os.environ.get("MAMBA_MM_EMULATION_FLAGS", "").split()]
    library = cache() / f"emulation-{digest(sources, *flags)}.so"
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one build for all workers of a test run
        if not library.exists():
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = list(pool.map(lambda source: compile_emulated(source, flags), sources))
            unfinished = library.with_suffix(f".{os.getpid()}")
            command(
                *("g++", "-shared", "-o", unfinished, *objects, f"-L{TORCH / 'lib'}"),
                *("-ltorch_cpu", "-lc10", *flags),
            )
            unfinished.rename(library)
    return library


def compile_emulated(source: Path, flags: list[str]) -> Path:
    target = cache() / f"{source.stem}{source.suffix}-{digest([source], *flags)}.o"
    if not target.exists():
        unfinished = target.with_suffix(f".{os.getpid()}")
        command("g++", "-x", "c++", "-c", *flags, *includes(), source, "-o", unfinished)
        unfinished.rename(target)
    return target


@functools.cache
def emulation() -> Path:
    """Build and load the emulated ops, ``torch.ops.mamba_mm_emulated``; skip where that cannot be.

    Call it in a fixture. The file also has the C functions of ``emulation_checks.cu``.
    """
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        pytest.skip("the emulation of CUDA is built on x86-64 Linux only")
    if not shutil.which("g++"):
        pytest.skip("no g++ to build the emulation of CUDA with")
    library = build_emulation()
    torch.ops.load_library(str(library))
    return library


@dataclass(frozen=True)
class KernelReport:
    """What ptxas says of one kernel for one architecture."""

    kernel: str
    architecture: str
    registers: int
    spilled: int  # bytes stored and loaded


ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for 'sm_(?P<arch>\d+)a?f?'"
    r"(?:.|\n)*?(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads"
    r"(?:.|\n)*?Used (?P<registers>\d+) registers"
)


def parse_ptxas(text: str) -> list[KernelReport]:
    found = [match.groupdict() for match in ENTRY.finditer(text)]
    names = command("c++filt", *(entry["name"] for entry in found)).splitlines() if found else []
    return [
        KernelReport(
            re.sub(r"\(anonymous namespace\)::|mamba_mm::|^void ", "", name).partition("(")[0],
            f"sm_{entry['arch']}",
            int(entry["registers"]),
            int(entry["stores"]) + int(entry["loads"]),
        )
        for name, entry in zip(names, found, strict=True)
    ]


def compile_for_gpus(source: Path, architectures: tuple[str, ...], folder: Path) -> str:
    """Compile one source by nvcc for all architectures; what ptxas reports of its kernels."""
    targets = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in architectures]
    return command(
        *("nvcc", "-std=c++17", "-O3", "--expt-relaxed-constexpr", "--threads", "2", *targets),
        *("-Xptxas", "-v", "-I", ROOT / "csrc", "-I", CUDA, "-c", source),
        *("-o", folder / f"{source.stem}.o"),
    )
