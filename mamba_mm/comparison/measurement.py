"""Models of configs in turns at one shape, and what comes of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from mamba_mm.comparison.accuracy import Accuracy
from mamba_mm.comparison.configs import ModelConfig
from mamba_mm.comparison.costs import (
    FAILURES,
    Operations,
    count_operations,
    count_parameters,
    describe,
)
from mamba_mm.comparison.models import TensorForward, build_model
from mamba_mm.measuring.image_shape import ImageShape
from mamba_mm.measuring.interleaved import Timing, ratio, time_interleaved
from mamba_mm.measuring.memory_errors import is_out_of_memory
from mamba_mm.measuring.peak_memory import peak_bytes

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MEMORY_FORMATS = {
    # Not contiguous_format: a model that lays its weights out itself would lose that.
    "as_built": torch.preserve_format,
    "channels_last": torch.channels_last,
}
"""Of weights and images: contiguous images for weights as a toolbox has them, or all likewise."""


@dataclass(frozen=True)
class Setting:
    """How all models run, and how long this may take.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``.
        dtype: ``"float32"``, or ``"bfloat16"`` for autocast over float32 weights.
        memory_format: A name of :data:`MEMORY_FORMATS`.
        rounds: Turns of each model at most.
        budget: Seconds after which a model stops taking part at a shape, once it had two turns.
    """

    device: str = "cpu"
    dtype: str = "float32"
    memory_format: str = "as_built"
    rounds: int = 21
    budget: float = 10.0


@dataclass(frozen=True)
class Contender:
    """A model that takes part.

    Attributes:
        config: Its config.
        model: The model, on the device.
        parameters: Of the whole model.
        backbone_parameters: Of its backbone; ``None`` where it has none of that name.
        operations: By height and width of the image.
        accuracies: What is known of it.
    """

    config: ModelConfig
    model: TensorForward
    parameters: int
    backbone_parameters: int | None
    operations: dict[tuple[int, int], Operations]
    accuracies: tuple[Accuracy, ...]


@dataclass(frozen=True)
class Measurement:
    """One model at one shape; without numbers when it failed.

    Attributes:
        model: Name of the model.
        baseline: Name of the one that ``ratio`` is against.
        height: Rows of the images.
        width: Columns of the images.
        batch: Images at once.
        dtype: As in :class:`Setting`.
        memory_format: As in :class:`Setting`.
        flops: Operations for one image; ``None`` where they could not be counted.
        scan_flops: Those of the state-space scans.
        turns: How often it was timed.
        milliseconds: Time of the whole batch in the median turn.
        lower_quartile: As ``milliseconds``.
        upper_quartile: As ``milliseconds``.
        images_per_second: In the median turn.
        images_per_second_lower: Lower quartile.
        images_per_second_upper: Upper quartile.
        ratio: How many times as fast as the baseline: median over turns of the same round.
        peak_mib: Most memory held at once above weights and images, in MiB.
        failure: Why there are no times, else empty.
        flops_failure: Why there are no operations, else empty.
    """

    model: str
    baseline: str
    height: int
    width: int
    batch: int
    dtype: str
    memory_format: str
    flops: int | None = None
    scan_flops: int | None = None
    turns: int = 0
    milliseconds: float | None = None
    lower_quartile: float | None = None
    upper_quartile: float | None = None
    images_per_second: float | None = None
    images_per_second_lower: float | None = None
    images_per_second_upper: float | None = None
    ratio: float | None = None
    peak_mib: float | None = None
    failure: str = ""
    flops_failure: str = ""

    @property
    def shape(self) -> ImageShape:
        """Size and number of the images."""
        return ImageShape(self.height, self.width, self.batch)


def prepare(
    config: ModelConfig,
    shapes: Sequence[ImageShape],
    setting: Setting,
    accuracies: Sequence[Accuracy] = (),
) -> Contender:
    """Build the model of a config, count what it costs, and put it on the device.

    Args:
        config: The config.
        shapes: Images that it will get.
        setting: How it will run.
        accuracies: What is known of it.
    """
    built = build_model(config)
    model = TensorForward(built)
    backbone = getattr(built, "backbone", None)
    # Counted before it moves: on the CPU the scans are single operators, which can be counted.
    operations = {
        size: count_operations(model, *size)
        for size in dict.fromkeys((shape.height, shape.width) for shape in shapes)
    }
    model.to(setting.device, memory_format=MEMORY_FORMATS[setting.memory_format])
    return Contender(
        config,
        model,
        count_parameters(built),
        None if backbone is None else count_parameters(backbone),
        operations,
        tuple(accuracies),
    )


def measure(
    contenders: Sequence[Contender], baseline: str, shape: ImageShape, setting: Setting
) -> list[Measurement]:
    """Measure models in turns at one shape.

    A model that runs out of memory, or that cannot take images of that shape, gets a
    measurement that says so, and the others are measured without it.

    Args:
        contenders: The models.
        baseline: Name of the one that ratios are against.
        shape: The images.
        setting: How the models run.

    Returns:
        One measurement a model, in their order.
    """
    measurements: list[Measurement] = []
    runs: dict[str, Callable[[], None]] = {}
    for contender in contenders:
        m = _unmeasured(contender, baseline, shape, setting)
        try:
            run = forward_run(contender.model, shape, setting)
            run()  # the first call may hold more than later ones
            peak = peak_bytes(run, setting.device)
        except FAILURES as error:
            reason = "out of memory" if is_out_of_memory(error) else describe(error)
            measurements.append(replace(m, failure=reason))
            continue
        runs[m.model] = run
        measurements.append(replace(m, peak_mib=peak / 2**20))
    timings = time_interleaved(runs, setting.rounds, setting.budget)
    return [m if m.failure else _with_times(m, timings) for m in measurements]


def forward_run(model: TensorForward, shape: ImageShape, setting: Setting) -> Callable[[], None]:
    """Return a call of one forward pass without gradients, on images of noise.

    It returns when the device has done it.
    """
    torch.manual_seed(0)
    images = torch.randn(shape.batch, 3, shape.height, shape.width).to(
        setting.device, memory_format=MEMORY_FORMATS[setting.memory_format]
    )
    dtype = DTYPES[setting.dtype]

    def run() -> None:
        with (
            torch.no_grad(),
            torch.autocast(setting.device, dtype, enabled=dtype != torch.float32),
        ):
            model(images)
        if setting.device == "cuda":
            torch.cuda.synchronize()

    return run


def _unmeasured(
    contender: Contender, baseline: str, shape: ImageShape, setting: Setting
) -> Measurement:
    operations = contender.operations[shape.height, shape.width]
    return Measurement(
        contender.config.name,
        baseline,
        shape.height,
        shape.width,
        shape.batch,
        setting.dtype,
        setting.memory_format,
        flops=operations.total,
        scan_flops=operations.scans,
        flops_failure=operations.failure,
    )


def _with_times(m: Measurement, timings: dict[str, Timing]) -> Measurement:
    timing = timings[m.model]
    baseline = timings.get(m.baseline)
    low, middle, high = statistics.quantiles(
        [1e3 * seconds for seconds in timing.seconds], n=4, method="inclusive"
    )
    return replace(
        m,
        turns=len(timing.seconds),
        milliseconds=middle,
        lower_quartile=low,
        upper_quartile=high,
        images_per_second=1e3 * m.batch / middle,
        images_per_second_lower=1e3 * m.batch / high,
        images_per_second_upper=1e3 * m.batch / low,
        ratio=None if baseline is None else ratio(baseline, timing),
    )
