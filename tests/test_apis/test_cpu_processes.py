import pytest
import torch

from mamba_mm.apis.cpu_processes import LAUNCHED, join_cpu_processes

LAUNCH = dict.fromkeys(LAUNCHED, "1") | {"RANK": "0"}


@pytest.fixture
def joined(monkeypatch):
    """The backends of the groups that were joined, of which none is really made."""
    backends = []
    monkeypatch.setattr(torch.distributed, "init_process_group", backends.append)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    for name, value in LAUNCH.items():
        monkeypatch.setenv(name, value)
    return backends


@pytest.mark.parametrize("flags", [["--launcher", "pytorch"], ["--launcher=pytorch", "--amp"]])
def test_launched_processes_join(joined, flags):
    assert join_cpu_processes(["config.py", *flags])
    assert joined == ["gloo"]


@pytest.mark.parametrize("flags", [[], ["--launcher", "none"], ["--launcher", "slurm"]])
def test_other_launchers_are_left_alone(joined, flags):
    assert not join_cpu_processes(["config.py", *flags])
    assert not joined


@pytest.mark.parametrize("missing", LAUNCHED)
def test_a_process_that_was_not_launched_stays_alone(joined, missing, monkeypatch):
    monkeypatch.delenv(missing)
    assert not join_cpu_processes(["config.py", "--launcher", "pytorch"])
    assert not joined


def test_with_a_gpu_it_is_mmengines_business(joined, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert not join_cpu_processes(["config.py", "--launcher", "pytorch"])
    assert not joined


def test_a_group_that_exists_is_kept(joined, monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    assert not join_cpu_processes(["config.py", "--launcher", "pytorch"])
    assert not joined
