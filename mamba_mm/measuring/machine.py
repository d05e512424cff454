"""Where and when something was measured."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import torch

from mamba_mm.measuring.processor import processor_name
from mamba_mm.ops.backends import choose_backend


@dataclass(frozen=True)
class Machine:
    """Where and when the measurements were made."""

    date: str
    torch: str
    device: str
    device_name: str
    threads: int
    scan: str

    @classmethod
    def here(cls, device: str) -> Machine:
        """Describe this process."""
        return cls(
            date=date.today().isoformat(),
            torch=torch.__version__,
            device=device,
            device_name=_device_name(device),
            threads=torch.get_num_threads(),
            scan=_scan(device),
        )

    def __str__(self) -> str:
        threads = f", threads: {self.threads}" if self.device == "cpu" else ""
        return f"{self.device_name}{threads}, torch {self.torch}, selective scan: {self.scan}"


def _scan(device: str) -> str:
    """Name the implementation of the scan that the models get here."""
    backend = choose_backend(None, device)
    if backend == "cpu":
        return f"compiled, {torch.ops.mamba_mm.cpu_instruction_set()}"
    return f"{backend} backend"


def _device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return processor_name()
