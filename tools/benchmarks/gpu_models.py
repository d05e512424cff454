"""A training step of a whole VMamba, with the fused scan and without it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from gpu_contenders import OURS, UNFUSED
from gpu_measure import FAILURES, Bench, Record, failed, with_times
from gpu_timing import Run, time_in_turns

from mamba_mm.layers import SSMixer2D
from mamba_mm.measuring.peak_memory import peak_bytes


@dataclass(frozen=True)
class Model:
    """A model and its images.

    Attributes:
        arch: Of ``mamba_mm.VMamba``.
        batch: Images at once.
        size: Their height and width.
    """

    arch: str
    batch: int
    size: int

    def __str__(self) -> str:
        return f"VMamba {self.arch}, training step, {self.size}x{self.size}, batch {self.batch}"


VMAMBA_T = Model("tiny_s2l5", 64, 224)
TINY = Model("nano", 1, 32)


def why_no_models() -> str:
    """Return what the models lack on this machine, or an empty string."""
    missing = [name for name in ("mmengine",) if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


def measure_model(model: Model, bench: Bench) -> list[Record]:
    """Time a step in bfloat16 autocast and record the peaks of memory."""
    records, runs = [], {}
    for name, fused in ((OURS, None), (UNFUSED, False)):
        if name in bench.left_out:
            continue
        record = Record(str(model), "bfloat16", "training step", name)
        try:
            step = _training_step(model, fused, bench.device)
            step()  # the state of the optimizer and tables of routes stay
            record = replace(record, peak_mib=peak_bytes(step, bench.device) / 2**20)
            runs[name] = Run(step, 1)
        except FAILURES as error:
            record = failed(record, error)
        records.append(record)
    timings = time_in_turns(runs, bench.effort, bench.clock)
    return [r if r.failure else with_times(r, timings, None, bench.limits) for r in records]


def _training_step(model: Model, fused: bool | None, device: str) -> Callable[[], None]:
    from mamba_mm.models import VMamba

    torch.manual_seed(0)
    network = VMamba(arch=model.arch, drop_path_rate=0.0).to(
        device, memory_format=torch.channels_last
    )
    for module in network.modules():
        if isinstance(module, SSMixer2D):
            module.fused = fused
    network.train()
    images = torch.randn(model.batch, 3, model.size, model.size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.0)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16):
            loss = sum(output.square().mean() for output in network(images))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
