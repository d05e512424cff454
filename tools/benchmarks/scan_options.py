"""The command-line options that the benchmarks of scans share, and what they set up."""

from __future__ import annotations

import argparse
import os

import torch
from machine_limits import MachineLimits, measure_limits

import mamba_mm.ops  # noqa: F401  loads the compiled kernels
from mamba_mm.measuring.interleaved import keep_freed_memory


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how long to measure, and on what."""
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=41, help="turns of each contender at most")
    parser.add_argument("--budget", type=float, default=8, help="seconds per contender and table")
    parser.add_argument("--isa", choices=("avx512", "avx2", "generic"), help="force the kernels")
    parser.add_argument(
        "--fresh", action="store_true", help="let outputs be fresh memory: times page faults too"
    )


def set_up(options: argparse.Namespace) -> MachineLimits:
    """Prepare this process as the options say, measure the machine and print both."""
    if not options.fresh:
        keep_freed_memory()
    if options.isa:
        os.environ["MAMBA_MM_ISA"] = options.isa
    torch.set_num_threads(options.threads)
    limits = measure_limits(options.threads)
    print(
        f"torch {torch.__version__}, {options.threads} threads, "
        f"{torch.ops.mamba_mm.cpu_instruction_set()} kernels, "
        f"{'fresh' if options.fresh else 'recycled'} memory\n"
        f"measured here: {limits.fma / 1e9:.0f} G multiply-adds/s, "
        f"{limits.exp / 1e9:.1f} G exponentials/s, {limits.bandwidth / 1e9:.0f} GB/s"
    )
    return limits
