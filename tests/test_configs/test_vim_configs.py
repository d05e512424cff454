"""Every shipped Vim config builds, trains a step and predicts, and says what it should."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

from mamba_mm.models import VIM_ARCHS

pytest.importorskip("mmpretrain", reason="the configs need mmpretrain")

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FOLDER = CONFIGS / "mmpretrain" / "vim"
PATHS = sorted(FOLDER.glob("*.py"))
QUICK = ("vim-tiny_", "vim-tiny-plus_")

PARAMETERS = {
    "tiny": 7_148_008,
    "tiny_plus": 7_250_344,
    "small": 25_796_584,
    "small_plus": 26_001_256,
    "base": 97_598_440,
}
# learning rate, decay, drop path, images on each of 8 GPUs, epochs
RECIPES = {
    "tiny": (1e-3, 0.1, 0.0, 128, 300),
    "tiny_plus": (1e-5, 1e-8, 0.0, 128, 30),
    "small": (1e-3, 0.05, 0.05, 64, 300),
    "small_plus": (1e-5, 1e-8, 0.0, 128, 30),
    "base": (1e-3, 0.05, 0.05, 128, 300),
}

every_config = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


@pytest.fixture(autouse=True)
def mmpretrain_scope():
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        yield


def build(cfg, device="cpu"):
    """The model as the toolbox's runner builds it, but without pretrained weights."""
    model = cfg.model.copy()
    model.setdefault("data_preprocessor", cfg.data_preprocessor)
    for part in (model.backbone, model.head):
        if part.get("init_cfg", {}).get("type") == "Pretrained":
            part.pop("init_cfg")
    with torch.device(device):
        return MODELS.build(model)


def batch(batch_size, size):
    from mmpretrain.structures import DataSample

    return {
        "inputs": [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for _ in range(batch_size)],
        "data_samples": [DataSample().set_gt_label(i) for i in range(batch_size)],
    }


def decay_by_name(cfg):
    model = build(cfg)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: group["weight_decay"]
        for group in optimizer.optimizer.param_groups
        for parameter in group["params"]
    }


def test_every_preset_has_a_config():
    archs = [Config.fromfile(path).model.backbone.arch for path in PATHS]
    assert sorted(archs) == sorted(set(VIM_ARCHS) - {"nano"})


@every_config
def test_classifier_is_the_official_one(path):
    cfg = Config.fromfile(path)
    arch = cfg.model.backbone.arch
    assert path.stem.split("_")[0] == f"vim-{arch.replace('_', '-')}"
    model = build(cfg, device="meta")
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[arch]
    assert len(model.state_dict()) == 415


@every_config
def test_recipe(path):
    cfg = Config.fromfile(path)
    arch = cfg.model.backbone.arch
    optimizer, loader = cfg.optim_wrapper.optimizer, cfg.train_dataloader
    drop_path, epochs = cfg.model.backbone.drop_path_rate, cfg.train_cfg.max_epochs
    found = (optimizer.lr, optimizer.weight_decay, drop_path, loader.batch_size, epochs)
    assert found == RECIPES[arch]
    assert VIM_ARCHS[arch].drop_path_rate == drop_path
    assert cfg.auto_scale_lr.base_batch_size == 8 * loader.batch_size
    assert (cfg.optim_wrapper.type, cfg.optim_wrapper.get("clip_grad")) == ("OptimWrapper", None)
    assert loader.sampler.type == "RepeatAugSampler"
    assert [(hook.type, hook.momentum) for hook in cfg.custom_hooks] == [("EMAHook", 4e-5)]
    kinds = [scheduler.type for scheduler in cfg.param_scheduler]
    if epochs == 30:
        assert kinds == ["ConstantLR"]
        assert cfg.model.backbone.init_cfg.across_strides
        assert cfg.model.head.init_cfg.checkpoint == cfg.model.backbone.init_cfg.checkpoint
    else:
        warmup, cosine = cfg.param_scheduler
        assert kinds == ["LinearLR", "CosineAnnealingLR"]
        assert (warmup.start_factor, warmup.end, cosine.eta_min) == (1e-3, 5, 1e-5)


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem) for path in PATHS if path.stem.startswith(QUICK)],
)
def test_classifier_trains_and_predicts(path):
    torch.manual_seed(0)
    cfg = Config.fromfile(path)
    model = build(cfg)
    model.init_weights()
    before = model.backbone.patch_embed["proj"].weight.detach().clone()
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    logs = model.train().train_step(batch(2, (32, 48)), optimizer)
    assert all(value.isfinite().all() for name, value in logs.items() if "loss" in name)
    assert not torch.equal(before, model.backbone.patch_embed["proj"].weight)
    with torch.no_grad():
        (prediction,) = model.eval().val_step(batch(1, (32, 48)))
    assert prediction.pred_score.shape == (1000,)
    assert prediction.pred_score.sum().item() == pytest.approx(1, abs=1e-4)


