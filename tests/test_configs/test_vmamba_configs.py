"""Every shipped VMamba config builds, trains a step and predicts, and says what it should."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

from mamba_mm.models import VMAMBA_ARCHS

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
CLASSIFIERS = sorted((CONFIGS / "mmpretrain" / "vmamba").glob("*_in1k.py"))
DETECTORS = sorted((CONFIGS / "mmdet" / "vmamba").glob("mask-rcnn_*_coco.py"))

# One of each kind of block; the larger ones differ in numbers alone, which are counted.
QUICK_CLASSIFIERS = ("vmamba-v0-tiny", "vmamba-tiny-s2l5", "vmamba-tiny-s1l8")
QUICK_DETECTORS = ("mask-rcnn_vmamba-t_fpn_1x_coco", "mask-rcnn_vmamba-t_fpn_ms-3x_coco")

PARAMETERS = {
    "v0_tiny": 22_893_448,
    "v0_small": 44_417_416,
    "v0_base": 76_254_056,
    "tiny_s2l5": 30_705_832,
    "small_s2l15": 50_147_752,
    "base_s2l15": 88_557_800,
    "tiny_s1l8": 30_249_064,
    "small_s1l20": 49_012_840,
    "base_s1l20": 86_614_504,
}
DROP_PATH = {
    "vmamba-v0-tiny": 0.2,
    "vmamba-v0-small": 0.3,
    "vmamba-v0-base": 0.6,
    "vmamba-tiny-s2l5": 0.2,
    "vmamba-small-s2l15": 0.3,
    "vmamba-base-s2l15": 0.6,
    "vmamba-tiny-s1l8": 0.2,
    "vmamba-small-s1l20": 0.3,
    "vmamba-base-s1l20": 0.5,
}
DETECTOR_ARCH = {
    "mask-rcnn_vmamba-t": ("tiny_s1l8", 0.2),
    "mask-rcnn_vmamba-s": ("small_s2l15", 0.3),
    "mask-rcnn_vmamba-b": ("base_s2l15", 0.6),
}


def stem(path):
    return path.stem.split("_")[0]


def chosen(paths, stems):
    """The paths whose stems begin so, as test parameters."""
    return [pytest.param(path, id=path.stem) for path in paths if path.stem.startswith(stems)]


def load(path, toolbox):
    pytest.importorskip(toolbox, reason=f"the config needs {toolbox}")
    return Config.fromfile(path)


def build(cfg, device="cpu"):
    """The model as the toolbox's runner builds it, but without pretrained weights."""
    model = cfg.model.copy()
    if "data_preprocessor" in cfg:
        model.setdefault("data_preprocessor", cfg.data_preprocessor)
    model.backbone.pop("init_cfg", None)
    with torch.device(device):
        return MODELS.build(model)


def build_optimizer(model, cfg):
    wrapper = cfg.optim_wrapper.copy()
    if wrapper.type == "AmpOptimWrapper" and not torch.cuda.is_available():
        wrapper.type = "OptimWrapper"  # fp16 with loss scaling needs a GPU
        wrapper.pop("loss_scale")
    return build_optim_wrapper(model, wrapper)


def decay_by_name(model, optimizer):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: group["weight_decay"]
        for group in optimizer.optimizer.param_groups
        for parameter in group["params"]
    }


def classification_batch(batch_size, size):
    from mmpretrain.structures import DataSample

    return {
        "inputs": [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for _ in range(batch_size)],
        "data_samples": [DataSample().set_gt_label(i) for i in range(batch_size)],
    }


def detection_batch(size):
    from mmdet.testing import demo_mm_inputs

    return demo_mm_inputs(1, [[3, *size]], num_items=[2], num_classes=80, with_mask=True)


def step(model, data, optimizer):
    """One training step; every loss must be finite and some weight must move."""
    before = model.backbone.patch_embed[0].weight.detach().clone()
    logs = model.train().train_step(data, optimizer)
    assert all(value.isfinite().all() for name, value in logs.items() if "loss" in name)
    assert not torch.equal(before, model.backbone.patch_embed[0].weight)


