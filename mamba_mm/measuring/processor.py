"""The name of this machine's processor, for the head of a report."""

from __future__ import annotations

import platform
from pathlib import Path

CPU_DESCRIPTION = Path("/proc/cpuinfo")


def processor_name() -> str:
    """Name the processor as its maker does, where the system tells."""
    if CPU_DESCRIPTION.exists():
        for line in CPU_DESCRIPTION.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
