"""Every variant's model lacks what its name says, and nothing else."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("mmpose")
from mmengine.registry import MODELS, DefaultScope

from mamba_mm.ablation.variants import VARIANTS
from mamba_mm.layers import SSMixer2D
from mamba_mm.measuring.recipes import read_config, with_options

CONFIGS = Path(__file__).parents[2] / "configs" / "mmpose" / "hamba"
RECIPE = CONFIGS / "hamba_vmamba-nano_toy-hands-ablation-64x48.py"

C, HIDDEN, JOINTS = 64, 256, 21  # channels of a token, hidden layer of the read-out, joints
INNER, RANK = 2 * C, 4  # of a mixer: channels, and rank of the step size
NORM = 2 * C  # weight and bias
ONE_WALK = (RANK + 2) * INNER + RANK * INNER + 3 * INNER  # to step, B and C; step; bias, A and D
MIXER = 2 * C * INNER + 3 * INNER + 2 * INNER + 2 * ONE_WALK  # in, out, convolution, norm, walks
FEED_FORWARD = 2 * 4 * C * C + 4 * C + C
SSM = NORM + MIXER + NORM + FEED_FORWARD
GRAPH = 2 * JOINTS * C * C + 40 + C + NORM  # two banks, logits, bias, batch norm
SAMPLER = 2 * (C * C + C) + NORM
BRANCH = C * HIDDEN  # what reads a token out

FEWER = {
    "full": 0,
    "no-ts-branch": BRANCH,
    "no-joints2d-branch": 2 * JOINTS * HIDDEN,
    "no-gss-branch": BRANCH + 2 * (GRAPH + SSM) + NORM,
    "no-global-branch": BRANCH,
    "learned-tokens": BRANCH + SAMPLER - JOINTS * C,
    "mean-tokens": BRANCH + SAMPLER,
    "one-directional": 2 * ONE_WALK,
    "no-gcn": 2 * GRAPH,
    "no-graph-guided-bi-scan": 2 * GRAPH + 2 * ONE_WALK,
    "no-mamba": 2 * SSM,
    "one-block": GRAPH + SSM,
    "three-blocks": -(GRAPH + SSM),
    "shared-weights": 2 * (JOINTS - 1) * 2 * C * C,
}
"""Parameters that the full model has and the variant has not, by hand."""


def build(variant, seed=0):
    config = with_options(read_config(RECIPE), variant.cfg_options)
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope("mmpose"):
        model = MODELS.build(config.model)
        model.init_weights()
    return model


@pytest.fixture(scope="module")
def models():
    return {variant.name: build(variant) for variant in VARIANTS}


@pytest.fixture(scope="module")
def heads(models):
    return {name: model.head for name, model in models.items()}


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", FEWER)
def test_parameters_by_hand(models, name):
    assert count(models["full"]) - count(models[name]) == FEWER[name]


def test_no_variant_is_left_out():
    assert list(FEWER) == [variant.name for variant in VARIANTS]


@pytest.mark.parametrize("name", ["ts", "joints2d", "gss", "global"])
def test_a_branch_is_not_fused(heads, name):
    assert set(heads["full"].fusion) - set(heads[f"no-{name}-branch"].fusion) == {name}


def test_without_the_gss_branch_there_are_no_blocks(heads):
    head = heads["no-gss-branch"]
    assert head.gss is None
    assert not [name for name, _ in head.named_parameters() if name.startswith("gss")]
    assert head.ts is not None


def test_without_the_sampler_nothing_is_sampled(heads):
    assert heads["mean-tokens"].ts is None
    assert heads["mean-tokens"].learned_tokens is None
    assert heads["learned-tokens"].ts is None
    assert heads["learned-tokens"].learned_tokens.shape == (JOINTS, C)
    assert heads["no-ts-branch"].ts is not None  # the blocks still read sampled tokens


def test_the_blocks(heads):
    graphs = {name: [b.use_gcn for b in h.gss] for name, h in heads.items() if h.gss is not None}
    without = {"no-gcn", "no-graph-guided-bi-scan"}
    assert {name for name, used in graphs.items() if not any(used)} == without
    assert {name for name, used in graphs.items() if not all(used)} == without
    assert {name: len(used) for name, used in graphs.items() if len(used) != 2} == {
        "one-block": 1,
        "three-blocks": 3,
    }
    for name in without:
        modules = [type(m).__name__ for m in heads[name].modules()]
        assert "HandGraphConv" not in modules


def test_the_scans_walk_one_way_only_where_they_should(heads):
    walks = {
        name: {len(m.A_logs) // INNER for m in head.gss.modules() if isinstance(m, SSMixer2D)}
        for name, head in heads.items()
        if head.gss is not None
    }
    assert walks.pop("one-directional") == {1}
    assert walks.pop("no-graph-guided-bi-scan") == {1}
    assert walks.pop("no-mamba") == set()
    assert set(map(frozenset, walks.values())) == {frozenset({2})}


def test_without_mamba_the_blocks_have_no_scan_but_the_regressor_has(heads):
    head = heads["no-mamba"]
    assert [type(m).__name__ for m in head.gss.modules() if "Mix" in type(m).__name__] == []
    assert any(isinstance(m, SSMixer2D) for m in head.jr.modules())


def test_shared_weights_are_one_matrix_a_bank(heads):
    assert heads["shared-weights"].gss[0].graph_conv.weight.shape == (2, 1, C, C)
    assert heads["full"].gss[0].graph_conv.weight.shape == (2, JOINTS, C, C)


@torch.no_grad()
def test_every_variant_predicts_hands(models):
    images = torch.randn(1, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    for model in models.values():
        head = model.eval().head
        maps = model.backbone(images)
        assert maps[-1].shape == (1, C, 8, 6)
        assert head(maps)["final"].vertices.shape == (1, 778, 3)


def test_one_seed_starts_all_variants_with_the_same_backbone(models):
    expected = models["full"].backbone.state_dict()
    for name, model in models.items():
        for key, value in model.backbone.state_dict().items():
            assert torch.equal(value, expected[key]), (name, key)
