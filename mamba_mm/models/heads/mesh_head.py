"""What all hand heads share: everything after the feature vector."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from mmpose.models.heads.base_head import BaseHead
from mmpose.registry import KEYPOINT_CODECS
from mmpose.structures import PoseDataSample
from torch import Tensor

from mamba_mm.registry import MODELS

from .hand_prediction import HandPrediction, PointPrediction
from .prediction_losses import PredictionLosses
from .read_out import ReadOut

Prediction = HandPrediction | PointPrediction


class HandMeshHead(BaseHead):
    """Base of the heads that regress a hand, or other points in space, from one map.

    A subclass computes a feature vector, reads it out with :meth:`build_read_out`'s layers and
    gives the result to ``self.output_model``. Its :meth:`forward` returns a prediction for each of
    :attr:`outputs`.

    Args:
        in_channels: Channels of the backbone's map.
        input_size: Width and height of the network's input in pixels.
        input_index: Which of the backbone's maps is taken; the last by default.
        output_model: Config of what the regressed numbers mean, by default
            ``dict(type="mamba_mm.MANOOutputModel")``; without a ``type`` it is of that class.
        losses: What differs from HaMeR's losses; see :class:`PredictionLosses`.
        head_hidden_dims: Units of a hidden layer before the outputs; ``None`` for none.
        readout_init_gain: Gain with which the output layers start; see :class:`ReadOut`.
        decoder: Config of the codec that turns predicted into pixel coordinates, such as
            ``dict(type="mamba_mm.MANOLabel", input_size=(192, 256))``. Needed to predict.
        init_cfg: As in MMEngine.

    Raises:
        ValueError: When the losses do not apply to the output model, or the decoder is for
            another ``input_size``.

    Attributes:
        outputs: The predictions that :meth:`forward` returns, with the weights of their losses.
            ``"final"`` is the one that :meth:`predict` uses.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        input_size: Sequence[int] = (192, 256),
        input_index: int = -1,
        output_model: Mapping[str, Any] | None = None,
        losses: Mapping[str, Mapping[str, Any] | None] | None = None,
        head_hidden_dims: int | None = None,
        readout_init_gain: float | None = 0.01,
        decoder: Mapping[str, Any] | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = in_channels
        self.input_size = tuple(input_size)
        self.input_index = input_index
        self.head_hidden_dims = head_hidden_dims
        self.readout_init_gain = readout_init_gain
        self.outputs = {"final": 1.0}
        self.output_model = MODELS.build(
            {"type": "mamba_mm.MANOOutputModel", **(output_model or {})}
        )
        self.loss_module = PredictionLosses(self.output_model.loss_terms, losses)
        self.decoder = None if decoder is None else KEYPOINT_CODECS.build(dict(decoder))
        decoded_size = tuple(getattr(self.decoder, "input_size", self.input_size))
        if decoded_size != self.input_size:
            raise ValueError(
                f"{type(self).__name__}: input_size {self.input_size} is not that of the decoder, "
                f"{decoded_size}"
            )

    def build_read_out(self, channels: int) -> ReadOut:
        """Make the layers that read a feature vector of so many channels out."""
        return ReadOut(
            channels, self.output_model.sizes, self.head_hidden_dims, self.readout_init_gain
        )

    def take_map(self, feats: Sequence[Tensor]) -> Tensor:
        """Return the map of ``input_index``.

        Raises:
            ValueError: When there is none, it is no map, or has other channels.
        """
        name = type(self).__name__
        if not isinstance(feats, Sequence) or not -len(feats) <= self.input_index < len(feats):
            count = len(feats) if isinstance(feats, Sequence) else type(feats).__name__
            raise ValueError(
                f"{name}: expected a tuple of maps with one at {self.input_index}, got {count}"
            )
        x = feats[self.input_index]
        if not isinstance(x, Tensor) or x.dim() != 4 or x.shape[1] != self.in_channels:
            got = tuple(x.shape) if isinstance(x, Tensor) else f"a {type(x).__name__}"
            raise ValueError(
                f"{name}: expected a map (B, {self.in_channels}, H, W) at {self.input_index} of "
                f"the backbone's outputs, got {got}; set in_channels, or have the backbone return "
                "a map"
            )
        return x

    @abstractmethod
    def forward(self, feats: Sequence[Tensor]) -> dict[str, Prediction]:
        """Predict from the backbone's maps.

        Args:
            feats: The maps; that of ``input_index`` is used.

        Returns:
            A prediction for each of :attr:`outputs`, by name.
        """

    def predict(
        self,
        feats: Sequence[Tensor],
        batch_data_samples: Sequence[PoseDataSample],
        test_cfg: Mapping[str, Any] | None = None,
    ) -> list[InstanceData]:
        """Predict instances, one for each sample.

        Args:
            feats: The backbone's maps.
            batch_data_samples: Not used; MMPose passes them.
            test_cfg: Not used; MMPose passes it.

        Returns:
            Of each sample one instance of float32 arrays: ``keypoints`` (1, K, 2) in pixels of
            the input, ``keypoint_scores`` (1, K), which are ones, because nothing here estimates
            a confidence, ``keypoints_3d`` (1, K, 3), ``cam`` (1, 3), and of a hand ``vertices``
            (1, 778, 3), ``mano_rotations`` (1, 16, 3, 3) and ``mano_betas`` (1, 10).

        Raises:
            ValueError: When the maps of a flip test are given.
        """
        if isinstance(feats, list) and feats and not isinstance(feats[0], Tensor):
            raise ValueError(
                f"{type(self).__name__} has no flip test: a flipped right hand is a left hand; "
                "set flip_test=False in test_cfg"
            )
        prediction = self.forward(feats)["final"]
        instances = self.decode(prediction.joints_2d.unsqueeze(1))
        for name, values in prediction.instance_fields().items():
            arrays = values.detach().float().cpu().numpy()
            for i, instance in enumerate(instances):
                instance.set_field(arrays[i : i + 1], name)
        return instances

    def loss(
        self,
        feats: Sequence[Tensor],
        batch_data_samples: Sequence[PoseDataSample],
        train_cfg: Mapping[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """Predict, and compute the losses of a batch.

        Args:
            feats: The backbone's maps.
            batch_data_samples: With the labels of :class:`mamba_mm.MANOLabel`.
            train_cfg: Not used; MMPose passes it.

        Returns:
            As :meth:`losses_of`.

        Raises:
            ValueError: When a label is missing.
        """
        return self.losses_of(self.forward(feats), batch_data_samples)

    def losses_of(
        self, predictions: Mapping[str, Prediction], batch_data_samples: Sequence[PoseDataSample]
    ) -> dict[str, Tensor]:
        """Compute the losses of predictions.

        Args:
            predictions: What :meth:`forward` returned.
            batch_data_samples: With the labels of :class:`mamba_mm.MANOLabel`.

        Returns:
            ``loss_<name>`` for the losses of the final prediction, ``loss_<output>_<name>`` for
            those of another one.

        Raises:
            ValueError: When a label is missing.
        """
        labels = self.labels_of(predictions, batch_data_samples)
        losses = {}
        for output, prediction in predictions.items():
            prefix = "loss_" if output == "final" else f"loss_{output}_"
            for name, value in self.loss_module(prediction, labels).items():
                losses[prefix + name] = self.outputs[output] * value
        return losses

    def labels_of(
        self, predictions: Mapping[str, Prediction], batch_data_samples: Sequence[PoseDataSample]
    ) -> dict[str, Tensor]:
        """Concatenate the labels that the losses of a batch need.

        Args:
            predictions: What :meth:`forward` returned; for heads whose labels depend on it.
            batch_data_samples: With these labels.

        Returns:
            Those of ``loss_module.label_names``, by name.

        Raises:
            ValueError: When a label is missing.
        """
        advice = "mamba_mm.MANOLabel, or turn the losses that need it off"
        return {
            name: torch.cat(label_of_each(batch_data_samples, name, advice))
            for name in self.loss_module.label_names
        }


def label_of_each(samples: Sequence[PoseDataSample], name: str, advice: str) -> list[Tensor]:
    """Return a label of each sample.

    Args:
        samples: The samples.
        name: Of the label.
        advice: The codec that makes it, for the message, and what else can be done.

    Raises:
        ValueError: A sample has no such label.
    """
    missing = [i for i, sample in enumerate(samples) if name not in sample.gt_instance_labels]
    if missing:
        raise ValueError(
            f"samples {missing} have no label {name!r}: encode them with the codec {advice}"
        )
    return [sample.gt_instance_labels[name] for sample in samples]
