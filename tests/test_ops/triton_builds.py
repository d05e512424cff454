"""Compiling Triton kernels without a GPU, and what the compilers report of the result."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}


@dataclass
class Launch:
    """A launch of a kernel that did not take place, and the arguments it would have had."""

    kernel: triton.JITFunction
    arguments: tuple
    keywords: dict

    @property
    def name(self) -> str:
        return self.kernel.__name__

    def specialised(self, target: str):
        """Bound arguments, what the compiled kernel depends on of each of them, and options."""
        backend = make_backend(TARGETS[target])
        binder = create_function_from_signature(self.kernel.signature, self.kernel.params, backend)
        return backend, *binder(*self.arguments, debug=False, **self.keywords)

    def key(self, target: str = "sm_90") -> str:
        """Two launches with the same key run the same compiled kernel."""
        _, _, specialization, options = self.specialised(target)
        return f"{self.name} {specialization} {options}"

    def build(self, target: str) -> Build:
        """Compile the kernel as this launch would have."""
        backend, bound, specialization, options = self.specialised(target)
        options, signature, constants, attributes = self.kernel._pack_args(
            backend, {"debug": False, **self.keywords}, bound, specialization, options
        )
        source = ASTSource(self.kernel, signature, constants, attributes)
        compiled = triton.compile(source, target=TARGETS[target], options=options.__dict__)
        assembly = compiled.asm["ptx" if target.startswith("sm_") else "amdgcn"]
        return Build(target, assembly, compiled.metadata.shared)


def recorder(launches: list[Launch]) -> Callable:
    """What to put in place of ``wrap_triton``: launches go into the list instead."""

    def wrap(kernel):
        class Recorded:
            def __getitem__(self, grid):
                return lambda *args, **keywords: launches.append(Launch(kernel, args, keywords))

        return Recorded()

    return wrap


@dataclass(frozen=True)
class Build:
    """A compiled kernel: its assembly and the figures that can be read off."""

    target: str
    assembly: str
    shared: int

    @property
    def is_ptx(self) -> bool:
        return self.target.startswith("sm_")

    def count(self, pattern: str) -> int:
        return len(re.findall(pattern, self.assembly))

    @property
    def exchanges(self) -> int:
        return self.count(r"\bshfl\.sync" if self.is_ptx else r"\bds_b?permute|_dpp\b|permlane")

    @property
    def barriers(self) -> int:
        return self.count(r"\bbar(rier)?\.(cta\.)?sync" if self.is_ptx else r"\bs_barrier")

    @property
    def exponentials(self) -> int:
        return self.count(r"\bex2\.approx" if self.is_ptx else r"\bv_exp_f32")

    @property
    def atomics(self) -> int:
        return self.count(r"\b(atom|red)\." if self.is_ptx else r"_atomic_")

    def resources(self) -> tuple[int, int]:
        """Registers of a thread, and bytes of its local memory (spills included)."""
        if self.is_ptx:
            report = _ptxas_report(self.assembly, self.target)
            used, stack = r"Used (\d+) registers", r"(\d+) bytes stack frame"
        else:
            report = self.assembly
            used, stack = r"\.vgpr_count:\s+(\d+)", r"\.private_segment_fixed_size:\s+(\d+)"
        return int(re.search(used, report)[1]), int(re.search(stack, report)[1])


def _ptxas_report(ptx: str, arch: str) -> str:
    ptxas = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
    if f".target {arch}a" in ptx:
        arch += "a"
    return subprocess.run(
        [ptxas, "-v", f"--gpu-name={arch}", "-o", "/dev/null", "/dev/stdin"],
        input=ptx,
        capture_output=True,
        text=True,
        check=True,
    ).stderr
