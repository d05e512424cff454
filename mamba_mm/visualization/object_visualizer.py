"""MMPose's visualizer, for objects with poses, and for hands beside them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import mmcv
import numpy as np
from mmengine.dist import master_only
from mmengine.structures import InstanceData
from mmpose.structures import PoseDataSample

from mamba_mm.datasets.object_pose.class_models import read_class_models
from mamba_mm.datasets.object_pose.keypoint_selection import box_corners
from mamba_mm.datasets.object_pose.metainfo import object_metainfo
from mamba_mm.datasets.object_pose.models import ObjectModel
from mamba_mm.evaluation.object_pose_metric import POSES
from mamba_mm.registry import VISUALIZERS
from mamba_mm.rendering import project_to_pixels

from .hand_mesh_visualizer import HandMeshLocalVisualizer
from .hand_panels import Enlargement, captioned, empty_panel, mesh_over, stacked
from .object_scene import PosedObject, labelled_objects, predicted_objects

# Corners of the box, as box_corners numbers them, that an edge joins: those that differ in one bit.
_BOX_EDGES = [(i, i | bit) for i in range(8) for bit in (1, 2, 4) if not i & bit]
_POINT_COLOURS = [
    tuple(point["color"]) for point in object_metainfo("object")["keypoint_info"].values()
]
_TRUE, _FOUND = (140, 205, 150), (130, 170, 235)


class _Row(NamedTuple):
    """What one row of the picture shows."""

    title: str
    colour: tuple[int, int, int]
    instances: InstanceData
    objects: list[PosedObject]


@VISUALIZERS.register_module()
class ObjectPoseLocalVisualizer(HandMeshLocalVisualizer):
    """Draws objects as keypoints, as a mesh over the photograph, and as boxes.

    Each picture has a row for the ground truth and one for the prediction. Its panels are the
    photograph with the keypoints; the photograph under the mesh in the pose; and, in the row of the
    prediction, the boxes of both poses: green the true one, blue the predicted one. A sample that
    is no object is drawn as a hand, so that one visualizer serves a set of both.

    Args:
        name: As in MMPose.
        models: Folder of the models in BOP's layout; without it, keypoints alone are drawn.
        object_ids: The objects in the order of their labels, as in the data set.
        pose: Which recovered pose, ``"pnp"`` or ``"fit"``.
        **settings: As in :class:`HandMeshLocalVisualizer`.

    Raises:
        ValueError: A setting is out of its range, or the pose is unknown.
    """

    def __init__(
        self,
        name: str = "visualizer",
        models: str | Path | None = None,
        object_ids: Sequence[int] | None = None,
        pose: str = "pnp",
        **settings: Any,
    ) -> None:
        super().__init__(name=name, **settings)
        if pose not in POSES:
            raise ValueError(
                f"ObjectPoseLocalVisualizer: unknown pose {pose!r}; known: {', '.join(POSES)}"
            )
        self.folder = models
        self.object_ids = object_ids
        self.pose = pose
        self._models: list[ObjectModel] | None = None

    @property
    def models(self) -> list[ObjectModel]:
        """The objects, by their labels; read when they are needed first."""
        if self._models is None:
            known = self.folder is not None
            self._models = read_class_models(self.folder, self.object_ids) if known else []
        return self._models

    @master_only
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: PoseDataSample,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        step: int = 0,
        **of_hands: Any,
    ) -> np.ndarray:
        """Draw a sample, and show it, write it to a file, or hand it to the backends.

        Args:
            name: Of the picture, in backends and windows.
            image: ``(H, W, 3)``, uint8, RGB: the image that the sample is of.
            data_sample: ``gt_instances`` and ``pred_instances``, in the image's pixels.
            draw_gt: Whether to draw the ground truth.
            draw_pred: Whether to draw the prediction.
            show: Whether to open a window; then the backends get nothing.
            wait_time: As in MMPose.
            out_file: File to write instead of the backends.
            step: Of the training, for the backends.
            **of_hands: What else :class:`HandMeshLocalVisualizer` takes; for hands only.

        Returns:
            The picture, ``(H', W', 3)``, uint8, RGB.
        """
        if "object_label" not in data_sample.gt_instances:
            return super().add_datasample(
                name,
                image,
                data_sample,
                draw_gt=draw_gt,
                draw_pred=draw_pred,
                show=show,
                wait_time=wait_time,
                out_file=out_file,
                step=step,
                **of_hands,
            )
        drawn = self.draw_objects(image, data_sample, draw_gt, draw_pred)
        self.set_image(drawn)
        if show:
            self.show(drawn, win_name=name, wait_time=wait_time)
        if out_file is not None:
            mmcv.imwrite(drawn[..., ::-1], out_file)
        elif not show:
            self.add_image(name, drawn, step)
        return self.get_image()

    def draw_objects(
        self,
        image: np.ndarray,
        data_sample: PoseDataSample,
        draw_gt: bool = True,
        draw_pred: bool = True,
    ) -> np.ndarray:
        """Return the picture of a sample of an object, ``(H', W', 3)``, uint8, RGB."""
        rows = self._object_rows(data_sample, draw_gt, draw_pred)
        enlargement = Enlargement(max(1.0, self.panel_height / image.shape[0]))
        photograph = enlargement.image(image)
        panels = [
            [
                captioned(_with_keypoints(photograph, row.instances, enlargement), row.title),
                self._pose_panel(photograph, row, enlargement),
                self._box_panel(photograph, rows[: number + 1], enlargement),
            ]
            for number, row in enumerate(rows)
        ]
        return stacked(panels) if panels else photograph

    def _object_rows(self, sample: PoseDataSample, draw_gt: bool, draw_pred: bool) -> list[_Row]:
        rows, truth = [], sample.gt_instances
        if draw_gt:
            rows.append(_Row("ground truth", _TRUE, truth, labelled_objects(truth)))
        if draw_pred and "pred_instances" in sample:
            found = sample.pred_instances
            objects = predicted_objects(found, truth, self.pose)
            rows.append(_Row("prediction", _FOUND, found, objects))
        return rows

    def _pose_panel(
        self, photograph: np.ndarray, row: _Row, enlargement: Enlargement
    ) -> np.ndarray:
        if not (row.objects and self.models):
            return empty_panel(photograph, "no pose" if self.models else "no models")
        picture = photograph
        for item in row.objects:
            model = self.models[item.label]
            vertices = model.vertices @ item.rotation.T + item.translation
            camera = enlargement.camera(item.camera)
            picture = mesh_over(picture, vertices, model.faces, camera, row.colour, self.mesh_alpha)
        return captioned(picture, self.models[row.objects[0].label].name)

    def _box_panel(
        self, photograph: np.ndarray, rows: Sequence[_Row], enlargement: Enlargement
    ) -> np.ndarray:
        picture = photograph.copy()
        for row in rows:
            for item in row.objects if self.models else ():
                corners = box_corners(self.models[item.label].vertices)
                in_camera = corners @ item.rotation.T + item.translation
                camera = enlargement.camera(item.camera)
                pixels = project_to_pixels(in_camera, camera.focal_length, camera.principal_point)
                for start, end in _BOX_EDGES:
                    _line(picture, pixels[start, :2], pixels[end, :2], row.colour)
        return captioned(picture, "boxes")


def _with_keypoints(
    photograph: np.ndarray, instances: InstanceData, enlargement: Enlargement
) -> np.ndarray:
    """Draw the keypoints and, thin, the path through them."""
    picture = photograph.copy()
    if "keypoints" not in instances:
        return picture
    keypoints = instances.keypoints
    for points in enlargement.pixels(np.asarray(keypoints, np.float64)):
        for start, end in pairwise(points):
            _line(picture, start, end, (255, 255, 255), thickness=1)
        for index, point in enumerate(points):
            if np.isfinite(point).all():
                colour = _POINT_COLOURS[index % len(_POINT_COLOURS)]
                center = tuple(int(value) for value in np.rint(point))
                cv2.circle(picture, center, 6, (0, 0, 0), -1, cv2.LINE_AA)
                cv2.circle(picture, center, 5, colour, -1, cv2.LINE_AA)
    return picture


def _line(
    picture: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    colour: tuple[int, int, int],
    thickness: int = 2,
) -> None:
    """Draw a line in place, unless an end is not to be seen."""
    # A point beside the camera can be far beyond what OpenCV's integers hold.
    if np.abs(np.nan_to_num([start, end], nan=np.inf)).max() > 1e5:
        return
    ends = [tuple(int(value) for value in np.rint(point)) for point in (start, end)]
    cv2.line(picture, *ends, colour, thickness, cv2.LINE_AA)
