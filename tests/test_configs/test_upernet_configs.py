"""Every shipped UPerNet config builds, trains a step and predicts, and says what it should."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

from mamba_mm.models import VIM_ARCHS, VMAMBA_ARCHS

pytest.importorskip("mmseg")

from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "mmseg"
VMAMBA = sorted((FOLDER / "vmamba").glob("*.py"))
VIM = sorted((FOLDER / "vim").glob("*.py"))
CONFIGS = VMAMBA + VIM

# Architecture, stochastic depth, millions of parameters as the official repository prints them.
OFFICIAL_VMAMBA = {
    "vmamba-t": ("tiny_s1l8", 0.2, 61.903),
    "vmamba-t-s2l5": ("tiny_s2l5", 0.2, 62.359),
    "vmamba-s": ("small_s2l15", 0.3, 81.801),
    "vmamba-b": ("base_s2l15", 0.6, 122.069),
}
# Architecture, learning rate, decay, layer decay, whether there is a class token.
OFFICIAL_VIM = {
    "vim-t": ("tiny", 2e-4, 0.1, 0.92, False),
    "vim-s": ("small", 1e-4, 0.05, 0.95, True),
}


def name_of(path):
    return path.stem


def backbone_of(path):
    return path.stem.split("-in1k-pre_")[0]


each = pytest.mark.parametrize("path", CONFIGS, ids=name_of)
each_vmamba = pytest.mark.parametrize("path", VMAMBA, ids=name_of)
each_vim = pytest.mark.parametrize("path", VIM, ids=name_of)


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield


def count_parameters(model_config):
    """Parameters of a model that is built without memory and without weights."""
    model_config.backbone.pop("init_cfg", None)
    with torch.device("meta"):
        return sum(p.numel() for p in MODELS.build(model_config).parameters())


def shrink(cfg):
    """Keep everything but the numbers of channels and pixels."""
    model = cfg.model
    model.backbone.update(arch="nano", init_cfg=None, drop_path_rate=0.0)
    model.data_preprocessor.size = (64, 64)
    channels = [64] * 4
    if "VMamba" in model.backbone.type:
        channels = list(VMAMBA_ARCHS["nano"].dims)
    else:
        model.backbone.update(img_size=64, out_indices=(0, 1, 2, 3))
        model.neck.in_channels = 64
        model.test_cfg.update(crop_size=(64, 64), stride=(43, 43))
    model.decode_head.update(in_channels=channels, channels=16)
    model.auxiliary_head.update(in_channels=channels[2], channels=16)
    return cfg


def batch(count, size):
    """Random images with random labels of ADE20K, packed as the data loaders do."""
    images, samples = [], []
    for _ in range(count):
        images.append(torch.randint(0, 256, (3, *size), dtype=torch.uint8))
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 150, (1, *size)))
        samples.append(sample)
    return dict(inputs=images, data_samples=samples)


def test_the_configs_are_all_there():
    assert {backbone_of(path) for path in VMAMBA} == set(OFFICIAL_VMAMBA)
    assert {backbone_of(path) for path in VIM} == set(OFFICIAL_VIM)
    assert len(CONFIGS) == 7


@each
def test_trains_a_step_and_predicts(path):
    torch.manual_seed(0)
    cfg = shrink(Config.fromfile(path))
    model = MODELS.build(cfg.model)
    model.init_weights()
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {name: value.clone() for name, value in model.named_parameters()}

    logged = model.train().train_step(batch(2, (64, 64)), optimizer)
    assert {name for name in logged if "loss" in name} == {
        "loss",
        "decode.loss_ce",
        "aux.loss_ce",
    }
    assert all(value.isfinite() for name, value in logged.items() if "loss" in name)
    unmoved = {name for name, value in model.named_parameters() if torch.equal(value, before[name])}
    # A convolution's bias before a batch norm has no gradient but rounding.
    assert not {name for name in unmoved if not name.endswith(".bias")}

    for size in ((65, 97), (40, 50)):  # odd; smaller than a window
        with torch.no_grad():
            (sample,) = model.eval().test_step(batch(1, size))
        assert sample.pred_sem_seg.data.shape == (1, *size)
        assert sample.seg_logits.data.shape == (150, *size)


@each
def test_the_recipe_that_both_share(path):
    cfg = Config.fromfile(path)
    model = cfg.model
    assert model.decode_head.num_classes == model.auxiliary_head.num_classes == 150
    assert (model.auxiliary_head.in_index, model.auxiliary_head.loss_decode.loss_weight) == (2, 0.4)
    assert tuple(model.data_preprocessor.size) == (512, 512)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, tuple(optimizer.betas)) == ("AdamW", (0.9, 0.999))
    assert (cfg.optim_wrapper.type, cfg.optim_wrapper.get("clip_grad")) == ("OptimWrapper", None)
    warmup, poly = cfg.param_scheduler
    assert (warmup.type, warmup.start_factor, warmup.end) == ("LinearLR", 1e-6, 1500)
    assert (poly.type, poly.power, poly.eta_min, poly.begin) == ("PolyLR", 1.0, 0.0, 1500)
    assert poly.end == cfg.train_cfg.max_iters
    assert not warmup.by_epoch
    assert not poly.by_epoch
    assert cfg.sync_bn == "torch"
    train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    assert train.type == val.type == "ADE20KDataset"
    assert train.data_prefix.img_path == "images/training"
    assert val.data_prefix.seg_map_path == "annotations/validation"
    (crop,) = (step for step in train.pipeline if step.type == "RandomCrop")
    assert tuple(crop.crop_size) == (512, 512)
    gpus = int(path.stem.split("upernet_")[1].split("xb")[0])
    assert gpus * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size


@each_vmamba
def test_vmamba_is_the_official_model_and_recipe(path):
    cfg = Config.fromfile(path)
    arch, drop_path, millions = OFFICIAL_VMAMBA[backbone_of(path)]
    assert (cfg.model.backbone.arch, cfg.model.backbone.drop_path_rate) == (arch, drop_path)
    assert cfg.model.test_cfg == dict(mode="whole")
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (6e-5, 0.01)
    assert (cfg.train_cfg.max_iters, cfg.auto_scale_lr.base_batch_size) == (160_000, 16)
    rule = "principled" if "principled-wd" in path.stem else "vmamba_dense"
    assert cfg.optim_wrapper.paramwise_cfg == dict(weight_decay_rule=rule)
    assert count_parameters(cfg.model) == pytest.approx(millions * 1e6, abs=1000)


@each_vim
def test_vim_has_the_official_recipe(path):
    cfg = Config.fromfile(path)
    backbone, optimizer = cfg.model.backbone, cfg.optim_wrapper.optimizer
    paramwise = cfg.optim_wrapper.paramwise_cfg
    found = (backbone.arch, optimizer.lr, optimizer.weight_decay, paramwise.layer_decay_rate)
    assert (*found, backbone.get("with_cls_token", True)) == OFFICIAL_VIM[backbone_of(path)]
    assert paramwise.weight_decay_rule == "principled"
    assert (list(backbone.out_indices), backbone.drop_path_rate) == ([5, 11, 17, 23], 0.1)
    assert cfg.model.neck.in_channels == VIM_ARCHS[backbone.arch].embed_dims
    assert cfg.model.test_cfg == dict(mode="slide", crop_size=(512, 512), stride=(341, 341))
    assert (cfg.train_cfg.max_iters, cfg.auto_scale_lr.base_batch_size) == (60_000, 32)


def test_vim_tiny_has_as_many_parameters_as_the_official_log_says():
    """With what ours does otherwise undone: its position embedding was for 4096 patches."""
    cfg = Config.fromfile(next(path for path in VIM if "vim-t" in path.stem))
    cfg.model.backbone.update(img_size=1024, tap="mixer", tap_norm=False)
    assert count_parameters(cfg.model) == 12_901_100


def test_the_levels_of_vim_are_those_of_a_hierarchical_backbone():
    cfg = shrink(Config.fromfile(VIM[0]))
    model = MODELS.build(cfg.model).eval()
    with torch.no_grad():
        levels = model.extract_feat(torch.zeros(1, 3, 64, 96))
    assert [tuple(x.shape[2:]) for x in levels] == [(16, 24), (8, 12), (4, 6), (2, 3)]


@each_vim
def test_the_blocks_of_vim_learn_the_slower_the_earlier_they_come(path):
    cfg = shrink(Config.fromfile(path))
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {
        names[id(parameter)]: group["lr"]
        for group in wrapper.optimizer.param_groups
        for parameter in group["params"]
    }
    base, decay = cfg.optim_wrapper.optimizer.lr, cfg.optim_wrapper.paramwise_cfg.layer_decay_rate
    for block in range(4):
        rate = rates[f"backbone.layers.{block}.mixer.in_proj.weight"]
        assert rate == pytest.approx(base * decay ** (4 - block))
    assert rates["backbone.pos_embed"] == pytest.approx(base * decay**5)
    assert rates["neck.scales.0.0.weight"] == rates["decode_head.conv_seg.weight"] == base


@each
def test_without_the_imagenet_weights_it_stops(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backbone = dict(Config.fromfile(path).model.backbone)
    checkpoint = Path(backbone["init_cfg"].checkpoint)
    indices = (0, 1, 2, 3)
    with pytest.raises(Exception, match=checkpoint.name):
        MODELS.build(backbone | dict(arch="nano", out_indices=indices)).init_weights()
