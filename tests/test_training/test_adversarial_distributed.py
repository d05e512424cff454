"""Two processes train on sources that lack labels: together, in step, with and without a prior."""

import pytest
import torch
from adversarial_samples import PRIOR, batch, build_estimator, optimisers
from mmengine.optim import OptimWrapper, OptimWrapperDict
from processes import in_processes

from mamba_mm.registry import MODEL_WRAPPERS

pytest.importorskip("mmpose")

STEPS = 3
# What is trained how.
CASES = {
    "prior": dict(),
    "prior, accumulated": dict(accumulative_counts=2),
    "no prior": dict(prior=None),
    "first stage": dict(prior=None, stage="regressor"),
}


def batch_of(rank, step):
    """One process has all labels, the other one those in the image; then the reverse."""
    return batch(size=2, seed=10 * step + rank, labels_in_space=rank == step % 2)


def build(prior=PRIOR, stage="all", wrapped=True, **optimiser):
    """A model, wrapped for several processes or not, and its optimisers."""
    model = build_estimator(prior, stage=stage)
    if wrapped:
        name = "AdversarialDistributedDataParallel"
        wrapper = f"mamba_mm.{name}" if prior else "MMDistributedDataParallel"
        settings = dict(device_ids=None, broadcast_buffers=False)
        model = MODEL_WRAPPERS.build(dict(type=wrapper, module=model, **settings))
    if prior is None:
        return model, OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-3))
    return model, optimisers(model, **optimiser)


def train(rank, steps, wrapped=True, **settings):
    """Train; return the gradients of every step of an optimiser, and the weights in the end."""
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
    for step in range(steps):
        model.train_step(batch_of(rank, step), wrapper)
    weights = {name: p.detach() for name, p in estimator.named_parameters()}
    return dict(gradients=seen, weights=weights)


def run_cases(rank, folder):
    """Run all cases, and the first step of each alone; write what came of it."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    together = {case: train(rank, STEPS, **CASES[case]) for case in CASES}
    alone = {
        case: train(rank, 1, wrapped=False, **settings)["gradients"]
        for case, settings in CASES.items()
        if "accumulative_counts" not in settings
    }
    torch.save((together, alone), folder / f"{rank}.pth")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What each process wrote: cases together, cases alone."""
    build_estimator()  # imports all, once, before the forks
    folder = tmp_path_factory.mktemp("processes")
    in_processes(run_cases, folder, count=2)
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
