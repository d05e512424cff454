"""Two optimisers, for a generator and the prior that it learns against."""

from __future__ import annotations

from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from torch import nn

from mamba_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS

from .adversarial_ddp import AdversarialDistributedDataParallel

GENERATOR = "mamba_mm.LayerDecayOptimWrapperConstructor"


class GeneratorAndDiscriminator(OptimWrapperDict):
    """The two optimisers of an adversarial training, each of which steps once an iteration.

    MMEngine does not tell the wrappers in a dict how long the training is, as it cannot know how
    often each of them steps; for accumulated gradients they need it.
    """

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Tell both at which iteration the training starts and ends."""
        for wrapper in self.values():
            wrapper.initialize_count_status(model, init_counts, max_counts)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class AdversarialOptimWrapperConstructor:
    """Builds the optimisers of a ``mamba_mm.AdversarialHandMeshEstimator``.

    ::

        optim_wrapper = dict(
            constructor="mamba_mm.AdversarialOptimWrapperConstructor",
            type="AmpOptimWrapper",
            optimizer=dict(type="AdamW", lr=1e-5, weight_decay=1e-4),
            paramwise_cfg=dict(weight_decay_rule="principled"),
            discriminator=dict(optimizer=dict(type="AdamW", lr=1e-4, weight_decay=1e-4)),
        )

    Everything but ``discriminator`` is for the generator, all parameters outside ``model.prior``,
    and means what it means to ``mamba_mm.LayerDecayOptimWrapperConstructor``. The discriminator has
    an optimiser of the same config, as in HaMeR, and accumulates gradients as often, but neither
    clips them nor has its own learning rates or decays. It computes in float32, so its wrapper is
    MMEngine's plain one.

    In the log the learning rates are ``generator.lr`` and ``discriminator.lr``. ``param_scheduler``
    is a list for both, or ``dict(generator=[...], discriminator=[...])``.

    Args:
        optim_wrapper_cfg: As above. ``discriminator`` may be left out; it is a config of MMEngine's
            that replaces what follows from the generator's, key by key.
        paramwise_cfg: Of the generator.

    Raises:
        ValueError: There is no ``optimizer``.
        TypeError: When called, the model has no prior, or is wrapped so that it cannot be trained.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        generator = dict(optim_wrapper_cfg)
        if "optimizer" not in generator:
            raise ValueError(
                "AdversarialOptimWrapperConstructor: optim_wrapper needs an optimizer, which is "
                f"the generator's; got {sorted(generator)}"
            )
        own = generator.pop("discriminator", None) or {}
        self.discriminator: dict[str, Any] = dict(
            type="OptimWrapper",
            optimizer=generator["optimizer"],
            accumulative_counts=generator.get("accumulative_counts", 1),
        )
        self.discriminator |= own
        self.generator = generator | dict(constructor=GENERATOR, paramwise_cfg=paramwise_cfg)

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        """Build the optimisers.

        Args:
            model: The estimator, or a wrapper of it.
        """
        wrapped = is_model_wrapper(model)
        if wrapped and not isinstance(model, AdversarialDistributedDataParallel):
            raise TypeError(
                f"AdversarialOptimWrapperConstructor: {type(model).__name__} cannot train two "
                "halves in turn; set model_wrapper_cfg=dict("
                'type="mamba_mm.AdversarialDistributedDataParallel")'
            )
        estimator = model.module if wrapped else model
        prior = getattr(estimator, "prior", None)
        if prior is None:
            raise TypeError(
                f"AdversarialOptimWrapperConstructor: {type(estimator).__name__} has no prior "
                "(model.prior), so one optimiser will do; use the constructor "
                f"{GENERATOR!r}, or give an AdversarialHandMeshEstimator a prior"
            )
        return GeneratorAndDiscriminator(
            generator=build_optim_wrapper(_AllButThePrior(estimator), self.generator),
            discriminator=build_optim_wrapper(prior, self.discriminator),
        )


class _AllButThePrior(nn.Module):
    """The parts of an estimator under their names, without its prior."""

    def __init__(self, estimator: nn.Module) -> None:
        super().__init__()
        for name, part in estimator.named_children():
            if name != "prior":
                self.add_module(name, part)
