"""Strict loading: what may differ, what is refused, and that a refusal changes nothing."""

import dataclasses
import hashlib
import logging

import pytest
import torch
from checkpoint_samples import (
    S1,
    V0,
    body,
    classifier,
    is_unchanged,
    random_backbone,
    snapshot,
    spelling_d,
)
from mmengine.logging import MMLogger
from mmengine.registry import MODELS

from mamba_mm.models import VMamba
from mamba_mm.models.utils import CheckpointError, load_pretrained_vmamba
from mamba_mm.models.utils.checkpoint import (
    ArchMismatchError,
    CheckpointFormatError,
    CheckpointReadError,
    NonFiniteWeightsError,
    StateMismatchError,
)

HEAD = ("classifier.head.weight", "classifier.head.bias")
NORM = ("classifier.norm.weight", "classifier.norm.bias")


@pytest.fixture
def saved(tmp_path):
    def save(state, container="model"):
        path = tmp_path / "file.pth"
        torch.save({container: state} if container else state, path)
        return path

    return save


@pytest.fixture
def log(caplog):
    """What goes to MMEngine's current logger."""
    logger = MMLogger.get_instance("checkpoint-test")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def refuses(model, path, error, match, **kwargs):
    """Assert that a load raises, and that the model is as it was before."""
    before = snapshot(model)
    with pytest.raises(error, match=match) as caught:
        load_pretrained_vmamba(model, path, **kwargs)
    assert is_unchanged(model, before)
    assert isinstance(caught.value, CheckpointError)
    return caught.value


# What may differ.


@pytest.mark.parametrize("container", ["model", "state_dict", None])
def test_classification_file_into_a_backbone(container, saved):
    source, model = random_backbone(S1), random_backbone(S1, seed=5)
    norms = {k: v for k, v in snapshot(model).items() if k.startswith("outnorm")}
    path = saved(classifier(source), container)
    report = load_pretrained_vmamba(model, path)
    assert set(report.dropped) == {*NORM, *HEAD}
    assert set(report.left_initial) == set(norms)
    assert len(norms) == 8
    assert set(report.copied) == set(body(source))
    for key, value in model.state_dict().items():
        assert torch.equal(value, norms.get(key, source.state_dict()[key]))
    assert report.container == (container or "bare state dict")
    assert report.arch == "custom"
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_backbone_with_the_last_output_alone_takes_the_classifiers_norm(saved):
    state = classifier(random_backbone(S1))
    model = random_backbone(S1, seed=5, out_indices=(3,))
    report = load_pretrained_vmamba(model, saved(state))
    assert set(report.dropped) == set(HEAD)
    assert report.left_initial == ()
    assert torch.equal(model.outnorm3.weight, state["classifier.norm.weight"])


@pytest.mark.parametrize("head", [True, False], ids=["with head", "head dropped"])
def test_a_converted_classifier_is_treated_as_the_official_one(head, saved):
    classifier_backbone = random_backbone(S1, out_indices=(3,))
    state = {f"backbone.{k}": v for k, v in classifier_backbone.state_dict().items()}
    state |= {"head.fc.weight": torch.ones(10, 128), "head.fc.bias": torch.ones(10)} if head else {}
    path = saved(state, "state_dict")

    dense = random_backbone(S1, seed=5)
    norm = dense.outnorm3.weight.detach().clone()
    report = load_pretrained_vmamba(dense, path)
    assert report.dropped == ("outnorm3.weight", "outnorm3.bias")
    assert len(report.left_initial) == 8
    assert torch.equal(dense.outnorm3.weight, norm)
    assert report.ignored_modules == ((("head", 2),) if head else ())

    alone = random_backbone(S1, seed=5, out_indices=(3,))
    assert load_pretrained_vmamba(alone, path).left_initial == ()
    assert torch.equal(alone.outnorm3.weight, classifier_backbone.outnorm3.weight)


def test_detector_file_fills_every_norm_and_drops_the_unused(saved):
    source = random_backbone(S1)
    path = saved(spelling_d(source.state_dict()), "state_dict")
    model = random_backbone(S1, seed=5)
    report = load_pretrained_vmamba(model, path)
    assert is_unchanged(model, source.state_dict())
    assert (report.dropped, report.left_initial) == ((), ())
    assert report.ignored_modules == (("neck", 2),)

    fewer = random_backbone(S1, seed=5, out_indices=(1, 3))
    dropped = load_pretrained_vmamba(fewer, path).dropped
    assert {key.split(".")[0] for key in dropped} == {"outnorm0", "outnorm2"}
    assert torch.equal(fewer.outnorm1.weight, source.outnorm1.weight)


