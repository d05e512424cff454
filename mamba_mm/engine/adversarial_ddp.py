"""A generator and a prior that train each other, in several processes."""

from __future__ import annotations

from typing import Any

from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mamba_mm.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class AdversarialDistributedDataParallel(MMDistributedDataParallel):
    """Averages the gradients of a ``mamba_mm.AdversarialHandMeshEstimator`` over the processes.

    PyTorch's wrapper waits, after each of its forward passes, until every parameter that it looks
    after has a gradient. The two halves of an adversarial step give theirs to different parameters,
    so there are two wrappers: this one for all but ``module.prior``, and one for that. MMEngine's
    own wrapper for such models wraps each child of the model, which renames all weights in
    checkpoints and hides the head's methods.

    ::

        model_wrapper_cfg = dict(type="mamba_mm.AdversarialDistributedDataParallel")

    A model without a prior is trained as by ``MMDistributedDataParallel``.

    Args:
        module: The estimator.
        device_ids: As in PyTorch. MMEngine gives the GPU of the process; on a CPU the config must
            say ``None``.
        broadcast_buffers: As in PyTorch. Off, as where MMEngine chooses the wrapper itself: its
            ``SyncBuffersHook`` averages the buffers before a validation.
        **settings: As in PyTorch.
    """

    def __init__(
        self,
        module: nn.Module,
        device_ids: list[int] | None = None,
        broadcast_buffers: bool = False,
        **settings: Any,
    ) -> None:
        settings |= dict(device_ids=device_ids, broadcast_buffers=broadcast_buffers)
        prior = getattr(module, "prior", None)
        if prior is not None:
            names = [f"prior.{name}" for name in prior.state_dict()]
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, names)
        super().__init__(module, **settings)
        self.prior = None if prior is None else DistributedDataParallel(prior, **settings)

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Train a step; see the estimator."""
        if self.prior is None:
            return super().train_step(data, optim_wrapper)
        return self.module.alternate(data, optim_wrapper, self, self.prior)
