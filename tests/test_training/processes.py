"""Work in processes of its own: what must not change this one, and what needs several."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable

import torch
from torch import distributed


def in_processes(function: Callable, *arguments, count: int = 1) -> None:
    """Call ``function(rank, *arguments)`` in so many processes and wait for them.

    They are forks, which have imported already what this process has; where there is a GPU,
    whose threads a fork would lose, they are started afresh.

    Args:
        function: A function of a module; ``rank`` counts the processes from 0.
        arguments: What else it takes.
        count: Number of processes.

    Raises:
        torch.multiprocessing.ProcessRaisedException: One of them raised; its traceback is shown.
    """
    method = "spawn" if torch.accelerator.is_available() else "fork"
    torch.multiprocessing.start_processes(
        _call, (function, arguments), nprocs=count, start_method=method
    )


def in_group(function: Callable, *arguments) -> None:
    """Call ``function(rank, *arguments)`` in two processes of one group, on CPUs; wait for them.

    Args:
        function: As for ``in_processes``. The models it wraps must not be kept longer.
        arguments: What else it takes.

    Raises:
        torch.multiprocessing.ProcessRaisedException: One of them raised; its traceback is shown.
    """
    with tempfile.TemporaryDirectory() as folder:
        in_processes(_call_in_group, f"file://{folder}/store", function, arguments, count=2)


def _call(rank: int, function: Callable, arguments: tuple) -> None:
    torch.set_num_threads(1)  # the threads of a pool do not survive a fork
    function(rank, *arguments)


def _call_in_group(rank: int, store: str, function: Callable, arguments: tuple) -> None:
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    function(rank, *arguments)
    # A model that outlives its group would end the group's threads itself, with Python's lock
    # held, for which one of them may be waiting: now and then it waited for ever.
    gc.collect()
    distributed.barrier()
    distributed.destroy_process_group()
