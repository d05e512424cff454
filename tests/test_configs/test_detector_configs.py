"""RTMDet with VMamba and Cascade Mask R-CNN with Vim: what the configs say, and that they work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

from mamba_mm.layers import LayerNorm2d
from mamba_mm.models import VIM_ARCHS, VMAMBA_ARCHS

pytest.importorskip("mmdet", reason="the configs need mmdet")
pytest.importorskip("mmcv.ops", reason="the detectors need mmcv's compiled ops")

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "mmdet"
RTMDET = {
    "rtmdet_vmamba-t_8xb32-300e_coco": ("tiny_s1l8", 0.2, "vssm1_tiny_0230s_ckpt_epoch_264"),
    "rtmdet_vmamba-s_8xb32-300e_coco": ("small_s2l15", 0.3, "vssm_small_0229_ckpt_epoch_222"),
    "rtmdet-ins_vmamba-t_8xb32-300e_coco": ("tiny_s1l8", 0.2, "vssm1_tiny_0230s_ckpt_epoch_264"),
}
CASCADE = {
    "cascade-mask-rcnn_vim-t_simple-fpn_lsj-100e_coco": "tiny",
    "cascade-mask-rcnn_vim-s_simple-fpn_lsj-100e_coco": "small",
}

# Of the models that are trained here.
NANO_RTMDET = {
    "backbone.arch": "nano",
    "neck.in_channels": [64, 128, 256],
    "neck.out_channels": 32,
    "bbox_head.in_channels": 32,
    "bbox_head.feat_channels": 32,
}
NANO_CASCADE = {
    "data_preprocessor.pad_size_divisor": 64,
    "backbone.arch": "nano",
    "backbone.img_size": 64,
    "neck.in_channels": 64,
    "train_cfg.rpn_proposal.nms_pre": 20,
} | {
    f"roi_head.bbox_head.{stage}.{name}": 16
    for stage in range(3)
    for name in ("conv_out_channels", "fc_out_channels")
}


@pytest.fixture(autouse=True)
def mmdet_scope():
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


def load(name):
    return Config.fromfile(FOLDER / ("vim" if "vim" in name else "vmamba") / f"{name}.py")


def train_and_predict(cfg, changes):
    """Build the model with changes, train a step, check that the weights moved, and predict."""
    from mmdet.testing import demo_mm_inputs

    torch.manual_seed(0)
    cfg.merge_from_dict({f"model.{name}": value for name, value in changes.items()})
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    model.init_weights()
    wrapper = cfg.optim_wrapper | dict(type="OptimWrapper")
    wrapper.pop("loss_scale", None)
    optimizer = build_optim_wrapper(model, wrapper)
    before = {name: value.clone() for name, value in model.named_parameters()}

    with_mask = "segm" in cfg.val_evaluator.metric
    data = demo_mm_inputs(2, [[3, 64, 96]] * 2, num_items=[2, 2], with_mask=with_mask)
    for sample in data["data_samples"]:
        sample.set_metainfo(dict(scale_factor=(1.0, 1.0)))
    logs = model.train().train_step(data, optimizer)
    assert all(value.isfinite().all() for name, value in logs.items() if "loss" in name)
    parts = [
        name.split(".")[0]
        for name, value in model.named_parameters()
        if not torch.equal(value, before[name])
    ]
    assert set(parts) == {name.split(".")[0] for name in before}
    with torch.no_grad():
        predictions = model.eval().val_step(data)
    assert all(p.pred_instances.bboxes.shape[1] == 4 for p in predictions)
    return model, optimizer, predictions


# --- RTMDet with VMamba -----------------------------------------------------------------


@pytest.mark.parametrize("name", RTMDET)
def test_rtmdet_reads_three_maps_of_the_backbone(name):
    model = load(name).model
    arch, drop_path, weights = RTMDET[name]
    assert (model.backbone.arch, model.backbone.drop_path_rate) == (arch, drop_path)
    assert model.backbone.init_cfg.checkpoint == f"checkpoints/{weights}.pth"
    assert tuple(model.backbone.out_indices) == (1, 2, 3)
    assert list(model.neck.in_channels) == list(VMAMBA_ARCHS[arch].dims[1:])
    assert list(model.bbox_head.anchor_generator.strides) == [8, 16, 32]
    assert model.bbox_head.in_channels == model.neck.out_channels == 256
    for part in (model.neck, model.bbox_head):
        assert part.norm_cfg == dict(type="GN", num_groups=32)
    preprocessor = model.data_preprocessor
    assert preprocessor.bgr_to_rgb
    assert preprocessor.mean == [123.675, 116.28, 103.53]


@pytest.mark.parametrize("name", RTMDET)
def test_rtmdet_recipe(name):
    cfg = load(name)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("AdamW", 1e-3, 0.05)
    assert "clip_grad" not in cfg.optim_wrapper
    assert cfg.optim_wrapper.paramwise_cfg == dict(weight_decay_rule="principled")
    warmup, cosine = cfg.param_scheduler
    assert (warmup.start_factor, warmup.end) == (1e-5, 1000)
    assert (cosine.begin, cosine.end, cosine.T_max) == (150, 300, 150)
    assert cosine.eta_min == pytest.approx(5e-5)
    assert cfg.train_cfg.max_epochs == 300
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 256
    assert [hook.type for hook in cfg.custom_hooks] == ["EMAHook", "PipelineSwitchHook"]
    kinds = [transform.type for transform in cfg.train_dataloader.dataset.pipeline]
    assert {"CachedMosaic", "CachedMixUp"} <= set(kinds)
    metrics = cfg.val_evaluator.metric
    assert metrics == (["bbox", "segm"] if "ins" in name else "bbox")


@pytest.mark.parametrize("name", [name for name in RTMDET if "-t_" in name])
def test_rtmdet_trains_and_predicts(name):
    model, _, predictions = train_and_predict(load(name), NANO_RTMDET)
    assert type(model).__name__ == "RTMDet"
    assert all(("masks" in p.pred_instances) == ("ins" in name) for p in predictions)


# --- Cascade Mask R-CNN with Vim --------------------------------------------------------


@pytest.mark.parametrize("name", CASCADE)
def test_cascade_is_that_of_vitdet(name):
    model, arch = load(name).model, CASCADE[name]
    backbone = model.backbone
    assert (backbone.arch, backbone.drop_path_rate, backbone.img_size) == (arch, 0.1, 1024)
    assert not backbone.with_cls_token
    assert backbone.init_cfg.checkpoint == f"checkpoints/vim-{arch}_3rdparty_in1k.pth"
    assert model.neck.in_channels == VIM_ARCHS[arch].embed_dims
    assert (model.neck.out_channels, model.neck.norm, model.neck.num_outs) == (256, "ln", 5)
    assert model.data_preprocessor.pad_size_divisor == 1024
    assert model.rpn_head.num_convs == 2
    heads = model.roi_head.bbox_head
    assert [head.bbox_coder.target_stds for head in heads] == [
        [0.1, 0.1, 0.2, 0.2],
        [0.05, 0.05, 0.1, 0.1],
        [1 / 30, 1 / 30, 1 / 15, 1 / 15],
    ]
    for head in (*heads, model.roi_head.mask_head):
        assert head.norm_cfg == dict(type="mamba_mm.LayerNorm2d", eps=1e-6)
    assert {head.type for head in heads} == {"Shared4Conv1FCBBoxHead"}
    assert {part.loss_bbox.type for part in (*heads, model.rpn_head)} == {"L1Loss"}
    assert model.train_cfg.rpn.allowed_border == -1


@pytest.mark.parametrize("name", CASCADE)
def test_cascade_recipe(name):
    cfg = load(name)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("AdamW", 1e-4, 0.1)
    assert cfg.optim_wrapper.type == "AmpOptimWrapper"
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.837
    assert (cfg.train_cfg.type, cfg.train_cfg.max_iters) == ("IterBasedTrainLoop", 184_375)
    warmup, steps = cfg.param_scheduler
    assert (warmup.start_factor, warmup.end, warmup.by_epoch) == (1e-3, 250, False)
    assert (list(steps.milestones), steps.by_epoch) == ([163_889, 177_546], False)
    loader = cfg.train_dataloader
    assert 8 * loader.batch_size == cfg.auto_scale_lr.base_batch_size == 64
    assert loader.sampler.type == "InfiniteSampler"
    jitter = loader.dataset.dataset.pipeline[2]
    assert (tuple(jitter.scale), tuple(jitter.ratio_range)) == ((1024, 1024), (0.1, 2.0))
    assert tuple(cfg.test_dataloader.dataset.pipeline[1].scale) == (1024, 1024)
    assert not cfg.default_hooks.checkpoint.by_epoch


def test_cascade_starts_from_weights_with_a_class_token_and_another_grid(tmp_path):
    backbone = load(next(iter(CASCADE))).model.backbone
    torch.manual_seed(0)
    source = MODELS.build(dict(type="mamba_mm.VisionMamba", arch="tiny"))
    weights = {f"backbone.{name}": value for name, value in source.state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "tiny.pth")
    backbone.init_cfg.checkpoint = str(tmp_path / "tiny.pth")
    loaded = MODELS.build(backbone)
    loaded.init_weights()
    assert loaded.pos_embed.shape == (1, 64 * 64, 192)
    assert torch.equal(loaded.layers[23].mixer.A_b_log, source.layers[23].mixer.A_b_log)
    assert torch.equal(loaded.patch_embed.proj.weight, source.patch_embed.proj.weight)


def test_cascade_trains_and_predicts():
    model, optimizer, predictions = train_and_predict(load(next(iter(CASCADE))), NANO_CASCADE)
    assert isinstance(optimizer, OptimWrapper)
    assert all("masks" in p.pred_instances for p in predictions)
    norm = model.roi_head.bbox_head[2].shared_convs[0].norm
    assert (type(norm), norm.eps) == (LayerNorm2d, 1e-6)
    # Nano has four blocks: five depths between its patches and its heads.
    rate_of = {
        name: group["lr"]
        for group in optimizer.optimizer.param_groups
        for name in group["param_names"]
    }
    assert rate_of["backbone.patch_embed.proj.weight"] == pytest.approx(1e-4 * 0.837**5)
    assert rate_of["backbone.layers.3.mixer.out_proj.weight"] == pytest.approx(1e-4 * 0.837)
    assert rate_of["neck.projections.0.0.weight"] == pytest.approx(1e-4)
    # An image of 64 x 96 is padded to the square that the divisor asks for.
    padded = model.data_preprocessor(dict(inputs=[torch.zeros(3, 40, 60, dtype=torch.uint8)]))
    assert padded["inputs"].shape[2:] == (64, 64)
