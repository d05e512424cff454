"""AMP: the toolboxes' models under MMEngine's ``AmpOptimWrapper``, in both 16-bit formats.

MMEngine allows that wrapper on GPUs alone. Its code is run on the CPU here, by ``amp_on_cpu``.
"""

import pytest
import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from toolbox_models import SYSTEMS, gradients_of, losses_of
from torch.utils._python_dispatch import TorchDispatchMode

from mamba_mm.layers import LayerNorm2d
from mamba_mm.ops.extension import EXTENSION

# Relative errors of the loss, of all gradients together, and of the worst parameter's; twice to
# four times what was measured.
BARS = {torch.bfloat16: (2e-2, 0.1, 0.6), torch.float16: (2e-3, 1e-2, 0.1)}

systems = pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)
dtypes = pytest.mark.parametrize("dtype", BARS, ids=str)


def amp_wrapper(model, dtype, scale=2.0**8, lr=1e-3):
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    return AmpOptimWrapper(optimizer=optimizer, dtype=dtype, loss_scale=dict(init_scale=scale))


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


@systems
@dtypes
def test_a_step_is_that_of_float32(system, dtype, amp_on_cpu):
    plain = system.build()
    expected_loss = losses_of(plain, system.batch())
    expected_loss.backward()
    expected = gradients_of(plain)

    model = system.build()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    wrapper, gradients = amp_wrapper(model, dtype), {}
    # The step sees the gradients after the scaler has unscaled them.
    wrapper.optimizer.register_step_pre_hook(
        lambda *_: gradients.update({k: g.clone() for k, g in gradients_of(model).items()})
    )
    loss = model.train_step(system.batch(), wrapper)["loss"]

    of_loss, of_all, of_worst = BARS[dtype]
    assert abs(loss - expected_loss.item()) <= of_loss * expected_loss.item()
    assert gradients.keys() == expected.keys()
    assert all(g.dtype == torch.float32 for g in gradients.values())
    errors = {name: relative(gradients[name], expected[name]) for name in expected}
    worst = max(errors, key=errors.get)
    assert errors[worst] < of_worst, worst
    flat = [torch.cat([g[name].flatten() for name in expected]) for g in (gradients, expected)]
    assert 0 < relative(*flat) < of_all
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name


class ScanDtypes(TorchDispatchMode):
    """What the scans of the passes compute in."""

    def __init__(self):
        super().__init__()
        self.inputs, self.states, self.parameters, self.gradients = set(), set(), set(), set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        if function is torch.ops.mamba_mm.route_scan_fwd.default:
            self.inputs.add(args[0].dtype)
            self.parameters |= {t.dtype for t in args[3:7] if t is not None}
            self.states |= {t.dtype for t in results}
        if function is torch.ops.mamba_mm.route_scan_bwd.default:
            self.gradients |= {t.dtype for t in results[3:]}
        return results


@systems
@dtypes
def test_scans_keep_states_and_parameters_in_float32(system, dtype, amp_on_cpu):
    if not EXTENSION.loaded:
        pytest.skip(f"the compiled op is not built: {EXTENSION.detail}")
    model = system.build()
    with ScanDtypes() as seen:
        model.train_step(system.batch(1), amp_wrapper(model, dtype))
    # The first generation of VMamba, of which VM-UNet is, casts also what enters its scans.
    wide = getattr(model.backbone.arch_settings, "scan_float32", False)
    assert seen.inputs == {torch.float32 if wide else dtype}
    assert seen.states == seen.parameters == seen.gradients == {torch.float32}


@pytest.mark.parametrize("name", ["mmpose-vmamba", "mmpretrain-vim"])
def test_a_scale_that_overflows_is_halved_and_the_step_skipped(name, amp_on_cpu):
    model = SYSTEMS[name].build()
    before = [p.detach().clone() for p in model.parameters()]
    wrapper = amp_wrapper(model, torch.float16, scale=2.0**40)
    model.train_step(SYSTEMS[name].batch(), wrapper)
    assert wrapper.loss_scaler.get_scale() == 2.0**39
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), before, strict=True))
    wrapper.loss_scaler.update(2.0**8)
    model.train_step(SYSTEMS[name].batch(), wrapper)
    assert wrapper.loss_scaler.get_scale() == 2.0**8
    assert all(p.isfinite().all() for p in model.parameters())
    moved = [not torch.equal(*pair) for pair in zip(model.parameters(), before, strict=True)]
    assert sum(moved) == sum(p.requires_grad for p in model.parameters())


@pytest.mark.slow
@systems
def test_training_converges_as_in_float32(system, amp_on_cpu):
    falls = {}
    for dtype in (None, *BARS):
        model = system.build()
        wrapper = amp_wrapper(model, dtype or torch.bfloat16, lr=3e-3)
        if dtype is None:
            wrapper = OptimWrapper(optimizer=wrapper.optimizer)
        losses = [model.train_step(system.batch(2), wrapper)["loss"].item() for _ in range(12)]
        falls[dtype] = losses[-1] / losses[0]
    assert falls[None] < 0.9
    for dtype in BARS:
        assert falls[dtype] == pytest.approx(falls[None], rel=0.25)


@pytest.mark.parametrize("autocast", [True, False], ids=["autocast", "16-bit parameters"])
@dtypes
def test_layer_norms_of_large_maps_do_not_lose_gradients(dtype, autocast):
    """PyTorch's own layer norm loses most of the gradients of weight and bias here."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 8, 80, 80, generator=generator).to(dtype)
    upstream = torch.rand(2, 8, 80, 80, generator=generator).to(dtype)
    norm, exact = LayerNorm2d(8), LayerNorm2d(8).double()
    if not autocast:
        norm = norm.to(dtype)
    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        y = norm(maps)
    assert y.dtype == dtype
    y.backward(upstream)
    exact(maps.double()).backward(upstream.double())
    tolerance = 1e-5 if autocast else torch.finfo(dtype).eps
    assert relative(norm.weight.grad, exact.weight.grad) < tolerance
    assert relative(norm.bias.grad, exact.bias.grad) < tolerance
