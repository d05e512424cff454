"""Rotation of the 3-D labels by the angle that the box was rotated."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
from scipy.spatial.transform import Rotation

from mamba_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class MeshRotate(BaseTransform):
    """Turn 3-D labels about the camera's axis as the crop of a rotated box turns the image.

    MMPose's ``RandomBBoxTransform`` rotates the box by r degrees (``bbox_rotation``), so its
    content turns by -r when ``TopdownAffine`` crops it; neither touches 3-D labels. This changes
    what is there of ``keypoints_cam``, ``vertices_cam`` and ``mano_pose`` (its global orientation)
    by ``Rz(-r)``.

    ``cam_K`` becomes ``K Rz(r)``: it projects the turned points to where ``keypoints`` are, in the
    image before the crop. That matrix is not upper triangular; the warp W of the crop makes an
    ordinary camera of it, for equal focal lengths ``W K Rz(r)`` has focal length f times the scale
    of the crop and the principal point W(c). So the turned hand is exactly what a camera would see
    in the crop, up to the position of its principal point. Moving or scaling the box needs no
    change of 3-D labels.

    Place it after ``TopdownAffine``. Without a rotation nothing changes. Adds
    ``mesh_rotation``, the degrees that the labels have been turned for.
    """

    def transform(self, results: dict) -> dict:
        """Turn the labels of a sample.

        Args:
            results: The sample, with one hand.

        Returns:
            The sample.

        Raises:
            ValueError: The crop has not been made yet, or the labels were turned before.
        """
        if "input_size" not in results:
            raise ValueError(
                "MeshRotate must come after TopdownAffine in the pipeline: only then the "
                "rotation of the box is final"
            )
        if "mesh_rotation" in results:
            raise ValueError("MeshRotate is in the pipeline twice")
        degrees = float(np.sum(results.get("bbox_rotation", 0.0)))
        results["mesh_rotation"] = degrees
        if degrees:
            _turn(results, Rotation.from_euler("z", -degrees, degrees=True))
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _turn(results: dict, rotation: Rotation) -> None:
    matrix = rotation.as_matrix()
    for key in ("keypoints_cam", "vertices_cam"):
        if key in results:
            results[key] = (results[key] @ matrix.T).astype(np.float32)
    # Zeros that stand for an unknown pose stay zeros.
    if "mano_pose" in results and np.all(results.get("has_mano", 1)):
        pose = results["mano_pose"].copy()
        pose[:, :3] = (rotation * Rotation.from_rotvec(pose[:, :3])).as_rotvec()
        results["mano_pose"] = pose
    if "cam_K" in results:
        results["cam_K"] = (results["cam_K"] @ matrix.T).astype(np.float32)
