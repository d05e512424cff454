"""Where the time of a data set goes: reading the record, and each transform of its pipelines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from mmengine.dataset import BaseDataset

RECORD = "the record"
"""Name under which the time of ``get_data_info`` is kept."""


class TransformTimes:
    """Times of a data set's transforms, measured whenever a sample is asked for.

    Data sets that combine others are taken apart: the record is that of the inner ones, and the
    transforms are those of all pipelines. A transform that applies others counts as one.

    Args:
        dataset: Its pipelines are changed so that they measure. An MMEngine data set, or a wrapper
            with ``datasets`` or ``dataset``.

    Attributes:
        seconds: Sum for each name since the last :meth:`reset`, in the order of the pipelines.
            A transform that occurs again has its number behind the name.
    """

    def __init__(self, dataset: BaseDataset) -> None:
        self.seconds: dict[str, float] = {RECORD: 0.0}
        for part in _parts_of(dataset):
            # The pipelines of combined data sets have the same steps: count from 1 in each.
            names: dict[str, int] = {}
            compose = getattr(part, "pipeline", None)
            for index, step in enumerate(getattr(compose, "transforms", ())):
                name = type(step).__name__
                names[name] = names.get(name, 0) + 1
                if names[name] > 1:
                    name = f"{name} {names[name]}"
                compose.transforms[index] = self._timed(name, step)
            if not _inner(part):
                part.full_init()
                part.get_data_info = self._timed(RECORD, part.get_data_info)

    def reset(self) -> None:
        """Set all sums to zero."""
        self.seconds = dict.fromkeys(self.seconds, 0.0)

    def _timed(self, name: str, run: Callable) -> Callable:
        self.seconds.setdefault(name, 0.0)

        def timed(*arguments):
            start = time.perf_counter()
            result = run(*arguments)
            self.seconds[name] += time.perf_counter() - start
            return result

        return timed


def _inner(dataset: BaseDataset) -> list[BaseDataset]:
    """The data sets that a wrapper wraps."""
    if hasattr(dataset, "dataset"):
        return [dataset.dataset]
    return list(getattr(dataset, "datasets", ()))


def _parts_of(dataset: BaseDataset) -> Iterator[BaseDataset]:
    """All data sets, those inside before those around them."""
    for part in _inner(dataset):
        yield from _parts_of(part)
    yield dataset
