"""Whole models are built without files of weights and run on images alone."""

import pytest
import torch

pytest.importorskip("mmdet")
pytest.importorskip("mmpretrain")

from mmengine.logging import MMLogger
from small_configs import PRETRAINED, VMAMBA, classifier, read
from torch import nn

from mamba_mm.comparison.configs import read_configs
from mamba_mm.comparison.models import TensorForward, build_model, without_pretrained
from mamba_mm.comparison.sets import Entry


def test_references_to_files_of_weights_are_left_out():
    kaiming = dict(type="Kaiming", layer="Conv2d")
    model = dict(
        pretrained="torchvision://resnet50",
        backbone=dict(depth=50, init_cfg=PRETRAINED),
        neck=dict(init_cfg=[kaiming, PRETRAINED]),
        heads=[dict(init_cfg=kaiming)],
    )
    assert without_pretrained(model) == dict(
        backbone=dict(depth=50), neck=dict(init_cfg=[kaiming]), heads=[dict(init_cfg=kaiming)]
    )


def test_weights_are_initialised_and_repeatable(tmp_path, caplog):
    logger = MMLogger.get_instance("has_logged", log_level="DEBUG")
    logger.debug("so that it remembers that it may")
    caplog.clear()
    config = read(tmp_path / "vmamba.py", VMAMBA)
    one, two = (build_model(config).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert one["head.fc.weight"].std() == pytest.approx(0.01, rel=0.1)  # by the head's initialiser
    assert caplog.text == ""


def test_synchronised_norms_become_plain_ones(tmp_path):
    backbone = dict(type="ResNet", depth=18, norm_cfg=dict(type="SyncBN"))
    model = build_model(read(tmp_path / "r.py", classifier(backbone, 512)))
    kinds = {type(m) for m in model.modules() if "norm" in type(m).__name__.lower()}
    assert nn.SyncBatchNorm not in kinds
    assert kinds
    assert not any(m.training for m in model.modules())


def test_a_detector_with_two_stages_runs_to_its_heads():
    (config,) = read_configs([Entry("mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py")])
    config.config.merge_from_dict(
        {
            "model.backbone.depth": 18,
            "model.backbone.base_channels": 8,
            "model.neck.in_channels": [8, 16, 32, 64],
            "model.neck.out_channels": 16,
            "model.rpn_head.in_channels": 16,
            "model.rpn_head.feat_channels": 16,
            "model.roi_head.bbox_roi_extractor.out_channels": 16,
            "model.roi_head.mask_roi_extractor.out_channels": 16,
            "model.roi_head.bbox_head.in_channels": 16,
            "model.roi_head.bbox_head.fc_out_channels": 16,
            "model.roi_head.mask_head.in_channels": 16,
            "model.roi_head.mask_head.conv_out_channels": 16,
            "model.test_cfg.rpn.max_per_img": 20,
        }
    )
    model = TensorForward(build_model(config))
    with torch.no_grad():
        scores, boxes, masks = model(torch.randn(2, 3, 64, 96))
    assert scores.shape == (40, 81)
    assert boxes.shape == (40, 320)
    assert masks.shape[1:] == (80, 28, 28)
