"""One pass of a backbone, as a call without arguments that can be timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from backbone_zoo import build_backbone
from gpu_timing import cuda_graph_of
from torch import Tensor, nn

from mamba_mm.measuring.image_shape import ImageShape

MODES = ("eval", "train")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MEMORY_FORMATS = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}
PROBE_SECONDS = 0.3


@dataclass(frozen=True)
class Setting:
    """How a backbone runs.

    Attributes:
        mode: ``"eval"``, a forward pass without gradients, or ``"train"``, a training step.
        dtype: ``"float32"``, or ``"bfloat16"`` for autocast over float32 weights.
        device: ``"cpu"`` or ``"cuda"``.
        compiled: Whether ``torch.compile`` compiles it.
        in_graph: Whether a pass is captured as a CUDA graph and replayed.
    """

    mode: str
    dtype: str
    device: str
    compiled: bool = False
    in_graph: bool = False

    @property
    def execution(self) -> str:
        """How a pass is launched, in words."""
        words = [("compiled", self.compiled), ("graph", self.in_graph)]
        return " ".join(word for word, is_so in words if is_so) or "eager"

    def autocast(self) -> torch.autocast:
        """Return the context of the forward pass."""
        dtype = DTYPES[self.dtype]
        return torch.autocast(self.device, dtype, enabled=dtype != torch.float32)

    def synchronize(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()


@dataclass(frozen=True)
class Contender:
    """A backbone that is ready to be timed.

    Attributes:
        memory_format: Of its weights and images, a name of :data:`MEMORY_FORMATS`.
        run: Makes one pass, and returns when the device has finished it.
        launched: The same without a graph, where ``run`` replays one, which allocates nothing.
    """

    memory_format: str
    run: Callable[[], None]
    launched: Callable[[], None] | None = None


def prepare(name: str, shape: ImageShape, setting: Setting, memory_format: str) -> Contender:
    """Build a backbone and run it until it is warm.

    Args:
        name: Name of the backbone.
        shape: Images that it gets.
        setting: How it runs.
        memory_format: A name of :data:`MEMORY_FORMATS`, or ``"faster"`` for the one in which
            a short probe is faster.
    """
    if memory_format != "faster":
        contender = _contender(name, shape, setting, memory_format)
        contender.run()
        return contender
    candidates = [_contender(name, shape, setting, candidate) for candidate in MEMORY_FORMATS]
    return min(candidates, key=lambda contender: _probe_seconds(contender.run))


def _contender(name: str, shape: ImageShape, setting: Setting, memory_format: str) -> Contender:
    # A model of its own for each format: weights of 1x1 convolutions, once converted, look
    # the same in both formats and would keep the faster kernels of the other one.
    layout = MEMORY_FORMATS[memory_format]
    model = build_backbone(name, shape.height, shape.width)
    model.to(setting.device, memory_format=layout)
    model.train(setting.mode == "train")
    images = torch.randn(shape.batch, 3, shape.height, shape.width, device=setting.device)
    images = images.contiguous(memory_format=layout)
    if setting.compiled:
        # For one size: otherwise that of the contender before it would make sizes variables.
        model = torch.compile(model, dynamic=False)
    make_pass = training_pass if setting.mode == "train" else eval_pass
    launch = make_pass(model, images, setting)
    run = _finished(launch, setting)
    if not setting.in_graph:
        return Contender(memory_format, run)
    return Contender(memory_format, _finished(cuda_graph_of([launch]), setting), run)


def _finished(launch: Callable[[], None], setting: Setting) -> Callable[[], None]:
    def run() -> None:
        launch()
        setting.synchronize()

    return run


def eval_pass(model: nn.Module, images: Tensor, setting: Setting) -> Callable[[], None]:
    """Return a call of one forward pass without gradients."""

    def launch() -> None:
        with torch.no_grad(), setting.autocast():
            model(images)

    return launch


def training_pass(model: nn.Module, images: Tensor, setting: Setting) -> Callable[[], None]:
    """Return a call of one training step: forward, backward, SGD.

    The loss is the sum of the mean squares of the maps, so it reaches every output and
    costs little. The learning rate is 0: the same work in every step.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, foreach=True)

    def launch() -> None:
        with setting.autocast():
            loss = sum(output.square().mean() for output in model(images))
        loss.backward()
        optimizer.step()
        # At the end: a model that waits for its turn must not hold gradients.
        optimizer.zero_grad(set_to_none=True)

    return launch


def _probe_seconds(run: Callable[[], None]) -> float:
    run()  # warm up
    start, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - start < PROBE_SECONDS:
        run()
        calls += 1
    return (time.perf_counter() - start) / calls