def test_a_prefix_can_be_named(saved):
    source, model = random_backbone(S1), random_backbone(S1, seed=5)
    path = saved({f"student.backbone.{k}": v for k, v in source.state_dict().items()})
    load_pretrained_vmamba(model, path, prefix="student.backbone")
    assert is_unchanged(model, source.state_dict())
    refuses(model, path, CheckpointFormatError, "'teacher.'", prefix="teacher.")


def test_half_precision_weights_are_widened(saved):
    source, model = random_backbone(S1), random_backbone(S1, seed=5)
    load_pretrained_vmamba(model, saved({k: v.half() for k, v in source.state_dict().items()}))
    assert model.patch_embed[0].weight.dtype == torch.float32
    assert is_unchanged(model, {k: v.half().float() for k, v in source.state_dict().items()})


def test_the_report_is_frozen_and_logged(saved, log):
    report = load_pretrained_vmamba(random_backbone(S1), saved(classifier(random_backbone(S1))))
    assert (log.records[-1].levelno, log.messages[-1]) == (logging.INFO, str(report))
    assert "left initial (8)" in str(report)
    assert report.sha256 in str(report)
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.arch = "other"


# What is refused.


def test_another_architecture_is_refused_before_copying(saved):
    path = saved(classifier(random_backbone(S1)))
    error = refuses(random_backbone(V0), path, ArchMismatchError, "nothing was loaded")
    marked = [line.split() for line in str(error).splitlines() if line.startswith("* ")]
    rows = {field: values for _, field, *values in marked}
    assert rows["gate"] == ["False", "True"]
    assert rows["d_state"] == ["1", "4"]
    assert rows["patch_embed"] == ["v2", "v1"]
    assert rows["ssm_ratio"] == ["1.0", "2.0"]
    assert "dims" not in rows


def test_presets_are_named_when_they_differ(saved):
    with torch.device("meta"):
        shapes = VMamba("nano").state_dict()
    path = saved({key: torch.zeros(value.shape) for key, value in shapes.items()})
    model = VMamba(dict(base="nano", depths=(1, 1, 3, 1)))
    error = refuses(model, path, ArchMismatchError, "weights of nano, but the model is a custom")
    assert "* depths       1, 1, 2, 1        1, 1, 3, 1" in str(error)


def test_mamba2_files_are_named_as_such(saved):
    state = classifier(random_backbone(S1))
    wrapped = {k.replace("op.conv2d.", "op.conv2d.1."): v for k, v in state.items()}
    refuses(random_backbone(S1), saved(wrapped), CheckpointFormatError, "Mamba-2")
    heads = {k: v for k, v in state.items() if not k.endswith("dt_projs_weight")}
    heads |= {k: torch.zeros(4, 1) for k in state if k.endswith("A_logs")}
    refuses(random_backbone(S1), saved(heads), CheckpointFormatError, "Mamba-2")


def test_missing_unexpected_and_misshapen_keys_come_in_one_error(saved):
    state = classifier(random_backbone(S1))
    lost = ("layers.1.blocks.1.op.Ds", "patch_embed.2.bias")
    for key in lost:
        del state[key]
    state["layers.1.blocks.1.op.extra"] = torch.ones(1)
    state["layers.3.blocks.0.op.A_logs"] = torch.ones(7, 1)
    state["layers.3.blocks.0.norm.weight"] = torch.ones(128, dtype=torch.int8)
    error = refuses(random_backbone(S1), saved(state), StateMismatchError, "2 keys missing, 1 unex")
    assert set(error.missing) == set(lost)
    assert error.unexpected == ("layers.1.blocks.1.op.extra",)
    assert set(error.mismatched) == {
        "layers.3.blocks.0.op.A_logs: (7, 1), (512, 1)",
        "layers.3.blocks.0.norm.weight: (128,) int8, (128,)",
    }
    for key in (*error.missing, *error.unexpected, *error.mismatched):
        assert key in str(error)


def test_a_body_without_any_norm_is_incomplete(saved):
    path = saved(body(random_backbone(S1)))
    error = refuses(random_backbone(S1), path, StateMismatchError, "8 keys missing")
    assert all(key.startswith("outnorm") for key in error.missing)


def test_a_detector_file_with_too_few_norms_is_incomplete(saved):
    path = saved(random_backbone(S1, out_indices=(1, 2, 3)).state_dict())
    error = refuses(random_backbone(S1), path, StateMismatchError, "2 keys missing")
    assert error.missing == ("outnorm0.weight", "outnorm0.bias")


