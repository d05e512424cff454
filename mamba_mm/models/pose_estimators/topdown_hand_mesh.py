"""MMPose's top-down estimator for heads that predict a hand's mesh."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmengine.structures import InstanceData
from mmpose.models.pose_estimators import TopdownPoseEstimator
from mmpose.structures import PoseDataSample

from .image_camera import (
    CropBox,
    annotated_matrix,
    assumed_intrinsics,
    camera_of_crop,
    camera_of_image,
    known_intrinsics,
)
from .unmirroring import unmirror_annotation, unmirror_pixels, unmirror_prediction


class TopdownHandMeshEstimator(TopdownPoseEstimator):
    """Takes the hands that its head finds in crops back to the original images.

    MMPose's own class does that for the keypoints. This one also

    - undoes the mirroring of left hands (meta key ``flipped``) in predictions **and** in
      ``gt_instances``, so that both are in the original image;
    - adds to ``pred_instances`` a camera of the image: ``cam_translation`` (1, 3) in metres,
      ``focal_length`` (1,) and ``principal_point`` (1, 2) in pixels. It is that of
      ``gt_instances.cam_K`` where ``has_cam`` says so, else an assumed one;
    - adds the camera of the crop itself, as one of the image: ``crop_camera_translation``,
      ``crop_focal_length``, ``crop_principal_point``. Through it the vertices fall on the image
      exactly where the network saw them, which is what a drawing needs. For left hands too;
    - adds ``is_right`` (1,).

    The parameters ``mano_rotations`` and ``mano_betas`` stay those of a right hand. A crop that was
    rotated (meta key ``bbox_rotation``; training only) is not rotated back, as in MMPose.

    ``flipped`` gets here only if the ``meta_keys`` of ``PackPoseInputs`` have it; without it every
    hand counts as right.

    The crop must come from ``TopdownAffine(use_udp=False)``, whose inverse this is, and have the
    aspect ratio of its box, as it then has.

    Args:
        backbone (dict): Config of the backbone.
        test_cfg (dict, optional): ``output_keypoint_indices`` as in MMPose; no ``flip_test``.
        **settings: What else MMPose's ``TopdownPoseEstimator`` takes, such as ``head``, the config
            of a ``mamba_mm.HambaHead``.

    Raises:
        ValueError: When ``test_cfg`` asks for the flip test.
    """

    def __init__(self, backbone: dict, *, test_cfg: dict | None = None, **settings: Any) -> None:
        if test_cfg and test_cfg.get("flip_test", False):
            raise ValueError(
                "TopdownHandMeshEstimator: test_cfg.flip_test averages an image with its mirror "
                "image, in which a right hand is a left hand, and this network knows right hands "
                "only; set flip_test=False"
            )
        super().__init__(backbone, test_cfg=test_cfg, **settings)

    def add_pred_to_datasample(
        self,
        batch_pred_instances: list[InstanceData],
        batch_pred_fields: list | None,
        batch_data_samples: list[PoseDataSample],
    ) -> list[PoseDataSample]:
        """Move predictions, and the annotations of left hands, to the original images.

        Args:
            batch_pred_instances: What the head predicted.
            batch_pred_fields: Heatmaps; a mesh head has none.
            batch_data_samples: Where the predictions are put, as ``pred_instances``.

        Returns:
            The data samples.

        Raises:
            ValueError: When the head predicts no camera or no joints in space.
        """
        for sample in batch_data_samples:
            _unmirror_ground_truth(sample)
        # MMPose's step comes after that, as it copies the boxes.
        samples = super().add_pred_to_datasample(
            batch_pred_instances, batch_pred_fields, batch_data_samples
        )
        for sample in samples:
            self._place_in_image(sample)
        return samples

    def _place_in_image(self, sample: PoseDataSample) -> None:
        """Finish the predictions of a sample, whose keypoints are those of the mirrored image."""
        pred = sample.pred_instances
        missing = [name for name in ("cam", "keypoints_3d") if name not in pred]
        if missing:
            raise ValueError(
                f"TopdownHandMeshEstimator: {type(self.head).__name__} does not predict "
                f"{', '.join(missing)}; it needs a head of hand meshes, such as mamba_mm.HambaHead"
            )
        height, width = sample.ori_shape[:2]
        flipped = _is_flipped(sample)
        if flipped:
            pred = unmirror_prediction(pred, width)

        box = _crop_box(sample, flipped)
        scale_min = self.head.output_model.cam_scale_min
        crop = camera_of_crop(pred.cam, box, scale_min)
        pred.crop_camera_translation = crop.translation
        pred.crop_focal_length = crop.focal_length
        pred.crop_principal_point = crop.principal_point

        cam_K = annotated_matrix(sample.gt_instances)
        intrinsics = assumed_intrinsics(width, height) if cam_K is None else known_intrinsics(cam_K)
        image = camera_of_image(pred.cam, box, scale_min, intrinsics)
        pred.cam_translation = image.translation
        pred.focal_length = image.focal_length
        pred.principal_point = image.principal_point

        pred.is_right = np.array([0 if flipped else 1], dtype=np.float32)
        sample.pred_instances = pred


def _is_flipped(sample: PoseDataSample) -> bool:
    return bool(sample.get("flipped", False))


def _unmirror_ground_truth(sample: PoseDataSample) -> None:
    """Move the annotations of a left hand to the original image, once.

    The sample remembers it, or predicting twice on the same batch would mirror them again.
    """
    if _is_flipped(sample) and not sample.get("gt_unmirrored", False):
        sample.gt_instances = unmirror_annotation(sample.gt_instances, sample.ori_shape[1])
        sample.set_metainfo(dict(gt_unmirrored=True))


def _crop_box(sample: PoseDataSample, flipped: bool) -> CropBox:
    """Where in the original image the crop was taken."""
    center = np.asarray(sample.input_center, dtype=np.float64)
    if flipped:
        center = unmirror_pixels(center, sample.ori_shape[1])
    return CropBox(center, float(sample.input_scale[1]))
