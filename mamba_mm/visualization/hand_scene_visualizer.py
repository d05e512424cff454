"""Pictures of all the hands that were found in a photograph."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from mmengine.structures import InstanceData
from mmpose.structures import PoseDataSample

from mamba_mm.registry import VISUALIZERS
from mamba_mm.rendering import project_to_pixels, shade

from .hand_mesh_visualizer import HandMeshLocalVisualizer
from .hand_panels import Enlargement, SideView, captioned, stacked
from .hand_scene import SceneHand, predicted_scene

PANELS = ("joints", "mesh", "side")
"""What a picture may consist of."""

COLOURS = {True: (130, 170, 235), False: (240, 165, 110)}
"""Of right hands and of left ones, RGB."""

_LIGHT = (-0.4, -0.5, -1.0)

Faces = Callable[[bool], np.ndarray | None]


@VISUALIZERS.register_module()
class HandSceneVisualizer(HandMeshLocalVisualizer):
    """Draws any number of hands of one photograph, right ones blue, left ones orange.

    The panels are the photograph with joints, boxes and the numbers of the hands; with the meshes
    over it, each where the network saw it, nearer hands before farther ones; and each hand on its
    own, seen from the right of the camera, all in one scale. The layout is the same with any
    number of hands, none included, as the frames of a video need it.

    Its arguments are those of :class:`HandMeshLocalVisualizer`.
    """

    def draw(
        self, image: np.ndarray, sample: PoseDataSample, panels: Sequence[str] = PANELS
    ) -> np.ndarray:
        """Draw a photograph.

        Args:
            image: ``(H, W, 3)``, uint8, RGB.
            sample: With ``pred_instances`` of a hand-mesh estimator, any number of hands.
            panels: Which of :data:`PANELS`, side by side.

        Returns:
            The picture, ``(H', W', 3)``, uint8, RGB.

        Raises:
            ValueError: There is no panel, or an unknown one.
        """
        unknown = [panel for panel in panels if panel not in PANELS]
        if unknown or not panels:
            raise ValueError(
                f"HandSceneVisualizer: panels are some of {', '.join(PANELS)}, got "
                f"{', '.join(map(repr, panels)) or 'none'}"
            )
        enlargement = Enlargement(max(1.0, self.panel_height / image.shape[0]))
        photograph = enlargement.image(image)
        scene = predicted_scene(sample.pred_instances)
        drawn = {
            "joints": lambda: self._joints(photograph, sample.pred_instances, enlargement),
            "mesh": lambda: self._meshes(photograph, scene, enlargement),
            "side": lambda: self._sides(photograph.shape[0], scene),
        }
        row = [drawn[panel]() for panel in panels]
        if not len(sample.pred_instances):
            row[0] = captioned(row[0], "no hand found")
        return stacked([row])

    def _joints(
        self, photograph: np.ndarray, found: InstanceData, enlargement: Enlargement
    ) -> np.ndarray:
        picture = photograph.copy()
        if not len(found):
            return picture
        keypoints = enlargement.pixels(np.asarray(found.keypoints))
        boxes = enlargement.pixels(np.asarray(found.bboxes).reshape(-1, 2, 2))
        for joints, box in zip(keypoints, boxes, strict=True):
            picture = self._draw_joints(picture, joints, np.ptp(box, axis=0).max())
        picture = np.ascontiguousarray(picture)
        for number, (box, is_right) in enumerate(zip(boxes, found.is_right, strict=True)):
            _draw_box(picture, box, number, bool(is_right))
        return picture

    def _draw_joints(self, picture: np.ndarray, joints: np.ndarray, extent: float) -> np.ndarray:
        """Draw a hand's joints, ``(K, 2)``, no larger than its extent in pixels leaves room for."""
        finite = np.isfinite(joints).all(-1)
        instances = InstanceData(
            keypoints=np.nan_to_num(joints)[None], keypoints_visible=finite[None] * 1.0
        )
        usual = self.radius, self.line_width
        self.radius = max(1, min(self.radius, round(extent / 40)))
        self.line_width = max(1, min(self.line_width, round(extent / 60)))
        try:
            return self._draw_instances_kpts(picture, instances)
        finally:
            self.radius, self.line_width = usual

    def _meshes(
        self, photograph: np.ndarray, scene: Sequence[SceneHand], enlargement: Enlargement
    ) -> np.ndarray:
        with_mesh = [one for one in scene if one.hand.vertices is not None and self.has_faces]
        if not with_mesh:
            return photograph.copy()
        return meshes_over(photograph, with_mesh, self.faces_of, enlargement, self.mesh_alpha)

    def _sides(self, side: int, scene: Sequence[SceneHand]) -> np.ndarray:
        with_mesh = [one for one in scene if one.hand.vertices is not None and self.has_faces]
        return side_views(side, with_mesh, self.faces_of)