# --- classification ---------------------------------------------------------------------


@pytest.fixture
def mmpretrain_scope():
    pytest.importorskip("mmpretrain", reason="the config needs mmpretrain")
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        yield


def test_every_preset_has_a_classifier_config():
    released = set(VMAMBA_ARCHS) - {"nano", "vmunet_encoder"}
    names = {f"vmamba-{arch.replace('_', '-')}" for arch in released}
    assert {stem(path) for path in CLASSIFIERS} == names


@pytest.mark.parametrize("path", CLASSIFIERS, ids=lambda path: path.stem)
def test_classifier_is_the_official_one(path, mmpretrain_scope):
    cfg = load(path, "mmpretrain")
    arch = cfg.model.backbone.arch
    assert stem(path) == f"vmamba-{arch.replace('_', '-')}"
    assert cfg.model.backbone.drop_path_rate == DROP_PATH[stem(path)]
    model = build(cfg, device="meta")
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[arch]
    blocks = sum(VMAMBA_ARCHS[arch].depths)
    own = 13 * blocks + 4 + 9 if arch.startswith("v0") else 18 * blocks + 8 + 12
    assert len(model.state_dict()) == own + 4


@pytest.mark.parametrize("path", CLASSIFIERS, ids=lambda path: path.stem)
def test_classification_recipe(path, mmpretrain_scope):
    cfg = load(path, "mmpretrain")
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("AdamW", 1e-3, 0.05)
    assert cfg.optim_wrapper.clip_grad.max_norm == 5.0
    assert cfg.optim_wrapper.type == "AmpOptimWrapper"
    warmup, cosine = cfg.param_scheduler
    assert (warmup.start_factor, warmup.end, cosine.eta_min) == (1e-3, 20, 1e-5)
    assert (cfg.train_cfg.max_epochs, cfg.train_dataloader.batch_size) == (300, 128)
    hooks = [(hook.type, hook.momentum) for hook in cfg.custom_hooks]
    assert hooks == ([] if "v0-tiny" in path.stem else [("EMAHook", 1e-4)])


@pytest.mark.parametrize("path", chosen(CLASSIFIERS, QUICK_CLASSIFIERS))
def test_classifier_trains_and_predicts(path, mmpretrain_scope):
    torch.manual_seed(0)
    cfg = load(path, "mmpretrain")
    model = build(cfg)
    model.init_weights()
    step(model, classification_batch(2, (32, 48)), build_optimizer(model, cfg))
    with torch.no_grad():
        (prediction,) = model.eval().val_step(classification_batch(1, (32, 48)))
    assert prediction.pred_score.shape == (1000,)
    assert prediction.pred_score.sum().item() == pytest.approx(1, abs=1e-4)


def test_decay_of_the_classification_recipe(mmpretrain_scope):
    cfg = load(CONFIGS / "mmpretrain/vmamba/vmamba-tiny-s1l8_8xb128_in1k.py", "mmpretrain")
    model = build(cfg)
    decay = decay_by_name(model, build_optimizer(model, cfg))
    for name, parameter in model.named_parameters():
        spared = parameter.dim() == 1
        assert decay[name] == (0 if spared else 0.05), name
    assert decay["backbone.layers.0.blocks.0.op.A_logs"] == 0.05
    assert decay["backbone.layers.0.blocks.0.op.dt_projs_bias"] == 0.05


# --- detection --------------------------------------------------------------------------


@pytest.fixture
def mmdet_scope():
    pytest.importorskip("mmdet", reason="the config needs mmdet")
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


def test_the_detector_configs_are_all_there():
    names = {path.stem for path in DETECTORS}
    for size in "tsb":
        for schedule in ("1x", "ms-3x"):
            assert f"mask-rcnn_vmamba-{size}_fpn_{schedule}_coco" in names


