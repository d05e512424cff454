"""What must not change in a step does not: frozen stages, statistics of norms, converted norms."""

import pytest
import torch
from mmengine.model import convert_sync_batchnorm, revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from toolbox_models import SYSTEMS, losses_of
from torch import nn

# Which system, how many stages are frozen, what is frozen then, and what never runs.
FROZEN = {
    "mmdet-vmamba": (1, ("patch_embed", "layers.0."), ("layers.2.downsample", "layers.3.")),
    "mmpretrain-vim": (
        2,
        ("patch_embed", "pos_embed", "cls_token", "layers.0.", "layers.1."),
        (),
    ),
    "mmseg-vm_unet": (1, ("patch_embed", "layers.0."), ()),
    "mmpose-vmamba": (
        0,
        ("patch_embed",),
        ("layers.0.downsample", "layers.1.", "layers.2.", "layers.3."),
    ),
}
BATCH_NORM = {"arch": {"base": "nano", "norm": "bn"}}
BN_SYSTEMS = ("mmdet-vmamba", "mmseg-vm_unet", "mmpose-vmamba")

with_batch_norm = pytest.mark.parametrize("name", BN_SYSTEMS)


def step(model, batch):
    """Train one step, weight decay included."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.05)
    model.train_step(batch, OptimWrapper(optimizer))


def changed(model, train):
    """Return for every entry of the state dict whether ``train(model)`` changes it."""
    before = {key: value.clone() for key, value in model.state_dict().items()}
    train(model)
    return {key: not torch.equal(before[key], value) for key, value in model.state_dict().items()}


@pytest.mark.parametrize("name", FROZEN)
def test_a_step_moves_all_but_what_is_frozen(name):
    frozen_stages, frozen, unused = FROZEN[name]
    model = SYSTEMS[name].build(frozen_stages=frozen_stages)
    moved = changed(model, lambda model: step(model, SYSTEMS[name].batch()))
    still = tuple(f"backbone.{prefix}" for prefix in (*frozen, *unused))
    assert any(key.startswith(still) for key in moved)
    for key, has_moved in moved.items():
        assert has_moved != key.startswith(still), key


def statistics(moved):
    return {key: value for key, value in moved.items() if key.endswith(("running_mean", "_var"))}


@with_batch_norm
def test_frozen_stages_keep_their_statistics(name):
    frozen_stages, frozen, unused = FROZEN[name]
    model = SYSTEMS[name].build(**BATCH_NORM, frozen_stages=frozen_stages)
    moved = statistics(changed(model, lambda model: step(model, SYSTEMS[name].batch())))
    still = tuple(f"backbone.{prefix}" for prefix in (*frozen, *unused))
    assert any(key.startswith(still) for key in moved)
    for key, has_moved in moved.items():
        assert has_moved != key.startswith(still), key


@with_batch_norm
def test_norm_eval_keeps_statistics_and_trains_the_rest(name):
    model = SYSTEMS[name].build(**BATCH_NORM, norm_eval=True)
    moved = changed(model, lambda model: step(model.train(), SYSTEMS[name].batch()))
    assert not any(statistics(moved).values())
    assert moved["backbone.layers.0.blocks.0.norm.weight"]
    assert moved["backbone.layers.0.blocks.0.op.A_logs"]


CONVERSIONS = {
    "torch": nn.SyncBatchNorm.convert_sync_batchnorm,
    "MMEngine, torch": lambda model: convert_sync_batchnorm(model, "torch"),
    "MMEngine, mmcv": lambda model: convert_sync_batchnorm(model, "mmcv"),
}
conversions = pytest.mark.parametrize("convert", CONVERSIONS.values(), ids=CONVERSIONS)


@pytest.fixture
def process_group():
    """A group of this process alone, which mmcv's norms ask for when they are made."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def norms_of(model):
    """Return the batch norms of the backbone by name; mmcv's are no subclass of PyTorch's."""
    return {name: m for name, m in model.backbone.named_modules() if hasattr(m, "running_mean")}


@with_batch_norm
@conversions
def test_batch_norms_become_synchronised_ones_and_back(name, convert, process_group):
    if convert is CONVERSIONS["MMEngine, mmcv"]:
        pytest.importorskip("mmcv.ops")
    system = SYSTEMS[name]
    model = system.build(**BATCH_NORM, frozen_stages=0)
    with torch.no_grad():
        losses_of(model, system.batch())  # statistics that are not those of the start
    state = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.randn(2, 3, 48, 64)
    expected = model.eval().backbone(images)
    names = norms_of(model).keys()

    synchronised = convert(model.train())
    found = norms_of(synchronised)
    assert found.keys() == names
    assert {type(norm).__name__ for norm in found.values()} == {"SyncBatchNorm"}
    assert synchronised.state_dict().keys() == state.keys()
    assert all(torch.equal(state[key], value) for key, value in synchronised.state_dict().items())
    # What a conversion makes is in training mode; the loop's call of train() freezes again.
    synchronised.train()
    for key, norm in found.items():
        assert norm.training == norm.weight.requires_grad, key
    assert not any(p.requires_grad for p in synchronised.backbone.patch_embed.parameters())
    synchronised.backbone.norm_eval = True
    synchronised.train()
    assert not any(norm.training for norm in found.values())

    for converted in (synchronised, revert_sync_batchnorm(synchronised)):
        for ours, theirs in zip(converted.eval().backbone(images), expected, strict=True):
            assert torch.equal(ours, theirs)
    reverted = norms_of(converted)
    assert reverted.keys() == names
    assert not any(type(norm).__name__ == "SyncBatchNorm" for norm in reverted.values())


@pytest.mark.parametrize("name", SYSTEMS)
@conversions
def test_other_norms_are_left_alone(name, convert):
    model = SYSTEMS[name].build()
    kinds = {name: type(m) for name, m in model.named_modules()}
    assert {name: type(m) for name, m in convert(model).named_modules()} == kinds
