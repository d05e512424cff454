"""MMPose's top-down estimator for heads that predict the keypoints of rigid objects."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmengine.structures import InstanceData
from mmpose.models.pose_estimators import TopdownPoseEstimator
from mmpose.structures import PoseDataSample

from .image_camera import (
    CropBox,
    Intrinsics,
    annotated_matrix,
    assumed_intrinsics,
    camera_of_image,
    known_intrinsics,
)
from .object_pose_recovery import RigidPose, pose_from_pixels, pose_from_points


class TopdownObjectPoseEstimator(TopdownPoseEstimator):
    """Turns keypoints that its head finds in crops into 6-D poses in the original images.

    Beside the keypoints, which MMPose's own class takes back to the image, ``pred_instances`` gets

    - ``fit_rotation`` (1, 3, 3) and ``fit_translation`` (1, 3), metres: the keypoints of the model
      fitted to the predicted ones in space, with the predicted camera's depth and place;
    - ``pnp_rotation`` and ``pnp_translation``: PnP from the keypoints in the picture. Where it
      finds no pose the other one stands here, and ``pnp_found`` (1,) is 0;
    - ``keypoints_model`` (1, K, 3) and ``object_label`` (1,), as given;
    - ``cam_translation`` (1, 3), ``focal_length`` (1,) and ``principal_point`` (1, 2): the camera
      of the image, and where the mean of ``keypoints_3d`` is before it.

    Sizes of objects are known, so PnP has a depth wherever the camera is known: the sample's
    ``gt_instances`` must have ``keypoints_model`` and ``object_label``, what the object is, and
    should have ``cam_K`` and ``has_cam``. Without them a camera is assumed, and depth means
    nothing.

    The crop must come from ``TopdownAffine(use_udp=False)``, as for hands; a mirrored image shows
    another object, so there is no flip test and no flip in training.

    Args:
        backbone (dict): Config of the backbone.
        test_cfg (dict, optional): As in MMPose; no ``flip_test``.
        **settings: What else MMPose's ``TopdownPoseEstimator`` takes, such as ``head``, the config
            of a ``mamba_mm.HambaObjectHead``.

    Raises:
        ValueError: When ``test_cfg`` asks for the flip test.
    """

    def __init__(self, backbone: dict, *, test_cfg: dict | None = None, **settings: Any) -> None:
        if test_cfg and test_cfg.get("flip_test", False):
            raise ValueError(
                "TopdownObjectPoseEstimator: test_cfg.flip_test averages an image with its mirror "
                "image, in which an object is another one; set flip_test=False"
            )
        super().__init__(backbone, test_cfg=test_cfg, **settings)

    def add_pred_to_datasample(
        self,
        batch_pred_instances: list[InstanceData],
        batch_pred_fields: list | None,
        batch_data_samples: list[PoseDataSample],
    ) -> list[PoseDataSample]:
        """Move predictions to the original images, and recover poses.

        Args:
            batch_pred_instances: What the head predicted.
            batch_pred_fields: Heatmaps; this head has none.
            batch_data_samples: Where the predictions are put, as ``pred_instances``.

        Returns:
            The data samples.

        Raises:
            ValueError: When a sample does not say what object it is.
        """
        samples = super().add_pred_to_datasample(
            batch_pred_instances, batch_pred_fields, batch_data_samples
        )
        for sample in samples:
            self._recover(sample)
        return samples

    def _recover(self, sample: PoseDataSample) -> None:
        truth, pred = sample.gt_instances, sample.pred_instances
        missing = [name for name in ("keypoints_model", "object_label") if name not in truth]
        if missing:
            raise ValueError(
                f"TopdownObjectPoseEstimator: gt_instances have no {', '.join(missing)}; encode "
                "samples with the codec mamba_mm.ObjectKeypointLabel, in test pipelines too"
            )
        cam_K = annotated_matrix(truth)
        if cam_K is None:
            height, width = sample.ori_shape[:2]
            cam_K = _matrix(assumed_intrinsics(width, height))
        box = CropBox(np.float64(sample.input_center), float(sample.input_scale[1]))
        camera = camera_of_image(
            pred.cam, box, self.head.output_model.cam_scale_min, known_intrinsics(cam_K)
        )
        model = np.asarray(truth.keypoints_model[0], dtype=np.float64)
        fit = pose_from_points(model, pred.keypoints_3d[0] + camera.translation[0])
        pnp = pose_from_pixels(model, pred.keypoints[0], cam_K)
        _put(pred, "fit", fit)
        _put(pred, "pnp", pnp or fit)
        pred.pnp_found = np.array([0 if pnp is None else 1], dtype=np.float32)
        pred.keypoints_model = np.asarray(truth.keypoints_model)
        pred.object_label = np.asarray(truth.object_label)
        pred.cam_translation = camera.translation
        pred.focal_length = camera.focal_length
        pred.principal_point = camera.principal_point


def _matrix(intrinsics: Intrinsics) -> np.ndarray:
    """A camera as a matrix (3, 3)."""
    matrix = np.diag([intrinsics.focal_length, intrinsics.focal_length, 1.0])
    matrix[:2, 2] = intrinsics.principal_point
    return matrix


def _put(pred: InstanceData, prefix: str, pose: RigidPose) -> None:
    pred.set_field(pose.rotation[None].astype(np.float32), f"{prefix}_rotation")
    pred.set_field(pose.translation[None].astype(np.float32), f"{prefix}_translation")
