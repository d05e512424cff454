"""Every shipped config of Hamba's two stages trains what it says, as the other one goes on."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODEL_WRAPPERS, MODELS, DefaultScope

pytest.importorskip("mmpose")

from mmengine.dataset import pseudo_collate
from test_hamba_configs import FOLDER, build, through

NANO, FREIHAND, MIX = "vmamba-nano_toy-hands-128x96", "freihand-256x192", "mix-256x192"
FIRST = {
    NANO: f"hamba-jr_{NANO}",
    FREIHAND: f"hamba-jr_vit-h_1xb8-1000k_{FREIHAND}",
    MIX: f"hamba-jr_vit-h_1xb8-1000k_{MIX}",
}
SECOND = {
    NANO: f"hamba-stage2_{NANO}",
    FREIHAND: f"hamba-stage2_vit-h_2xb28-170k_{FREIHAND}",
    MIX: f"hamba-stage2_vit-h_2xb28-170k_{MIX}",
}
ONE_STAGE = {
    NANO: f"hamba_{NANO}",
    FREIHAND: f"hamba_vit-h_2xb28-170k_{FREIHAND}",
    MIX: f"hamba_vit-h_2xb28-170k_{MIX}",
}
ADVERSARIAL = (NANO, MIX)
LARGE = (FREIHAND, MIX)

each = pytest.mark.parametrize("data", FIRST)
each_large = pytest.mark.parametrize("data", LARGE)


@pytest.fixture(autouse=True)
def mmpose_scope(monkeypatch):
    monkeypatch.setenv("MAMBA_MM_MANO", "toy")
    with DefaultScope.overwrite_default_scope("mmpose"):
        yield


def load(name):
    return Config.fromfile(FOLDER / f"{name}.py")


def shapes_of(cfg):
    """Shapes of a model's weights, by name."""
    large = cfg.model.backbone.type != "mamba_mm.VMamba"
    with torch.device("meta" if large else "cpu"):
        return {key: value.shape for key, value in build(cfg).state_dict().items()}


def hook(cfg, name):
    (found,) = (hook for hook in cfg.custom_hooks if hook.type == name)
    return found


def test_the_configs_are_all_there():
    there = {path.stem for path in FOLDER.glob("hamba-*.py")}
    assert there == {*FIRST.values(), *SECOND.values()}


@each
def test_the_second_stage_finds_all_of_the_first_where_it_is(data):
    first, second = load(FIRST[data]), load(SECOND[data])
    old, new = shapes_of(first), shapes_of(second)
    assert old.items() <= new.items()
    patterns = hook(second, "mamba_mm.StrictLoadHook").new
    are_new = {key for key in new if any(fnmatchcase(key, pattern) for pattern in patterns)}
    assert are_new == new.keys() - old.keys()
    assert all(any(fnmatchcase(key, pattern) for key in new) for pattern in patterns)

    # What MMPose's script, in its default work folder, writes last.
    folder, name = Path(second.load_from).parts[-2:]
    assert folder == FIRST[data]
    loop = first.train_cfg
    last = f"epoch_{loop.max_epochs}" if data == NANO else f"iter_{loop.max_iters}"
    assert name == f"{last}.pth"
    assert second.model.backbone.get("init_cfg") is None


@each
def test_only_the_head_differs_in_the_first_stage(data):
    first, one = load(FIRST[data]), load(ONE_STAGE[data])
    assert first.model.head == one.model.head | dict(stage="regressor")
    assert first.model.backbone == one.model.backbone
    assert first.optim_wrapper == one.optim_wrapper
    second = load(SECOND[data])
    assert second.model.head == one.model.head
    assert (second.train_cfg, second.param_scheduler) == (one.train_cfg, one.param_scheduler)
    loaders = [c.train_dataloader.dataset for c in (first, second, one)]
    assert loaders[0] == loaders[1] == loaders[2]


