"""Every shipped keypoint config builds, learns and predicts, and says what it should."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

from mamba_mm.models import VIM_ARCHS, VMAMBA_ARCHS

pytest.importorskip("mmpose")

from mmpose.registry import DATASETS
from mmpose.testing import get_packed_inputs

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "configs" / "mmpose"
SHIPPED = sorted(path for system in ("vmamba", "vim") for path in (FOLDER / system).glob("*.py"))
CONFIGS = [path for path in SHIPPED if "nano" not in path.stem]

HEADS = {"td-hm": "HeatmapHead", "simcc": "SimCCHead"}
# Class, height and width of the crop, points, images on each of 8 GPUs, epochs, images that the
# learning rate is for: all as MMPose has it.
DATA = {
    "coco": ("CocoDataset", (256, 192), 17, 64, 210, 512),
    "coco-wholebody-hand": ("CocoWholeBodyHandDataset", (256, 256), 21, 32, 210, 256),
    "freihand2d": ("FreiHandDataset", (224, 224), 21, 64, 100, 512),
    "onehand10k": ("OneHand10KDataset", (256, 256), 21, 64, 210, 512),
    "rhd2d": ("Rhd2DDataset", (256, 256), 21, 64, 210, 512),
}
# Architecture, channels and stride of its map, drop path, weight decay, layer decay.
BACKBONES = {
    "vmamba-t": ("tiny_s1l8", 768, 32, 0.2, 0.05, 1.0),
    "vim-s": ("small", 384, 16, 0.1, 0.1, 0.9),
    "vim-t": ("tiny", 192, 16, 0.1, 0.1, 0.9),
}


def name_of(path):
    return path.stem


@functools.cache
def _read(path):
    return Config.fromfile(path)


def load(path):
    """A config that a test may change."""
    return copy.deepcopy(_read(path))


def plain(config):
    """A part of a config without the scopes that MMEngine adds to what it inherits."""
    if isinstance(config, dict):
        return {key: plain(value) for key, value in config.items() if key != "_scope_"}
    return [plain(value) for value in config] if isinstance(config, list | tuple) else config


def parts_of(path):
    """Head, backbone, data set and size of the crop, as a config's name has them."""
    head, backbone, _, data = path.stem.split("_")
    data_set, _, size = data.rpartition("-")
    return head, backbone, data_set, tuple(int(n) for n in size.split("x"))


every_config = pytest.mark.parametrize("path", CONFIGS, ids=name_of)


@pytest.fixture(autouse=True)
def mmpose_scope():
    with DefaultScope.overwrite_default_scope("mmpose"):
        yield


def build(cfg, device="cpu"):
    """The model as the runner builds it, but without pretrained weights."""
    model = cfg.model.copy()
    model.backbone.pop("init_cfg", None)
    with torch.device(device):
        return MODELS.build(model)


def build_nano(path):
    """A config and its model, small; the crop, the maps and the targets keep their sizes."""
    cfg = load(path)
    is_vim = "_vim-" in path.stem
    cfg.model.backbone.arch = "nano"
    cfg.model.head.in_channels = 64 if is_vim else 256
    cfg.model.head.deconv_out_channels = (8,) * (2 if is_vim else 3)
    torch.manual_seed(0)
    model = build(cfg)
    model.init_weights()
    return cfg, model


def batch_for(cfg, head):
    """Two crops of noise with points anywhere in them."""
    return get_packed_inputs(
        2,
        num_keypoints=cfg.model.head.out_channels,
        num_levels=1,
        img_shape=tuple(cfg.codec.input_size)[::-1],
        input_size=tuple(cfg.codec.input_size),
        heatmap_size=tuple(cfg.codec.get("heatmap_size", (48, 64))),
        simcc_split_ratio=cfg.codec.get("simcc_split_ratio", 2.0),
        with_heatmap=head == "td-hm",
        with_simcc_label=head == "simcc",
        with_reg_label=False,
    )


def test_every_backbone_head_and_data_set_has_a_config():
    found = {parts_of(path)[:3] for path in CONFIGS}
    wanted = {(head, name, data) for head in HEADS for name in BACKBONES for data in DATA}
    # Vim-Ti has those of COCO alone.
    assert found == {item for item in wanted if item[1] != "vim-t" or item[2] == "coco"}
    assert len(CONFIGS) == len(found)


@every_config
def test_config_says_what_its_name_says(path):
    cfg = load(path)
    head, backbone, data_set, size = parts_of(path)
    arch, channels, stride, drop_path, _, _ = BACKBONES[backbone]
    kind, crop, points, images, epochs, base_batch = DATA[data_set]

    assert size == crop == tuple(cfg.codec.input_size)[::-1]
    assert cfg.train_dataloader.dataset.type == kind == cfg.val_dataloader.dataset.type
    assert f"_8xb{images}-{epochs}e_" in path.stem
    assert cfg.train_dataloader.batch_size == images
    assert (cfg.train_cfg.max_epochs, cfg.auto_scale_lr.base_batch_size) == (epochs, base_batch)
    assert cfg.default_hooks.checkpoint.save_best == ("coco/AP" if points == 17 else "AUC")

    assert (cfg.model.backbone.arch, cfg.model.backbone.drop_path_rate) == (arch, drop_path)
    assert arch in (VIM_ARCHS if stride == 16 else VMAMBA_ARCHS)
    assert cfg.model.head.type == HEADS[head]
    assert (cfg.model.head.in_channels, cfg.model.head.out_channels) == (channels, points)
    assert cfg.model.backbone.init_cfg.checkpoint.startswith("checkpoints/")
    if stride == 16:
        img_size = cfg.model.backbone.img_size
        assert (img_size if not isinstance(img_size, int) else (img_size,) * 2) == crop
        assert cfg.model.backbone.get("with_cls_token", True)  # which the released weights have


