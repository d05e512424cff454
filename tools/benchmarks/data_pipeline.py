"""Can the data pipeline of a config feed its training? A batch of data against a training step.

The config's own train_dataloader.dataset gives the samples, and its model and optimiser take the
step, in turns in one process. Printed is where the time of a sample goes, by transform, and how
long making a batch in one process takes in steps with such a batch: so many workers keep the
training busy. The times of one loaded machine mean little, ratios of neighbouring turns more.

The step is that of the device that --device names, and the number of workers holds for it alone.
Not in the figures: sending batches from the workers to the training, and reading from a disk (the
files are in memory after the first turns). Take more workers where images lie on a network.

Examples:
    python tools/benchmarks/data_pipeline.py CONFIG --device cuda
    python tools/benchmarks/data_pipeline.py CONFIG --batch 4 --rounds 7 --out pipeline.md
    python tools/benchmarks/data_pipeline.py CONFIG --no-step
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.dataset import BaseDataset
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, FUNCTIONS, MODELS, init_default_scope
from mmengine.runner import set_random_seed

from mamba_mm.measuring.interleaved import Timing, time_interleaved
from mamba_mm.measuring.machine import Machine
from mamba_mm.measuring.transform_times import TransformTimes

BATCH, STEP = "batch", "step"
OTHER = "collating and all else"
# Workers that are just enough stop the training at every sample that takes longer.
_SPARE = 1.25


@dataclass(frozen=True)
class Spread:
    """A figure over several turns.

    Attributes:
        median: Half of the turns are below it.
        low: The lower quartile.
        high: The upper quartile.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise two values or more."""
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def text(self, form: str) -> str:
        """Write it, each number in a form of :func:`format`."""
        return f"{self.median:{form}} ({self.low:{form}} to {self.high:{form}})"


class Batches:
    """Batches of a data set in random order, as a loader's worker makes them.

    Args:
        dataset: The data set; from now on it measures its transforms.
        size: Samples of a batch.
        collate: Joins the samples.
        seed: Of the order.

    Attributes:
        shares: Of every batch made, what part of its time went where.
        last: The batch made last.
    """

    def __init__(self, dataset: BaseDataset, size: int, collate: Callable, seed: int) -> None:
        self._dataset, self._size, self._collate = dataset, size, collate
        order = np.random.default_rng(seed).permutation(len(dataset))
        self._indices = itertools.cycle(order.tolist())
        self._times = TransformTimes(dataset)
        self.shares: list[dict[str, float]] = []
        self.last: object = None

    def make(self) -> None:
        """Make the next batch."""
        self._times.reset()
        start = time.perf_counter()
        samples = [self._dataset[i] for i in itertools.islice(self._indices, self._size)]
        self.last = self._collate(samples)
        seconds = time.perf_counter() - start
        shares = {name: part / seconds for name, part in self._times.seconds.items()}
        self.shares.append(shares | {OTHER: 1 - sum(shares.values())})


def collate_of(loader: Config) -> Callable:
    """Return the function that joins samples, MMEngine's default where the config has none."""
    settings = dict(loader.get("collate_fn", dict(type="pseudo_collate")))
    function = FUNCTIONS.get(settings.pop("type"))
    return functools.partial(function, **settings)


def training_step(config: Config, batches: Batches, device: str) -> Callable[[], None]:
    """Return a training step of the config's model on the last batch, weights random.

    Args:
        config: Of a training.
        batches: Where the batch is from.
        device: Where the model computes.
    """
    model = MODELS.build(config.model).to(device).train()
    optimizer = build_optim_wrapper(model, config.optim_wrapper)

    def step() -> None:
        model.train_step(batches.last, optimizer)
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)

    return step


def shares_table(shares: Sequence[dict[str, float]]) -> str:
    """Lay out where the time of a sample goes, as a Markdown table."""
    lines = ["| part of the pipeline | share of a batch's time |", "| --- | --- |"]
    for name in shares[0]:
        lines.append(f"| {name} | {Spread.of([batch[name] for batch in shares]).text('.1%')} |")
    return "\n".join(lines)


