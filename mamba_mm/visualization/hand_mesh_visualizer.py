"""MMPose's visualizer, for hands that have a mesh."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import mmcv
import numpy as np
import torch
from mmengine.dist import master_only
from mmengine.logging import print_log
from mmengine.structures import InstanceData
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.structures import PoseDataSample
from mmpose.visualization import PoseLocalVisualizer

from mamba_mm.datasets.hand_mesh.metainfo import hand_metainfo
from mamba_mm.models.body_models import MANOModel, resolve_mano
from mamba_mm.models.body_models.wrist_cap import close_wrist
from mamba_mm.registry import VISUALIZERS

from .hand_panels import Enlargement, SideView, captioned, empty_panel, mesh_over, stacked
from .hand_scene import Hand, labelled_hands, predicted_hands

# Ground of joints without mesh: data sets give the wrist white, which could not be seen on paper.
_DARK = 90


class _Row(NamedTuple):
    """What one row of the picture shows."""

    title: str
    colour: tuple[int, int, int]
    instances: InstanceData
    hands: list[Hand]


@VISUALIZERS.register_module()
class HandMeshLocalVisualizer(PoseLocalVisualizer):
    """Draws hands as joints, as a mesh over the photograph, and from the side.

    Each picture has a row for the ground truth and one for the prediction. Its panels are the
    photograph with the joints; the photograph under the shaded mesh, if the camera is known; and
    the hand (the first, of several) seen from the right of the camera, in one scale for all rows.
    Small photographs are enlarged. Everything is drawn with NumPy and OpenCV, without a display.

    The triangles of the mesh are those of the MANO model. Without one, only joints are drawn, and
    the log says so once.

    Args:
        name: As in MMPose.
        image: As in MMPose.
        vis_backends: As in MMPose.
        save_dir: As in MMPose.
        bbox_color: As in MMPose.
        kpt_color: As in MMPose; by default, and for ``link_color`` and ``skeleton`` too, fingers
            in the colours of MMPose's hand data sets. ``set_dataset_meta`` overrides them.
        link_color: As in MMPose.
        text_color: As in MMPose.
        skeleton: As in MMPose.
        line_width: As in MMPose.
        radius: As in MMPose.
        show_keypoint_weight: As in MMPose.
        backend: As in MMPose.
        alpha: As in MMPose.
        mano_path: The MANO model; see :func:`mamba_mm.models.body_models.resolve_mano`.
        mesh_alpha: Opacity of the mesh over the photograph, 0..1.
        panel_height: Smaller photographs are enlarged to that many pixels.

    Raises:
        FileNotFoundError: There is no file ``mano_path``.
        ValueError: A setting is out of its range.
    """

    def __init__(
        self,
        name: str = "visualizer",
        image: np.ndarray | None = None,
        vis_backends: list | dict | None = None,
        save_dir: str | None = None,
        bbox_color: str | tuple[int, ...] | None = "green",
        kpt_color: str | Sequence | None = None,
        link_color: str | Sequence | None = None,
        text_color: str | tuple[int, ...] | None = (255, 255, 255),
        skeleton: Sequence | None = None,
        line_width: float = 2,
        radius: float = 4,
        show_keypoint_weight: bool = False,
        backend: str = "opencv",
        alpha: float = 1.0,
        mano_path: str | Path | None = None,
        mesh_alpha: float = 0.85,
        panel_height: int = 384,
    ) -> None:
        if not 0 <= mesh_alpha <= 1:
            raise ValueError(f"HandMeshLocalVisualizer: mesh_alpha is 0..1, got {mesh_alpha}")
        if panel_height < 1:
            raise ValueError(f"HandMeshLocalVisualizer: panel_height is {panel_height} pixels")
        default = parse_pose_metainfo(hand_metainfo("hand"))
        super().__init__(
            name=name,
            image=image,
            vis_backends=vis_backends,
            save_dir=save_dir,
            bbox_color=bbox_color,
            kpt_color=default["keypoint_colors"] if kpt_color is None else kpt_color,
            link_color=default["skeleton_link_colors"] if link_color is None else link_color,
            text_color=text_color,
            skeleton=default["skeleton_links"] if skeleton is None else skeleton,
            line_width=line_width,
            radius=radius,
            show_keypoint_weight=show_keypoint_weight,
            backend=backend,
            alpha=alpha,
        )
        self.mesh_alpha = mesh_alpha
        self.panel_height = panel_height
        self._faces: np.ndarray | None = None
        self._has_looked_for_faces = False
        if mano_path is not None:
            self.use_mano(resolve_mano(mano_path))

    def use_mano(self, model: MANOModel) -> None:
        """Draw meshes with the triangles of this model, and a cap on the wrist."""
        self._faces = close_wrist(model.faces)

    @property
    def has_faces(self) -> bool:
        """Whether it knows the triangles of hands; looks for them once."""
        if self._faces is None and not self._has_looked_for_faces:
            self._has_looked_for_faces = True
            try:
                self.use_mano(resolve_mano(None))
            except FileNotFoundError as error:
                print_log(
                    f"HandMeshLocalVisualizer draws joints only: without a hand model the "
                    f"triangles of meshes are not known. {error}",
                    logger="current",
                )
        return self._faces is not None

    def faces_of(self, is_right: bool) -> np.ndarray | None:
        """Return the triangles ``(F, 3)`` of a hand, facing outward; ``None`` without model."""
        if not self.has_faces or is_right:
            return self._faces
        return self._faces[:, [0, 2, 1]]

    @master_only
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: PoseDataSample,
        draw_gt: bool = True,
        draw_pred: bool = True,
        draw_heatmap: bool = False,
        draw_bbox: bool = False,
        show_kpt_idx: bool = False,
        skeleton_style: str = "mmpose",
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        kpt_thr: float = 0.3,
        step: int = 0,
    ) -> np.ndarray:
        """Draw a sample, and show it, write it to a file, or hand it to the backends.

        Args:
            name: Of the picture, in backends and windows.
            image: ``(H, W, 3)``, uint8, RGB: the image that the sample is of.
            data_sample: ``gt_instances`` and ``pred_instances``, in the image's pixels.
            draw_gt: Whether to draw the ground truth.
            draw_pred: Whether to draw the prediction.
            draw_heatmap: Not used: hand-mesh heads have none. Here for MMPose's callers.
            draw_bbox: Whether to draw boxes into the panel of the joints.
            show_kpt_idx: Whether to write the numbers of the joints.
            skeleton_style: As in MMPose.
            show: Whether to open a window; then the backends get nothing.
            wait_time: As in MMPose.
            out_file: File to write instead of the backends.
            kpt_thr: Joints less visible than that are not drawn.
            step: Of the training, for the backends.

        Returns:
            The picture, ``(H', W', 3)``, uint8, RGB.
        """
        rows = self._rows(data_sample, draw_gt, draw_pred)
        enlargement = Enlargement(max(1.0, self.panel_height / image.shape[0]))
        photograph = enlargement.image(image)
        hands = [hand for row in rows for hand in row.hands[:1]]
        view = SideView.fitting(hands, photograph.shape[0])
        panels = []
        for row in rows:
            joints = self._joints_panel(
                photograph, row, enlargement, kpt_thr, show_kpt_idx, skeleton_style
            )
            if draw_bbox and "bboxes" in row.instances:
                boxes = enlargement.pixels(_array(row.instances.bboxes).reshape(-1, 2, 2))
                joints = self._draw_instances_bbox(
                    joints, InstanceData(bboxes=boxes.reshape(-1, 4))
                )
            panels.append(
                [
                    captioned(joints, row.title),
                    self._mesh_panel(photograph, row, enlargement),
                    self._side_panel(row, view),
                ]
            )
        drawn = stacked(panels) if panels else photograph
        self.set_image(drawn)
        if show:
            self.show(drawn, win_name=name, wait_time=wait_time)
        if out_file is not None:
            mmcv.imwrite(drawn[..., ::-1], out_file)
        elif not show:
            self.add_image(name, drawn, step)
        return self.get_image()

    def _rows(self, sample: PoseDataSample, draw_gt: bool, draw_pred: bool) -> list[_Row]:
        rows = []
        if draw_gt and "gt_instances" in sample:
            truth = sample.gt_instances
            rows.append(_Row("ground truth", (140, 205, 150), truth, labelled_hands(truth)))
        if draw_pred and "pred_instances" in sample:
            found = sample.pred_instances
            rows.append(_Row("prediction", (130, 170, 235), found, predicted_hands(found)))
        return rows

    def _joints_panel(
        self,
        photograph: np.ndarray,
        row: _Row,
        enlargement: Enlargement,
        kpt_thr: float,
        show_kpt_idx: bool,
        skeleton_style: str,
    ) -> np.ndarray:
        if "keypoints" not in row.instances:
            return photograph.copy()
        keypoints = _array(row.instances.keypoints)
        visible = _array(row.instances.get("keypoints_visible", np.ones(keypoints.shape[:2])))
        finite = np.isfinite(keypoints).all(-1)
        enlarged = InstanceData(
            keypoints=enlargement.pixels(np.nan_to_num(keypoints)),
            keypoints_visible=visible.reshape(finite.shape) * finite,
        )
        return self._draw_instances_kpts(
            photograph.copy(), enlarged, kpt_thr, show_kpt_idx, skeleton_style
        )

    def _mesh_panel(
        self, photograph: np.ndarray, row: _Row, enlargement: Enlargement
    ) -> np.ndarray:
        meshes = [hand for hand in row.hands if self._has_mesh(hand) and hand.camera is not None]
        if not meshes:
            reason = "no camera" if any(map(self._has_mesh, row.hands)) else "no mesh"
            return empty_panel(photograph, reason)
        picture = photograph
        for hand in meshes:
            camera = enlargement.camera(hand.camera)
            faces = self.faces_of(hand.is_right)
            picture = mesh_over(picture, hand.vertices, faces, camera, row.colour, self.mesh_alpha)
        return captioned(picture, "mesh")

    def _side_panel(self, row: _Row, view: SideView) -> np.ndarray:
        if not row.hands:
            return captioned(view.paper(), "no hand in space")
        hand = row.hands[0]
        if self._has_mesh(hand):
            picture = view.mesh(hand, self.faces_of(hand.is_right), row.colour)
        else:
            pixels = view.pixels(hand.joints, hand)[None, :, :2]
            joints = InstanceData(keypoints=pixels, keypoints_visible=hand.joints_known[None] * 1.0)
            picture = self._draw_instances_kpts(view.paper(_DARK), joints)
        return captioned(picture, "from the right")

    def _has_mesh(self, hand: Hand) -> bool:
        return hand.vertices is not None and self.has_faces


def _array(values: np.ndarray | torch.Tensor) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
