"""One hand out of the predictions for several crops of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from mmpose.structures import PoseDataSample
from scipy.spatial.transform import Rotation

from mamba_mm.evaluation.functional.hand_alignment import similarity_transform
from mamba_mm.evaluation.functional.nearest_rotation import nearest_rotation

from ..body_models.camera import project_pinhole


class HandMeshTTAModel(BaseTTAModel):
    """Averages the hands that an estimator finds in the crops of ``RotScaleTestTimeAug``.

    That of the row "with test-time augmentation" of Hamba's FreiHAND table: each prediction is
    brought onto the un-augmented one by rotation, scale and shift, and all are averaged.

    That takes back the rotation of the crop, too. One transform, found from the vertices (from the
    joints, where there are none), moves mesh and joints, so that they go on belonging together.
    The camera stays that of the un-augmented crop, and ``keypoints`` are the averaged joints seen
    by it. Rotations and shape coefficients are averaged on their own (a mean of meshes has no
    parameters): rotations by their chordal mean, the hand's own turned back by the crop's angle.

    The merged samples say ``test_time_augmentation`` in their metainfo.

    Args:
        module: The estimator, a ``mamba_mm.TopdownHandMeshEstimator``, or its config.
        data_preprocessor: As in MMEngine.
    """

    def merge_preds(self, data_samples_list: list[Sequence[PoseDataSample]]) -> list:
        """Merge the predictions of each image.

        Args:
            data_samples_list: For each image the samples of all crops, the un-augmented first.

        Returns:
            A sample for each image.

        Raises:
            ValueError: The samples are not those of ``RotScaleTestTimeAug``, or a prediction is
                not finite.
        """
        return [merge_augmented(samples) for samples in data_samples_list]


def merge_augmented(samples: Sequence[PoseDataSample]) -> PoseDataSample:
    """Merge the predictions for all crops of one hand.

    Args:
        samples: With predictions, moved to the image by the estimator; the un-augmented first.

    Returns:
        The first sample, with the merged prediction.

    Raises:
        ValueError: The samples are not those of ``RotScaleTestTimeAug``, or a prediction is not
            finite.
    """
    base = samples[0]
    if (base.get("tta_scale"), base.get("tta_rotation")) != (1.0, 0.0):
        raise ValueError(
            "HandMeshTTAModel merges the crops of mamba_mm.RotScaleTestTimeAug, and the first "
            "sample is not the one without augmentation; put that transform into the pipeline"
        )
    _check_finite(samples)
    merged = base.pred_instances.clone()
    merged.update(_averaged_points(samples))
    if "mano_rotations" in merged:
        merged.update(_averaged_parameters(samples))
    merged.keypoints = _seen_by_the_crop(merged)
    base.pred_instances = merged
    base.set_metainfo(dict(test_time_augmentation=f"rot_scale_tta of {len(samples)} crops"))
    return base


_AVERAGED = ("vertices", "keypoints_3d", "mano_rotations", "mano_betas")


def _check_finite(samples: Sequence[PoseDataSample]) -> None:
    """Stop where one crop would spoil the mean of all, or no alignment exists."""
    for sample in samples:
        pred = sample.pred_instances
        broken = [name for name in _AVERAGED if name in pred and not np.isfinite(pred[name]).all()]
        if broken:
            raise ValueError(
                f"HandMeshTTAModel: the prediction ({', '.join(broken)}) for "
                f"{sample.get('img_path', 'an image')}, its crop of scale {sample.tta_scale:g} "
                f"rotated by {sample.tta_rotation:g} degrees, is not finite, so the crops cannot "
                "be averaged. Has the training diverged? Without test-time augmentation such "
                "hands are reported as they are"
            )


def _averaged_points(samples: Sequence[PoseDataSample]) -> InstanceData:
    names = [name for name in ("vertices", "keypoints_3d") if name in samples[0].pred_instances]
    points = {name: [sample.pred_instances[name][0] for sample in samples] for name in names}
    reference = points[names[0]]
    transforms = [similarity_transform(one, reference[0]) for one in reference]
    return InstanceData(
        **{
            name: np.mean(
                [move.apply(one) for move, one in zip(transforms, points[name], strict=True)],
                axis=0,
                dtype=np.float64,
            )[None].astype(np.float32)
            for name in names
        }
    )


def _averaged_parameters(samples: Sequence[PoseDataSample]) -> InstanceData:
    rotations = []
    for sample in samples:
        matrices = np.array(sample.pred_instances.mano_rotations[0], np.float64)
        # Those of the right hand that the network saw, mirrored or not.
        matrices[0] = _crop_rotation(sample.tta_rotation) @ matrices[0]
        rotations.append(matrices)
    betas = [sample.pred_instances.mano_betas[0] for sample in samples]
    return InstanceData(
        mano_rotations=nearest_rotation(np.mean(rotations, axis=0))[None].astype(np.float32),
        mano_betas=np.mean(betas, axis=0, dtype=np.float64)[None].astype(np.float32),
    )


def _crop_rotation(degrees: float) -> np.ndarray:
    """What undoes the turn of the content of a box rotated by that angle."""
    return Rotation.from_euler("z", degrees, degrees=True).as_matrix()


def _seen_by_the_crop(pred: InstanceData) -> np.ndarray:
    """Pixels ``(1, K, 2)`` of the joints."""
    joints, translation, focal_length, principal_point = (
        torch.from_numpy(np.asarray(pred[name]))
        for name in (
            "keypoints_3d",
            "crop_camera_translation",
            "crop_focal_length",
            "crop_principal_point",
        )
    )
    return project_pinhole(joints, translation, focal_length, principal_point).numpy()
