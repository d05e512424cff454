"""Configs of classifiers that are small enough to be run in tests."""

from pathlib import Path

from mamba_mm.comparison.configs import ModelConfig, read_configs
from mamba_mm.comparison.sets import Entry

HEAD = dict(type="LinearClsHead", num_classes=10, loss=dict(type="CrossEntropyLoss"))
PRETRAINED = dict(type="Pretrained", checkpoint="there/is/no.pth")


def classifier(backbone, channels, **others):
    return dict(
        type="ImageClassifier",
        backbone=dict(**backbone, init_cfg=PRETRAINED),
        head=HEAD | dict(in_channels=channels),
        **others,
    )


POOL = dict(neck=dict(type="GlobalAveragePooling"))
VMAMBA = classifier(dict(type="mamba_mm.VMamba", arch="nano", out_indices=(3,)), 256, **POOL)
VIT = classifier(
    dict(
        type="VisionTransformer",
        img_size=64,
        arch=dict(embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=64),
    ),
    32,
)
SWIN = classifier(
    dict(
        type="SwinTransformer",
        arch=dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1]),
    ),
    64,
    **POOL,
)
"""Cannot take 64 pixels: its last map is smaller than a window."""


def write_config(path: Path, model: dict | None, scope: str | None = "mmpretrain") -> Path:
    """Write a config; ``None`` leaves a part out."""
    lines = [] if model is None else [f"model = {model!r}"]
    lines += [] if scope is None else [f"default_scope = {scope!r}"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def read(path: Path, model: dict) -> ModelConfig:
    """Write a config and read it as a comparison does."""
    return read_configs([Entry(str(write_config(path, model)))])[0]