def test_fine_tuning_starts_from_a_converted_plain_model(tmp_path):
    """Backbone across strides, head as it is: what the "plus" configs ask for."""
    torch.manual_seed(0)
    source = build(Config.fromfile(FOLDER / "vim-tiny_8xb128_in1k.py"))
    checkpoint = tmp_path / "tiny.pth"
    torch.save({"state_dict": source.state_dict()}, checkpoint)
    cfg = Config.fromfile(FOLDER / "vim-tiny-plus_8xb128-30e_in1k.py")
    cfg.model.backbone.init_cfg.checkpoint = str(checkpoint)
    cfg.model.head.init_cfg.checkpoint = str(checkpoint)
    model = MODELS.build(cfg.model)
    model.init_weights()
    assert torch.equal(model.head.fc.weight, source.head.fc.weight)
    assert torch.equal(model.backbone.cls_token, source.backbone.cls_token)
    middle = model.backbone.pos_embed[0, 27 * 27 // 2]
    assert torch.equal(middle, source.backbone.pos_embed[0, 98])


def test_decay_of_the_official_recipe():
    cfg = Config.fromfile(FOLDER / "vim-tiny_8xb128_in1k.py")
    model = build(cfg, device="meta")
    decay = decay_by_name(cfg)
    for name, parameter in model.named_parameters():
        spared = parameter.dim() == 1 or name.endswith(("pos_embed", "cls_token"))
        assert decay[name] == (0 if spared else 0.1), name
    assert decay["backbone.layers.0.mixer.A_b_log"] == 0.1


def test_principled_decay_spares_the_recurrence_too(tmp_path):
    path = tmp_path / "principled.py"
    path.write_text(
        f'_base_ = "{FOLDER}/vim-tiny_8xb128_in1k.py"\n'
        'optim_wrapper = dict(paramwise_cfg=dict(weight_decay_rule="principled"))\n'
    )
    decayed = ("proj.weight", "proj_b.weight", "conv1d.weight", "conv1d_b.weight", "fc.weight")
    for name, value in decay_by_name(Config.fromfile(path)).items():
        assert value == (0.1 if name.endswith(decayed) else 0), name


def test_layer_decay_of_mmpretrain_knows_every_parameter():
    cfg = Config.fromfile(FOLDER / "vim-tiny_8xb128_in1k.py")
    model = build(cfg)
    wrapper = cfg.optim_wrapper.copy()
    wrapper.update(
        constructor="LearningRateDecayOptimWrapperConstructor",
        paramwise_cfg=dict(layer_decay_rate=0.9),
    )
    optimizer = build_optim_wrapper(model, wrapper).optimizer
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            kind, *rest = names[id(parameter)].removeprefix("backbone.").split(".")
            first = kind in ("patch_embed", "pos_embed", "cls_token")
            depth = 0 if first else int(rest[0]) + 1 if kind == "layers" else 25
            assert group["lr"] == pytest.approx(1e-3 * 0.9 ** (25 - depth)), names[id(parameter)]


# --- detection --------------------------------------------------------------------------

DETECTOR = CONFIGS / "mmdet" / "vim" / "mask-rcnn_vim-t_simple-fpn_1x_coco.py"


@pytest.fixture
def detector_config():
    pytest.importorskip("mmdet", reason="the config needs mmdet")
    pytest.importorskip("mmcv.ops", reason="the detector needs mmcv's compiled ops")
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield Config.fromfile(DETECTOR)


def test_detector_trains_and_predicts(detector_config):
    from mmdet.testing import demo_mm_inputs

    torch.manual_seed(0)
    cfg = detector_config
    cfg.model.backbone.pop("init_cfg")
    model = MODELS.build(cfg.model)
    model.init_weights()
    data = demo_mm_inputs(1, [[3, 64, 96]], num_items=[2], num_classes=80, with_mask=True)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    before = model.neck.scales[0][0].weight.detach().clone()
    logs = model.train().train_step(data, optimizer)
    assert all(value.isfinite().all() for name, value in logs.items() if "loss" in name)
    assert not torch.equal(before, model.neck.scales[0][0].weight)
    with torch.no_grad():
        (prediction,) = model.eval().val_step(data)
    assert prediction.pred_instances.bboxes.shape[1] == 4


def test_detector_without_its_weights_raises(detector_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backbone = MODELS.build(detector_config.model.backbone | {"arch": "nano"})
    with pytest.raises(Exception, match="There is no checkpoint file at checkpoints/vim-tiny"):
        backbone.init_weights()
