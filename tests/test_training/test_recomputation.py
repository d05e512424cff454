"""``with_cp``: the same bits, and less memory, in the models of the toolboxes."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from toolbox_models import SYSTEMS, gradients_of, losses_of

systems = pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)


@systems
def test_losses_and_gradients_are_the_same_bits(system):
    """With stochastic depth, whose draws are repeated, and with a frozen part before it."""
    results = []
    for with_cp in (False, True):
        model = system.build(with_cp=with_cp, drop_path_rate=0.5, frozen_stages=0)
        torch.manual_seed(1)
        loss = losses_of(model, system.batch())
        loss.backward()
        results.append({"loss": loss.detach(), **gradients_of(model)})
    assert results[0].keys() == results[1].keys()
    for name, plain in results[0].items():
        assert torch.equal(plain, results[1][name]), name


def saved_bytes(backbone, images):
    """What a forward pass of the backbone keeps for the backward pass, without parameters."""
    own = {p.untyped_storage().data_ptr() for p in backbone.parameters()}
    saved = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        backbone(images)
    return sum(size for size, _ in saved.values())


@systems
def test_less_is_kept_for_the_backward_pass(system):
    images = torch.randn(2, 3, 96, 128)
    plain, saving = (
        saved_bytes(system.build(with_cp=with_cp).backbone, images) for with_cp in (False, True)
    )
    assert saving < 0.5 * plain


@systems
def test_the_same_seed_gives_the_same_bits(system):
    """Of the parameters after two steps with stochastic depth and recomputed activations."""
    runs = []
    for _ in range(2):
        model = system.build(drop_path_rate=0.3, with_cp=True)
        wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-2))
        torch.manual_seed(2)
        for _ in range(2):
            model.train_step(system.batch(), wrapper)
        runs.append(model.state_dict())
    assert all(torch.equal(runs[0][key], runs[1][key]) for key in runs[0])
