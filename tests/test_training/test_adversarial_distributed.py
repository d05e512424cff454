"""Two processes train on sources that lack labels: together, in step, with and without a prior."""

import pytest
import torch
from adversarial_samples import PRIOR, batch, build_estimator, optimisers
from mmengine.optim import OptimWrapper, OptimWrapperDict
from processes import in_group

from mamba_mm.registry import MODEL_WRAPPERS

pytest.importorskip("mmpose")

STEPS = 3
ADVERSARIAL = "mamba_mm.AdversarialDistributedDataParallel"
# What is trained how.
CASES = {
    "prior": dict(),
    "prior, accumulated": dict(accumulative_counts=2),
    "no prior": dict(prior=None, wrapper=ADVERSARIAL),
    "first stage": dict(prior=None, stage="regressor"),
}


def batch_of(rank, step):
    """One process has all labels, the other one those in the image; then the reverse."""
    return batch(size=2, seed=10 * step + rank, labels_in_space=rank == step % 2)


def build(prior=PRIOR, stage="all", wrapped=True, wrapper=None, **optimiser):
    """A model, wrapped for several processes or not, and its optimisers."""
    model = build_estimator(prior, stage=stage)
    if wrapped:
        if wrapper is None and prior is None:  # as MMEngine does
            settings = dict(type="MMDistributedDataParallel", broadcast_buffers=False)
        else:
            settings = dict(type=ADVERSARIAL)
        model = MODEL_WRAPPERS.build(dict(module=model, device_ids=None, **settings))
    if prior is None:
        return model, OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-3))
    return model, optimisers(model, **optimiser)


def train(rank, steps, wrapped=True, **settings):
    """Train.

    Returns:
        The gradients of every step of an optimiser, those that the first iteration left, the
        weights in the end, and of every wrapper whether it broadcasts buffers.
    """
    model, wrapper = build(wrapped=wrapped, **settings)
    if "accumulative_counts" in settings:
        wrapper.initialize_count_status(model, 0, steps)
    estimator = model.module if wrapped else model
    names = {p: name for name, p in estimator.named_parameters()}
    seen = []

    def look(optimizer, *_):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        seen.append({names[p]: p.grad.clone() for p in parameters if p.grad is not None})

    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    for each in wrappers:
        each.optimizer.register_step_pre_hook(look)
    left = {}
    for step in range(steps):
        model.train_step(batch_of(rank, step), wrapper)
        if step == 0:
            left = {names[p]: p.grad.clone() for p in names if p.grad is not None}
    weights = {name: p.detach() for name, p in estimator.named_parameters()}
    broadcasts = [m.broadcast_buffers for m in model.modules() if hasattr(m, "broadcast_buffers")]
    return dict(gradients=seen, left_by_the_first=left, weights=weights, broadcasts=broadcasts)


def run_cases(rank, folder):
    """Run all cases, and the first step of each alone; write what came of it."""
    together = {case: train(rank, STEPS, **CASES[case]) for case in CASES}
    alone = {
        case: train(rank, 1, wrapped=False, **settings)["gradients"]
        for case, settings in CASES.items()
        if "accumulative_counts" not in settings
    }
    torch.save((together, alone), folder / f"{rank}.pth")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What each process wrote: cases together, cases alone."""
    build_estimator()  # imports all, once, before the forks
    folder = tmp_path_factory.mktemp("processes")
    in_group(run_cases, folder)
    return [torch.load(folder / f"{rank}.pth") for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_every_parameter_has_a_gradient_in_every_step(case, both):
    (first, _), (second, _) = both
    names = set(first[case]["weights"])
    halves = 2 if "prior" in case and case != "no prior" else 1
    updates = 2 if "accumulated" in case else STEPS
    for gradients in (first[case]["gradients"], second[case]["gradients"]):
        assert len(gradients) == halves * updates
        for step in range(updates):
            of_step = gradients[halves * step : halves * (step + 1)]
            assert set().union(*of_step) == names
            assert sum(map(len, of_step)) == len(names)


@pytest.mark.parametrize("case", CASES)
def test_processes_stay_equal(case, both):
    (first, _), (second, _) = both
    for name, value in first[case]["weights"].items():
        assert torch.equal(value, second[case]["weights"][name]), name
    start = dict(build(wrapped=False, **CASES[case])[0].named_parameters())
    assert not torch.equal(
        first[case]["weights"]["head.jr.norm.weight"], start["head.jr.norm.weight"]
    )


def test_gradients_are_not_averaged_before_they_are_complete(both):
    first, second = (together["prior, accumulated"] for together, _ in both)
    ours, theirs = first["left_by_the_first"], second["left_by_the_first"]
    assert ours.keys() == first["weights"].keys()
    alike = {name for name in ours if torch.equal(ours[name], theirs[name])}
    assert not [name for name in alike if name.startswith("prior.")]
    assert len(alike) < 0.1 * len(ours)


@pytest.mark.parametrize("case", CASES)
def test_every_process_keeps_its_own_statistics(case, both):
    """MMEngine's ``SyncBuffersHook`` averages them; PyTorch would take those of the first."""
    (together, _), _ = both
    wrappers = 2 if CASES[case].get("prior", PRIOR) else 1
    assert together[case]["broadcasts"] == [False] * wrappers


@pytest.mark.parametrize("case", [case for case in CASES if "accumulated" not in case])
def test_gradients_are_the_mean_of_those_of_each_process(case, both):
    """Of the generator and of the discriminator, which is shown other real hands in each."""
    (first, first_alone), (_, second_alone) = both
    differ = set()
    for half, pair in enumerate(zip(first_alone[case], second_alone[case], strict=True)):
        for name, gradient in first[case]["gradients"][half].items():
            own, other = (gradients[name] for gradients in pair)
            torch.testing.assert_close(gradient, (own + other) / 2, rtol=1e-4, atol=1e-8, msg=name)
            if (own - other).norm() > 1e-2 * gradient.norm():
                differ.add(name)
    assert len(differ) > 0.9 * len(first[case]["weights"])
