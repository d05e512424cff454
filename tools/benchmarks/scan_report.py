"""What the benchmarks of scans print: a table of contenders, and the share of a floor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mamba_mm.measuring.interleaved import Timing, ratio


@dataclass(frozen=True)
class Floor:
    """Seconds that a pass needs at least, by what limits it."""

    arithmetic: float
    exponentials: float
    memory: float

    @property
    def seconds(self) -> float:
        """The largest of the three: the pass cannot be faster."""
        return max(self.arithmetic, self.exponentials, self.memory)


def print_table(title: str, timings: Mapping[str, Timing]) -> None:
    """Print one line per contender, ours first."""
    width = max(18, *(len(name) for name in timings))
    print(f"\n{title}")
    columns = f"{'median ms':>10} {'best ms':>10} {'spread':>7} {'x ours':>8} {'turns':>5}"
    print(f"  {'':{width}} {columns}")
    ours = timings["ours"]
    for name, timing in timings.items():
        print(
            f"  {name:{width}} {timing.median * 1e3:10.3f} {timing.best * 1e3:10.3f} "
            f"{timing.spread:7.0%} {ratio(timing, ours):8.1f} {len(timing.seconds):5}"
        )


def print_share(name: str, floor: Floor, timing: Timing) -> None:
    """Print how close a pass of ours comes to this machine's limits."""
    limits = ", ".join(f"{limit} {seconds * 1e3:.3f} ms" for limit, seconds in vars(floor).items())
    print(
        f"  {name}: {floor.seconds / timing.median:.0%} of the floor at the median, "
        f"{floor.seconds / timing.best:.0%} at best ({limits})"
    )
