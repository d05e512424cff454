"""Recipes are compared by name, and fitted to another number of epochs."""

import logging

import pytest

pytest.importorskip("mmengine")
from mmengine.config import Config
from mmengine.logging import MMLogger, print_log

from mamba_mm.measuring.recipes import (
    ABSENT,
    differences,
    differences_beside_the_backbone,
    listed,
    options_for_epochs,
    read_config,
    recipe_of,
)


def config(**changes):
    content = dict(
        model=dict(
            type="RTMDet",
            backbone=dict(type="mamba_mm.VMamba", arch="nano"),
            neck=dict(type="FPN", in_channels=[64, 128], out_channels=48),
        ),
        optim_wrapper=dict(optimizer=dict(type="AdamW", lr=2e-3)),
        train_dataloader=dict(batch_size=16),
        randomness=dict(seed=0),
        work_dir="here",
        helper=3,
    )
    made = Config(content)
    made.merge_from_dict(changes)
    return made


def beside_the_backbone(**changes):
    return differences_beside_the_backbone(recipe_of(config()), recipe_of(config(**changes)))


def test_a_config_is_read_in_silence_that_ends_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_OF_A_TEST", "there")
    path = tmp_path / "config.py"
    path.write_text('data_root = "{{$DATA_OF_A_TEST:nowhere}}"')
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    try:
        assert read_config(path).data_root == "there"
        assert records == []
        print_log("heard", logger="current")
    finally:
        logger.removeHandler(handler)
    assert records == ["heard"]


def test_a_changed_learning_rate_is_named_with_both_values():
    found = beside_the_backbone(**{"optim_wrapper.optimizer.lr": 1e-3})

    assert found == {"optim_wrapper.optimizer.lr": ("0.002", "0.001")}
    assert "optim_wrapper.optimizer.lr: 0.002 / 0.001" in listed(found)


@pytest.mark.parametrize(
    "name",
    ["train_dataloader.batch_size", "model.neck.out_channels", "model.type", "optim_wrapper.type"],
)
def test_data_neck_and_head_must_be_equal(name):
    assert list(beside_the_backbone(**{name: 17})) == [name]


def test_what_only_one_has_is_absent_in_the_other():
    assert beside_the_backbone(custom_hooks=[dict(type="EMAHook")]) == {
        "custom_hooks.0.type": (ABSENT, "'EMAHook'")
    }
    assert beside_the_backbone(param_scheduler=[]) == {"param_scheduler": (ABSENT, "[]")}


def test_the_backbone_its_channels_the_seed_and_helpers_may_differ():
    found = beside_the_backbone(
        **{
            "model.backbone": dict(type="mmdet.ResNet", depth=18),
            "model.neck.in_channels": [48, 96, 192],
            "randomness.seed": 1,
            "work_dir": "there",
            "helper": 4,
        }
    )
    assert found == {}


def test_a_part_that_is_only_called_like_the_backbone_must_be_equal():
    assert beside_the_backbone(**{"model.backbones": 1}).keys() == {"model.backbones"}
    assert beside_the_backbone(**{"model.neck.in_channels_of": 1})


def test_the_backbone_counts_for_a_run_of_its_own():
    found = differences(recipe_of(config()), recipe_of(config(**{"model.backbone.arch": "tiny"})))
    assert list(found) == ["model.backbone.arch"]


def scheduled(**changes):
    return Config(
        dict(
            train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=12, val_interval=12),
            param_scheduler=[
                dict(type="LinearLR", by_epoch=False, begin=0, end=500),
                dict(type="MultiStepLR", begin=0, end=12, milestones=[8, 11], gamma=0.1),
                dict(type="CosineAnnealingLR", begin=6, T_max=6, end=10**9, eta_min=1e-5),
            ],
            **changes,
        )
    )


def test_a_schedule_shrinks_with_the_training_and_the_warm_up_stays():
    shorter = scheduled()
    shorter.merge_from_dict(options_for_epochs(shorter, 4))

    assert shorter.train_cfg.max_epochs == 4
    warm_up, steps, cosine = shorter.param_scheduler
    assert (warm_up.begin, warm_up.end) == (0, 500)
    assert (steps.begin, steps.end, steps.milestones) == (0, 4, [3, 4])
    assert (cosine.begin, cosine.T_max, cosine.end) == (2, 2, 10**9)
    assert cosine.eta_min == 1e-5


def test_a_schedule_grows_with_the_training_and_may_be_a_single_one():
    single = Config(
        dict(train_cfg=dict(max_epochs=2), param_scheduler=dict(type="CosineAnnealingLR", T_max=2))
    )
    assert options_for_epochs(single, 5) == {
        "train_cfg.max_epochs": 5,
        "param_scheduler.T_max": 5,
    }
    assert options_for_epochs(Config(dict(train_cfg=dict(max_epochs=2))), 5) == {
        "train_cfg.max_epochs": 5
    }


def test_epochs_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="got 0"):
        options_for_epochs(scheduled(), 0)
    with pytest.raises(ValueError, match="max_iters"):
        options_for_epochs(Config(dict(train_cfg=dict(max_iters=100))), 3)
