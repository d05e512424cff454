"""Several trainings at once, on the cores of one machine."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import torch

from .repeated_training import Launch, Training, train

_NOT_STARTED = 130  # as the shell says of a command that Ctrl-C ended


class Processes:
    """Runs commands as processes that can all be ended at once; a ``Launch``.

    Args:
        threads: Of each process. PyTorch would take all cores for each, and processes that wait
            for each other's cores are far slower than those that share them out.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._running: set[subprocess.Popen] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def __call__(self, command: Sequence[str], log: Path) -> int:
        """Run a command, its output added to ``log``; return its exit status."""
        environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
        with log.open("a", encoding="utf-8") as output:
            with self._lock:
                if self._stopped:
                    return _NOT_STARTED
                process = subprocess.Popen(
                    command, stdout=output, stderr=subprocess.STDOUT, env=environment
                )
                self._running.add(process)
            try:
                return process.wait()
            finally:
                with self._lock:
                    self._running.discard(process)

    def stop(self) -> None:
        """End what runs, and start nothing more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()


def threads_of_each(jobs: int) -> int:
    """Share the threads that this process may use, which OMP_NUM_THREADS limits, among jobs.

    Raises:
        ValueError: ``jobs`` is below 1.
    """
    if jobs < 1:
        raise ValueError(f"at least 1 training must run at a time, got {jobs}")
    return max(1, torch.get_num_threads() // jobs)


def train_side_by_side(
    trainings: Sequence[Training],
    script: Path,
    jobs: int,
    launch: Launch,
    *,
    check: Callable[[Training], None] = lambda training: None,
    stop: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Training, bool]]:
    """Do trainings, started in their order, some at a time.

    Args:
        trainings: What to train; those that are finished are not done again.
        script: The ``train.py`` that takes a config and the toolboxes' common flags.
        jobs: How many at a time.
        launch: How to run a command; called from as many threads.
        check: Called before each training, one call at a time; what it raises ends them all.
        stop: Ends whatever was launched and still runs; called at the end, and after an error.

    Yields:
        Each training as it ends, and whether it was done to its end.
    """
    one_at_a_time = threading.Lock()

    def checked(training: Training) -> bool:
        with one_at_a_time:
            check(training)
        return train(training, script, launch)

    pool = ThreadPoolExecutor(jobs)
    try:
        waiting = {pool.submit(checked, training): training for training in trainings}
        for done in as_completed(waiting):
            yield waiting[done], done.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        stop()
        pool.shutdown()
