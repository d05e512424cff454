"""Hamba's head for rigid objects: keypoints on their surfaces instead of a hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from mmpose.structures import PoseDataSample
from torch import Tensor

from .hamba_head import HambaHead
from .keypoint_graph import all_pairs
from .mesh_head import Prediction, label_of_each

OUTPUT_MODEL = "mamba_mm.ClassPointsOutputModel"
LOSSES = {"kpt3d": {"type": "mamba_mm.CentredKeypoint3DL1Loss"}}
# Labels that a symmetric object has several of.
_VARIANTS = ("keypoint_labels", "keypoints_3d")


class HambaObjectHead(HambaHead):
    """:class:`HambaHead` that predicts the keypoints of objects of known classes.

    The second network of the paper's outlook: the joints regressor finds keypoints of the object's
    surface instead of joints, the token sampler looks there, and the blocks mix these tokens over
    a graph of the keypoints.

    No image tells which of the symmetric poses of an object is the labelled one, so the losses
    compare with the one that the prediction is nearest to in space, the same for the joints
    regressor and the final prediction.

    Args:
        in_channels: Channels of the backbone's map.
        output_model: Config of :class:`ClassPointsOutputModel`: ``dict(diameters=[...])``.
        edges: Pairs of keypoints that are neighbours; ``None`` for all pairs. For a sparser graph
            see :func:`mamba_mm.models.heads.keypoint_graph.nearest_neighbours`.
        losses: What differs from :class:`CentredKeypoint3DL1Loss` and the 2-D loss of hands.
        **settings: As in :class:`HambaHead`.

    Raises:
        ValueError: When a name or setting is unknown.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        output_model: Mapping[str, Any],
        edges: Iterable[tuple[int, int]] | None = None,
        losses: Mapping[str, Mapping[str, Any] | None] | None = None,
        **settings: Any,
    ) -> None:
        output_model = {"type": OUTPUT_MODEL, "num_joints": 8, **output_model}
        super().__init__(
            in_channels,
            output_model=output_model,
            edges=all_pairs(output_model["num_joints"]) if edges is None else edges,
            losses=_with_defaults(losses or {}),
            **settings,
        )

    def predict(
        self,
        feats: Sequence[Tensor],
        batch_data_samples: Sequence[PoseDataSample],
        test_cfg: Mapping[str, Any] | None = None,
    ) -> list[InstanceData]:
        """Predict instances, one for each sample, of the class that the sample says.

        Args:
            feats: The backbone's maps.
            batch_data_samples: With ``object_label``.
            test_cfg: Not used; MMPose passes it.

        Returns:
            As :meth:`HandMeshHead.predict`: ``keypoints``, ``keypoint_scores``, ``keypoints_3d``
            relative to their mean, and ``cam``.

        Raises:
            ValueError: When a sample has no class, or the maps of a flip test are given.
        """
        with self.output_model.of_classes(_gather(batch_data_samples, "object_label")):
            return super().predict(feats, batch_data_samples, test_cfg)

    def loss(
        self,
        feats: Sequence[Tensor],
        batch_data_samples: Sequence[PoseDataSample],
        train_cfg: Mapping[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            feats: The backbone's maps.
            batch_data_samples: With the labels of :class:`mamba_mm.ObjectKeypointLabel`.
            train_cfg: Not used; MMPose passes it.

        Returns:
            ``loss_<name>`` for the final prediction, ``loss_jr_<name>`` for the regressor's.

        Raises:
            ValueError: When a label is missing.
        """
        with self.output_model.of_classes(_gather(batch_data_samples, "object_label")):
            return super().loss(feats, batch_data_samples, train_cfg)

    def labels_of(
        self, predictions: Mapping[str, Prediction], batch_data_samples: Sequence[PoseDataSample]
    ) -> dict[str, Tensor]:
        """Concatenate the labels of a batch, each in the pose that its prediction is nearest to.

        Args:
            predictions: What :meth:`forward` returned.
            batch_data_samples: With the labels of :class:`mamba_mm.ObjectKeypointLabel`.

        Returns:
            As :meth:`HandMeshHead.labels_of`.

        Raises:
            ValueError: When a label is missing.
        """
        labels = {name: _gather(batch_data_samples, name) for name in self.loss_module.label_names}
        variant = nearest_variant(
            [prediction.joints_3d for prediction in predictions.values()],
            _gather(batch_data_samples, "keypoints_3d"),
        )
        rows = torch.arange(len(variant), device=variant.device)
        for name in set(_VARIANTS) & labels.keys():
            labels[name] = labels[name][rows, variant]
        return labels


def nearest_variant(points: Sequence[Tensor], variants: Tensor) -> Tensor:
    """Find which of the symmetric poses each sample's predictions are nearest to.

    Args:
        points: Predictions (B, K, 3); their distances are added.
        variants: The labelled points in each of the poses, (B, S, K, 3).

    Returns:
        (B,), int64; the first of those that are equally near.
    """
    centred = _centred(variants)
    distances = [
        (_centred(prediction.detach().float()).unsqueeze(1) - centred).abs().sum(dim=(2, 3))
        for prediction in points
    ]
    return sum(distances).argmin(dim=1)


def _centred(points: Tensor) -> Tensor:
    return points - points.mean(dim=-2, keepdim=True)


def _with_defaults(
    losses: Mapping[str, Mapping[str, Any] | None],
) -> dict[str, Mapping[str, Any] | None]:
    """Settings of the losses, with the types of those that objects have of their own."""
    merged = dict(losses)
    for name, default in LOSSES.items():
        own = merged.get(name, {})
        merged[name] = None if own is None else {**default, **own}
    return merged


def _gather(samples: Sequence[PoseDataSample], name: str) -> Tensor:
    """Concatenate a label of all samples; one with fewer variants repeats its first."""
    advice = "mamba_mm.ObjectKeypointLabel, in test pipelines too"
    labels = label_of_each(samples, name, advice)
    if name in _VARIANTS:
        most = max(label.shape[1] for label in labels)
        labels = [
            torch.cat([label, label[:, :1].expand(-1, most - label.shape[1], -1, -1)], dim=1)
            for label in labels
        ]
    return torch.cat(labels)
