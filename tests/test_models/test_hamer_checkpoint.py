"""HaMeR's backbone in MMPretrain's vision transformer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, DefaultScope

from mamba_mm.models.utils.checkpoint import (
    ArchMismatchError,
    CheckpointFormatError,
    NonFiniteWeightsError,
    StateMismatchError,
    convert_official,
)
from mamba_mm.models.utils.checkpoint.hamer_vit import convert_hamer_vit

SCRIPT = Path(__file__).parents[2] / "tools/model_converters/convert_official.py"
DIMS, DEPTH, HIDDEN, HEADS = 32, 2, 80, 4
BESIDE_THE_BACKBONE = {
    "mano_head.transformer.weight": torch.ones(2),
    "mano.shapedirs": torch.ones(3),
    "discriminator.D_conv1.weight": torch.ones(2),
    "initialized": torch.tensor(True),
}


def hamer_shapes(dims=DIMS, depth=DEPTH, hidden=HIDDEN, patches=192):
    shapes = {
        "pos_embed": (1, patches + 1, dims),
        "patch_embed.proj.weight": (dims, 3, 16, 16),
        "last_norm.weight": (dims,),
    }
    for block in range(depth):
        shapes |= {
            f"blocks.{block}.norm1.weight": (dims,),
            f"blocks.{block}.attn.qkv.weight": (3 * dims, dims),
            f"blocks.{block}.attn.proj.weight": (dims, dims),
            f"blocks.{block}.norm2.weight": (dims,),
            f"blocks.{block}.mlp.fc1.weight": (hidden, dims),
            f"blocks.{block}.mlp.fc2.weight": (dims, hidden),
        }
    biases = {
        key.replace(".weight", ".bias"): shape[:1]
        for key, shape in shapes.items()
        if key.endswith(".weight")
    }
    return shapes | biases


def hamer_backbone(**sizes):
    """Random weights under HaMeR's keys."""
    generator = torch.Generator().manual_seed(0)
    return {
        key: 0.2 * torch.randn(shape, generator=generator)
        for key, shape in hamer_shapes(**sizes).items()
    }