@pytest.mark.parametrize("path", DETECTORS, ids=lambda path: path.stem)
def test_detection_recipe(path, mmdet_scope):
    cfg = load(path, "mmdet")
    backbone = cfg.model.backbone
    assert (backbone.arch, backbone.drop_path_rate) == DETECTOR_ARCH[path.stem.split("_fpn")[0]]
    assert backbone.init_cfg.type == "Pretrained"
    assert list(cfg.model.neck.in_channels) == list(VMAMBA_ARCHS[backbone.arch].dims)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("AdamW", 1e-4, 0.05)
    assert (cfg.optim_wrapper.type, cfg.optim_wrapper.get("clip_grad")) == ("OptimWrapper", None)
    warmup, steps = cfg.param_scheduler
    assert (warmup.start_factor, warmup.end, warmup.by_epoch) == (1e-3, 1000, False)
    long = "ms-3x" in path.stem
    assert list(steps.milestones) == ([27, 33] if long else [8, 11])
    assert steps.end == cfg.train_cfg.max_epochs == (36 if long else 12)
    kinds = [transform.type for transform in cfg.train_dataloader.dataset.pipeline]
    assert ("RandomChoice" in kinds) == long
    assert ("Resize" in kinds) != long


@pytest.mark.parametrize("path", DETECTORS, ids=lambda path: path.stem)
def test_detector_without_its_weights_raises(path, mmdet_scope, tmp_path, monkeypatch):
    cfg = load(path, "mmdet")
    monkeypatch.chdir(tmp_path)
    checkpoint = cfg.model.backbone.init_cfg.checkpoint
    backbone = MODELS.build(cfg.model.backbone | {"arch": "nano"})
    with pytest.raises(Exception, match=Path(checkpoint).name):
        backbone.init_weights()


@pytest.mark.parametrize("path", chosen(DETECTORS, QUICK_DETECTORS))
def test_detector_trains_and_predicts(path, mmdet_scope):
    torch.manual_seed(0)
    cfg = load(path, "mmdet")
    model = build(cfg)
    model.init_weights()
    step(model, detection_batch((64, 96)), build_optimizer(model, cfg))
    with torch.no_grad():
        (prediction,) = model.eval().val_step(detection_batch((64, 96)))
    instances = prediction.pred_instances
    assert instances.bboxes.shape == (len(instances), 4)
    assert instances.masks.shape[0] == len(instances)


def detector_decay(name):
    cfg = load(CONFIGS / "mmdet" / "vmamba" / name, "mmdet")
    model = build(cfg)
    decay = decay_by_name(model, build_optimizer(model, cfg))
    return {
        name.removeprefix("backbone."): value
        for name, value in decay.items()
        if name.startswith("backbone.")
    }


def test_decay_of_the_official_detection_recipe(mmdet_scope):
    decay = detector_decay("mask-rcnn_vmamba-t_fpn_1x_coco.py")
    for name, value in decay.items():
        assert value == (0 if "norm" in name else 0.05), name
    for name in ("patch_embed.2.weight", "layers.0.downsample.3.weight"):
        assert decay[name] == 0.05
    block = "layers.0.blocks.0"
    for name in ("op.A_logs", "op.Ds", "op.dt_projs_bias", "mlp.fc1.bias"):
        assert decay[f"{block}.{name}"] == 0.05
    for name in ("norm.weight", "norm2.bias", "op.out_norm.weight"):
        assert decay[f"{block}.{name}"] == 0


def test_principled_decay_spares_norms_biases_and_the_recurrence(mmdet_scope):
    decay = detector_decay("mask-rcnn_vmamba-t_fpn_principled-wd-1x_coco.py")
    decayed = ("in_proj.weight", "conv2d.weight", "x_proj_weight", "dt_projs_weight")
    decayed += ("out_proj.weight", "fc1.weight", "fc2.weight", "downsample.1.weight")
    decayed += ("patch_embed.0.weight", "patch_embed.5.weight")
    for name, value in decay.items():
        assert value == (0.05 if name.endswith(decayed) else 0), name
