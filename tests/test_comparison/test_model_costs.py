"""Parameters and operations against sums made by hand."""

import math

import pytest
import torch

pytest.importorskip("mmpretrain")

from small_configs import SWIN, VIT, VMAMBA, read

from mamba_mm.comparison.costs import Operations, count_operations, count_parameters
from mamba_mm.comparison.models import TensorForward, build_model
from mamba_mm.ops import use_backend
from mamba_mm.ops.extension import EXTENSION

compiled = pytest.mark.skipif(not EXTENSION.loaded, reason="the compiled op is not built")


@pytest.fixture
def vmamba(tmp_path):
    return TensorForward(build_model(read(tmp_path / "vmamba.py", VMAMBA)))


def layer_norm(elements):
    return 5 * elements  # as MMEngine counts: mean, variance, and an affine map


def block(channels, positions):
    """A block of VMamba with one state: the operations for a map of so many positions."""
    rank, mlp = math.ceil(channels / 16), 4 * channels
    per_position = 2 * channels * channels + 9 * channels  # projections in and out, convolution
    per_position += 4 * channels * (rank + 2)  # what the four routes need of a position
    per_position += 4 * channels * (9 + 1 + rank)  # their scans, and the steps' projection
    per_position += 2 * channels * mlp
    return positions * per_position + layer_norm(3 * channels * positions)


def vmamba_nano(height, width):
    """Multiply-adds of the nano VMamba with ten classes."""
    positions = height * width // 16
    total = positions * 4 * 3 * 16 * 9 + layer_norm(positions * 4 * 16)  # stem, half the size
    total += positions * 16 * 32 * 9 + layer_norm(positions * 32)
    for stage, depth in enumerate((1, 1, 2, 1)):
        channels = 32 * 2**stage
        total += depth * block(channels, positions)
        if stage < 3:
            positions //= 4
            total += positions * 2 * channels * channels * 9 + layer_norm(positions * 2 * channels)
    total += layer_norm(positions * 256)
    return total + positions * 256 + 256 * 10  # mean over the map, and the head


def scans_of_nano(height, width):
    positions = height * width // 16
    channels_of_positions = 0
    for stage, depth in enumerate((1, 1, 2, 1)):
        channels = 32 * 2**stage
        rank = math.ceil(channels / 16)
        channels_of_positions += depth * positions * channels * 4 * (9 + 1 + rank)
        positions //= 4
    return channels_of_positions


@compiled
@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
def test_vmamba_is_counted_with_its_scans_and_fused_layers(vmamba, size):
    counted = count_operations(vmamba, *size)
    assert counted.total == vmamba_nano(*size)
    assert counted.scans == scans_of_nano(*size)
    assert counted.uncounted == ("mamba_mm::bias_gelu_",)
    assert counted.failure == ""


@compiled
def test_fusing_changes_no_count(vmamba, monkeypatch):
    fused = count_operations(vmamba, 64, 64)
    for module in vmamba.modules():
        if hasattr(module, "fused"):
            module.fused = False
    monkeypatch.setattr(
        "mamba_mm.layers.mlp.linear_gelu",
        lambda x, weight, bias: torch.nn.functional.gelu(
            torch.nn.functional.linear(x, weight, bias)
        ),
    )
    apart = count_operations(vmamba, 64, 64)
    assert apart.total == fused.total
    assert "mamba_mm::bias_gelu_" not in apart.uncounted


def test_attention_is_counted(tmp_path):
    model = TensorForward(build_model(read(tmp_path / "vit.py", VIT)))
    tokens, width, hidden = 16 + 1, 32, 64
    expected = 16 * width * 3 * 16 * 16  # patches
    expected += tokens * (3 * width * width + width * width)  # queries, keys, values; the result
    expected += 2 * tokens * tokens * width  # attention, and the sum that it weighs
    expected += 2 * tokens * width * hidden + 3 * layer_norm(tokens * width) + width * 10
    assert count_operations(model, 64, 64) == Operations(expected, scans=0)


def test_parameters_of_a_sum_by_hand(tmp_path):
    width, hidden, tokens = 32, 64, 17
    attention = 4 * (width * width + width)
    mlp = 2 * width * hidden + width + hidden
    norms = 3 * 2 * width
    backbone = attention + mlp + norms + (3 * 256 + 1) * width + (tokens + 1) * width
    model = build_model(read(tmp_path / "vit.py", VIT))
    assert count_parameters(model.backbone) == backbone
    assert count_parameters(model) == backbone + 33 * 10


def test_what_cannot_be_run_cannot_be_counted(tmp_path):
    counted = count_operations(TensorForward(build_model(read(tmp_path / "s.py", SWIN))), 64, 64)
    assert counted.total is None
    assert counted.failure.startswith("AssertionError: The input shape (4, 4) is smaller than")


def test_plain_scans_are_not_counted(vmamba):
    with use_backend("torch"):
        counted = count_operations(vmamba, 64, 64)
    assert counted.total is None
    assert "the compiled scan is needed" in counted.failure
