"""The losses of a prediction, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mamba_mm.registry import MODELS

from .hand_prediction import HandPrediction, PointPrediction

Labels = Mapping[str, Tensor]


@dataclass(frozen=True)
class _Term:
    """What a loss compares.

    Attributes:
        type: Its class in the registry.
        loss_weight: HaMeR's weight (Pavlakos et al., CVPR 2024).
        labels: The labels that it needs.
        compute: From the loss, a prediction and the labels to a scalar.
    """

    type: str
    loss_weight: float
    labels: tuple[str, ...]
    compute: Callable[[nn.Module, Any, Labels], Tensor]


class PredictionLosses(nn.Module):
    """The losses of a prediction against labels.

    Args:
        terms: Which losses apply to what is predicted: any of ``"kpt2d"``, ``"kpt3d"``,
            ``"global_orient"``, ``"hand_pose"``, ``"betas"`` and ``"verts"``.
        losses: What differs from the default configs, by name: fields of a loss, such as
            ``dict(verts=dict(loss_weight=0.02))``. By default the weights are HaMeR's. A loss of
            weight 0, as that of the vertices by default, or of config ``None``, is left out.

    Raises:
        ValueError: When a name is unknown or does not apply.
    """

    def __init__(
        self, terms: Sequence[str], losses: Mapping[str, Mapping[str, Any] | None] | None = None
    ) -> None:
        super().__init__()
        losses = losses or {}
        if unknown := sorted(losses.keys() - set(terms)):
            raise ValueError(
                f"losses: {unknown} do not apply to this output model; known: {', '.join(terms)}"
            )
        self.losses = nn.ModuleDict()
        for name in terms:
            default = dict(type=TERMS[name].type, loss_weight=TERMS[name].loss_weight)
            config = losses.get(name, {})
            if config is None:
                continue
            config = {**default, **config}
            if config["loss_weight"] != 0:
                self.losses[name] = MODELS.build(config)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels that the losses need."""
        names = [label for name in self.losses for label in TERMS[name].labels]
        return tuple(dict.fromkeys(names))

    def forward(
        self, prediction: HandPrediction | PointPrediction, labels: Labels
    ) -> dict[str, Tensor]:
        """Compute the losses of B samples, by name.

        Args:
            prediction: What is predicted.
            labels: Those of :attr:`label_names`, by name.
        """
        return {
            name: TERMS[name].compute(loss, prediction, labels)
            for name, loss in self.losses.items()
        }


def _kpt2d(loss: nn.Module, p: PointPrediction, labels: Labels) -> Tensor:
    return loss(p.joints_2d, labels["keypoint_labels"], labels["keypoint_weights"])


def _kpt3d(loss: nn.Module, p: PointPrediction, labels: Labels) -> Tensor:
    return loss(p.joints_3d, labels["keypoints_3d"], labels["keypoints_3d_weights"])


def _global_orient(loss: nn.Module, p: HandPrediction, labels: Labels) -> Tensor:
    return loss(p.rotations[:, :1], labels["mano_global_orient"], labels["has_mano"])


def _hand_pose(loss: nn.Module, p: HandPrediction, labels: Labels) -> Tensor:
    return loss(p.rotations[:, 1:], labels["mano_hand_pose"], labels["has_mano"])


def _betas(loss: nn.Module, p: HandPrediction, labels: Labels) -> Tensor:
    return loss(p.betas, labels["mano_betas"], labels["has_mano"])


def _verts(loss: nn.Module, p: HandPrediction, labels: Labels) -> Tensor:
    """Each side relative to its own wrist, which must be labelled too."""
    has_wrist = labels["keypoints_3d_weights"][:, 0] > 0
    return loss(
        p.vertices,
        labels["vertices_3d"],
        labels["vertices_weights"] * has_wrist,
        p.joints_3d[:, 0],
        labels["keypoints_3d"][:, 0],
    )


_POINTS_2D = ("keypoint_labels", "keypoint_weights")
_POINTS_3D = ("keypoints_3d", "keypoints_3d_weights")
_L2 = "mamba_mm.ParameterL2Loss"

TERMS: dict[str, _Term] = dict(
    kpt2d=_Term("mamba_mm.Keypoint2DL1Loss", 0.01, _POINTS_2D, _kpt2d),
    kpt3d=_Term("mamba_mm.RootAlignedKeypoint3DL1Loss", 0.05, _POINTS_3D, _kpt3d),
    global_orient=_Term(_L2, 0.001, ("mano_global_orient", "has_mano"), _global_orient),
    hand_pose=_Term(_L2, 0.001, ("mano_hand_pose", "has_mano"), _hand_pose),
    betas=_Term(_L2, 0.0005, ("mano_betas", "has_mano"), _betas),
    verts=_Term(
        "mamba_mm.VertexL1Loss", 0.0, ("vertices_3d", "vertices_weights", *_POINTS_3D), _verts
    ),
)
