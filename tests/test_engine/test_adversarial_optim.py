"""The two optimisers of an adversarial training."""

import pytest
import torch
from adversarial_samples import batch, build_estimator, optimisers, values_of
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper, OptimWrapperDict, build_optim_wrapper

pytest.importorskip("mmpose")


def build(model, **settings):
    config = dict(
        constructor="mamba_mm.AdversarialOptimWrapperConstructor",
        optimizer=dict(type="AdamW", lr=2e-4, weight_decay=0.03),
    )
    return build_optim_wrapper(model, config | settings)


def names_of(model, wrapper):
    names = {id(p): name for name, p in model.named_parameters()}
    return [names[id(p)] for group in wrapper.optimizer.param_groups for p in group["params"]]


def test_every_parameter_is_in_one_of_them():
    model = build_estimator()
    wrappers = build(model)
    assert isinstance(wrappers, OptimWrapperDict)
    generator, discriminator = (
        names_of(model, wrappers[half]) for half in ("generator", "discriminator")
    )
    assert len(generator) == len(set(generator))
    assert all(name.startswith("prior.") for name in discriminator)
    assert not any(name.startswith("prior.") for name in generator)
    assert {*generator, *discriminator} == {name for name, _ in model.named_parameters()}


def test_the_generators_settings_are_those_of_our_constructor():
    model = build_estimator()
    wrapper = build(
        model,
        clip_grad=dict(max_norm=1.0),
        paramwise_cfg=dict(custom_keys={"backbone.": dict(lr_mult=0.5)}),
    )["generator"]
    assert wrapper.clip_grad_kwargs == dict(max_norm=1.0)
    groups = {
        name: group for group in wrapper.optimizer.param_groups for name in group["param_names"]
    }
    assert groups["backbone.projection.weight"]["lr"] == 1e-4
    assert groups["head.jr.blocks.0.op.Ds"]["weight_decay"] == 0
    assert groups["head.reduction.0.weight"]["weight_decay"] == 0.03


def test_the_discriminator_learns_at_the_same_rate_unless_told_otherwise():
    model = build_estimator()
    settings = dict(accumulative_counts=3, clip_grad=dict(max_norm=1.0))
    wrapper = build(model, **settings)["discriminator"]
    (group,) = wrapper.optimizer.param_groups
    assert type(wrapper.optimizer) is torch.optim.AdamW
    assert (group["lr"], group["weight_decay"]) == (2e-4, 0.03)
    assert (wrapper._accumulative_counts, wrapper.clip_grad_kwargs) == (3, None)

    own = dict(optimizer=dict(type="SGD", lr=0.1), clip_grad=dict(max_norm=2.0))
    wrapper = build(model, **settings, discriminator=own)["discriminator"]
    assert type(wrapper.optimizer) is torch.optim.SGD
    assert (wrapper._accumulative_counts, wrapper.clip_grad_kwargs) == (3, dict(max_norm=2.0))


def test_only_the_generator_is_in_mixed_precision(monkeypatch):
    """``tools/train.py --amp`` writes these two into the config."""
    wrapper = "mmengine.optim.optimizer.amp_optimizer_wrapper"
    monkeypatch.setattr(f"{wrapper}.is_cuda_available", lambda: True)
    wrappers = build(build_estimator(), type="AmpOptimWrapper", loss_scale="dynamic")
    assert type(wrappers["generator"]).__name__ == "AmpOptimWrapper"
    assert type(wrappers["discriminator"]) is OptimWrapper


def test_rates_in_the_log():
    assert build(build_estimator()).get_lr() == {
        "generator.base_lr": [2e-4],
        "generator.lr": [2e-4, 2e-4],
        "discriminator.lr": [2e-4],
    }


def test_both_states_are_saved_and_resumed():
    model = build_estimator()
    wrappers = optimisers(model)
    for seed in range(2):
        model.train_step(batch(seed=seed), wrappers)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    saved = wrappers.state_dict()
    saved = torch.utils._pytree.tree_map(
        lambda x: x.clone() if isinstance(x, torch.Tensor) else x, saved
    )
    model.train_step(batch(seed=2), wrappers)

    resumed = build_estimator(seed=1)
    resumed.load_state_dict(weights)
    wrappers = optimisers(resumed)
    wrappers.load_state_dict(saved)
    resumed.train_step(batch(seed=2), wrappers)
    expected, found = values_of(model), values_of(resumed)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    for wrapper in wrappers.values():
        states = wrapper.optimizer.state.values()
        assert {int(state["step"]) for state in states} == {3}


# --- what it refuses -------------------------------------------------------------------------


def test_a_config_without_optimizer():
    with pytest.raises(ValueError, match="needs an optimizer"):
        build_optim_wrapper(
            build_estimator(),
            dict(constructor="mamba_mm.AdversarialOptimWrapperConstructor", type="OptimWrapper"),
        )


def test_models_without_a_prior():
    for model in (build_estimator(prior=None), torch.nn.Linear(1, 1)):
        with pytest.raises(TypeError, match=r"has no prior .*LayerDecayOptimWrapperConstructor"):
            build(model)


def test_a_wrapper_that_cannot_alternate():
    class Wrapped(MMDistributedDataParallel):
        def __init__(self, module):
            torch.nn.Module.__init__(self)
            self.module = module

    with pytest.raises(TypeError, match=r"Wrapped .*AdversarialDistributedDataParallel"):
        build(Wrapped(build_estimator()))
