"""A training step against the adversarial prior, in one process."""

import contextlib
import functools

import pytest
import torch
from adversarial_samples import (
    PRIOR,
    batch,
    build_estimator,
    moved,
    optimisers,
    values_of,
)
from mmengine.model.averaged_model import ExponentialMovingAverage
from mmengine.optim import OptimWrapper, build_optim_wrapper

pytest.importorskip("mmpose")

# Biases that a batch norm takes away again move by rounding, or not at all.
CANCELLED = ("reduction.0.bias", "ts.mlp.0.bias", "graph_conv.bias")


def generators(model):
    return {name for name, _ in model.named_parameters() if not name.startswith("prior.")}


def discriminators(model):
    return {name for name, _ in model.named_parameters() if name.startswith("prior.")}


def without_cancelled(names):
    return {name for name in names if not name.endswith(CANCELLED)}


class Nothing(OptimWrapper):
    """An optimiser whose step changes nothing."""

    def step(self, **kwargs):
        pass


def test_both_halves_train():
    model = build_estimator()
    before = values_of(model)
    logged = model.train_step(batch(), optimisers(model))
    changed = without_cancelled(moved(before, model))
    assert changed == without_cancelled(generators(model) | discriminators(model))
    assert len(logged) == 1 + 10 + 1 + 2
    of_generator = [v for name, v in logged.items() if name.startswith("loss_")]
    assert logged["loss"].item() == pytest.approx(sum(of_generator).item(), rel=1e-5)
    assert {"loss_adv", "discriminator/loss_predicted", "discriminator/loss_real"} <= set(logged)


@pytest.mark.parametrize("half", ["generator", "discriminator"])
def test_neither_half_touches_the_other(half):
    """With the other optimiser's step gone, the other half stays, to the last bit."""
    model = build_estimator()
    wrappers = optimisers(model)
    other = {"generator": "discriminator", "discriminator": "generator"}[half]
    wrappers.optim_wrappers[other] = Nothing(wrappers[other].optimizer)
    before = values_of(model)
    for seed in range(2):
        model.train_step(batch(seed=seed), wrappers)
    trained = {"generator": generators, "discriminator": discriminators}[half](model)
    assert without_cancelled(moved(before, model)) == without_cancelled(trained)


def gradients(model, data):
    """What the optimisers see, by name."""
    seen = {}
    wrappers = optimisers(model)
    for wrapper in wrappers.values():
        wrapper.optimizer.register_step_pre_hook(
            lambda *_: seen.update(
                {
                    name: p.grad.clone()
                    for name, p in model.named_parameters()
                    if p.grad is not None and name not in seen
                }
            )
        )
    model.train_step(data, wrappers)
    return seen


def test_gradients_are_those_of_each_half_alone():
    data, model = batch(), build_estimator()
    found = gradients(model, data)

    model = build_estimator()
    inputs = model.data_preprocessor(batch(), training=True)
    predictions = model.head(model.extract_feat(inputs["inputs"]))
    losses = model.head.losses_of(predictions, inputs["data_samples"])
    hand = predictions["final"]
    scores = model.prior.discriminator(hand.rotations[:, 1:], hand.betas)
    adversarial = 6.25e-5 * (scores - 1).square().sum() / 4
    (sum(losses.values()) + adversarial).backward()
    # Only now, so that nothing of the first half is left in it.
    model.prior.zero_grad()
    real = model.prior.draw(8)
    fake = model.prior.discriminator(hand.rotations[:, 1:].detach(), hand.betas.detach())
    real = model.prior.discriminator(*real)
    (5e-4 * (fake.square().sum() + (real - 1).square().sum()) / 4).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-7, msg=name)


def test_hands_for_the_discriminator_are_cut_off_from_the_graph():
    model = build_estimator()
    losses, hands = model(**model.data_preprocessor(batch(), training=True), mode="adversarial")
    assert losses["loss_adv"].requires_grad
    assert not any(values.requires_grad for values in hands)


def test_the_prior_has_a_say():
    """Also where no sample has a label in space; and without weight it has none."""
    data = functools.partial(batch, labels_in_space=False)
    none, some, other = (
        gradients(build_estimator(prior=PRIOR | settings), data())
        for settings in (
            dict(loss_weight=0.0),
            dict(loss_weight=0.1),
            dict(loss_weight=0.0, seed=1),
        )
    )
    name = "head.read_out.outputs.pose.weight"
    assert (some[name] - none[name]).norm() > 0.01 * none[name].norm()
    assert torch.equal(none[name], other[name])


