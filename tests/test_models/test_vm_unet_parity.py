"""VM-UNet computes what the official implementation computed.

Two sources of truth, as in ``test_vmamba_parity``: the official recordings outside the
repository (``MAMBA_MM_PARITY_DIR``), and ``tests/data/vm_unet_recorded.npz``, which is our own;
``python tests/test_models/test_vm_unet_parity.py`` makes it anew.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_vmamba_parity import (
    GRADIENT_TOLERANCE,
    OUTPUT_TOLERANCE,
    REPO,
    fill_parameters,
    load_fill,
    load_recording,
    relative_error,
    sample,
    stable_normal,
)
from torch import nn

from mamba_mm.models import VMUNET_ARCHS, VMUNetDecoder, VMUNetEncoder

RECORDED = REPO / "tests" / "data" / "vm_unet_recorded.npz"
TAPS = ("skip0", "skip1", "skip2", "skip3", "bottleneck")


class Halves(nn.Module):
    """Both halves under the official names, and the last convolution; no toolbox needed."""

    def __init__(self, arch):
        super().__init__()
        self.encoder = VMUNetEncoder(arch)
        self.decoder = VMUNetDecoder(VMUNET_ARCHS[arch])
        self.final_conv = nn.Conv2d(self.decoder.out_channels, 1, 1)

    def forward(self, image):
        maps = self.encoder(image)
        *skips, bottleneck, image = maps[1:]
        logits = self.final_conv(self.decoder(skips, bottleneck))
        return maps, logits[..., : image.shape[2], : image.shape[3]]


def our_key(official_key):
    key = official_key.removeprefix("vmunet.")
    key = key.replace(".ln_1.", ".norm.").replace(".self_attention.", ".op.")
    key = key.replace("patch_embed.proj", "patch_embed.0")
    key = key.replace("patch_embed.norm", "patch_embed.2")
    if key.startswith("final_conv."):
        return key
    half = "decoder" if key.startswith(("layers_up.", "final_up.")) else "encoder"
    return f"{half}.{key}"


def test_official_model():
    shapes, recording = load_recording("vm_unet")
    fill = load_fill()
    model = Halves("vm_unet").eval()
    weights = {our_key(k): torch.from_numpy(fill.fill_tensor(k, s)) for k, s in shapes.items()}
    model.load_state_dict(weights, strict=True)

    image = torch.from_numpy(fill.fill_input((2, 3, 64, 96), seed=0)).requires_grad_()
    maps, logits = model(image)
    for name, value in zip(TAPS, maps, strict=False):
        value = value.detach().permute(0, 2, 3, 1)
        assert relative_error(value, recording[name]) <= OUTPUT_TOLERANCE, name
    assert relative_error(logits.detach(), recording["logits"]) <= OUTPUT_TOLERANCE

    (logits * torch.from_numpy(fill.fill_input(logits.shape, seed=1))).sum().backward()
    assert relative_error(image.grad, recording["input_grad"]) <= GRADIENT_TOLERANCE
    keys = [our_key(str(key)) for key in recording["grad_keys"]]
    ours = np.array([model.get_parameter(key).grad.double().norm() for key in keys])
    theirs = recording["grad_norms"]
    assert len(keys) == 222
    assert (np.abs(ours - theirs) <= GRADIENT_TOLERANCE * theirs).all()


# --- against ourselves ------------------------------------------------------------------

SIZES = {"even": (2, 3, 64, 96), "odd": (1, 3, 37, 70)}


def measure(case):
    """Logits and maps sampled evenly, the input gradient too, parameter gradient norms."""
    model = Halves("nano").eval()
    fill_parameters(model)
    image = torch.from_numpy(stable_normal("image", SIZES[case])).float().requires_grad_()
    maps, logits = model(image)
    (logits * torch.from_numpy(stable_normal("logits", logits.shape))).sum().backward()
    return {
        "logits": sample(logits.detach().contiguous()),
        **{name: sample(m.detach()) for name, m in zip(TAPS, maps, strict=False)},
        "input_grad": sample(image.grad),
        "grad_norms": np.array([p.grad.double().norm() for p in model.parameters()], np.float32),
    }


@pytest.mark.parametrize("case", SIZES)
def test_recorded(case):
    recorded = np.load(RECORDED)
    for name, value in measure(case).items():
        expected = recorded[f"{case}.{name}"]
        if name == "grad_norms":
            assert (np.abs(value - expected) <= GRADIENT_TOLERANCE * expected).all()
        else:
            tolerance = GRADIENT_TOLERANCE if name == "input_grad" else OUTPUT_TOLERANCE
            assert relative_error(value, expected) <= tolerance, name


if __name__ == "__main__":
    values = {f"{case}.{name}": value for case in SIZES for name, value in measure(case).items()}
    np.savez_compressed(RECORDED, **values)
    print(f"wrote {RECORDED}, {RECORDED.stat().st_size} bytes")
