"""The correctness suite as the GPU benchmark runs it: in parallel, and with a log that grows."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

CHECKS = "tests/test_ops/test_on_gpu.py"
NOTHING_RAN = 5  # exit status of pytest
# Most of the time goes to Triton's compiler, which works for one process on one core. Each
# process has a context of some hundred MiB on the GPU, and tensors.
MOST_PROCESSES = 16
MEMORY_OF_A_PROCESS = 2 << 30
SECONDS_OF_A_HANG = 240  # longer than any kernel compiles


def run_checks(root: Path, log: Path, expression: str, *, without_gpu: bool) -> dict[str, Any]:
    """Run the correctness suite; return whether it passed, and its last line.

    Args:
        root: The checkout.
        log: File that gets all that pytest says, line by line.
        expression: Which tests, as pytest's ``-k`` takes it; all if it is empty.
        without_gpu: Whether all may be skipped.
    """
    print(f"running {CHECKS}, see {log}", flush=True)
    command = [sys.executable, "-m", "pytest", "-v", "--tb=short", "-p", "no:cacheprovider"]
    command += ["-o", f"faulthandler_timeout={SECONDS_OF_A_HANG}", *_in_parallel()]
    command += ["-k", expression] if expression else []
    environment = os.environ | {"OMP_NUM_THREADS": "1"} if _in_parallel() else os.environ
    status, lines = run_logged([*command, CHECKS], root, environment, log, _is_bad_news)
    # Without a GPU all is skipped, and having run nothing has a status of its own.
    passed = status == 0 or (without_gpu and status == NOTHING_RAN)
    summary = lines[-1].strip(" =") if lines else ""
    print(f"checks: {summary}", flush=True)
    return {"passed": passed, "selected": expression, "summary": summary}


def _in_parallel() -> list[str]:
    processes = min(MOST_PROCESSES, os.cpu_count() or 1)
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties().total_memory
        processes = min(processes, memory // MEMORY_OF_A_PROCESS)
    if processes < 2 or importlib.util.find_spec("xdist") is None:
        return []
    return ["-p", "xdist", "-n", str(processes), "--dist", "loadgroup"]


def _is_bad_news(line: str) -> bool:
    return line.startswith(("FAILED ", "ERROR ", "E   "))


def run_logged(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    echoed: Callable[[str], bool] = lambda line: False,
) -> tuple[int, list[str]]:
    """Run a command and write what it says to a file as it comes: it may be stopped half-way.

    Args:
        command: Program and arguments.
        folder: Where to run it.
        environment: Its environment variables.
        log: The file; its folder is made.
        echoed: Which lines are printed as well.

    Returns:
        Exit status, and the lines that are not blank.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    with (
        log.open("w") as file,
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        for line in process.stdout:
            file.write(line)
            file.flush()
            if line.strip():
                lines.append(line.rstrip())
            if echoed(line):
                print(line, end="", flush=True)
    return process.returncode, lines
