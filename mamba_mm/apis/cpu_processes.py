"""Several processes that train together on a machine without a GPU."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def join_cpu_processes(arguments: Sequence[str]) -> bool:
    """Join the processes that ``python -m torch.distributed.run`` started, where there is no GPU.

    MMEngine's ``--launcher pytorch`` chooses a GPU first and fails without one; a process group
    that exists it takes as it is. So on CPUs the group, of the gloo backend, is made here. The
    config must also keep MMEngine from naming a GPU to PyTorch's wrapper::

        model_wrapper_cfg = dict(type="MMDistributedDataParallel", device_ids=None)

    Args:
        arguments: Those of the toolbox's script. Nothing is done unless they say
            ``--launcher pytorch``.

    Returns:
        Whether this process joined others.
    """
    if not _wants_pytorch_launcher(arguments) or any(name not in os.environ for name in LAUNCHED):
        return False
    import torch

    if torch.accelerator.is_available() or torch.distributed.is_initialized():
        return False
    torch.distributed.init_process_group("gloo")
    return True


def _wants_pytorch_launcher(arguments: Sequence[str]) -> bool:
    pairs = itertools.pairwise(arguments)
    return "--launcher=pytorch" in arguments or ("--launcher", "pytorch") in pairs
