"""Measure what this machine can do at best, to hold the kernels against."""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).with_name("machine_limits.cpp")


@dataclass(frozen=True)
class MachineLimits:
    """Best measured rates of ``threads`` threads together.

    Attributes:
        threads: How many threads ran at once.
        fma: Fused multiply-adds of one float32 per second.
        exp: Exponentials of one float32 per second.
        bandwidth: Bytes read plus bytes written per second, by a copy larger than the caches.
    """

    threads: int
    fma: float
    exp: float
    bandwidth: float


def measure_limits(threads: int, duration: float = 0.2, repeats: int = 5) -> MachineLimits:
    """Run the probes on ``threads`` threads at once and keep the best of ``repeats``.

    Args:
        threads: Number of threads.
        duration: Seconds of one probe.
        repeats: How often each probe runs.

    Raises:
        RuntimeError: There is no C++ compiler to build the probes with.
    """
    library = _build()
    megabytes = 64
    buffers = [np.ones((2, megabytes << 20), np.uint8) for _ in range(threads)]
    copies = [(pair[1].ctypes.data, pair[0].ctypes.data, pair[0].nbytes) for pair in buffers]
    with ThreadPoolExecutor(threads) as pool:

        def best(probe, arguments) -> float:
            return max(
                sum(pool.map(lambda args: probe(*args, duration), arguments))
                for _ in range(repeats)
            )

        return MachineLimits(
            threads,
            best(library.fma_rate, [()] * threads),
            best(library.exp_rate, [()] * threads),
            best(library.copy_rate, copies),
        )


def _build() -> ctypes.CDLL:
    compiler = os.environ.get("CXX", "c++")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "machine_limits.so"
        flags = ["-O3", "-march=native", "-mprefer-vector-width=512", "-shared", "-fPIC"]
        flags += ["-ffp-contract=fast", "-Wno-psabi"]
        try:
            subprocess.run([compiler, *flags, str(SOURCE), "-o", str(target)], check=True)
        except FileNotFoundError as error:
            raise RuntimeError(f"no C++ compiler {compiler!r}; set CXX to one") from error
        library = ctypes.CDLL(str(target))
    library.fma_rate.argtypes = library.exp_rate.argtypes = [ctypes.c_double]
    library.copy_rate.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_double]
    for probe in (library.fma_rate, library.exp_rate, library.copy_rate):
        probe.restype = ctypes.c_double
    return library
