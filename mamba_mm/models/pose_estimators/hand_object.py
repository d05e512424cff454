"""Two networks side by side: one for hands, one for objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmpose.structures import PoseDataSample
from torch import Tensor

from mamba_mm.registry import MODELS

KINDS = ("hand", "object")


class HandObjectEstimator(BaseModel):
    """A network of hands and a second, separate one of objects, trained and tested together.

    As the authors of Hamba propose for hands with objects: each has its own backbone and head, and
    nothing is shared but the data and the loop. Every sample is a crop of one hand or of one
    object; it goes to the network of its data set (meta key ``dataset_name``, which MMPose's data
    sets write and ``PackPoseInputs`` must keep). A batch may hold any mixture. A network that gets
    nothing in a step still gets a gradient, zero, for each of its parameters, so that distributed
    training does not wait for it.

    All crops of a batch have one size, and one preprocessor, this model's.

    Args:
        hand (dict): Config of the estimator of hands, such as
            ``mamba_mm.TopdownHandMeshEstimator``.
        object (dict): Config of the estimator of objects, such as
            ``mamba_mm.TopdownObjectPoseEstimator``.
        hand_datasets (Sequence[str]): Names of the sets whose samples are hands.
        object_datasets (Sequence[str]): Names of the sets whose samples are objects.
        data_preprocessor (dict, optional): Config of the preprocessor.
        init_cfg (dict, optional): Initialisation.

    Raises:
        ValueError: When a set is named for both, or a network has a preprocessor of its own.
    """

    def __init__(
        self,
        hand: dict,
        object: dict,
        hand_datasets: Sequence[str] = ("hand_mesh",),
        object_datasets: Sequence[str] = ("object_pose",),
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if both := sorted(set(hand_datasets) & set(object_datasets)):
            raise ValueError(f"HandObjectEstimator: {both} are named for hands and for objects")
        for kind, config in zip(KINDS, (hand, object), strict=True):
            if config.get("data_preprocessor") is not None:
                raise ValueError(
                    f"HandObjectEstimator: the network of the {kind} has a data_preprocessor, "
                    "which would not be used; give it to this model"
                )
        self.hand = MODELS.build(hand)
        self.object = MODELS.build(object)
        self._kind_of = dict.fromkeys(hand_datasets, "hand") | dict.fromkeys(
            object_datasets, "object"
        )

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[PoseDataSample] | None = None,
        mode: str = "tensor",
    ) -> dict[str, Any] | list[PoseDataSample]:
        """Run the network of each sample.

        Args:
            inputs: Crops, (B, 3, H, W).
            data_samples: What they are.
            mode: ``"loss"``, ``"predict"``, or ``"tensor"``: both networks on all crops, for
                counting operations.

        Returns:
            Losses by name, ``hand_loss_...`` and ``object_loss_...``; the samples, in their order,
            with predictions; or the outputs of both networks by kind.

        Raises:
            ValueError: When the mode or a sample's data set is unknown.
        """
        if mode == "tensor":
            return {kind: getattr(self, kind)(inputs, None, mode) for kind in KINDS}
        if mode not in ("loss", "predict"):
            raise ValueError(
                f"HandObjectEstimator: unknown mode {mode!r}; known: loss, predict, tensor"
            )
        kinds = [self._kind(sample) for sample in data_samples]
        outputs = {}
        for kind in KINDS:
            rows = [index for index, own in enumerate(kinds) if own == kind]
            if rows:
                samples = [data_samples[index] for index in rows]
                outputs[kind] = getattr(self, kind)(inputs[rows], samples, mode)
        return self._losses(outputs) if mode == "loss" else data_samples

    def _kind(self, sample: PoseDataSample) -> str:
        name = sample.metainfo.get("dataset_name")
        if name not in self._kind_of:
            raise ValueError(
                f"HandObjectEstimator: a sample of the data set {name!r}; known are "
                f"{self._kind_of}. Name it in hand_datasets or object_datasets, and keep "
                "'dataset_name' in the meta_keys of PackPoseInputs"
            )
        return self._kind_of[name]

    def _losses(self, outputs: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        losses = {}
        for kind in KINDS:
            if kind in outputs:
                losses |= {f"{kind}_{name}": value for name, value in outputs[kind].items()}
            else:
                losses[f"{kind}_loss_absent"] = _zero_of_all(getattr(self, kind))
        return losses


def _zero_of_all(network: torch.nn.Module) -> Tensor:
    """A loss of zero with a gradient, zero, for each parameter of a network."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return 0.0 * sum((p.float().sum() for p in parameters), start=torch.zeros(()))
