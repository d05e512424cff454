"""VMamba computes what the official implementation computed.

Two sources of truth. The recordings of the official models, some hundred kilobytes, live
outside the repository: ``MAMBA_MM_PARITY_DIR``, by default ``../shared/parity``; without
them that part is skipped. The recordings in ``tests/data/vmamba_recorded.npz`` are our own,
made by this code when it agreed with the official ones, and hold it there everywhere.
``python tests/test_models/test_vmamba_parity.py`` makes them anew.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mamba_mm.models import VMamba

REPO = Path(__file__).resolve().parents[2]
PARITY_DIR = Path(os.environ.get("MAMBA_MM_PARITY_DIR", REPO.parent / "shared" / "parity"))
RECORDED = REPO / "tests" / "data" / "vmamba_recorded.npz"

OUTPUT_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4


def relative_error(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()


# --- against the official implementation ------------------------------------------------

CLASSIFIERS = {
    "vanilla_vmamba_tiny": "v0_tiny",
    "vmamba_tiny_s1l8": "tiny_s1l8",
    "vmamba_tiny_s2l5": "tiny_s2l5",
}
BACKBONE, BACKBONE_ARCH = "backbone_vmamba_tiny_s1l8", "tiny_s1l8"

# How the recorded, single-file model names and shapes what the released weights spell
# as VMamba does.
RESPELLED = (
    (re.compile(r"\.op\.x_proj\.weight$"), ".op.x_proj_weight"),
    (re.compile(r"\.op\.dt_projs\.weight$"), ".op.dt_projs_weight"),
    (re.compile(r"^classifier\.norm\."), "outnorm3."),
)
RESPELLED_MERGING = (
    (re.compile(r"\.downsample\.1\."), ".downsample.norm."),
    (re.compile(r"\.downsample\.2\."), ".downsample.reduction."),
)


def our_key(official_key, arch):
    rules = RESPELLED + (RESPELLED_MERGING if arch.startswith("v0") else ())
    for pattern, replacement in rules:
        official_key = pattern.sub(replacement, official_key)
    return official_key


def load_recording(name):
    description = PARITY_DIR / f"{name}.json"
    if not description.is_file():
        pytest.skip(f"no official recordings in {PARITY_DIR}; set MAMBA_MM_PARITY_DIR")
    shapes = json.loads(description.read_text())["shapes"]
    return shapes, np.load(next(PARITY_DIR.glob(f"{name}_*.npz")))


def load_fill():
    spec = importlib.util.spec_from_file_location("parity_fill", PARITY_DIR / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    return fill


def load_official_weights(backbone, head, shapes, arch, fill):
    """Fill both modules; every recorded tensor must find its place, and no place stay empty."""
    own = backbone.state_dict()
    for official_key, shape in shapes.items():
        value = torch.from_numpy(fill.fill_tensor(official_key, shape))
        key = our_key(official_key, arch)
        if key.startswith("classifier.head."):
            head.get_parameter(key.removeprefix("classifier.head.")).data.copy_(value)
        else:
            own[key] = value.reshape(own[key].shape)
    backbone.load_state_dict(own)
    return {official_key: our_key(official_key, arch) for official_key in shapes}


def parameter_by_key(backbone, head, key):
    if key.startswith("classifier.head."):
        return head.get_parameter(key.removeprefix("classifier.head."))
    return backbone.get_parameter(key)


def check_gradients(recording, image, backbone, head, keys):
    assert relative_error(image.grad, recording["input_grad"]) <= GRADIENT_TOLERANCE
    official_keys = [str(key) for key in recording["grad_keys"]]
    assert len(official_keys) == len(keys)
    gradients = [parameter_by_key(backbone, head, keys[key]).grad for key in official_keys]
    # In float64: a float32 norm of millions of numbers is itself wrong by 1e-4.
    ours, theirs = np.array([g.double().norm() for g in gradients]), recording["grad_norms"]
    assert (np.abs(ours - theirs) <= GRADIENT_TOLERANCE * theirs).all()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_official_classifier(name):
    arch = CLASSIFIERS[name]
    shapes, recording = load_recording(name)
    fill = load_fill()
    backbone, head = VMamba(arch, out_indices=(3,)).eval(), nn.Linear(768, 1000)
    keys = load_official_weights(backbone, head, shapes, arch, fill)

    image = torch.from_numpy(fill.fill_input((2, 3, 64, 96), seed=0)).requires_grad_()
    (stage3,) = backbone(image)
    logits = head(stage3.mean((2, 3)))
    assert relative_error(logits.detach(), recording["logits"]) <= OUTPUT_TOLERANCE

    (logits * torch.from_numpy(fill.fill_input(logits.shape, seed=1))).sum().backward()
    check_gradients(recording, image, backbone, head, keys)


def test_official_backbone():
    shapes, recording = load_recording(BACKBONE)
    fill = load_fill()
    backbone = VMamba(BACKBONE_ARCH).eval()
    load_official_weights(backbone, None, shapes, BACKBONE_ARCH, fill)
    with torch.no_grad():
        maps = backbone(torch.from_numpy(fill.fill_input((1, 3, 64, 96), seed=0)))
    for i, stage in enumerate(maps):
        assert relative_error(stage, recording[f"stage{i}"]) <= OUTPUT_TOLERANCE


# --- against ourselves ------------------------------------------------------------------

SMALL_V0 = {"base": "v0_tiny", "dims": 16, "depths": (1, 1, 1, 1), "d_state": 4}
OWN = {
    "nano": ("nano", (2, 3, 37, 53)),
    "small_v0": (SMALL_V0, (2, 3, 37, 53)),
    "small_s2": ({"base": "tiny_s2l5", "dims": 16, "depths": (1, 2, 1, 1)}, (1, 3, 32, 48)),
}
SAMPLES = 64


def stable_normal(name, shape):
    """Normal numbers that depend on a name and nothing else (RandomState never changes)."""
    return np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)


def fill_parameters(model):
    """Give every parameter a value near those of a trained model."""
    for name, parameter in model.named_parameters():
        noise = torch.from_numpy(stable_normal(name, tuple(parameter.shape))).float()
        leaf = name.rsplit(".", 1)[-1]
        is_norm = parameter.dim() == 1 and leaf == "weight"
        if leaf == "A_logs":
            states = torch.arange(1, parameter.shape[1] + 1).float().log()
            noise = states + 0.1 * noise
        elif leaf == "dt_projs_bias":
            noise = -4 + 0.5 * noise
        elif leaf == "Ds" or is_norm:
            noise = 1 + 0.1 * noise
        elif parameter.dim() > 1:
            noise = noise / parameter[0].numel() ** 0.5
        else:
            noise = 0.1 * noise
        parameter.data.copy_(noise)


def measure(case):
    """Outputs sampled evenly, input gradient sampled evenly, parameter gradient norms."""
    arch, shape = OWN[case]
    model = VMamba(arch).eval()
    fill_parameters(model)
    image = torch.from_numpy(stable_normal("image", shape)).float().requires_grad_()
    maps = model(image)
    weights = [torch.from_numpy(stable_normal(f"map{i}", m.shape)) for i, m in enumerate(maps)]
    sum((m * w).sum() for m, w in zip(maps, weights, strict=True)).backward()
    return {
        **{f"map{i}": sample(m.detach()) for i, m in enumerate(maps)},
        "input_grad": sample(image.grad),
        "grad_norms": np.array([p.grad.double().norm() for p in model.parameters()], np.float32),
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
            is_map = name.startswith("map")
            tolerance = OUTPUT_TOLERANCE if is_map else GRADIENT_TOLERANCE
            assert relative_error(value, expected) <= tolerance, name


if __name__ == "__main__":
    values = {f"{case}.{name}": value for case in OWN for name, value in measure(case).items()}
    np.savez_compressed(RECORDED, **values)
    print(f"wrote {RECORDED}, {RECORDED.stat().st_size} bytes")