def test_each_half_runs_in_the_context_of_its_optimiser(monkeypatch):
    """Of mixed precision, and of gradients that are not averaged before they are complete."""

    class Forward(torch.nn.Module):
        """A wrapper of what it is given."""

        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, *args, **kwargs):
            assert contexts[-1] == (halves[self], self)
            return self.module(*args, **kwargs)

    @contextlib.contextmanager
    def context(wrapper, module):
        contexts.append((wrapper, module))
        yield
        contexts.append(None)

    monkeypatch.setattr(OptimWrapper, "optim_context", context)
    model, contexts = build_estimator(), []
    wrappers, generator, prior = optimisers(model), Forward(model), Forward(model.prior)
    halves = {generator: wrappers["generator"], prior: wrappers["discriminator"]}
    model.alternate(batch(), wrappers, generator, prior)
    assert len(contexts) == 4


# --- optimisers ------------------------------------------------------------------------------


def test_without_a_prior_it_is_its_base_class():
    model = build_estimator(prior=None)
    one = OptimWrapper(torch.optim.AdamW(model.parameters()))
    before = values_of(model)
    logged = model.train_step(batch(), one)
    assert len(logged) == 11
    assert without_cancelled(moved(before, model)) == without_cancelled(generators(model))


def test_optimisers_that_do_not_go_with_the_prior():
    model = build_estimator()
    two, one = optimisers(model), OptimWrapper(torch.optim.AdamW(model.parameters()))
    with pytest.raises(TypeError, match="AdversarialOptimWrapperConstructor"):
        model.train_step(batch(), one)
    with pytest.raises(TypeError, match="drop AdversarialOptimWrapperConstructor"):
        build_estimator(prior=None).train_step(batch(), two)
    with pytest.raises(RuntimeError, match="AdversarialDistributedDataParallel"):
        model(torch.zeros(1, 3, 128, 96), [], mode="loss")


def test_a_head_without_mano():
    model = build_estimator()
    model.head.forward = lambda feats: {"final": torch.zeros(1)}
    model.head.losses_of = lambda *_: {}
    with pytest.raises(TypeError, match="predicts no parameters of MANO"):
        model.train_step(batch(), optimisers(model))


def test_gradients_are_accumulated_to_the_last_iteration():
    """Two iterations make a step, a third one, the last of the training, makes another."""
    model = build_estimator()
    wrappers = optimisers(model, accumulative_counts=2)
    wrappers.initialize_count_status(model, 0, 3)
    steps = {name: 0 for name in wrappers.keys()}  # noqa: SIM118 - it is no dict
    for name, wrapper in wrappers.items():
        wrapper.optimizer.register_step_pre_hook(
            lambda *_, name=name: steps.update({name: steps[name] + 1})
        )
    counts, before = [], values_of(model)
    for seed in range(3):
        model.train_step(batch(seed=seed), wrappers)
        counts.append((steps["generator"], steps["discriminator"]))
        if seed == 0:
            assert moved(before, model) == set()
    assert counts == [(0, 0), (1, 1), (2, 2)]


# --- mixed precision, moving averages --------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("prior", [PRIOR, None], ids=["prior", "alone"])
def test_mixed_precision(dtype, prior, amp_on_cpu):
    model, exact = build_estimator(prior), build_estimator(prior)
    computed_in = set()
    model.backbone.register_forward_hook(lambda _, __, maps: computed_in.add(maps[0].dtype))
    config = dict(optimizer=dict(type="AdamW", lr=1e-3, weight_decay=1e-4))
    if prior:
        config |= dict(constructor="mamba_mm.AdversarialOptimWrapperConstructor")
    losses = []
    for m, wrapper in ((model, dict(type="AmpOptimWrapper", dtype=dtype)), (exact, dict())):
        if wrapper:
            wrapper |= dict(loss_scale=dict(init_scale=256.0))
        built = build_optim_wrapper(m, config | wrapper)
        before = values_of(m)
        losses.append([m.train_step(batch(seed=seed), built) for seed in range(3)])
    assert computed_in == {getattr(torch, dtype)}
    changed = without_cancelled(moved(before, exact))
    assert changed == without_cancelled({name for name, _ in exact.named_parameters()})
    for of_amp, of_exact in zip(*losses, strict=True):
        assert of_amp["loss"].item() == pytest.approx(of_exact["loss"].item(), rel=0.03)
        for name, value in of_amp.items():
            assert value.isfinite(), name
    if prior:
        real = [logged["discriminator/loss_real"].item() for logged in (of_amp, of_exact)]
        assert real[0] == pytest.approx(real[1], rel=1e-2)
        assert model.prior.draws == 3


def test_moving_averages_of_everything():
    model = build_estimator()
    average = ExponentialMovingAverage(model, momentum=0.25)
    wrappers, expected = optimisers(model), None
    for seed in range(3):
        model.train_step(batch(seed=seed), wrappers)
        average.update_parameters(model)
        trained = values_of(model)
        expected = expected or trained
        expected = {k: 0.75 * v + 0.25 * trained[k] for k, v in expected.items()}
    for name, parameter in average.module.named_parameters():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-5, atol=1e-7)
    assert average.module.prior.draws == model.prior.draws == 3