@every_config
def test_recipe(path):
    cfg = load(path)
    _, backbone, _, _ = parts_of(path)
    *_, decay, layer_decay = BACKBONES[backbone]
    wrapper = cfg.optim_wrapper
    assert (wrapper.type, wrapper.optimizer.type) == ("OptimWrapper", "AdamW")
    assert (wrapper.optimizer.lr, wrapper.optimizer.weight_decay) == (5e-4, decay)
    assert wrapper.constructor == "mamba_mm.LayerDecayOptimWrapperConstructor"
    assert wrapper.paramwise_cfg.get("layer_decay_rate", 1.0) == layer_decay
    assert wrapper.paramwise_cfg.weight_decay_rule == "principled"
    clip = wrapper.get("clip_grad")
    assert clip == (None if backbone == "vmamba-t" else dict(max_norm=1.0, norm_type=2))
    warmup, steps = cfg.param_scheduler
    assert (warmup.type, warmup.end, steps.type) == ("LinearLR", 500, "MultiStepLR")


@every_config
def test_codec_and_pipelines_agree(path):
    """One codec makes the targets and reads the predictions, in crops that are made for it."""
    cfg = load(path)
    head, backbone, _, _ = parts_of(path)
    unbiased = (head, backbone[:3]) == ("td-hm", "vim")
    kind = "UDPHeatmap" if unbiased else "MSRAHeatmap" if head == "td-hm" else "SimCCLabel"
    assert cfg.codec.type == kind
    codec = plain(cfg.codec)
    assert plain(cfg.model.head.decoder) == codec
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        steps = {step.type: step for step in loader.dataset.pipeline}
        assert tuple(steps["TopdownAffine"].input_size) == tuple(cfg.codec.input_size)
        assert steps["TopdownAffine"].get("use_udp", False) == unbiased
        assert ("GenerateTarget" in steps) == ("RandomFlip" in steps)
        assert plain(steps.get("GenerateTarget", {}).get("encoder", codec)) == codec
    assert plain(cfg.train_dataloader.dataset.pipeline) == plain(cfg.train_pipeline)
    test_cfg = cfg.model.test_cfg
    assert test_cfg.flip_test
    if head == "td-hm":
        # A flipped biased heatmap lies one pixel beside the other one.
        assert (test_cfg.flip_mode, test_cfg.shift_heatmap) == ("heatmap", not unbiased)


# One of each backbone and head; all are trained in tests/test_training/test_train_keypoints.py.
@pytest.mark.parametrize(
    "name",
    [
        "vmamba/td-hm_vmamba-t_8xb64-210e_coco-256x192",
        "vmamba/simcc_vmamba-t_8xb64-100e_freihand2d-224x224",
        "vim/td-hm_vim-s_8xb64-210e_rhd2d-256x256",
        "vim/simcc_vim-s_8xb64-210e_coco-256x192",
    ],
)
def test_learns_and_predicts(name):
    """The head fits map, targets and crop; what is predicted lies in the crop."""
    path = FOLDER / f"{name}.py"
    cfg, model = build_nano(path)
    head, _, _, size = parts_of(path)
    data = batch_for(cfg, head)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    rates = [group["lr"] for group in optimizer.param_groups]
    assert max(rates) == pytest.approx(5e-4)
    depths = len(model.backbone.layers) + 2
    assert len(set(rates)) == (depths if "_vim-" in path.stem else 1)
    before = copy.deepcopy(model.backbone.state_dict())
    logs = model.train().train_step(data, optimizer)
    assert logs["loss_kpt"].isfinite()
    changed = [
        not torch.equal(before[name], now) for name, now in model.backbone.state_dict().items()
    ]
    assert sum(changed) > 0.9 * len(changed)
    with torch.no_grad():
        maps = model.eval()(torch.zeros(1, 3, *size), None, mode="tensor")
        predictions = model.val_step(data)
    if head == "td-hm":
        assert maps.shape[2:] == tuple(cfg.codec.heatmap_size)[::-1] == (size[0] // 4, size[1] // 4)
    else:
        assert [m.shape[2] for m in maps] == [2 * size[1], 2 * size[0]]
    for prediction in predictions:
        assert prediction.pred_instances.keypoints.shape == (1, cfg.model.head.out_channels, 2)


@pytest.mark.filterwarnings("ignore:The metainfo config file")
def test_data_sets_are_found_from_any_directory(tmp_path, monkeypatch):
    """Their skeletons are MMPose's, wherever it is installed."""
    monkeypatch.chdir(tmp_path)
    for path in CONFIGS:
        cfg = load(path)
        dataset = DATASETS.build(cfg.val_dataloader.dataset | dict(lazy_init=True))
        assert dataset.metainfo["num_keypoints"] == cfg.model.head.out_channels


def test_weights_are_needed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(FOLDER / "vim" / "td-hm_vim-s_8xb64-210e_coco-256x192.py")
    backbone = MODELS.build(cfg.model.backbone | {"arch": "nano"})
    with pytest.raises(Exception, match="There is no checkpoint file at checkpoints/vim-small"):
        backbone.init_weights()