def hamer_forward(weights, images):
    """The transformer computed straight from HaMeR's keys, as the paper of ViTPose draws it."""

    def linear(name, x):
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name, x):
        return F.layer_norm(
            x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-6
        )

    patches = F.conv2d(
        images,
        weights["patch_embed.proj.weight"],
        weights["patch_embed.proj.bias"],
        stride=16,
        padding=2,
    )
    position = weights["pos_embed"]
    x = patches.flatten(2).transpose(1, 2) + position[:, 1:] + position[:, :1]
    batch, tokens, dims = x.shape
    for block in range(DEPTH):
        name = f"blocks.{block}"
        qkv = linear(f"{name}.attn.qkv", norm(f"{name}.norm1", x))
        q, k, v = qkv.view(batch, tokens, 3, HEADS, dims // HEADS).permute(2, 0, 3, 1, 4)
        weight = torch.softmax(q @ k.transpose(-1, -2) / (dims // HEADS) ** 0.5, dim=-1)
        mixed = (weight @ v).transpose(1, 2).reshape(batch, tokens, dims)
        x = x + linear(f"{name}.attn.proj", mixed)
        hidden = F.gelu(linear(f"{name}.mlp.fc1", norm(f"{name}.norm2", x)))
        x = x + linear(f"{name}.mlp.fc2", hidden)
    return norm("last_norm", x).transpose(1, 2).reshape(patches.shape)


def lightning(backbone):
    """What HaMeR's training writes."""
    state = {f"backbone.{key}": value for key, value in backbone.items()}
    return {"epoch": 3, "state_dict": state | BESIDE_THE_BACKBONE, "optimizer_states": [{}]}


@pytest.fixture
def convert(tmp_path):
    """Convert the content of a file; return the report and the path of what was written."""

    def run(content, **options):
        torch.save(content, tmp_path / "hamer.ckpt")
        report = convert_official(
            tmp_path / "hamer.ckpt", tmp_path / "vit.pth", force=True, **options
        )
        return report, tmp_path / "vit.pth"

    return run


def written_backbone(path):
    """The backbone of the converted file, with its weights, by its own config."""
    pytest.importorskip("mmpretrain")
    config = torch.load(path, weights_only=True)["meta"]["backbone"]
    config["arch"].setdefault("num_heads", HEADS)
    config["init_cfg"] = dict(type="Pretrained", checkpoint=str(path), prefix="backbone.")
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = MODELS.build(config)
    model.init_weights()
    model.eval()
    return model


class TestForward:
    @pytest.mark.parametrize("img_size", [(256, 192), (64, 48)])
    def test_the_converted_backbone_computes_the_same(self, img_size, convert):
        weights = hamer_backbone(patches=img_size[0] * img_size[1] // 256)
        _, path = convert(lightning(weights), img_size=img_size)
        model = written_backbone(path)
        images = torch.randn(2, 3, *img_size, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            features = model(images)
            expected = hamer_forward(weights, images)
        assert len(features) == 1
        assert expected.std() > 0.1
        torch.testing.assert_close(features[0], expected, rtol=1e-4, atol=1e-4)

    def test_every_tensor_of_the_backbone_is_filled(self, convert):
        _, path = convert(lightning(hamer_backbone()))
        state = torch.load(path, weights_only=True)["state_dict"]
        stripped = {key.removeprefix("backbone."): value for key, value in state.items()}
        model = written_backbone(path)
        model.load_state_dict(stripped, strict=True)
        assert all(torch.equal(model.state_dict()[key], stripped[key]) for key in stripped)


class TestReport:
    def test_what_is_beside_the_backbone_is_dropped_and_told(self, convert):
        report, path = convert(lightning(hamer_backbone()))
        assert report.family == "hamer_vit"
        assert set(report.converted.dropped) == set(BESIDE_THE_BACKBONE)
        assert "mano.shapedirs" in str(report)
        state = torch.load(path, weights_only=True)["state_dict"]
        assert len(state) == len(hamer_shapes())
        assert all(key.startswith("backbone.") for key in state)

    def test_many_dropped_tensors_are_told_by_module(self, convert):
        content = lightning(hamer_backbone())
        for layer in range(20):
            content["state_dict"][f"mano_head.layer{layer}.weight"] = torch.ones(1)
        report, _ = convert(content)
        assert "dropped  24 tensors: discriminator (1), initialized (1), mano (1), " in str(report)
        assert "mano_head (21)" in str(report)

    def test_the_config_of_the_backbone_is_written(self, convert):
        _, path = convert(lightning(hamer_backbone()))
        meta = torch.load(path, weights_only=True)["meta"]
        assert meta["preset"] == "custom"
        assert meta["img_size"] == [256, 192]
        assert meta["backbone"] == dict(
            type="mmpretrain.VisionTransformer",
            arch=dict(embed_dims=DIMS, num_layers=DEPTH, feedforward_channels=HIDDEN),
            img_size=[256, 192],
            patch_size=16,
            qkv_bias=True,
            with_cls_token=False,
            out_type="featmap",
            patch_cfg=dict(padding=2),
        )

    @pytest.mark.parametrize(
        ("preset", "dims", "depth", "heads"),
        [
            ("small", 384, 12, 12),
            ("base", 768, 12, 12),
            ("large", 1024, 24, 16),
            ("huge", 1280, 32, 16),
        ],
    )
    def test_released_sizes(self, preset, dims, depth, heads):
        shapes = hamer_shapes(dims, depth, 4 * dims)
        tensors = {key: torch.zeros(1).expand(shape) for key, shape in shapes.items()}
        converted = convert_hamer_vit(tensors, "the file")
        assert converted.preset == preset
        assert converted.meta["backbone"]["arch"] == dict(
            embed_dims=dims, num_layers=depth, num_heads=heads, feedforward_channels=4 * dims
        )
        zoo = pytest.importorskip("mmpretrain.models.backbones").VisionTransformer.arch_zoo
        if preset == "huge":
            assert converted.meta["backbone"]["arch"] == zoo["huge"]


class TestOtherFiles:
    def test_a_backbone_alone(self, convert):
        report, _ = convert({"model": hamer_backbone()})
        assert report.converted.dropped == ()
        assert report.converted.spelling == "official"

    def test_the_head_of_vitpose_is_dropped(self, convert):
        content = {
            "state_dict": {
                **{f"backbone.{key}": value for key, value in hamer_backbone().items()},
                "keypoint_head.final_layer.weight": torch.ones(2),
            }
        }
        report, _ = convert(content)
        assert report.converted.dropped == ("keypoint_head.final_layer.weight",)

    def test_script(self, tmp_path):
        torch.save(lightning(hamer_backbone()), tmp_path / "hamer.ckpt")
        command = [sys.executable, SCRIPT, tmp_path / "hamer.ckpt", tmp_path / "vit.pth"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        assert "found    hamer_vit, preset custom" in run.stdout


class TestRefusals:
    def test_missing_and_unexpected_keys_are_listed(self, convert):
        weights = hamer_backbone()
        del weights["blocks.1.attn.qkv.bias"]
        weights["blocks.0.mlp.experts.0.weight"] = torch.ones(1)
        with pytest.raises(StateMismatchError) as error:
            convert(lightning(weights))
        assert error.value.missing == ("layers.1.attn.qkv.bias",)
        assert error.value.unexpected == ("blocks.0.mlp.experts.0.weight",)

    @pytest.mark.parametrize(
        "key", ["pos_embed", "blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc1.bias"]
    )
    def test_missing_tensors(self, key, convert):
        weights = hamer_backbone()
        del weights[key]
        with pytest.raises(StateMismatchError):
            convert(lightning(weights))

    def test_a_tensor_of_another_shape(self, convert):
        weights = hamer_backbone()
        weights["blocks.1.mlp.fc2.weight"] = torch.ones(DIMS, HIDDEN + 1)
        with pytest.raises(StateMismatchError, match="1 of another shape"):
            convert(lightning(weights))

    def test_a_size_that_cannot_be_read(self, convert):
        weights = hamer_backbone()
        weights["blocks.0.mlp.fc1.weight"] = torch.ones(HIDDEN)
        with pytest.raises(StateMismatchError, match="that tell its size"):
            convert(lightning(weights))

    def test_unknown_modules(self, convert):
        content = lightning(hamer_backbone())
        content["state_dict"]["depth_head.weight"] = torch.ones(1)
        with pytest.raises(StateMismatchError, match="depth_head"):
            convert(content)

    def test_position_rows_of_another_image_size(self, convert):
        content = lightning(hamer_backbone(patches=12))
        with pytest.raises(CheckpointFormatError, match=r"256 x 192 pixels have 192 patches"):
            convert(content)
        with pytest.raises(CheckpointFormatError, match=r"--img-size H W"):
            convert(content, img_size=(64, 64))

    def test_another_arch_than_asserted(self, convert):
        with pytest.raises(ArchMismatchError, match="the asserted huge"):
            convert(lightning(hamer_backbone()), arch="huge")

    def test_nan(self, convert):
        weights = hamer_backbone()
        weights["last_norm.bias"][3] = float("nan")
        with pytest.raises(NonFiniteWeightsError, match=r"ln1\.bias"):
            convert(lightning(weights))
