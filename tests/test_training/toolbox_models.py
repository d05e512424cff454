"""A small model of every toolbox with a backbone of ours, and a batch that it trains on."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from torch.utils.data import DataLoader

HEIGHT, WIDTH = 48, 64


def classification(backbone, size):
    """MMPretrain: images of two classes."""
    from mmpretrain.structures import DataSample

    model = dict(
        type="mmpretrain.ImageClassifier",
        backbone=backbone,
        neck=dict(type="mmpretrain.GlobalAveragePooling"),
        head=dict(type="mmpretrain.LinearClsHead", num_classes=2, in_channels=64),
    )
    return model, [DataSample().set_gt_label(i % 2) for i in range(size)]


def detection(backbone, size):
    """MMDetection: a box an image. Group norms, so that a batch may be cut into pieces."""
    from mmdet.structures import DetDataSample

    norm = dict(type="GN", num_groups=4)
    model = dict(
        type="mmdet.RTMDet",
        data_preprocessor=dict(type="mmdet.DetDataPreprocessor"),
        backbone=backbone | dict(out_indices=(1, 2)),
        neck=dict(
            type="mmdet.FPN", in_channels=[64, 128], out_channels=16, num_outs=2, norm_cfg=norm
        ),
        bbox_head=dict(
            type="mmdet.RTMDetHead",
            num_classes=2,
            in_channels=16,
            feat_channels=16,
            stacked_convs=1,
            norm_cfg=norm,
            anchor_generator=dict(type="mmdet.MlvlPointGenerator", offset=0, strides=[8, 16]),
            bbox_coder=dict(type="mmdet.DistancePointBBoxCoder"),
            loss_cls=dict(type="mmdet.QualityFocalLoss", use_sigmoid=True, beta=2.0),
            loss_bbox=dict(type="mmdet.GIoULoss", loss_weight=2.0),
        ),
        train_cfg=dict(
            assigner=dict(type="mmdet.DynamicSoftLabelAssigner", topk=5),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
    )
    samples = []
    for i in range(size):
        corners = [8.0 + 3 * i, 6.0 + 2 * i, 40.0 + 3 * i, 34.0 + 2 * i]
        box = InstanceData(bboxes=torch.tensor([corners]), labels=torch.tensor([i % 2]))
        meta = dict(img_shape=(HEIGHT, WIDTH), pad_shape=(HEIGHT, WIDTH), scale_factor=(1.0, 1.0))
        sample = DetDataSample(gt_instances=box, ignored_instances=box[:0], metainfo=meta)
        samples.append(sample)
    return model, samples


def segmentation(backbone, size):
    """MMSegmentation: VM-UNet, three classes in stripes."""
    from mmseg.structures import SegDataSample

    model = dict(
        type="mmseg.EncoderDecoder",
        data_preprocessor=dict(type="mmseg.SegDataPreProcessor", size=(HEIGHT, WIDTH)),
        backbone=backbone,
        decode_head=dict(type="mamba_mm.VMUNetHead", arch="nano", num_classes=3),
        test_cfg=dict(mode="whole"),
    )
    columns = torch.arange(WIDTH).expand(1, HEIGHT, WIDTH)
    stripes = [(columns // (8 + 4 * i)) % 3 for i in range(size)]
    meta = dict(img_shape=(HEIGHT, WIDTH))
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=stripe), metainfo=meta) for stripe in stripes
    ]
    return model, samples


def keypoints(backbone, size):
    """MMPose: heatmaps of three keypoints. No batch norms, as above.

    MMPose's accuracy of a training batch goes through NumPy, which has no bfloat16.
    """
    from mmpose.structures import PoseDataSample

    rows, columns = HEIGHT // 4, WIDTH // 4
    codec = dict(
        type="MSRAHeatmap", input_size=(WIDTH, HEIGHT), heatmap_size=(columns, rows), sigma=2
    )
    model = dict(
        type="mmpose.TopdownPoseEstimator",
        data_preprocessor=dict(type="mmpose.PoseDataPreprocessor"),
        backbone=backbone | dict(out_indices=(0,)),
        head=dict(
            type="mmpose.HeatmapHead",
            in_channels=32,
            out_channels=3,
            deconv_out_channels=None,
            loss=dict(type="mmpose.KeypointMSELoss", use_target_weight=True),
            decoder=codec,
        ),
        train_cfg=dict(compute_acc=False),
        test_cfg=dict(flip_test=False),
    )
    random = np.random.RandomState(0)
    samples = []
    for _ in range(size):
        heat = PixelData(heatmaps=torch.from_numpy(random.rand(3, rows, columns)).float())
        weights = InstanceData(keypoint_weights=torch.ones(1, 3))
        samples.append(PoseDataSample(gt_fields=heat, gt_instance_labels=weights))
    return model, samples


@dataclass(frozen=True)
class System:
    """A toolbox's model around one of our backbones.

    Attributes:
        toolbox: The toolbox's name.
        settings: Makes the model's config and data samples from the backbone's config and the
            number of images.
        backbone: The backbone's config.
    """

    toolbox: str
    settings: Callable
    backbone: dict = field(default_factory=dict)

    def build(self, **backbone):
        """Build the model, in training mode, the same for every call.

        Weights are shifted by noise: at the start the residual branches are nearly 0.
        """
        pytest.importorskip(self.toolbox)
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope(self.toolbox):
            config, _ = self.settings(self.backbone | backbone, 1)
            model = MODELS.build(config)
        for parameter in model.backbone.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        return model.train()

    def batch(self, size=4):
        """Make a batch as the toolbox's data loader collates it."""
        _, samples = self.settings({}, size)
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(size, 3, HEIGHT, WIDTH, generator=generator)
        return dict(inputs=list(images), data_samples=samples)


VMAMBA = dict(type="mamba_mm.VMamba", arch="nano")
VIM = dict(type="mamba_mm.VisionMamba", arch="nano", img_size=(HEIGHT, WIDTH))
VM_UNET = dict(type="mamba_mm.VMUNetEncoder", arch="nano")

SYSTEMS = {
    "mmdet-vmamba": System("mmdet", detection, VMAMBA),
    "mmpretrain-vim": System("mmpretrain", classification, VIM),
    "mmseg-vm_unet": System("mmseg", segmentation, VM_UNET),
    "mmpose-vmamba": System("mmpose", keypoints, VMAMBA),
}

# The same small classifier around every backbone, for what depends on nothing else.
CLASSIFIERS = {
    "vmamba": System("mmpretrain", classification, VMAMBA | dict(out_indices=(1,))),
    "vim": SYSTEMS["mmpretrain-vim"],
    "vm_unet": System("mmpretrain", classification, VM_UNET | dict(out_indices=(1,))),
}


def loader(batches):
    """Return a data loader of batches that are made already."""
    return DataLoader(batches, collate_fn=operator.itemgetter(0))


def losses_of(model, batch):
    """Preprocess a batch and return the total loss, as ``train_step`` does."""
    data = model.data_preprocessor(batch, training=True)
    total, _ = model.parse_losses(model(**data, mode="loss"))
    return total


def gradients_of(model):
    """Return the gradient of every parameter that has one."""
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
