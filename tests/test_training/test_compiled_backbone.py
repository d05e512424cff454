"""``torch.compile`` of a backbone inside the model of a toolbox: whole, and with its gradients."""

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from processes import in_processes
from toolbox_models import CLASSIFIERS, SYSTEMS, gradients_of, loader, losses_of

# A model, and what its backbone is like; as few blocks as show everything compile soonest.
CASES = {
    "vmamba": (SYSTEMS["mmpose-vmamba"], dict(with_cp=True)),
    "vim": (CLASSIFIERS["vim"], dict(arch=dict(base="nano", depth=2), frozen_stages=1)),
    "vm_unet": (CLASSIFIERS["vm_unet"], dict()),
}


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def assert_compiles(system, backbone, tolerance, autocast=False, **options):
    """Compile a backbone in place and compare a step with the plain model's."""
    results = []
    for compiled in (False, True):
        model = system.build(**backbone)
        keys = list(model.state_dict())
        if compiled:
            model.backbone.compile(fullgraph=True, **options)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = losses_of(model, system.batch(2))
        loss.backward()
        assert list(model.state_dict()) == keys
        results.append({"loss": loss.detach(), **gradients_of(model)})
    plain, ours = results
    assert plain.keys() == ours.keys()
    for name, expected in plain.items():
        assert (ours[name] - expected).norm() <= tolerance * expected.norm(), name


@pytest.mark.parametrize("case", CASES)
def test_a_compiled_backbone_trains_as_the_plain_one(case):
    """Without a graph break, and without a change to the state dict's keys."""
    assert_compiles(*CASES[case], 1e-5, backend="aot_eager")


def test_a_compiled_backbone_trains_under_autocast():
    assert_compiles(*CASES["vmamba"], 0.02, autocast=True, backend="aot_eager")


@pytest.mark.slow
def test_inductor():
    one_block = dict(arch=dict(base="nano", depths=(1,), dims=(32,)))
    # Inductor would try, in processes that import PyTorch, what this processor says that it has.
    with torch._inductor.config.patch({"cpp.vec_isa_ok": True}):
        assert_compiles(SYSTEMS["mmpose-vmamba"], one_block, 1e-4)


class Losses(Hook):
    """The loss of every iteration."""

    def __init__(self):
        self.values = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.values.append(outputs["loss"].item())


def train(folder, **options):
    """Train three steps with MMEngine's runner; return the losses."""
    system, losses = CLASSIFIERS["vmamba"], Losses()
    backbone = dict(arch=dict(base="nano", depths=(1, 1), dims=(32, 64)))
    model = system.build(**backbone)
    runner = Runner(
        model,
        str(folder),
        train_dataloader=loader([system.batch(2)] * 3),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)),
        custom_hooks=[losses],
        randomness=dict(seed=0),
        cfg=Config(options),
        experiment_name=f"compile_{len(options)}",
        log_level="WARNING",
    )
    runner.train()
    assert not any(
        "_orig_mod" in key
        for key in torch.load(folder / "epoch_1.pth", weights_only=False)["state_dict"]
    )
    return losses.values


def train_twice(_, folder):
    plain = train(folder)
    compiled = train(folder, compile=dict(backend="aot_eager"))
    assert plain[2] < plain[0]
    torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=0)


@pytest.mark.slow
def test_the_runners_compile_option(tmp_path):
    pytest.importorskip("mmpretrain.models")  # once, before the fork
    in_processes(train_twice, tmp_path)
