"""Every spelling of VMamba's keys leads to the same weights; shapes tell the preset."""

import pytest
import torch
from checkpoint_samples import (
    S1,
    V0,
    classifier,
    random_backbone,
    spelling_b,
    spelling_c,
    spelling_d,
    with_4d_linears,
)

from mamba_mm.models import VMAMBA_ARCHS, VMamba
from mamba_mm.models.utils.checkpoint import (
    CheckpointFormatError,
    find_preset,
    infer_arch,
    load_pretrained_vmamba,
    to_spelling_a,
)

RELEASED = [name for name in VMAMBA_ARCHS if name != "nano"]


def dt_projs_bias_as_module(state):
    return {
        key.replace("dt_projs_bias", "dt_projs.bias"): value.flatten()
        if key.endswith("dt_projs_bias")
        else value
        for key, value in state.items()
    }


def half_spelling_c(state):
    """Spelling C in the first two stages only."""
    early = {k: v for k, v in state.items() if k.startswith(("layers.0.", "layers.1."))}
    late = {k: v for k, v in state.items() if k not in early}
    return spelling_c(early) | late


SPELLINGS = {
    "A": (lambda state: state, "A"),
    "B": (spelling_b, "B"),
    "C": (spelling_c, "C"),
    "C with the bias as a module": (lambda s: dt_projs_bias_as_module(spelling_c(s)), "C"),
    "A and C": (half_spelling_c, "C"),
    "B and C": (lambda state: spelling_b(spelling_c(state)), "B+C"),
    "D over A": (spelling_d, "D/A"),
    "D over B": (lambda state: spelling_d(spelling_b(state)), "D/B"),
    "4-D linears": (with_4d_linears, "A"),
    "distributed": (lambda state: {f"module.{k}": v for k, v in state.items()}, "A"),
}


CASES = [(S1, case) for case, (_, name) in SPELLINGS.items() if "B" not in name]
CASES += [(V0, case) for case in SPELLINGS]  # spelling B exists for v0 models only


@pytest.mark.parametrize(("arch", "spelling"), CASES)
def test_every_spelling_computes_the_same(arch, spelling, tmp_path):
    spell, name = SPELLINGS[spelling]
    source = random_backbone(arch)
    torch.save({"model": spell(classifier(source))}, tmp_path / "official.pth")
    loaded = random_backbone(arch, seed=5)
    report = load_pretrained_vmamba(loaded, tmp_path / "official.pth")
    assert report.spelling == name

    # The output norms are no part of such a file; make them equal to compare the maps.
    norms = {k: v for k, v in source.state_dict().items() if k.startswith("outnorm")}
    loaded.load_state_dict(norms, strict=False)
    image = torch.randn(1, 3, 36, 44)
    with torch.no_grad():
        for ours, theirs in zip(loaded(image), source(image), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_only_linears_may_be_4d():
    state = classifier(random_backbone(S1))
    state["layers.0.blocks.0.op.Ds"] = state["layers.0.blocks.0.op.Ds"].reshape(-1, 1, 1, 1)
    renamed = to_spelling_a(with_4d_linears(state)).tensors
    assert renamed["layers.0.blocks.0.op.Ds"].ndim == 4
    assert renamed["layers.0.blocks.0.mlp.fc1.weight"].ndim == 2


def test_numbered_downsample_is_told_by_rank_not_by_name():
    conv = {
        "layers.0.downsample.1.weight": torch.zeros(4, 2, 3, 3),
        "layers.0.downsample.1.bias": torch.zeros(4),
    }
    merging = {
        "layers.1.downsample.1.weight": torch.zeros(16),
        "layers.1.downsample.1.bias": torch.zeros(16),
        "layers.1.downsample.2.weight": torch.zeros(8, 16),
    }
    assert set(to_spelling_a(conv | merging).tensors) == {
        *conv,
        "layers.1.downsample.norm.weight",
        "layers.1.downsample.norm.bias",
        "layers.1.downsample.reduction.weight",
    }


def test_two_names_of_one_tensor_are_refused():
    state = classifier(random_backbone(V0))
    state["patch_embed.proj.weight"] = state["patch_embed.0.weight"]
    with pytest.raises(CheckpointFormatError, match=r"patch_embed\.0\.weight and patch_embed\.pro"):
        to_spelling_a(state)


@pytest.mark.parametrize("name", VMAMBA_ARCHS)
@pytest.mark.parametrize("spell", [lambda state: state, spelling_c], ids=["A", "C"])
def test_each_preset_is_inferred_from_its_shapes(name, spell):
    with torch.device("meta"):
        state = classifier(VMamba(name), classes=1000)
    canonical = to_spelling_a(with_4d_linears(spell(state))).tensors
    assert find_preset(infer_arch(canonical)) == name


# Parameters and tensors of the official classifiers, measured on the official code.
GOLDEN = {
    "v0_tiny": (22_893_448, 212),
    "v0_small": (44_417_416, 446),
    "v0_base": (76_254_056, 446),
    "tiny_s2l5": (30_705_832, 222),
    "small_s2l15": (50_147_752, 402),
    "base_s2l15": (88_557_800, 402),
    "tiny_s1l8": (30_249_064, 276),
    "small_s1l20": (49_012_840, 492),
    "base_s1l20": (86_614_504, 492),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_classifier_sizes_are_the_official_ones(name):
    with torch.device("meta"):
        state = classifier(VMamba(name), classes=1000)
    assert (sum(value.numel() for value in state.values()), len(state)) == GOLDEN[name]


def test_what_a_file_lacks_stays_unknown():
    state = {"layers.0.blocks.0.norm.weight": torch.zeros(16)}
    inferred = infer_arch(state)
    assert inferred.dims == (16,)
    assert inferred.gate is None
    assert inferred.d_state is None
    assert inferred.patch_embed is None
    assert find_preset(inferred) is None