@each_large
def test_the_published_recipe(data):
    """By third-party notes on the paper."""
    first, second = load(FIRST[data]), load(SECOND[data])
    for cfg in (first, second):
        optimizer = cfg.optim_wrapper.optimizer
        assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("AdamW", 1e-5, 1e-4)
        assert "clip_grad" not in cfg.optim_wrapper
        assert cfg.param_scheduler == []
    assert (first.train_cfg.max_iters, first.train_dataloader.batch_size) == (1_000_000, 8)
    assert first.auto_scale_lr.base_batch_size == 8
    assert (second.train_cfg.max_iters, second.train_dataloader.batch_size) == (170_000, 28)
    assert second.auto_scale_lr.base_batch_size == 56
    assert second.sync_bn == "torch"
    assert (second.optim_wrapper.type, second.optim_wrapper.dtype) == ("AmpOptimWrapper", "float16")


@each
def test_hooks_of_the_second_stage(data):
    cfg = load(SECOND[data])
    assert cfg.custom_hooks[0].type == "SyncBuffersHook"
    assert isinstance(HOOKS.build(hook(cfg, "EMAHook")), EMAHook)
    HOOKS.build(hook(cfg, "mamba_mm.StrictLoadHook"))


@each
def test_the_prior(data):
    cfg = load(SECOND[data])
    adversarial = cfg.model.type == "mamba_mm.AdversarialHandMeshEstimator"
    assert adversarial == (data in ADVERSARIAL)
    assert ("model_wrapper_cfg" in cfg) == adversarial
    if adversarial:
        prior = MODELS.build({"type": "mamba_mm.AdversarialHandPrior", **cfg.model.prior})
        assert (prior.loss_weight, prior.real_per_image) == (6.25e-5, 2)
        wrapper = MODEL_WRAPPERS.get(cfg.model_wrapper_cfg.type)
        assert wrapper.__name__ == "AdversarialDistributedDataParallel"


def test_the_real_poses_come_with_hamers_data(monkeypatch):
    monkeypatch.setenv("MAMBA_MM_HAMER_DATA", "/somewhere")
    path = load(SECOND[MIX]).model.prior.poses.path
    assert path == "/somewhere/freihand_mocap.npz"


@pytest.mark.parametrize("name", [FIRST[NANO], SECOND[NANO]])
def test_trains_a_step_and_predicts(name):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    cfg = load(name)
    model = build(cfg)
    samples = [through(cfg.train_dataloader.dataset.pipeline, rng) for _ in range(2)]
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    logged = model.train().train_step(pseudo_collate(samples), wrapper)
    losses = [value for key, value in logged.items() if "loss_" in key]
    assert len(losses) == (5 if name in FIRST.values() else 10 + 1 + 2)
    assert all(value.isfinite() for value in losses)
    sample = through(cfg.test_dataloader.dataset.pipeline, rng)
    with torch.no_grad():
        (predicted,) = model.eval().test_step(pseudo_collate([sample]))
    assert predicted.pred_instances.vertices.shape == (1, 778, 3)


@each
def test_no_parameter_of_the_scan_decays(data, monkeypatch):
    wrapper = "mmengine.optim.optimizer.amp_optimizer_wrapper"
    monkeypatch.setattr(f"{wrapper}.is_cuda_available", lambda: True)  # MMEngine wants a GPU
    cfg = load(SECOND[data])
    if data != NANO:  # the head is what is ours
        cfg.model.backbone = dict(type=torch.nn.Identity)
    model = build(cfg)
    built = build_optim_wrapper(model, cfg.optim_wrapper)
    built = built["generator"] if data in ADVERSARIAL else built
    groups = built.optimizer.param_groups
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    of_scans = ("A_logs", "Ds", "dt_projs_bias")
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    scans = [p for name, p in trained if name.endswith(of_scans)]
    assert scans
    assert all(decays[id(p)] == 0 for p in scans)
    assert max(decays.values()) == cfg.optim_wrapper.optimizer.weight_decay
