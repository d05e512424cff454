"""Several trainings at once: so many at a time, ended together."""

import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("mmengine")

import torch

from mamba_mm.measuring.repeated_training import Training
from mamba_mm.measuring.side_by_side import Processes, threads_of_each, train_side_by_side

SCRIPT = Path("tools/train.py")


@pytest.fixture
def trainings(tmp_path):
    return [Training(Path("c.py"), seed, tmp_path / f"seed-{seed}", {}, ()) for seed in range(4)]


def seed_of(command):
    return int(command[command.index("--cfg-options") + 1].split("=")[1])


def test_so_many_run_at_a_time(trainings):
    together = threading.Barrier(2, timeout=20)  # breaks unless two come at the same time
    running, most = [], []

    def launch(command, log):
        running.append(command)
        most.append(len(running))
        together.wait()
        running.remove(command)
        return 0

    ended = list(train_side_by_side(trainings, SCRIPT, 2, launch))
    assert sorted(t.seed for t, done in ended if done) == [0, 1, 2, 3]
    assert max(most) == 2


def test_one_at_a_time_keeps_the_order_and_failures_do_not_stop_the_rest(trainings):
    started = []

    def launch(command, log):
        started.append(seed_of(command))
        return 1 if started[-1] == 1 else 0

    ended = list(train_side_by_side(trainings, SCRIPT, 1, launch))
    assert started == [0, 1, 2, 3]
    assert {t.seed: done for t, done in ended} == {0: True, 1: False, 2: True, 3: True}


def test_what_a_check_raises_ends_them_all(trainings):
    started, stopped = [], []

    def check(training):
        if training.seed == 1:
            raise ValueError("changed")

    def launch(command, log):
        started.append(seed_of(command))
        return 0

    ended = train_side_by_side(
        trainings, SCRIPT, 1, launch, check=check, stop=lambda: stopped.append(True)
    )
    assert next(ended)[0].seed == 0
    with pytest.raises(ValueError, match="changed"):
        list(ended)
    assert 1 not in started
    assert stopped == [True]


def test_closing_ends_what_runs_and_starts_nothing_more(trainings):
    """The seconds that the processes would sleep are not waited for."""
    processes = Processes(1)
    commands = []

    def launch(command, log):
        commands.append(command)
        seconds = 0 if seed_of(command) == 0 else 60
        return processes(["sleep", str(seconds)], log)

    ended = train_side_by_side(trainings, SCRIPT, 2, launch, stop=processes.stop)
    start = time.monotonic()
    training, done = next(ended)
    assert (training.seed, done) == (0, True)
    ended.close()
    assert time.monotonic() - start < 20
    assert len(commands) < 4
    assert not any(t.finished for t in trainings[1:])


def test_a_process_gets_its_threads_and_adds_to_the_log(tmp_path):
    log = tmp_path / "train.log"
    log.write_text("before\n")
    program = "import os, sys; print(os.environ['OMP_NUM_THREADS']); sys.exit(3)"
    processes = Processes(7)
    assert processes([sys.executable, "-S", "-c", program], log) == 3
    assert log.read_text() == "before\n7\n"
    processes.stop()
    assert processes([sys.executable, "-S", "-c", program], log) != 0
    assert log.read_text() == "before\n7\n"


def test_threads_are_shared_out(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert [threads_of_each(jobs) for jobs in (1, 3, 20)] == [8, 2, 1]
    with pytest.raises(ValueError, match="at least 1 training"):
        threads_of_each(0)
