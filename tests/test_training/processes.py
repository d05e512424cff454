"""Work in processes of its own: what must not change this one, and what needs several."""

from __future__ import annotations

from collections.abc import Callable

import torch


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


def _call(rank: int, function: Callable, arguments: tuple) -> None:
    torch.set_num_threads(1)  # the threads of a pool do not survive a fork
    function(rank, *arguments)
