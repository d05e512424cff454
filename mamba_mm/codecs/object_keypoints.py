"""Labels of a rigid object's keypoints as losses want them, and its keypoints back in pixels."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from mmpose.structures.bbox import get_warp_matrix

from mamba_mm.datasets.hand_mesh.projection import project
from mamba_mm.evaluation.functional.nearest_rotation import nearest_rotation
from mamba_mm.registry import KEYPOINT_CODECS

from .crop_label import MMPOSE_KEYS, CropLabelCodec

_INSTANCE_KEYS = MMPOSE_KEYS | {
    key: key
    for key in (
        "keypoints_model",
        "object_rotation",
        "object_translation",
        "object_label",
        "cam_K",
        "has_cam",
        "visible_fraction",
    )
}

_LABEL_KEYS = (
    "keypoint_labels",
    "keypoint_weights",
    "keypoints_3d",
    "keypoints_3d_weights",
    "object_label",
)


@KEYPOINT_CODECS.register_module()
class ObjectKeypointLabel(CropLabelCodec):
    """Encode the keypoints of one object, in each of the poses that look alike.

    2-D keypoints are measured from the middle of the input in units of its *height*, as those of
    hands are: u = ((x - W/2) / H, (y - H/2) / H). Points outside the input keep their weight.

    An object with symmetries has a label for each of them, the given pose first; the others'
    pixels come from the camera. So the crop must come from ``TopdownAffine(use_udp=False)``, and a
    rotated one needs ``mamba_mm.MeshRotate`` after it, which turns the points and the camera.

    ``gt_instances`` gets MMPose's fields and those of the pose, so the codec belongs into test
    pipelines too.

    Args:
        input_size: Width and height of the network's input.

    Raises:
        ValueError: The size is not two positive numbers.
    """

    auxiliary_encode_keys: ClassVar[set[str]] = {
        "keypoints_cam",
        "keypoints_model",
        "symmetries",
        "cam_K",
        "object_label",
        "bbox_rotation",
        "mesh_rotation",
        "input_center",
        "input_scale",
    }
    instance_mapping_table: ClassVar[dict[str, str]] = _INSTANCE_KEYS
    label_mapping_table: ClassVar[dict[str, str]] = {key: key for key in _LABEL_KEYS}

    def encode(
        self,
        keypoints: np.ndarray,
        keypoints_visible: np.ndarray | None = None,
        keypoints_cam: np.ndarray | None = None,
        keypoints_model: np.ndarray | None = None,
        symmetries: np.ndarray | None = None,
        cam_K: np.ndarray | None = None,
        object_label: np.ndarray | None = None,
        bbox_rotation: np.ndarray | None = None,
        mesh_rotation: float | None = None,
        input_center: np.ndarray | None = None,
        input_scale: np.ndarray | None = None,
    ) -> dict:
        """Make the labels of one object.

        What is ``None`` is unknown, as for an image without labels; then all labels are zeros of
        weight zero. The class must be known in any case.

        Args:
            keypoints: In pixels of the input, (1, K, 2); not used, as the camera gives them.
            keypoints_visible: Their confidence, (1, K).
            keypoints_cam: In metres, turned as the crop is, (1, K, 3).
            keypoints_model: The class's, in the object's frame, metres, (1, K, 3).
            symmetries: Of the class, metres, (1, S, 4, 4), the identity first.
            cam_K: The camera, turned as the crop is, (1, 3, 3).
            object_label: The class, (1,).
            bbox_rotation: Degrees that the box was rotated, (1,).
            mesh_rotation: Degrees that ``MeshRotate`` has turned the 3-D labels for.
            input_center: Middle of the crop in the image, pixels, (2,).
            input_scale: Width and height of the crop in the image, pixels, (2,).

        Returns:
            ``keypoint_labels`` (1, S, K, 2), ``keypoint_weights`` (1, K), ``keypoints_3d``
            (1, S, K, 3), ``keypoints_3d_weights`` (1, K) and ``object_label`` (1,).

        Raises:
            ValueError: There is no class or no model, or the image was rotated and the 3-D labels
                not.
        """
        if object_label is None or keypoints_model is None:
            raise ValueError(
                "ObjectKeypointLabel: the sample says not what object it is; it needs object_label "
                "and keypoints_model, the class and its keypoints"
            )
        self._check_rotation(bbox_rotation, mesh_rotation)
        label = dict(object_label=np.asarray(object_label, np.int64))
        count = keypoints_model.shape[1]
        if keypoints_cam is None or cam_K is None:
            return label | dict(
                keypoint_labels=np.zeros((1, 1, count, 2), np.float32),
                keypoint_weights=np.zeros((1, count), np.float32),
                keypoints_3d=np.zeros((1, 1, count, 3), np.float32),
                keypoints_3d_weights=np.zeros((1, count), np.float32),
            )
        points = _in_all_poses(keypoints_model[0], keypoints_cam[0], symmetries)
        rotation = 0.0 if bbox_rotation is None else float(np.sum(bbox_rotation))
        pixels = self._in_the_crop(points, cam_K[0], input_center, input_scale, rotation)
        if keypoints_visible is None:
            keypoints_visible = np.ones((1, count))
        weights = np.asarray(keypoints_visible, np.float32).reshape(1, count)
        return label | dict(
            keypoint_labels=np.float32(self._from_pixels(pixels))[None],
            keypoint_weights=weights,
            keypoints_3d=np.float32(points)[None],
            keypoints_3d_weights=weights,
        )

    def _in_the_crop(
        self,
        points: np.ndarray,
        cam_K: np.ndarray,
        center: np.ndarray,
        scale: np.ndarray,
        rotation: float,
    ) -> np.ndarray:
        """Project points (S, K, 3) to pixels of the input, (S, K, 2)."""
        pixels = project(points, cam_K)
        warp = get_warp_matrix(center, scale, rotation, output_size=self.input_size)
        return pixels @ warp[:, :2].T + warp[:, 2]


def _in_all_poses(
    model: np.ndarray, in_camera: np.ndarray, symmetries: np.ndarray | None
) -> np.ndarray:
    """Return the keypoints in the camera's frame in every pose that looks alike, (S, K, 3)."""
    model, in_camera = model.astype(np.float64), in_camera.astype(np.float64)
    motions = np.eye(4)[None] if symmetries is None else symmetries[0].astype(np.float64)
    moved = model @ motions[:, :3, :3].swapaxes(1, 2) + motions[:, None, :3, 3]
    # The rotation by least squares; the points fit exactly but for rounding.
    center, center_in_camera = model.mean(axis=0), in_camera.mean(axis=0)
    rotation = nearest_rotation((in_camera - center_in_camera).T @ (model - center))
    return (moved - center) @ rotation.T + center_in_camera
