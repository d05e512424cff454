"""Training and testing through the very commands that a user types."""

import gc
import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import traceback
from pathlib import Path

import torch
from yapf.yapflib import yapf_api

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
DATA_DIR = Path(os.environ.get("MAMBA_MM_DATA_DIR", ROOT.parent / "shared" / "data"))

# Threads that wait busily are twenty times slower as soon as another process wants a core.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}


def run_tool(name, *arguments, **environment):
    """Run ``tools/NAME.py`` as a process; return what it printed."""
    command = [sys.executable, str(ROOT / "tools" / f"{name}.py"), *map(str, arguments)]
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | WAITING | {key: str(value) for key, value in environment.items()},
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return run.stdout + run.stderr


# Of a toolbox: what a script imports in any case.
PARTS = ("apis", "datasets", "engine", "evaluation", "models", "visualization")
# And whatever the toolbox: the last one is imported for MMEngine's report of the environment.
FOR_ALL = ("mmengine.runner", "mamba_mm.models", "mamba_mm.engine", "setuptools")


def run_script(name, config, *arguments, **environment):
    """Do what ``tools/train.py`` or ``tools/test.py`` does, but in a fork of this process.

    The toolbox's own script runs, as there. What it imports is imported before the fork, once
    for all runs of a test process: most of a short run would be imports.

    Args:
        name: ``"train"`` or ``"test"``.
        config: The config.
        *arguments: The script's further arguments.
        **environment: Variables to set.

    Returns:
        What it printed.
    """
    from mamba_mm.apis.toolbox_scripts import toolbox_of

    toolbox = toolbox_of(Path(config)).module
    for module in (*FOR_ALL, *(f"{toolbox}.{part}" for part in PARTS)):
        importlib.import_module(module)
    sys.stdout.flush()
    sys.stderr.flush()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _run_and_exit(write_end, name, [config, *arguments], environment)
    os.close(write_end)
    with open(read_end, errors="replace") as pipe:
        printed = pipe.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, printed[-6000:]
    return printed


def _run_and_exit(output, name, arguments, environment):
    """Run a script in a forked process, its output to a file descriptor; never return."""
    from mamba_mm.apis.toolbox_scripts import run_toolbox_script

    status = 1
    # MMEngine collects garbage with every data set; what the fork inherited would be copied for it.
    gc.freeze()
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout = sys.stderr = open(output, "w", buffering=1)  # noqa: SIM115 - to the end
        os.environ.update({key: str(value) for key, value in environment.items()})
        torch.set_num_threads(1)  # the threads of a pool do not survive a fork
        # MMEngine lays a config out seven times a run, which would be half of a short run.
        yapf_api.FormatCode = lambda text, **settings: (text, True)
        run_toolbox_script(name, [str(argument) for argument in arguments])
        status = 0
    except BaseException as error:  # noqa: BLE001 - nothing may return to pytest
        traceback.print_exception(error)
    finally:
        sys.stdout.flush()
        for worker in multiprocessing.active_children():  # of data loaders; they keep the pipe open
            worker.terminate()
        os._exit(status)


# AdamW steps all tensors in one call: the same numbers, and a fifth of a small model's training.
FUSED = "optim_wrapper.optimizer.fused=True"


def sooner(max_iters):
    """Return flags that end the training of a config, and its schedule, after fewer iterations."""
    names = ("train_cfg.max_iters", "train_cfg.val_interval", "param_scheduler.1.T_max")
    ends = (*names, "default_hooks.checkpoint.interval")
    return ("--cfg-options", FUSED, *(f"{name}={max_iters}" for name in ends))


def train_and_test(config, folder, *flags, run=run_tool, **environment):
    """Train, with further flags, then test the last checkpoint.

    Args:
        config: The config.
        folder: Where the work folders and the pictures go.
        *flags: Of the training.
        run: ``run_tool``, or ``run_script`` to do the same in forks of this process.
        **environment: Variables to set.

    Returns:
        Its metrics, what the test printed, and the pictures.
    """
    run("train", config, "--work-dir", folder / "train", *flags, **environment)
    checkpoint = (folder / "train" / "last_checkpoint").read_text().strip()
    pictures = folder / "pictures"
    printed = run(
        *("test", config, checkpoint, "--work-dir", folder / "test", "--show-dir", pictures),
        **environment,
    )
    (metrics,) = (folder / "test").glob("*/*.json")
    drawn = [path for path in pictures.rglob("*") if path.suffix in (".png", ".jpg")]
    return json.loads(metrics.read_text()), printed, sorted(drawn)