def test_foreign_files_are_refused(saved):
    resnet = {"conv1.weight": torch.ones(64, 3, 7, 7), "layer1.0.bn1.weight": torch.ones(64)}
    refuses(random_backbone(S1), saved(resnet), CheckpointFormatError, r"(?s)spelling.*conv1\.wei")


def test_nothing_matched_is_refused(saved):
    state = {key: value for key, value in classifier(random_backbone(S1)).items() if key in HEAD}
    refuses(random_backbone(S1), saved(state), StateMismatchError, r"(?s)not one.*classifier\.head")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_weights_are_refused(saved, value):
    state = classifier(random_backbone(S1))
    state["layers.2.blocks.0.op.A_logs"][3] = value
    refuses(
        random_backbone(S1),
        saved(state),
        NonFiniteWeightsError,
        r"(?s)in \(1\):\n  layers\.2\.blocks\.0\.op\.A_logs$",
    )


def test_numbers_that_overflow_in_the_model_are_refused(saved):
    state = {k: v.double() for k, v in classifier(random_backbone(S1)).items()}
    state["patch_embed.0.bias"][0] = 1e300
    refuses(random_backbone(S1), saved(state), NonFiniteWeightsError, r"patch_embed\.0\.bias")


def test_unreadable_files_leave_the_model_alone(tmp_path, saved):
    model = random_backbone(S1)
    refuses(model, "", CheckpointReadError, "empty")
    refuses(model, tmp_path / "absent.pth", CheckpointReadError, "no checkpoint file")
    path = saved(classifier(model))
    path.write_bytes(path.read_bytes()[:-500])
    refuses(model, path, CheckpointReadError, "truncated")
    refuses(model, saved(torch.ones(2), None), CheckpointFormatError, "holds a Tensor")
    refuses(model, saved({}, "weights"), CheckpointFormatError, "no state dict")


def test_what_does_not_fit_is_skipped_only_when_named(saved, log):
    state = classifier(random_backbone(S1))
    state["pos_embed"] = torch.ones(1)
    path = saved(state)
    grey = random_backbone(S1, in_channels=1)
    stem = grey.patch_embed[0].weight.detach().clone()
    refuses(grey, path, StateMismatchError, "1 unexpected", allow=["patch_embed.0.weight"])

    report = load_pretrained_vmamba(grey, path, allow=["patch_embed.0.*", "pos_*"])
    assert set(report.skipped) == {"patch_embed.0.weight", "pos_embed"}
    assert "patch_embed.0.weight" in report.left_initial
    assert torch.equal(grey.patch_embed[0].weight, stem)
    warned = [record.getMessage() for record in log.records if record.levelname == "WARNING"]
    assert len(warned) == 2
    assert any("patch_embed.0.weight" in line for line in warned)


# Through the configs.


def test_init_cfg_loads_through_the_registry(saved):
    source = random_backbone(S1)
    init_cfg = dict(type="Pretrained", checkpoint=str(saved(classifier(source))))
    model = MODELS.build(dict(type="mamba_mm.VMamba", arch=S1, init_cfg=init_cfg))
    model.init_weights()
    assert all(torch.equal(model.state_dict()[key], value) for key, value in body(source).items())


@pytest.mark.parametrize("checkpoint", ["", "absent.pth"])
def test_init_cfg_raises_where_the_official_code_prints(checkpoint):
    init_cfg = dict(type="Pretrained", checkpoint=checkpoint)
    with pytest.raises(CheckpointReadError):
        VMamba(S1, init_cfg=init_cfg).init_weights()


def test_init_cfg_inside_a_detector(saved):
    pytest.importorskip("mmdet")
    from mmdet.registry import MODELS as DETECTORS
    from mmengine.registry import DefaultScope

    source = random_backbone(S1)
    init_cfg = dict(type="Pretrained", checkpoint=str(saved(classifier(source))))
    detector = dict(
        type="RetinaNet",
        backbone=dict(type="mamba_mm.VMamba", arch=S1, init_cfg=init_cfg),
        neck=dict(type="FPN", in_channels=[16, 32, 64, 128], out_channels=8, num_outs=5),
        bbox_head=dict(
            type="RetinaHead", num_classes=2, in_channels=8, feat_channels=8, stacked_convs=1
        ),
    )
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = DETECTORS.build(detector)
        model.init_weights()
    weights = model.backbone.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in body(source).items())

    # What training of that detector writes fills the next backbone, norms included.
    path = saved(model.state_dict(), "state_dict")
    again = random_backbone(S1, seed=5)
    report = load_pretrained_vmamba(again, path)
    assert is_unchanged(again, weights)
    assert dict(report.ignored_modules).keys() == {"neck", "bbox_head"}
