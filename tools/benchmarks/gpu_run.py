"""All cases of the GPU benchmark, one after the other."""

from __future__ import annotations

import argparse
import itertools
import time
from datetime import date
from functools import partial
from typing import Any

import torch
from gpu_cases import all_cases, tiny_cases
from gpu_contenders import our_backend
from gpu_measure import PASSES, Bench, Record, measure_case
from gpu_models import TINY, VMAMBA_T, measure_model, why_no_models
from gpu_report import table, write_json
from gpu_rivals import importable_rivals
from gpu_timing import Effort, EventClock, WallClock
from gpu_work import Limits, copy_bandwidth, limits_of_gpu

from mamba_mm.measuring.processor import processor_name

DRY_COPY_BYTES = 1 << 20


def run(options: argparse.Namespace, checks: dict[str, Any]) -> tuple[list[Record], bool]:
    """Measure what the options name, write JSON after every case and print the table last.

    Returns:
        What was measured, and whether the time allowed was enough for all of it.

    Raises:
        NoKernelsError: None of our kernels can be used here.
    """
    bench = _dry_bench(options) if options.dry_run else _gpu_bench(options)
    head = _head(bench, checks)
    print(", ".join(f"{name}: {value}" for name, value in head.items()), flush=True)
    cases, model = (tiny_cases(), TINY) if options.dry_run else (all_cases(), VMAMBA_T)
    cases = [case for case in cases if options.only.search(str(case))]
    jobs = [
        (
            f"{case}, {dtype}, {work}",
            partial(measure_case, case, getattr(torch, dtype), work, bench),
        )
        for case, dtype, work in itertools.product(cases, options.dtypes, PASSES)
    ]
    if options.only.search(str(model)) and not why_no_models():
        jobs.append((str(model), partial(measure_model, model, bench)))
    records: list[Record] = []
    done, end = 0, time.monotonic() + 60 * options.minutes
    try:
        for name, measure in jobs:
            if time.monotonic() > end:
                break
            print(name, flush=True)
            records += measure()
            done += 1
            write_json(options.out, head, records)
    finally:
        write_json(options.out, head, records)
        if done < len(jobs):
            print(f"\nended after {done} of {len(jobs)} passes; the next was {jobs[done][0]}")
        print(f"\nwrote {options.out}\n\n{table(records)}", flush=True)
    return records, done == len(jobs)


def _gpu_bench(options: argparse.Namespace) -> Bench:
    clock = EventClock()
    cache = torch.cuda.get_device_properties().L2_cache_size
    effort = Effort(options.rounds, options.budget)
    return Bench("cuda", clock, limits_of_gpu(clock), effort, cache, frozenset(options.leave_out))


def _dry_bench(options: argparse.Namespace) -> Bench:
    """Return a bench whose limits mean nothing and whose cache holds one call's inputs."""
    clock = WallClock()
    limits = Limits(copy_bandwidth("cpu", DRY_COPY_BYTES, clock), 1e9, 1e9)
    effort = Effort(options.rounds, options.budget)
    return Bench("cpu", clock, limits, effort, 1 << 10, frozenset(options.leave_out))


def _head(bench: Bench, checks: dict[str, Any]) -> dict[str, Any]:
    """Describe machine and run."""
    on_gpu = bench.device == "cuda"
    return {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name() if on_gpu else f"dry run on {processor_name()}",
        "torch": torch.__version__,
        "ours": our_backend(bench.device),
        "rivals": sorted(importable_rivals()),
        "models": why_no_models() or "yes",
        "limits": vars(bench.limits),
        "cache_bytes": bench.cache_bytes,
        "checks": checks,
    }
