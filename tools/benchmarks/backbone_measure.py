"""Backbones in turns at one shape and in one setting, and what comes of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from backbone_runs import Setting, prepare

from mamba_mm.measuring.image_shape import ImageShape
from mamba_mm.measuring.interleaved import Timing, ratio, time_interleaved
from mamba_mm.measuring.memory_errors import is_out_of_memory
from mamba_mm.measuring.peak_memory import peak_bytes


@dataclass(frozen=True)
class Effort:
    """How long a table may take.

    Attributes:
        rounds: Turns of each contender at most.
        budget: Seconds after which a contender stops taking part, once it had two turns.
    """

    rounds: int
    budget: float


@dataclass(frozen=True)
class Measurement:
    """One backbone at one shape and in one setting; without numbers when it failed.

    Attributes:
        model: Name of the backbone.
        baseline: Name of the one that ``ratio`` is against.
        height: Rows of the images.
        width: Columns of the images.
        batch: Images at once.
        mode: ``"eval"`` or ``"train"``.
        dtype: ``"float32"`` or ``"bfloat16"``.
        memory_format: ``"contiguous"`` or ``"channels_last"``.
        turns: How often it was timed.
        milliseconds: Time of the whole batch in the median turn.
        lower_quartile: As ``milliseconds``.
        upper_quartile: As ``milliseconds``.
        images_per_second: In the median turn.
        ratio: How many times faster than the baseline: median over turns of the same round.
        growth: How many times longer than at the smallest shape of the same batch: likewise.
        pixel_ratio: How many times more pixels than that shape.
        peak_mib: Most memory held at once above weights and images, in MiB.
        failure: Why there are no numbers, else empty.
        execution: How passes were launched: ``"eager"``, ``"compiled"``, ``"graph"`` or both.
    """

    model: str
    baseline: str
    height: int
    width: int
    batch: int
    mode: str
    dtype: str
    memory_format: str = ""
    turns: int = 0
    milliseconds: float | None = None
    lower_quartile: float | None = None
    upper_quartile: float | None = None
    images_per_second: float | None = None
    ratio: float | None = None
    growth: float | None = None
    pixel_ratio: float | None = None
    peak_mib: float | None = None
    failure: str = ""
    execution: str = "eager"

    @property
    def shape(self) -> ImageShape:
        """Size and number of the images."""
        return ImageShape(self.height, self.width, self.batch)

    @property
    def setting(self) -> tuple[str, ...]:
        """Mode and dtype, and how passes were launched if not one operator after the other."""
        launched = () if self.execution == "eager" else (self.execution,)
        return self.mode, self.dtype, *launched


def measure(
    names: Sequence[str],
    shape: ImageShape,
    smallest: ImageShape,
    setting: Setting,
    memory_format: str,
    effort: Effort,
) -> list[Measurement]:
    """Measure backbones in turns at one shape and in one setting.

    Each also takes a turn at ``smallest`` in every round: growth is then a ratio of turns
    with little time between them.

    Args:
        names: The backbones, the baseline first.
        shape: The images.
        smallest: The images that growth is against; no growth when they are ``shape``.
        setting: How the backbones run.
        memory_format: As in :func:`prepare`.
        effort: How long this may take.

    Returns:
        One measurement a backbone, in the order of ``names``.
    """
    measurements: list[Measurement] = []
    runs: dict[tuple[str, ImageShape], Callable[[], None]] = {}
    for name in names:
        m = Measurement(
            *(name, names[0], shape.height, shape.width, shape.batch, setting.mode, setting.dtype),
            execution=setting.execution,
        )
        try:
            contender = prepare(name, shape, setting, memory_format)
            peak = peak_bytes(contender.launched or contender.run, setting.device)
            small = contender
            if shape != smallest:
                small = prepare(name, smallest, setting, memory_format)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            measurements.append(replace(m, failure="out of memory"))
            continue
        runs |= {(name, shape): contender.run, (name, smallest): small.run}
        measurements.append(
            replace(m, memory_format=contender.memory_format, peak_mib=peak / 2**20)
        )
    timings = time_interleaved(runs, effort.rounds, effort.budget)
    return [m if m.failure else _with_times(m, timings, smallest) for m in measurements]


def _with_times(
    m: Measurement, timings: dict[tuple[str, ImageShape], Timing], smallest: ImageShape
) -> Measurement:
    timing = timings[m.model, m.shape]
    baseline = timings.get((m.baseline, m.shape))
    low, middle, high = statistics.quantiles(
        [1e3 * seconds for seconds in timing.seconds], n=4, method="inclusive"
    )
    m = replace(
        m,
        turns=len(timing.seconds),
        milliseconds=middle,
        lower_quartile=low,
        upper_quartile=high,
        images_per_second=1e3 * m.batch / middle,
        ratio=None if baseline is None else ratio(baseline, timing),
    )
    if m.shape == smallest:
        return m
    return replace(
        m,
        growth=ratio(timing, timings[m.model, smallest]),
        pixel_ratio=m.shape.pixels / smallest.pixels,
    )