def meshes_over(
    photograph: np.ndarray,
    scene: Sequence[SceneHand],
    faces_of: Faces,
    enlargement: Enlargement,
    alpha: float,
) -> np.ndarray:
    """Return a photograph with the meshes of several hands over it, the nearer hiding the farther.

    Each hand lies where the network saw it, through the camera of its own crop. Which one is
    nearer is decided pixel by pixel in the frame of the image's camera, which they share.

    Args:
        photograph: ``(H, W, 3)``, uint8, RGB.
        scene: The hands, all with vertices; at least one.
        faces_of: Triangles of right hands (true) and left ones.
        enlargement: Of the photograph.
        alpha: Opacity of the meshes, 0..1.
    """
    points, pixels, colours, faces = [], [], [], []
    for one in scene:
        camera = enlargement.camera(one.hand.camera)
        seen = project_to_pixels(one.hand.vertices, camera.focal_length, camera.principal_point)
        faces.append(faces_of(one.hand.is_right) + sum(map(len, points)))
        points.append(one.vertices_in_image)
        pixels.append(np.column_stack([seen[:, :2], one.vertices_in_image[:, 2]]))
        colours.append(np.tile(COLOURS[one.hand.is_right], (len(seen), 1)))
    shaded = shade(
        np.concatenate(points),
        np.concatenate(faces),
        np.concatenate(pixels),
        *photograph.shape[:2],
        colour=np.concatenate(colours),
        towards_light=_LIGHT,
    )
    result = photograph.copy()
    mixed = alpha * shaded.image[shaded.mask] + (1 - alpha) * photograph[shaded.mask]
    result[shaded.mask] = np.rint(mixed)
    return result


def side_views(side: int, scene: Sequence[SceneHand], faces_of: Faces) -> np.ndarray:
    """Return a square of views of each hand from the right of the camera, all in one scale.

    Args:
        side: Of the square, in pixels.
        scene: The hands, all with vertices.
        faces_of: Triangles of right hands (true) and left ones.
    """
    cells = max(1, math.ceil(math.sqrt(len(scene))))
    view = SideView.fitting([one.hand for one in scene], side // cells)
    square = SideView(side, 1.0).paper()
    for place, one in enumerate(scene):
        is_right = one.hand.is_right
        picture = view.mesh(one.hand, faces_of(is_right), COLOURS[is_right])
        picture = captioned(picture, _name(one.index, is_right))
        top, left = (place // cells) * view.side, (place % cells) * view.side
        square[top : top + view.side, left : left + view.side] = picture
    return square


def _draw_box(picture: np.ndarray, box: np.ndarray, number: int, is_right: bool) -> None:
    """Draw a box, ``(2, 2)``, and the number and side of its hand above it."""
    thickness = max(1, round(picture.shape[0] / 400))
    low, high = np.rint(np.clip(box, -1e4, 1e4)).astype(int).tolist()
    cv2.rectangle(picture, low, high, COLOURS[is_right], thickness)
    scale = max(0.4, picture.shape[0] / 900)
    text = _name(number, is_right)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 3)
    left = max(2, min(low[0], picture.shape[1] - width - 2))
    place = (left, max(height + 4, low[1] - 6))
    for colour, weight in (((0, 0, 0), 3), (COLOURS[is_right], 1)):
        cv2.putText(
            picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, weight, cv2.LINE_AA
        )


def _name(number: int, is_right: bool) -> str:
    return f"{number} {'right' if is_right else 'left'}"
