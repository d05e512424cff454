#!/usr/bin/env python
"""Build, check and time the scans on this machine's NVIDIA GPU. Needs no argument and no network.

Measured is the checkout that this file lies in, installed or not. Builds its libraries where one
is missing (nvcc), runs the correctness suite on the GPU, then times every case forward and with
its backward pass: our kernels against the same kernels without fusion, Triton's, plain PyTorch,
and those of mamba_ssm and VMamba where they can be imported.
Kernels are replayed as CUDA graphs between CUDA events, on inputs that rotate through more than
the L2 cache; plain PyTorch is launched kernel by kernel. All contenders of a case take turns;
ratios are medians over turns of the same round. Shares are of the copy bandwidth that is measured
in the same run, and of the exponentials and instructions per second at the highest clock (the
counts are in gpu_work.py). The JSON file is written anew after every case; the table is
printed last. What the compiler and the suite say is in gpu_build.txt and gpu_checks.txt beside
the JSON file, as far as they came. Exit status: 0; 1 if a check or a contender failed, or time
ran out; 2 where there is nothing to measure on.

Everything takes the better part of an hour, most of it Triton's compiler. Where a command may
not take that long, do it in parts:

    python tools/benchmarks/gpu.py --checks-only --checks cuda
    python tools/benchmarks/gpu.py --checks-only --checks triton
    python tools/benchmarks/gpu.py --no-checks --minutes 8 --leave-out triton
    python tools/benchmarks/gpu.py --no-checks --only 'VMamba-T.*stage 1:'
    python tools/benchmarks/gpu.py --dry-run          # tiny, on the CPU: tries this script
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

import torch
from gpu_checks import run_checks, run_logged

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("_C", "_C_cuda")
# As gpu_contenders calls them, and gpu_rivals.
CONTENDERS = ("unfused", "triton", "torch", "mamba_ssm", "vmamba")
LINES_OF_A_FAILURE = 40
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def main() -> int:
    """Run; return the exit status."""
    options = _parse_options()
    if not options.dry_run:
        problem = _why_no_gpu()
        if problem:
            print(f"error: {problem}", file=sys.stderr)
            return 2
        _build_libraries(options.out.parent / "gpu_build.txt")
    # The checkout's own package, whether or not one is installed; and only now, as the ops are
    # loaded when they are imported.
    sys.path.insert(0, str(ROOT))
    from gpu_contenders import NoKernelsError
    from gpu_measure import OUT_OF_MEMORY
    from gpu_run import run

    checks = {}
    if not options.no_checks:
        log = options.out.parent / "gpu_checks.txt"
        checks = run_checks(ROOT, log, options.checks, without_gpu=options.dry_run)
    if options.checks_only:
        return int(not checks["passed"])
    try:
        records, is_complete = run(options, checks)
    except NoKernelsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failed = any(record.failure not in ("", OUT_OF_MEMORY) for record in records)
    return int(failed or not is_complete or not checks.get("passed", True))


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
    parser.add_argument(
        "--leave-out",
        nargs="+",
        choices=CONTENDERS,
        default=[],
        metavar="CONTENDER",
        help=f"contenders that take no part: {', '.join(CONTENDERS)}",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=float("inf"),
        help="begin no case later than this; the table comes all the same",
    )
    parser.add_argument("--no-checks", action="store_true", help="leave out the correctness suite")
    parser.add_argument("--checks-only", action="store_true", help="time nothing")
    parser.add_argument(
        "--checks",
        default="",
        metavar="EXPRESSION",
        help="checks to run, as pytest's -k takes it, such as cuda or 'triton and not routes'",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="tiny cases on the CPU, whose figures mean nothing"
    )
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error(f"--rounds must be at least 2, for quartiles; got {options.rounds}")
    if options.no_checks and (options.checks or options.checks_only):
        parser.error("--no-checks leaves out what --checks and --checks-only ask for")
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


def _build_libraries(log: Path) -> None:
    """Build where one is missing, for this machine's GPU alone unless told otherwise."""
    package = ROOT / "mamba_mm"
    if torch.version.hip or all(list(package.glob(f"{name}.*so")) for name in LIBRARIES):
        return
    major, minor = torch.cuda.get_device_capability()
    environment = {"MAMBA_MM_CUDA_ARCHS": f"{major}{minor}"} | os.environ
    print(f"building the libraries: python setup.py build_ext --inplace, see {log}", flush=True)
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    status, lines = run_logged(command, ROOT, environment, log)
    if status:
        print(*lines[-LINES_OF_A_FAILURE:], sep="\n")
        print("the build failed; going on with what is there", flush=True)
    elif not list(package.glob("_C_cuda.*so")):
        print("nvcc was not found (PATH, CUDA_HOME); going on without the CUDA library", flush=True)


if __name__ == "__main__":
    sys.exit(main())
