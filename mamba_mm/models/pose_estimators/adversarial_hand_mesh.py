"""Training against a prior of poses and shapes, in MMPose."""

from __future__ import annotations

from typing import Any, NamedTuple

from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmpose.structures import PoseDataSample
from torch import Tensor, nn

from mamba_mm.registry import MODELS

from ..heads.hand_prediction import HandPrediction
from .topdown_hand_mesh import TopdownHandMeshEstimator


class PredictedHands(NamedTuple):
    """What a discriminator judges, cut off from the graph.

    Attributes:
        hand_pose: Rotations of the fingers' joints, (B, 15, 3, 3).
        betas: Shapes, (B, 10).
    """

    hand_pose: Tensor
    betas: Tensor


class AdversarialHandMeshEstimator(TopdownHandMeshEstimator):
    """A :class:`TopdownHandMeshEstimator` that learns against an adversarial prior, as HaMeR does.

    A training step has two halves. The generator, which is everything but the prior, learns from
    the losses of its head and from ``loss_adv`` of the final prediction. Then the discriminator
    learns to tell the hands of that same forward pass from real ones. Each half has its own
    optimiser::

        model = dict(
            type="mamba_mm.AdversarialHandMeshEstimator",
            prior=dict(poses=dict(type="mamba_mm.MANOPoses", path="poses.npz")),
            ...
        )
        optim_wrapper = dict(
            constructor="mamba_mm.AdversarialOptimWrapperConstructor",
            type="AmpOptimWrapper",
            optimizer=dict(type="AdamW", lr=1e-5, weight_decay=1e-4),
        )
        # In several processes; otherwise it is not looked at.
        model_wrapper_cfg = dict(type="mamba_mm.AdversarialDistributedDataParallel")

    Predicting needs neither the prior nor its poses, which are not opened for it. MMEngine's
    ``EMAHook`` averages the discriminator with all the rest; the average of it is not used, and a
    resumed training goes on with the discriminator as it was.

    Args:
        prior (dict, optional): Config of the prior; a ``mamba_mm.AdversarialHandPrior`` without a
            ``type``. ``None`` is no prior: then this is its base class, and takes one optimiser.
        **settings: As in :class:`TopdownHandMeshEstimator`.
    """

    def __init__(self, *, prior: dict | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.prior = None
        if prior is not None:
            self.prior = MODELS.build({"type": "mamba_mm.AdversarialHandPrior", **prior})

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[PoseDataSample] | None = None,
        mode: str = "tensor",
    ) -> Any:
        """As in MMPose, with one more mode.

        Args:
            inputs: Crops, (B, C, H, W).
            data_samples: Their labels.
            mode: ``"tensor"``, ``"predict"`` or ``"loss"``; or ``"adversarial"``, the first half of
                a training step.

        Returns:
            For ``"adversarial"``, the losses of the generator and :class:`PredictedHands`.

        Raises:
            RuntimeError: The mode does not go with the prior that there is, or is unknown.
            TypeError: The head predicts no parameters of MANO.
        """
        if mode == "adversarial":
            return self._generator_losses(inputs, data_samples)
        if mode == "loss" and self.prior is not None:
            raise RuntimeError(
                "AdversarialHandMeshEstimator: with a prior there are two losses for two "
                "optimisers, which train_step alternates. In several processes that needs "
                'model_wrapper_cfg=dict(type="mamba_mm.AdversarialDistributedDataParallel")'
            )
        return super().forward(inputs, data_samples, mode)

    def _generator_losses(
        self, inputs: Tensor, data_samples: list[PoseDataSample]
    ) -> tuple[dict[str, Tensor], PredictedHands]:
        predictions = self.head(self.extract_feat(inputs))
        losses = self.head.losses_of(predictions, data_samples)
        final = predictions["final"]
        if not isinstance(final, HandPrediction):
            raise TypeError(
                "AdversarialHandMeshEstimator: the prior is one of MANO's poses and shapes, and "
                f"{type(self.head).__name__} predicts no parameters of MANO; set prior=None"
            )
        hand_pose, betas = final.rotations[:, 1:], final.betas
        losses["loss_adv"] = self.prior.generator_loss(hand_pose, betas)
        return losses, PredictedHands(hand_pose.detach(), betas.detach())

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Train the generator, then the discriminator, one step each.

        Args:
            data: A batch of the data loader.
            optim_wrapper: An ``OptimWrapperDict`` of ``generator`` and ``discriminator``; without
                a prior, any other.

        Returns:
            What to log: ``loss`` is the generator's; ``discriminator/loss_predicted`` and
            ``discriminator/loss_real`` are the discriminator's.

        Raises:
            TypeError: The optimisers are not those that it takes.
        """
        if self.prior is None:
            if isinstance(optim_wrapper, OptimWrapperDict):
                raise TypeError(
                    "AdversarialHandMeshEstimator: without a prior there is one optimiser; drop "
                    "AdversarialOptimWrapperConstructor from optim_wrapper, or give a prior"
                )
            return super().train_step(data, optim_wrapper)
        return self.alternate(data, optim_wrapper, self, self.prior)

    def alternate(
        self, data: dict, optim_wrapper: OptimWrapper, generator: nn.Module, prior: nn.Module
    ) -> dict[str, Tensor]:
        """Do what :meth:`train_step` does, through wrappers of the two halves.

        Args:
            data: A batch of the data loader.
            optim_wrapper: The two optimisers.
            generator: This module, or a wrapper that averages the gradients of all but the prior.
            prior: Its prior, or a wrapper that averages the gradients of it.

        Returns:
            As :meth:`train_step`.

        Raises:
            TypeError: The optimisers are not two.
        """
        if not isinstance(optim_wrapper, OptimWrapperDict):
            raise TypeError(
                "AdversarialHandMeshEstimator: the generator and the discriminator need an "
                "optimiser each; set optim_wrapper.constructor to "
                "'mamba_mm.AdversarialOptimWrapperConstructor', or train without a prior"
            )
        first, second = optim_wrapper["generator"], optim_wrapper["discriminator"]
        with first.optim_context(generator):
            data = self.data_preprocessor(data, training=True)
            losses, hands = generator(**data, mode="adversarial")
        loss, logged = self.parse_losses(losses)
        first.update_params(loss)

        with second.optim_context(prior):
            losses = prior(*hands)
        loss, logged_of_prior = self.parse_losses(losses)
        second.update_params(loss)
        return logged | {f"discriminator/{name}": logged_of_prior[name] for name in losses}
