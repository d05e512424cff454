"""Every shipped Hamba config builds, trains a step and predicts, and says what it should."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope

pytest.importorskip("mmpose")

from mmengine.dataset import pseudo_collate
from mmpose.registry import METRICS, VISUALIZERS

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "mmpose" / "hamba"
# Those of the two stages, hamba-jr and hamba-stage2, are in test_hamba_stage_configs.py.
CONFIGS = sorted(path for path in FOLDER.glob("*.py") if not path.stem.startswith("hamba-"))
FREIHAND = [path for path in CONFIGS if "freihand" in path.stem]
LARGE = [path for path in CONFIGS if "vit-h" in path.stem]
RGBD = [path for path in CONFIGS if "rgbd" in path.stem]
SLOW = {"vit-b", "vim-s", "hrnet-w32"}
# By hand. Hamba: reduction 919_552, regressor 13_833_837, sampler 526_336, two blocks of
# 11_011_624 + 3_296_768, their norm 1_024, outputs 172_111.
HEAD_PARAMETERS = {"hamba": 44_069_644, "hamer": 39_497_837, "mano": 139_629}


@pytest.fixture(autouse=True)
def mmpose_scope(monkeypatch):
    monkeypatch.setenv("MAMBA_MM_MANO", "toy")
    with DefaultScope.overwrite_default_scope("mmpose"):
        yield


def name_of(path):
    return path.stem


def build(cfg):
    """The model as the runner builds it, but without pretrained weights.

    Of the largest backbone, ViT-B, the first two layers: the others are the same again, and
    ``test_model_index`` counts them.
    """
    model = copy.deepcopy(cfg.model)
    model.backbone.pop("init_cfg", None)
    if model.backbone.get("arch") == "base":
        model.backbone.arch = dict(
            embed_dims=768, num_layers=2, num_heads=12, feedforward_channels=3072
        )
    return MODELS.build(model)


def hand_record(rng):
    """A right hand as the data sets give it, drawn on nothing."""
    from mamba_mm.datasets.hand_mesh.record import hand_record
    from mamba_mm.datasets.toy_hands import HandFactory

    (hand,) = HandFactory(224, 90.0).draw([rng], [True])
    K = np.array([[500, 0, 111.5], [0, 500, 111.5], [0, 0, 1.0]])
    joints = hand.joints
    pixels = joints @ K.T
    return hand_record(
        "a test",
        img_path="none.jpg",
        img_id=0,
        id=0,
        bbox=np.array([0, 0, 224, 224.0]),
        is_right=True,
        keypoints=pixels[:, :2] / pixels[:, 2:],
        keypoints_visible=np.ones(21),
        keypoints_cam=joints,
        vertices_cam=hand.vertices,
        mano_pose=np.zeros(48),
        mano_betas=np.zeros(10),
        cam_K=K,
    )


def through(pipeline, rng):
    results = hand_record(rng) | dict(
        img=rng.integers(0, 255, (224, 224, 3), dtype=np.uint8),
        img_shape=(224, 224),
        ori_shape=(224, 224),
        dataset_name="test",
        inverse_depth=rng.uniform(1, 2, (224, 224)),
    )
    for config in pipeline:
        if config.type not in ("LoadImage", "mamba_mm.LoadDepth"):
            results = TRANSFORMS.build(config)(results)
    return results


def test_the_configs_are_all_there():
    systems = {path.stem.split("_")[0] for path in CONFIGS}
    backbones = {path.stem.split("_")[1] for path in FREIHAND if path.stem.startswith("hamba")}
    assert systems == set(HEAD_PARAMETERS)
    assert backbones == {"vit-h", "vit-b", "vit-s", "vmamba-t", "vim-s", "hrnet-w32", "res50"}
    words = {word for path in CONFIGS for word in path.stem.replace("-", "_").split("_")}
    assert words >= {"mix", "rgbd", "strong", "ho3d", "ablation", "photos"}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, marks=pytest.mark.slow if SLOW & set(p.stem.split("_")) else ())
        for p in CONFIGS
        if p not in LARGE
    ],
    ids=name_of,
)
def test_trains_a_step_and_predicts(path):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    cfg = Config.fromfile(path)
    model = build(cfg)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    train = cfg.train_dataloader.dataset.pipeline
    logged = model.train().train_step(
        pseudo_collate([through(train, rng) for _ in range(2)]), optimizer
    )
    losses = {name: value for name, value in logged.items() if name.startswith("loss_")}
    assert len(losses) == (10 if path.stem.startswith("hamba") else 5)
    assert all(value.isfinite() for value in losses.values())

    sample = through(cfg.test_dataloader.dataset.pipeline, rng)
    with torch.no_grad():
        (predicted,) = model.eval().test_step(pseudo_collate([sample]))
    assert predicted.pred_instances.vertices.shape == (1, 778, 3)
    (metric, *_) = cfg.test_evaluator
    metric = METRICS.build(metric)
    metric.process(None, [predicted.to_dict()])
    assert metric.evaluate(1)["mesh/PA-MPJPE"] > 0


@pytest.mark.parametrize("path", [p for p in LARGE if p not in RGBD], ids=name_of)
def test_the_published_model(path):
    cfg = Config.fromfile(path)
    assert cfg.model.backbone.init_cfg.checkpoint == "checkpoints/hamer_vit-h.pth"
    backbone, head = cfg.model.backbone, MODELS.build(cfg.model.head)
    with torch.device("meta"):
        model = MODELS.build(dict(copy.deepcopy(backbone), init_cfg=None))
    assert sum(p.numel() for p in model.parameters()) == 630_910_720
    assert backbone.drop_path_rate == 0.55
    system = path.stem.split("_")[0]
    assert sum(p.numel() for p in head.parameters()) == HEAD_PARAMETERS[system]
    prediction = head.eval()((torch.randn(1, 1280, 16, 12),))["final"]
    assert prediction.vertices.shape == (1, 778, 3)
    if system == "hamba":
        assert head.ts.token_offset == (6.0, 6.0)


def test_depth_is_a_fourth_channel_of_the_published_model():
    (path,) = set(LARGE) & set(RGBD)
    cfg, published = (Config.fromfile(p) for p in (path, str(path).replace("-rgbd", "")))
    assert cfg.model.backbone.backbone == published.model.backbone
    with torch.device("meta"):
        model = MODELS.build(cfg.model.backbone)
    projection = model.patch_embed.projection
    assert projection.weight.shape == (1280, 4, 16, 16)
    assert (projection.pretrained_channels, projection.new_weights) == (3, "zero")
    assert sum(p.numel() for p in model.parameters()) == 630_910_720 + 1280 * 16 * 16


@pytest.mark.parametrize("path", RGBD, ids=name_of)
def test_depth_is_all_that_the_pipelines_differ_in(path):
    """And the photos' colours reach the network as without depth."""
    cfg, other = (Config.fromfile(p) for p in (path, str(path).replace("-rgbd", "")))
    depth = {"LoadDepth", "AppendDepth", "DepthPerturbation"}
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        steps, plain = (c[loader].dataset.pipeline for c in (cfg, other))
        assert [s for s in steps if s.type.removeprefix("mamba_mm.") not in depth] == plain
        inputs = []
        for pipeline in (steps, plain):
            np.random.seed(0)
            inputs.append(through(pipeline, np.random.default_rng(0))["inputs"])
        assert inputs[0].shape[0] == 4
        assert torch.equal(inputs[0][:3].byte(), inputs[1])
    settings = {**cfg.model.data_preprocessor, "type": "PoseDataPreprocessor"}
    assert settings == other.model.data_preprocessor


