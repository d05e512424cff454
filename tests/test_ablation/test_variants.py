"""The variants as data: the published figures, the options, and what is refused."""

import pytest

pytest.importorskip("mmengine")
from mmengine.config import Config

from mamba_mm.ablation.variants import FULL, VARIANTS, own_variant, select
from mamba_mm.measuring.recipes import with_options

# Hamba's table of ablations, FreiHAND, 60 k steps: PA-MPJPE, PA-MPVPE, F@5, F@15.
PUBLISHED = {
    "full model": (6.6, 6.3, 0.738, 0.988),
    "w/o TS branch": (6.8, 6.5, 0.722, 0.987),
    "w/o 2-D joints branch": (6.8, 6.6, 0.718, 0.986),
    "w/o GSS token branch": (6.9, 6.6, 0.717, 0.986),
    "w/o global mean branch": (7.3, 7.2, 0.680, 0.982),
    "w/o token sampler": (6.8, 6.6, 0.717, 0.986),
    "w/o bidirectional scan": (6.9, 6.6, 0.718, 0.986),
    "w/o GCN": (7.3, 7.2, 0.673, 0.983),
    "w/o graph-guided bi-scan": (7.3, 7.1, 0.680, 0.983),
    "w/o Mamba (SS2D, LN, FFN)": (7.3, 7.2, 0.675, 0.983),
}


def test_the_published_figures_are_those_of_the_paper():
    found = {v.paper_name: tuple(v.published.values()) for v in VARIANTS if v.published}
    assert found == PUBLISHED
    assert [list(v.published) for v in VARIANTS if v.published] == [
        ["PA-MPJPE", "PA-MPVPE", "F@5", "F@15"]
    ] * 11  # the token sampler's stand beside two of ours


def test_the_variants_that_the_paper_does_not_have_claim_nothing():
    own = [v.name for v in VARIANTS if not v.published]
    assert own == ["one-block", "three-blocks", "shared-weights"]
    assert not any(v.paper_name for v in VARIANTS if not v.published)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_the_options_are_read_as_they_are_meant(variant):
    config = with_options(Config(dict(model=dict(head=dict(embed_dims=64)))), variant.cfg_options)
    for name, value in variant.options.items():
        read = config
        for key in name.split("."):
            read = read[key]
        assert read == (list(value) if isinstance(value, tuple) else value)


def test_names_are_unique_and_names_of_folders():
    names = [variant.name for variant in VARIANTS]
    assert len(set(names)) == len(names)
    assert all(name.replace("-", "").isalnum() for name in names)


def test_the_full_model_is_always_first():
    assert [v.name for v in select(["no-gcn", "full"])] == ["full", "no-gcn"]
    assert select([]) == [FULL]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["no-gcm"], "there is no variant 'no-gcm'; known: full, no-ts-branch"),
        (["no-gcn", "no-gcn"], "the variant no-gcn was given twice"),
    ],
)
def test_wrong_names_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        select(names)


def test_ones_own_variant():
    variant = own_variant("my_deep-1", ["a.b=[1,2]", "c=x=y"])
    assert variant.cfg_options == ("a.b=[1,2]", "c=x=y")
    assert variant.published == {}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("no-gcn", ["a=1"], "there is a variant no-gcn already"),
        ("../up", ["a=1"], "names a folder too"),
        ("", ["a=1"], "names a folder too"),
        ("mine", [], "needs options NAME=VALUE"),
        ("mine", ["a"], "needs options NAME=VALUE"),
    ],
)
def test_ones_own_variant_is_checked(name, options, message):
    with pytest.raises(ValueError, match=message):
        own_variant(name, options)
