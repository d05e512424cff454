"""Labels of both hands in COCO's format, as the hand sets of MMPose have them.

Beyond COCO's own keys an annotation has ``hand_type`` ("right" or "left"), ``joint_cam``
(21 x 3), ``mano_pose`` (48, absolute axis-angle) and ``mano_betas`` (10), and an image
``cam_param`` with ``focal`` and ``princpt``, and ``depth_file``, the name of its depth map. Metres,
radians, camera frame, OpenPose order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mamba_mm.models.body_models import HAND_BONES, OPENPOSE_NAMES

from ..drawn_folder import to_json
from .hands import Hand

# A joint lies inside the finger: it is in sight if no surface is nearer by more, in metres.
_THICKNESS = 0.02


class CocoHands:
    """Collects the pictures of a split and the hand in each.

    Args:
        split: ``"train"`` or ``"val"``.
    """

    def __init__(self, split: str) -> None:
        # Metrics of the mesh need vertices; for training, joints and parameters do.
        self._with_vertices = split == "val"
        self._images: list[dict] = []
        self._annotations: list[dict] = []

    def add(
        self,
        image_id: int,
        file_name: str,
        depth_file: str,
        hand: Hand,
        mask: np.ndarray,
        depth: np.ndarray,
    ) -> None:
        """Add a picture; see :func:`coco_image` and :func:`coco_annotation`."""
        self._images.append(coco_image(image_id, file_name, depth_file, hand))
        self._annotations.append(
            coco_annotation(image_id, hand, mask, depth, with_vertices=self._with_vertices)
        )

    def write(self, path: Path) -> None:
        """Write the annotation file, and its folder if there is none."""
        path.parent.mkdir(exist_ok=True)
        path.write_text(to_json(coco_content(self._images, self._annotations)))


def coco_image(image_id: int, file_name: str, depth_file: str, hand: Hand) -> dict:
    """Describe a picture.

    Args:
        image_id: Of the picture.
        file_name: Its path below the folder of the set.
        depth_file: Likewise, of its depth map.
        hand: The hand in it.
    """
    focal, size = hand.view.focal_length, hand.view.size
    return dict(
        id=image_id,
        file_name=file_name,
        depth_file=depth_file,
        height=size,
        width=size,
        cam_param=dict(focal=[focal, focal], princpt=hand.view.principal_point.tolist()),
    )


def coco_annotation(
    image_id: int, hand: Hand, mask: np.ndarray, depth: np.ndarray, with_vertices: bool
) -> dict:
    """Describe the hand of a picture.

    Args:
        image_id: Of the picture; there is one hand in each.
        hand: The hand.
        mask: ``(H, W)``, bool, where it is.
        depth: ``(H, W)``, of its surface, metres.
        with_vertices: Add ``vertices_cam`` (778 x 3), which is long.
    """
    keypoints = np.column_stack([np.round(hand.keypoints, 3), _visibility(hand, depth)])
    annotation = dict(
        id=image_id,
        image_id=image_id,
        category_id=1,
        iscrowd=0,
        bbox=_box(hand),
        area=int(mask.sum()),
        keypoints=[float(x) if i % 3 < 2 else int(x) for i, x in enumerate(keypoints.ravel())],
        num_keypoints=int((keypoints[:, 2] > 0).sum()),
        hand_type="right" if hand.is_right else "left",
        is_right=int(hand.is_right),
        joint_cam=hand.joints.tolist(),
        mano_pose=hand.pose.tolist(),
        mano_betas=hand.betas.tolist(),
    )
    if with_vertices:
        annotation["vertices_cam"] = hand.vertices.tolist()
    return annotation


def coco_content(images: list[dict], annotations: list[dict]) -> dict:
    """Put the pieces together to what the file holds."""
    return dict(
        info=dict(
            description="Rendered hands of a synthetic model (ToyMANO), drawn by mamba_mm",
            version="1.0",
            units="metres, radians, pixels",
        ),
        licenses=[],
        images=images,
        annotations=annotations,
        categories=[
            dict(
                id=1,
                name="hand",
                supercategory="hand",
                keypoints=list(OPENPOSE_NAMES),
                # COCO counts keypoints from 1.
                skeleton=[[parent + 1, child + 1] for parent, child in HAND_BONES],
            )
        ],
    )


def _visibility(hand: Hand, depth: np.ndarray) -> np.ndarray:
    """Visibility as in COCO: 1 behind another part of the hand, 2 in sight."""
    size = hand.view.size
    column, row = np.clip(np.rint(hand.keypoints), 0, size - 1).astype(int).T
    hidden = depth[row, column] < hand.joints[:, 2] - _THICKNESS
    return np.where(hidden, 1, 2)


def _box(hand: Hand) -> list[float]:
    """Return the tight box of the mesh inside the picture: x, y, width, height."""
    pixels = np.clip(hand.view.project(hand.vertices), 0, hand.view.size - 1)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    return np.round([*low, *(high - low)], 2).tolist()
