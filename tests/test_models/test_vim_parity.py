"""Vim computes what the official implementation computed.

As in ``test_vmamba_parity.py`` there are two sources of truth: recordings of the official model
outside the repository (``MAMBA_MM_PARITY_DIR``, by default ``../shared/parity``; skipped where
they are missing), and our own in ``tests/data/vim_recorded.npz``, made by this code when it
agreed with the official ones. ``python tests/test_models/test_vim_parity.py`` makes them anew.
"""

from __future__ import annotations

import importlib.util
import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mamba_mm.models import VisionMamba
from mamba_mm.models.utils import load_pretrained_vim

REPO = Path(__file__).resolve().parents[2]
PARITY_DIR = Path(os.environ.get("MAMBA_MM_PARITY_DIR", REPO.parent / "shared" / "parity"))
RECORDED = REPO / "tests" / "data" / "vim_recorded.npz"

OUTPUT_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
SIZE = (64, 96)


def relative_error(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()


# --- against the official implementation ------------------------------------------------


@pytest.fixture(scope="module")
def official():
    """Weights by official key, the recording, and the module that fills inputs."""
    description = PARITY_DIR / "vim_tiny.json"
    if not description.is_file():
        pytest.skip(f"no official recordings in {PARITY_DIR}; set MAMBA_MM_PARITY_DIR")
    spec = importlib.util.spec_from_file_location("parity_fill", PARITY_DIR / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    shapes = json.loads(description.read_text())["shapes"]
    weights = {k: torch.from_numpy(fill.fill_tensor(k, shape)) for k, shape in shapes.items()}
    return weights, np.load(PARITY_DIR / "vim_tiny_64x96.npz"), fill


def official_model(weights):
    """The backbone and the head; every recorded tensor has its place, and no place is left."""
    backbone = VisionMamba("tiny", img_size=SIZE, out_type="cls_token").eval()
    head = nn.Linear(192, 1000)
    head.load_state_dict({k[5:]: v for k, v in weights.items() if k.startswith("head.")})
    backbone.load_state_dict({k: v for k, v in weights.items() if not k.startswith("head.")})
    return backbone, head


def test_official_classifier(official):
    weights, recording, fill = official
    assert len(weights) == 415
    backbone, head = official_model(weights)
    image = torch.from_numpy(fill.fill_input((2, 3, *SIZE), seed=0)).requires_grad_()
    logits = head(backbone(image)[0])
    assert relative_error(logits.detach(), recording["logits"]) <= OUTPUT_TOLERANCE

    (logits * torch.from_numpy(fill.fill_input(logits.shape, seed=1))).sum().backward()
    assert relative_error(image.grad, recording["input_grad"]) <= GRADIENT_TOLERANCE
    parameters = dict(backbone.named_parameters())
    parameters |= {f"head.{name}": parameter for name, parameter in head.named_parameters()}
    keys = [str(key) for key in recording["grad_keys"]]
    assert set(keys) == set(parameters) == set(weights)
    # In float64: a float32 norm of millions of numbers is itself wrong by 1e-4.
    ours = np.array([parameters[key].grad.double().norm() for key in keys])
    theirs = recording["grad_norms"]
    assert (np.abs(ours - theirs) <= GRADIENT_TOLERANCE * theirs).all()


def test_official_file_loads_strictly_and_computes_the_same(official, tmp_path):
    weights, recording, fill = official
    torch.save({"model": weights}, tmp_path / "official.pth")
    backbone = VisionMamba("tiny", img_size=SIZE, out_type="cls_token").eval()
    report = load_pretrained_vim(backbone, tmp_path / "official.pth")
    assert (report.arch, len(report.copied), report.left_initial) == ("tiny", 413, ())
    assert report.dropped == ("head.weight", "head.bias")
    with torch.no_grad():
        (feature,) = backbone(torch.from_numpy(fill.fill_input((2, 3, *SIZE), seed=0)))
    logits = feature @ weights["head.weight"].T + weights["head.bias"]
    assert relative_error(logits, recording["logits"]) <= OUTPUT_TOLERANCE


# --- against ourselves ------------------------------------------------------------------

PLUS = {"base": "nano", "embed_dims": 32, "depth": 3, "stride": 8}
OWN = {
    "nano": ("nano", {"img_size": (64, 96), "out_type": "cls_token"}, (2, 3, 64, 96)),
    "resized": ("nano", {"img_size": 64, "out_indices": (1, 3)}, (2, 3, 37, 53)),
    "plus": (PLUS, {"img_size": (32, 48), "out_indices": (0, 2)}, (1, 3, 40, 32)),
    "mixer_taps": (
        PLUS,
        {
            "img_size": 32,
            "out_indices": (0, 2),
            "tap": "mixer",
            "tap_norm": False,
            "with_cls_token": False,
        },
        (1, 3, 32, 48),
    ),
}
SAMPLES = 64


def stable_normal(name, shape):
    """Normal numbers that depend on a name and nothing else (RandomState never changes)."""
    return np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)


def fill_parameters(model):
    """Give every parameter a value near those of a trained model."""
    for name, parameter in model.named_parameters():
        noise = torch.from_numpy(stable_normal(name, tuple(parameter.shape))).float()
        if name.endswith(("A_log", "A_b_log")):
            noise = torch.arange(1, parameter.shape[1] + 1).float().log() + 0.1 * noise
        elif name.endswith(("dt_proj.bias", "dt_proj_b.bias")):
            noise = -4 + 0.5 * noise
        elif name.endswith((".D", ".D_b")) or "norm" in name:
            noise = 1 + 0.1 * noise
        elif parameter.dim() > 1:
            noise = noise / parameter[0].numel() ** 0.5
        else:
            noise = 0.1 * noise
        parameter.data.copy_(noise)


def measure(case):
    """Outputs sampled evenly, input gradient sampled evenly, parameter gradient norms."""
    arch, options, shape = OWN[case]
    model = VisionMamba(arch, **options).eval()
    fill_parameters(model)
    image = torch.from_numpy(stable_normal("image", shape)).float().requires_grad_()
    outputs = model(image)
    weights = [torch.from_numpy(stable_normal(f"out{i}", o.shape)) for i, o in enumerate(outputs)]
    sum((o * w).sum() for o, w in zip(outputs, weights, strict=True)).backward()
    norms = [p.grad.double().norm() for p in model.parameters() if p.requires_grad]
    return {
        **{f"out{i}": sample(o.detach()) for i, o in enumerate(outputs)},
        "input_grad": sample(image.grad),
        "grad_norms": np.array(norms, np.float32),
    }


def sample(tensor):
    flat = tensor.flatten().numpy()
    return flat[np.linspace(0, flat.size - 1, SAMPLES).astype(int)]


@pytest.mark.parametrize("case", OWN)
def test_recorded(case):
    recorded = np.load(RECORDED)
    for name, value in measure(case).items():
        expected = recorded[f"{case}.{name}"]
        if name == "grad_norms":
            assert (np.abs(value - expected) <= GRADIENT_TOLERANCE * expected).all()
        else:
            is_output = name.startswith("out")
            tolerance = OUTPUT_TOLERANCE if is_output else GRADIENT_TOLERANCE
            assert relative_error(value, expected) <= tolerance, name


if __name__ == "__main__":
    values = {f"{case}.{name}": value for case in OWN for name, value in measure(case).items()}
    np.savez_compressed(RECORDED, **values)
    print(f"wrote {RECORDED}, {RECORDED.stat().st_size} bytes")
