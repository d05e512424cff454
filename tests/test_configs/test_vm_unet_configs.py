"""Every shipped VM-UNet config builds, trains a step and predicts, and says what it should."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

pytest.importorskip("mmseg")

from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, METRICS, TRANSFORMS
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mamba_mm.datasets.toy_medical import KINDS
from mamba_mm.models import VMUNetEncoder

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "configs" / "mmseg" / "vm_unet"
CONFIGS = sorted(FOLDER.glob("*.py"))
OFFICIAL = [path for path in CONFIGS if "300e" in path.stem]
PARAMETERS = {"isic17": 27_427_561, "isic18": 27_427_561, "synapse": 27_427_761}
HALF_PERIOD = {"isic17": 50, "isic18": 50, "synapse": 100}


def data_set(path):
    return path.stem.split("_")[-1].split("-")[0]


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield


def build(cfg, device="cpu"):
    """The model as the runner builds it, but without pretrained weights."""
    model = copy.deepcopy(cfg.model)
    for part in (model.backbone, model.decode_head):
        part.pop("init_cfg", None)
    with torch.device(device):
        return MODELS.build(model)


def batch(cfg, count, size):
    """Random images with random labels, packed as the data loaders do."""
    classes = cfg.model.decode_head.num_classes
    images, samples = [], []
    for i in range(count):
        images.append(torch.randint(0, 256, (3, *size), dtype=torch.uint8))
        labels = torch.randint(0, classes, (1, *size))
        meta = dict(img_shape=size, ori_shape=size, pad_shape=size, img_path=f"{i}.png")
        sample = SegDataSample(metainfo=meta)
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return dict(inputs=images, data_samples=samples)


def test_the_configs_are_all_there():
    assert {data_set(path) for path in OFFICIAL} == set(PARAMETERS)
    assert len(CONFIGS) == 7


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_trains_a_step_and_predicts(path):
    torch.manual_seed(0)
    cfg = Config.fromfile(path)
    model = build(cfg)
    model.init_weights()
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {name: value.clone() for name, value in model.named_parameters()}

    logged = model.train().train_step(batch(cfg, 2, (32, 64)), optimizer)
    losses = {name: value for name, value in logged.items() if "loss" in name}
    assert len(losses) == 3
    assert all(value.isfinite() for value in losses.values())
    unmoved = [n for n, value in model.named_parameters() if torch.equal(value, before[n])]
    # The first step of some biases and of the first skip's path is below float32 resolution.
    assert len(unmoved) <= len(before) // 20, unmoved

    with torch.no_grad():
        (sample,) = model.eval().test_step(batch(cfg, 1, (40, 50)))
    assert sample.pred_sem_seg.data.shape == (1, 40, 50)
    assert sample.seg_logits.data.shape[1:] == (40, 50)
    assert sample.pred_sem_seg.data.max() < cfg.model.decode_head.num_classes


@pytest.mark.parametrize("path", OFFICIAL, ids=data_set)
def test_the_official_model_and_recipe(path):
    cfg = Config.fromfile(path)
    model = build(cfg, device="meta")
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[data_set(path)]
    assert len(model.state_dict()) == 222
    for part in (cfg.model.backbone, cfg.model.decode_head):
        assert (part.arch, part.drop_path_rate) == ("vm_unet", 0.2)
        assert part.init_cfg.checkpoint == "checkpoints/vssmsmall_dp03_ckpt_epoch_238.pth"
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("AdamW", 1e-3, 1e-2)
    assert cfg.optim_wrapper.type == "OptimWrapper"
    assert (cfg.train_cfg.max_epochs, cfg.train_dataloader.batch_size) == (300, 32)
    names = [loss.type for loss in cfg.model.decode_head.loss_decode]
    single = data_set(path) != "synapse"
    dice = "mamba_mm.BinaryDiceLoss" if single else "mamba_mm.ClassDiceLoss"
    assert names == ["CrossEntropyLoss", dice]
    resize = next(t for t in cfg.train_dataloader.dataset.pipeline if t.type == "Resize")
    assert tuple(resize.scale) == ((256, 256) if single else (224, 224))


@pytest.mark.parametrize("path", OFFICIAL, ids=data_set)
def test_the_learning_rate_falls_and_rises_again(path):
    cfg = Config.fromfile(path)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=cfg.optim_wrapper.optimizer.lr)
    from mmengine.registry import PARAM_SCHEDULERS

    (schedule,) = cfg.param_scheduler
    scheduler = PARAM_SCHEDULERS.build(dict(schedule), default_args=dict(optimizer=optimizer))
    rates = []
    for _ in range(cfg.train_cfg.max_epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    half = HALF_PERIOD[data_set(path)]
    for epoch, expected in ((0, 1e-3), (half, 1e-5), (2 * half, 1e-3), (half // 2, 5.05e-4)):
        assert rates[epoch] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("path", OFFICIAL, ids=data_set)
def test_without_the_imagenet_weights_it_stops(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(path)
    for part in (cfg.model.backbone, cfg.model.decode_head):
        with pytest.raises(Exception, match="vssmsmall_dp03_ckpt_epoch_238"):
            MODELS.build(part | {"arch": "nano"}).init_weights()


def run_pipeline(transforms, image, labels):
    loaded = dict(
        img=image,
        gt_seg_map=labels,
        img_shape=image.shape[:2],
        ori_shape=image.shape[:2],
        seg_fields=["gt_seg_map"],
        img_path="case0001_slice000.png",
        case="case0001",
        slice_index=0,
    )
    for config in transforms:
        if config.type.startswith("Load"):
            continue
        loaded = TRANSFORMS.build(config)(loaded)
    return loaded


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_training_pipeline_keeps_labels_on_their_pixels(path):
    """Labels are drawn into the image; wherever that is clear, they must still agree."""
    cfg = Config.fromfile(path)
    rng = np.random.default_rng(0)
    for seed in range(8):
        np.random.seed(seed)
        labels = np.kron(rng.integers(0, 2, (8, 10)), np.ones((32, 32))).astype(np.uint8)
        image = np.repeat(255 * labels[..., None], 3, axis=2)
        packed = run_pipeline(cfg.train_dataloader.dataset.pipeline, image, labels)
        inputs, truth = packed["inputs"][0], packed["data_samples"].gt_sem_seg.data[0]
        assert inputs.shape == truth.shape
        assert set(truth.unique().tolist()) <= {0, 1}
        clear = (inputs < 20) | (inputs > 235)
        agree = (inputs > 127)[clear] == (truth == 1)[clear]
        assert clear.float().mean() > 0.6
        assert agree.float().mean() > 0.97


def test_synapse_packs_what_a_volume_is_put_together_from():
    cfg = Config.fromfile(next(path for path in OFFICIAL if data_set(path) == "synapse"))
    image = np.zeros((40, 40, 3), np.uint8)
    packed = run_pipeline(cfg.val_dataloader.dataset.pipeline, image, image[..., 0])
    meta = packed["data_samples"].metainfo
    assert (meta["case"], meta["slice_index"]) == ("case0001", 0)
    assert meta["img_shape"] == (224, 224)
    metric = METRICS.build(cfg.val_evaluator)
    assert (metric.empty, metric.hd95_rule) == ("official", "pooled")


def test_the_class_names_are_those_that_are_drawn():
    for kind, (_, classes) in KINDS.items():
        cfg = Config.fromfile(FOLDER / f"vm-unet-nano_toy-{kind}-128x128.py")
        assert cfg.train_dataloader.dataset.metainfo.classes == classes
        assert len(cfg.metainfo.palette) == len(classes)


def test_the_data_folders_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("MAMBA_MM_TOY_LESIONS", "/elsewhere/lesions")
    monkeypatch.setenv("MAMBA_MM_TOY_ORGANS", "/elsewhere/organs")
    monkeypatch.setenv("MAMBA_MM_DATA_DIR", "/elsewhere/real")
    roots = [Config.fromfile(path).data_root for path in CONFIGS if "300e" not in path.stem]
    assert sorted(roots) == [
        "/elsewhere/lesions/",
        "/elsewhere/organs/",
        "/elsewhere/real/coco/",
        "/elsewhere/real/coco/",
    ]


def test_a_drawn_set_goes_through_the_loader_and_the_metrics(tmp_path):
    from mamba_mm.datasets.toy_medical import ToyMedicalConfig, write_toy_medical

    folder = tmp_path / "lesions"
    write_toy_medical(folder, ToyMedicalConfig("lesions", 2, 1, 64, 64), report=lambda line: None)
    cfg = Config.fromfile(FOLDER / "vm-unet-nano_toy-lesions-128x128.py")
    dataset = DATASETS.build(cfg.val_dataloader.dataset | dict(data_root=str(folder)))
    assert len(dataset) == 1
    model = build(cfg).eval()
    assert type(model.backbone) is VMUNetEncoder
    with torch.no_grad():
        samples = model.test_step(pseudo_collate([dataset[0]]))
    for config in cfg.val_evaluator:
        metric = METRICS.build(config)
        metric.dataset_meta = dataset.metainfo
        metric.process({}, [sample.to_dict() for sample in samples])
        assert metric.evaluate(1)
