"""The most memory that a call holds at once beyond what was held before it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

CPU_DEVICE_TYPE = 0  # c10::DeviceType::CPU, as traces write it


def peak_bytes(run: Callable[[], object], device: str = "cpu") -> int:
    """Call ``run`` once and return the most bytes that it held at once.

    Counted is what PyTorch's allocator hands out during the call: results, temporaries that
    are freed before it returns, tensors of C++ ops and of the backward pass. Not counted are
    buffers that libraries take elsewhere, such as the packed panels of a matrix product.

    On the CPU the release of memory from before the call makes no room: a step that drops
    old gradients is charged for the new ones in full. On CUDA it does make room, for there
    only the allocator's sum is known. Drop such memory before the call.

    Args:
        run: What to measure. A first call may hold more than later ones; make it before.
        device: Where it computes, ``"cpu"`` or ``"cuda"``.
    """
    if torch.device(device).type == "cuda":
        return _cuda_peak(run, device)
    held, most = 0, 0
    live: dict[int, int] = {}
    for address, size in _cpu_allocations(run):
        if size > 0:
            live[address] = size
            held += size
            most = max(most, held)
        else:
            held -= live.pop(address, 0)
    return most


def _cuda_peak(run: Callable[[], object], device: str) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    return torch.cuda.max_memory_allocated(device) - before


def _cpu_allocations(run: Callable[[], object]) -> Iterator[tuple[int, int]]:
    """Yield address and bytes of what was allocated, negative when freed, in order.

    The trace's own running sum is of no use: it forgets what is freed between two profiles.
    """
    # acc_events only silences a warning about schedules, which are not used here.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as trace:
        run()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        trace.export_chrome_trace(str(path))
        events = json.loads(path.read_bytes())["traceEvents"]
    events = [event for event in events if event["name"] == "[memory]"]
    for event in sorted(events, key=lambda event: event["ts"]):
        details = event["args"]
        if details["Device Type"] == CPU_DEVICE_TYPE:
            yield details["Addr"], details["Bytes"]
