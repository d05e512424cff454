"""Labels of a hand mesh as losses want them, and its joints back in pixels."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.spatial.transform import Rotation

from mamba_mm.registry import KEYPOINT_CODECS

from .crop_label import MMPOSE_KEYS, CropLabelCodec

_INSTANCE_KEYS = MMPOSE_KEYS | {
    key: key
    for key in (
        "head_size",
        "keypoints_cam_valid",
        "vertices_cam",
        "cam_K",
        "has_cam",
        "is_right",
        "has_3d",
        "has_mano",
        "has_vertices",
    )
}

_LABEL_KEYS = (
    "keypoint_labels",
    "keypoint_weights",
    "keypoints_3d",
    "keypoints_3d_weights",
    "vertices_3d",
    "vertices_weights",
    "mano_global_orient",
    "mano_hand_pose",
    "mano_betas",
    "has_3d",
    "has_mano",
)


@KEYPOINT_CODECS.register_module()
class MANOLabel(CropLabelCodec):
    """Encode the joints, mesh and MANO parameters of one hand.

    2-D joints are measured from the middle of the input in units of its *height*, as HaMeR and
    Hamba do: u = ((x - W/2) / H, (y - H/2) / H). Joints outside the input keep their weight. All
    labels are always there; what a sample does not have is zeros (identity for rotations) with
    weight zero.

    ``gt_instances`` gets MMPose's fields and those of the 3-D labels, so the codec belongs into
    test pipelines too.

    Args:
        input_size: Width and height of the network's input.

    Raises:
        ValueError: The size is not two positive numbers.
    """

    auxiliary_encode_keys: ClassVar[set[str]] = {
        "keypoints_cam",
        "keypoints_cam_valid",
        "vertices_cam",
        "has_vertices",
        "mano_pose",
        "mano_betas",
        "has_3d",
        "has_mano",
        "is_right",
        "bbox_rotation",
        "mesh_rotation",
    }
    instance_mapping_table: ClassVar[dict[str, str]] = _INSTANCE_KEYS
    label_mapping_table: ClassVar[dict[str, str]] = {key: key for key in _LABEL_KEYS}

    def encode(
        self,
        keypoints: np.ndarray,
        keypoints_visible: np.ndarray | None = None,
        keypoints_cam: np.ndarray | None = None,
        keypoints_cam_valid: np.ndarray | None = None,
        vertices_cam: np.ndarray | None = None,
        has_vertices: np.ndarray | None = None,
        mano_pose: np.ndarray | None = None,
        mano_betas: np.ndarray | None = None,
        has_3d: np.ndarray | None = None,
        has_mano: np.ndarray | None = None,
        is_right: np.ndarray | None = None,
        bbox_rotation: np.ndarray | None = None,
        mesh_rotation: float | None = None,
    ) -> dict:
        """Make the labels of one hand.

        Args:
            keypoints: Joints in pixels of the input, (1, 21, 2). Without dimensions, as
                ``TopdownAffine`` leaves them for an image without labels: unknown.
            keypoints_visible: Their confidence, (1, 21).
            keypoints_cam: Joints in metres, turned as the crop is, (1, 21, 3).
            keypoints_cam_valid: Which of them are known, (1, 21).
            vertices_cam: The mesh, likewise, (1, 778, 3).
            has_vertices: 1 if it is known, (1,).
            mano_pose: Absolute axis-angle vectors, (1, 48).
            mano_betas: Shape coefficients, (1, 10).
            has_3d: 1 if 3-D joints are known, (1,).
            has_mano: 1 if pose and shape are known, (1,).
            is_right: 1 for right hands, (1,); unknown ones count as right.
            bbox_rotation: Degrees that the box was rotated, (1,).
            mesh_rotation: Degrees that ``MeshRotate`` has turned the 3-D labels for.

        Returns:
            ``keypoint_labels`` (1, 21, 2), ``keypoint_weights`` (1, 21), ``keypoints_3d``
            (1, 21, 3), ``keypoints_3d_weights`` (1, 21), ``vertices_3d`` (1, 778, 3),
            ``vertices_weights`` (1,), ``mano_global_orient`` (1, 1, 3, 3), ``mano_hand_pose``
            (1, 15, 3, 3), ``mano_betas`` (1, 10), ``has_3d`` (1,), ``has_mano`` (1,).

        Raises:
            ValueError: The hand is a left one, or the image was rotated and the 3-D labels not.
        """
        _check_right(is_right)
        self._check_rotation(bbox_rotation, mesh_rotation)
        labels, weights = self._encode_joints(keypoints, keypoints_visible)
        has_3d = _or_zeros(has_3d, 1)
        valid = _or_zeros(keypoints_cam_valid, 1, 21) * has_3d
        has_mano = _or_zeros(has_mano, 1)
        # A vector of zeros is the identity.
        pose = _or_zeros(mano_pose, 1, 48) * has_mano
        rotations = Rotation.from_rotvec(pose.reshape(16, 3)).as_matrix().astype(np.float32)
        return dict(
            keypoint_labels=labels,
            keypoint_weights=weights,
            keypoints_3d=_or_zeros(keypoints_cam, 1, 21, 3) * (valid > 0)[..., None],
            keypoints_3d_weights=valid,
            vertices_3d=_or_zeros(vertices_cam, 1, 778, 3),
            vertices_weights=_or_zeros(has_vertices, 1),
            mano_global_orient=rotations[None, :1],
            mano_hand_pose=rotations[None, 1:],
            mano_betas=_or_zeros(mano_betas, 1, 10) * has_mano,
            has_3d=has_3d,
            has_mano=has_mano,
        )

    def _encode_joints(
        self, keypoints: np.ndarray, visible: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        if np.ndim(keypoints) == 0:
            return _or_zeros(None, 1, 21, 2), _or_zeros(None, 1, 21)
        if visible is None:
            visible = np.ones(keypoints.shape[:-1])
        weights = _or_zeros(visible, 1, 21)
        labels = self._from_pixels(_or_zeros(keypoints, 1, 21, 2))
        return (labels * (weights > 0)[..., None]).astype(np.float32), weights


def _or_zeros(values: np.ndarray | None, *shape: int) -> np.ndarray:
    """Values as float32, zeros where there are none."""
    if values is None:
        return np.zeros(shape, np.float32)
    values = np.asarray(values, np.float32)
    if values.shape != shape:
        raise ValueError(f"MANOLabel: a label has the shape {values.shape}, expected {shape}")
    return values


def _check_right(is_right: np.ndarray | None) -> None:
    if is_right is not None and not np.all(is_right):
        raise ValueError(
            "MANOLabel: a left hand; MANO labels are of right hands. Put "
            "dict(type='mamba_mm.HandMeshRandomFlip', mode='to_right') into the pipeline"
        )