def workers_needed(ratio: float) -> int:
    """Return how many workers keep the training busy, a quarter to spare.

    Args:
        ratio: Time of making a batch in one process over the time of a step.
    """
    return max(1, math.ceil(ratio * _SPARE))


def verdict(timings: dict[str, Timing], size: int, workers: int) -> str:
    """Say whether the pipeline keeps up, with the figures.

    Args:
        timings: Of :data:`BATCH` and :data:`STEP`.
        size: Samples of a batch.
        workers: How many the config has.
    """
    pairs = zip(timings[BATCH].seconds, timings[STEP].seconds, strict=False)
    ratio = Spread.of([batch / step for batch, step in pairs])
    rates = {name: size / timing.median for name, timing in timings.items()}
    needed = workers_needed(ratio.median)
    if workers == 0:
        outcome = (
            f"The config loads in the training process (num_workers=0), which makes every step "
            f"{ratio.median:.0%} longer."
        )
    elif workers >= needed:
        outcome = f"The config has {workers}: the data pipeline is not the bottleneck."
    else:
        outcome = f"The config has {workers}: the training waits for data; set num_workers={needed}"
    return (
        f"Samples a second: pipeline in one process {rates[BATCH]:.1f}, training step "
        f"{rates[STEP]:.1f}.\n"
        f"Making a batch takes {ratio.text('.3g')} of the time of a step.\n"
        f"Workers needed, with a quarter to spare: {needed}. {outcome}"
    )


def measure(config: Config, args: argparse.Namespace) -> str:
    """Measure and return the report.

    Args:
        config: Of a training.
        args: The command line.

    Raises:
        ValueError: The config trains on nothing that can be measured here.
    """
    loader = config.get("train_dataloader")
    if not loader or "dataset" not in loader:
        raise ValueError(f"{args.config} has no train_dataloader with a dataset")
    init_default_scope(config.get("default_scope", "mmengine"))
    set_random_seed(args.seed)
    size = args.batch or loader.get("batch_size")
    if not size:
        raise ValueError(f"{args.config} has a batch sampler of its own; give --batch")
    batches = Batches(DATASETS.build(loader.dataset), size, collate_of(loader), args.seed)
    contenders = {BATCH: batches.make}
    if args.step:
        contenders[STEP] = training_step(config, batches, args.device)
    timings = time_interleaved(contenders, args.rounds, args.budget)
    lines = [
        f"Data pipeline of {args.config}, batches of {size}, {len(timings[BATCH].seconds)} turns",
        str(Machine.here(args.device)),
        "",
        # The first batches were made to warm up.
        shares_table(batches.shares[-len(timings[BATCH].seconds) :]),
        "",
    ]
    if args.step:
        lines.append(verdict(timings, size, loader.get("num_workers", 0)))
    else:
        rate = size / timings[BATCH].median
        lines.append(f"Samples a second: pipeline in one process {rate:.1f}.")
    return "\n".join(lines)


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config of a training, of any toolbox")
    parser.add_argument("--batch", type=int, metavar="N", help="samples (default: the config's)")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each (default: 15)")
    parser.add_argument(
        "--budget", type=float, default=60, help="seconds for each, two turns at least (60)"
    )
    parser.add_argument("--device", default="cpu", help="where the step computes (default: cpu)")
    parser.add_argument(
        "--no-step", dest="step", action="store_false", help="measure the pipeline alone"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the report there")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, default={}, help="changes of the config"
    )
    args = parser.parse_args(arguments)
    if args.rounds < 2 or (args.batch is not None and args.batch < 1):
        parser.error("--rounds must be 2 or more, and --batch 1 or more")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and return the exit status."""
    args = parse_args(arguments)
    try:
        config = Config.fromfile(args.config)
        config.merge_from_dict(args.cfg_options)
        report = measure(config, args)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report)
    if args.out is not None:
        args.out.write_text(report + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
