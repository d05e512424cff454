"""Trainings are done in turns, once each, and go on where they were interrupted."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("mmengine")
from mamba_mm.measuring.repeated_training import (
    OtherRecipeError,
    end_of,
    in_turns,
    one_call_at_a_time,
    refuse_repeated,
    run_logged,
    train,
)

OURS, THEIRS = Path("a/ours.py"), Path("b/theirs.py")
SCRIPT = Path("tools/train.py")


class FakeScript:
    """Takes commands as a process would; returns the statuses that it was given."""

    def __init__(self, *statuses):
        self.statuses, self.commands = list(statuses), []

    def __call__(self, command, log):
        self.commands.append(command)
        log.write_text("printed\n")
        return self.statuses.pop(0)


@pytest.fixture
def trainings(tmp_path):
    return in_turns(
        {OURS: {"lr": "1"}, THEIRS: {"lr": "1"}},
        [0, 7],
        tmp_path,
        {OURS: ["x=1"], THEIRS: ["x=2", "y=3"]},
    )


def test_each_seed_is_done_for_all_before_the_next(trainings, tmp_path):
    assert [(t.config, t.seed) for t in trainings] == [
        *((OURS, 0), (THEIRS, 0)),
        *((OURS, 7), (THEIRS, 7)),
    ]
    assert trainings[3].folder == tmp_path / "theirs" / "seed-7"


def test_the_command_is_that_of_a_user(trainings):
    script = FakeScript(0)
    assert train(trainings[3], SCRIPT, script)

    assert script.commands == [
        [
            *(sys.executable, "tools/train.py", "b/theirs.py"),
            *("--work-dir", str(trainings[3].folder)),
            *("--cfg-options", "randomness.seed=7", "x=2", "y=3"),
        ]
    ]


def test_a_finished_training_is_not_done_again(trainings):
    script = FakeScript(0)
    assert train(trainings[0], SCRIPT, script)
    assert train(trainings[0], SCRIPT, script)
    assert len(script.commands) == 1


def test_a_failed_training_is_tried_again(trainings):
    script = FakeScript(1, 0)
    assert not train(trainings[0], SCRIPT, script)
    assert not trainings[0].finished
    assert train(trainings[0], SCRIPT, script)
    assert trainings[0].finished


def test_an_interrupted_training_goes_on_from_its_checkpoint(trainings):
    class Interrupted(FakeScript):
        def __call__(self, command, log):
            super().__call__(command, log)
            (log.parent / "last_checkpoint").write_text("epoch_1.pth")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(trainings[0], SCRIPT, Interrupted(0))
    assert not trainings[0].finished

    script = FakeScript(0)
    assert train(trainings[0], SCRIPT, script)
    (command,) = script.commands
    # Before --cfg-options, which would take it for one of its own.
    assert command.index("--resume") == command.index("--cfg-options") - 1


def test_a_folder_of_another_recipe_is_left_alone(trainings, tmp_path):
    assert train(trainings[0], SCRIPT, FakeScript(0))
    (other, *_) = in_turns({OURS: {"lr": "2"}}, [0], tmp_path, {OURS: []})

    with pytest.raises(OtherRecipeError, match=r"ours/seed-0 holds .*\n  lr: 1 / 2"):
        train(other, SCRIPT, FakeScript())
    assert json.loads((other.folder / "recipe.json").read_text()) == {"lr": "1"}


def test_output_and_errors_are_added_to_the_log(tmp_path):
    log = tmp_path / "train.log"
    log.write_text("before\n")
    program = "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(3)"

    assert run_logged([sys.executable, "-S", "-c", program], log) == 3
    assert log.read_text() == "before\nout\nerr\n"
    assert end_of(log, lines=2) == "out\nerr"


def test_one_call_at_a_time_has_a_folder(tmp_path):
    folder = tmp_path / "new" / "work"
    with one_call_at_a_time(folder):
        with pytest.raises(BlockingIOError, match=r"another call still trains in .*work"):
            one_call_at_a_time(folder).__enter__()
        with one_call_at_a_time(tmp_path / "other"):
            pass
    with one_call_at_a_time(folder):
        pass


def test_what_would_share_a_folder_is_refused():
    refuse_repeated("seed", [0, 1])
    with pytest.raises(ValueError, match="seed 1 was given twice"):
        refuse_repeated("seed", [1, 0, 1])
