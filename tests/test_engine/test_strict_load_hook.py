"""A checkpoint is loaded completely, or the training does not start."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, get_priority
from torch import nn

from mamba_mm.models.utils import CheckpointError

NEW = ("decoder.*", "prior.*")


class Model(nn.Module):
    def __init__(self, *parts):
        super().__init__()
        for part in parts:
            setattr(self, part, nn.Linear(2, 2))


def runner_of(model, resume=False, training=True, loaded=True):
    """What the hook looks at."""
    return SimpleNamespace(
        model=model,
        _train_loop=EpochBasedTrainLoop.__new__(EpochBasedTrainLoop) if training else {},
        _resume=resume,
        _load_from="first.pth",
        _has_loaded=loaded,
    )


def load(checkpoint, new=NEW, **settings):
    hook = HOOKS.build(dict(type="mamba_mm.StrictLoadHook", new=new))
    model = Model("backbone", "decoder")
    hook.after_load_checkpoint(runner_of(model, **settings), checkpoint)


def first_stage(*parts):
    return dict(state_dict=Model(*parts or ("backbone",)).state_dict())


def test_what_is_new_is_counted(monkeypatch):
    lines = []
    monkeypatch.setattr(
        "mamba_mm.engine.strict_load_hook.print_log", lambda line, **_: lines.append(line)
    )
    load(first_stage())
    load(first_stage("backbone", "decoder"))
    load(first_stage()["state_dict"])  # without a container
    assert lines[0] == lines[2]
    assert lines[0].startswith("All 2 tensors of the checkpoint")
    assert lines[0].endswith("initial values: decoder.* (2)")
    assert lines[1].endswith("initial values: none")


def test_a_wrapped_model_is_compared_under_its_own_names():
    hook = HOOKS.build(dict(type="mamba_mm.StrictLoadHook"))
    wrapped = nn.DataParallel(Model("backbone"))
    hook.after_load_checkpoint(runner_of(wrapped), first_stage())


def test_what_the_file_should_have_is_missing():
    checkpoint = first_stage()
    del checkpoint["state_dict"]["backbone.bias"]
    with pytest.raises(CheckpointError, match=r"(?s)first\.pth .*1 keys missing.*backbone\.bias"):
        load(checkpoint)
    with pytest.raises(CheckpointError, match=r"2 keys missing"):
        load(first_stage(), new=())


def test_what_the_model_has_no_place_for():
    with pytest.raises(CheckpointError, match=r"(?s)2 unexpected.*neck\.weight"):
        load(first_stage("backbone", "neck"))


def test_another_shape_and_no_numbers():
    checkpoint = first_stage()
    checkpoint["state_dict"]["backbone.bias"] = torch.zeros(3)
    with pytest.raises(CheckpointError, match="1 of another shape"):
        load(checkpoint)
    checkpoint["state_dict"]["backbone.bias"] = torch.full((2,), torch.nan)
    with pytest.raises(CheckpointError, match="NaN"):
        load(checkpoint)


@pytest.mark.parametrize("settings", [dict(resume=True), dict(training=False)], ids=str)
def test_nothing_is_new_in_what_is_resumed_or_tested(settings):
    load(first_stage("backbone", "decoder"), **settings)
    with pytest.raises(CheckpointError, match="2 keys missing"):
        load(first_stage(), **settings)


def test_a_training_from_nothing():
    """As ``--resume`` does in an empty work folder, where MMPose has forgotten ``load_from``."""
    hook = HOOKS.build(dict(type="mamba_mm.StrictLoadHook"))
    hook.before_train(runner_of(Model("backbone")))
    with pytest.raises(ValueError, match="load_from"):
        hook.before_train(runner_of(Model("backbone"), loaded=False))


def test_it_comes_before_the_moving_average():
    hook = HOOKS.build(dict(type="mamba_mm.StrictLoadHook"))
    average = HOOKS.build(dict(type="EMAHook"))
    assert get_priority(hook.priority) < get_priority(average.priority)
    with pytest.raises(TypeError, match="list of patterns"):
        HOOKS.build(dict(type="mamba_mm.StrictLoadHook", new="head.*"))
