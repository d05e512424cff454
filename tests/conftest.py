"""What all tests share."""

import functools
import gc
import importlib.util
from pathlib import Path

import pytest

# What is imported and collected stays: until that is done there is no garbage worth a search.
gc.disable()


@pytest.fixture(autouse=True, scope="session")
def metafiles_of_toolboxes_are_read_once():
    """For each base such as ``mmdet::...`` MMEngine parses all metafiles of the toolbox."""
    if importlib.util.find_spec("mmengine") is None:  # the ops are tested without it, too
        yield
        return
    import mmengine.config.utils as utils

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "load", functools.cache(utils.load))
        yield


@pytest.fixture
def amp_on_cpu(monkeypatch):
    """Let MMEngine's ``AmpOptimWrapper``, which is for GPUs alone, run on the CPU.

    The check for a GPU says yes, and PyTorch's scaler and autocast are told the device.
    """
    import torch

    wrapper = "mmengine.optim.optimizer.amp_optimizer_wrapper"
    monkeypatch.setattr(f"{wrapper}.is_cuda_available", lambda: True)
    scaler = functools.partial(torch.amp.GradScaler, device="cpu")
    monkeypatch.setattr(f"{wrapper}.GradScaler", scaler)
    monkeypatch.setattr("mmengine.runner.amp.autocast", functools.partial(torch.autocast, "cpu"))


# Folders of tests that take longest, longest first.
LONGEST = ("test_training", "test_ops", "test_configs", "test_tools", "test_models")


def pytest_collection_modifyitems(items):
    """Start with what takes longest, or one process would work on it alone at the end."""

    def place(item):
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        return LONGEST.index(folder) if folder in LONGEST else len(LONGEST)

    items.sort(key=place)


def pytest_collection_finish():
    """Search for garbage from here on, but not in what was there before."""
    gc.freeze()
    gc.enable()
