#!/usr/bin/env python
"""Build, check and time the scans on this machine's NVIDIA GPU. Needs no argument and no network.

Builds the CUDA library where it is missing (nvcc), runs the correctness suite on the GPU, then
times every case forward and with its backward pass: our kernels against the same kernels without
fusion, Triton's, plain PyTorch, and those of mamba_ssm and VMamba where they can be imported.
Kernels are replayed as CUDA graphs between CUDA events, on inputs that rotate through more than
the L2 cache; plain PyTorch is launched kernel by kernel. All contenders of a case take turns;
ratios are medians over turns of the same round. Shares are of the copy bandwidth that is measured
in the same run, and of the exponentials and instructions per second at the highest clock (the
counts are in gpu_work.py). The JSON file is written anew after every case; the table is
printed last. Exit status: 0, 1 if a check or a contender failed, 2 where there is nothing to
measure on.

    python tools/benchmarks/gpu.py
    python tools/benchmarks/gpu.py --only 'VMamba-T.*stage 1:' --no-checks
    python tools/benchmarks/gpu.py --dry-run          # tiny, on the CPU: tries this script
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
CHECKS = "tests/test_ops/test_on_gpu.py"
NOTHING_RAN = 5  # exit status of pytest
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def main() -> int:
    """Run; return the exit status."""
    options = _parse_options()
    if not options.dry_run:
        problem = _why_no_gpu()
        if problem:
            print(f"error: {problem}", file=sys.stderr)
            return 2
        _build_cuda_library()
    # Only now: the ops are loaded when they are imported.
    from gpu_contenders import NoKernelsError
    from gpu_measure import OUT_OF_MEMORY
    from gpu_run import run

    checks = {} if options.no_checks else _run_checks(options.dry_run)
    try:
        records = run(options, checks)
    except NoKernelsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failed = any(record.failure not in ("", OUT_OF_MEMORY) for record in records)
    return int(failed or not checks.get("passed", True))


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("work_dirs/gpu.json"), metavar="FILE")
    parser.add_argument(
        "--only", type=_pattern, default=re.compile(""), metavar="REGEX", help="cases to time"
    )
    parser.add_argument(
        "--dtypes", nargs="+", choices=DTYPES, default=["float32", "bfloat16"], help="of the maps"
    )
    parser.add_argument("--rounds", type=int, default=11, help="turns of each contender at most")
    parser.add_argument(
        "--budget", type=float, default=0.15, help="seconds per contender and pass, after two turns"
    )
    parser.add_argument("--no-checks", action="store_true", help="leave out the correctness suite")
    parser.add_argument(
        "--dry-run", action="store_true", help="tiny cases on the CPU, whose figures mean nothing"
    )
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error(f"--rounds must be at least 2, for quartiles; got {options.rounds}")
    return options


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from error


def _why_no_gpu() -> str:
    if torch.cuda.is_available():
        return ""
    return (
        f"PyTorch {torch.__version__} finds no GPU, so there is nothing to measure; run this on a "
        "machine with an NVIDIA GPU and a CUDA build of torch, or try the script with --dry-run"
    )


def _build_cuda_library() -> None:
    """Build the library where it is missing, for this machine's GPU alone unless told otherwise."""
    if torch.version.hip or list((ROOT / "mamba_mm").glob("_C_cuda.*so")):
        return
    major, minor = torch.cuda.get_device_capability()
    environment = {"MAMBA_MM_CUDA_ARCHS": f"{major}{minor}"} | os.environ
    print("building the CUDA library: python setup.py build_ext --inplace", flush=True)
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(done.stdout + done.stderr)
        print("the build failed; going on with what is there", flush=True)


def _run_checks(without_gpu: bool) -> dict[str, Any]:
    """Run the correctness suite; return whether it passed, and its last line."""
    print(f"running {CHECKS}", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", CHECKS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    # Without a GPU all is skipped, and having run nothing has a status of its own.
    passed = done.returncode == 0 or (without_gpu and done.returncode == NOTHING_RAN)
    lines = (done.stdout + done.stderr).strip().splitlines()
    if not passed:
        print(*lines, sep="\n")
    summary = lines[-1] if lines else ""
    print(f"checks: {summary}", flush=True)
    return {"passed": passed, "summary": summary}


if __name__ == "__main__":
    sys.exit(main())
