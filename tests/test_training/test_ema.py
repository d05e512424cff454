"""MMEngine's ``EMAHook`` around every backbone, through MMEngine's runner."""

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from processes import in_processes
from toolbox_models import CLASSIFIERS, loader

MOMENTUM = 0.25


class Nothing(BaseMetric):
    """No metric: the loop wants one."""

    default_prefix = "none"

    def process(self, data_batch, data_samples):
        self.results.append(len(data_samples))

    def compute_metrics(self, results):
        return {"images": sum(results)}


def weights_of(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-6, atol=1e-7, msg=name)


class Expectation(Hook):
    """Average the trained weights by the formula, and compare whenever there is a chance."""

    priority = "LOWEST"  # after the EMAHook

    def __init__(self, average=None):
        self.average = average
        self.validations = 0

    def after_train_iter(self, runner, *_, **__):
        self.trained = weights_of(runner.model)
        if self.average is None:
            self.average = self.trained
        self.average = {
            name: (1 - MOMENTUM) * old + MOMENTUM * self.trained[name]
            for name, old in self.average.items()
        }

    def before_val_iter(self, runner, *_, **__):
        assert_same(weights_of(runner.model), self.average)
        assert not runner.model.training
        self.validations += 1

    def after_val(self, runner):
        assert_same(weights_of(runner.model), self.trained)


def train(system, folder, epochs, average=None, **resume):
    """Train two batches an epoch and validate; return what the expectation ended with."""
    torch.manual_seed(0)
    model = system.build(frozen_stages=0, drop_path_rate=0.1)
    expectation = Expectation(average)
    batches = loader([system.batch(2), system.batch(4)])
    runner = Runner(
        model,
        str(folder),
        train_dataloader=batches,
        val_dataloader=batches,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        val_cfg=dict(),
        val_evaluator=Evaluator(Nothing()),
        optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)),
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=1)),
        custom_hooks=[dict(type="EMAHook", momentum=MOMENTUM), expectation],
        experiment_name=f"{folder.name}_{epochs}",
        log_level="WARNING",
        **resume,
    )
    runner.train()
    assert expectation.validations == 2 * (1 if resume else epochs)
    return expectation


def train_and_resume(_, name, folder):
    first = train(CLASSIFIERS[name], folder, epochs=2)
    path = folder / "epoch_2.pth"
    saved = torch.load(path, weights_only=False)
    names = first.average.keys()
    assert_same({name: saved["state_dict"][name] for name in names}, first.average)
    assert_same({name: saved["ema_state_dict"][f"module.{name}"] for name in names}, first.trained)

    resumed = train(
        *(CLASSIFIERS[name], folder, 3, first.average), load_from=str(path), resume=True
    )
    assert not torch.equal(resumed.trained["head.fc.weight"], first.trained["head.fc.weight"])
    saved = torch.load(folder / "epoch_3.pth", weights_only=False)
    assert_same({name: saved["state_dict"][name] for name in names}, resumed.average)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_weights_are_averaged_validated_saved_and_resumed(name, tmp_path):
    pytest.importorskip("mmpretrain.models")  # once, before the fork
    in_processes(train_and_resume, name, tmp_path)