@pytest.mark.parametrize("path", LARGE, ids=name_of)
def test_the_published_recipe(path):
    cfg = Config.fromfile(path)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("AdamW", 1e-5, 1e-4)
    assert (cfg.train_cfg.max_iters, cfg.param_scheduler) == (170_000, [])
    assert cfg.auto_scale_lr.base_batch_size == 56 == 2 * cfg.train_dataloader.batch_size


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_no_parameter_of_the_scan_decays(path):
    cfg = Config.fromfile(path)
    head = MODELS.build(cfg.model.head)
    wrapper = build_optim_wrapper(head, cfg.optim_wrapper)
    decays = {
        id(p): group["weight_decay"]
        for group in wrapper.optimizer.param_groups
        for p in group["params"]
    }
    scans = [
        p for name, p in head.named_parameters() if name.endswith(("A_logs", "Ds", "dt_projs_bias"))
    ]
    assert bool(scans) == path.stem.startswith("hamba")
    assert all(decays[id(p)] == 0 for p in scans)


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_the_visualiser_builds(path):
    cfg = Config.fromfile(path)
    visualizer = VISUALIZERS.build(dict(cfg.visualizer, vis_backends=[], name=path.stem))
    assert type(visualizer).__name__ == "HandMeshLocalVisualizer"


def test_the_data_folders_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("MAMBA_MM_FREIHAND", "/somewhere")
    assert Config.fromfile(FREIHAND[0]).train_dataloader.dataset.data_root == "/somewhere/"


def test_a_missing_mano_file_is_named(monkeypatch):
    monkeypatch.delenv("MAMBA_MM_MANO")
    cfg = Config.fromfile(FREIHAND[0])
    with pytest.raises(FileNotFoundError, match=r"mano\.is\.tue\.mpg\.de"):
        MODELS.build(cfg.model.head)
