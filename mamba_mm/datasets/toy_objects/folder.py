"""The set as files.

::

    FOLDER/
      toy_scenes.json                     what was asked for; written last
      models/obj_000001.ply ...           the objects, and models_info.json
      models/keypoints.json               the points on their surfaces
      {train,val}/000000/rgb/000000.jpg   images
      {train,val}/000000/depth/...png     depth maps, 16 bits, tenths of a millimetre
      {train,val}/000000/mask_visib/...   where the object is in sight
      {train,val}/000000/scene_*.json     poses, cameras and visibility, in BOP's layout
      annotations/hands_{train,val}.json  hands in COCO's format; file names from FOLDER on
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..drawn_folder import to_json, write_image
from ..drawn_set import draw_set, generator_of, images_of, report_progress, shows_share
from ..object_pose.keypoint_file import write_keypoints
from ..object_pose.keypoint_selection import keypoints_of
from ..object_pose.models import read_models
from ..toy_hands.appearance import palm_share
from ..toy_hands.coco import CocoHands
from ..toy_hands.depth import draw_depth_map
from ..toy_hands.hands import HandFactory
from ..toy_hands.refusal import refuse_impossible_hands
from .appearance import paint_scene
from .bop import camera_entry, pose_entry, visibility_entry, write_models
from .scenes import draw_scene
from .shapes import TOY_OBJECTS

# Raise it with every change of what is drawn: sets of another version are not reused.
DRAWING_VERSION = 1

STAMP = "toy_scenes.json"
SCENE = "000000"

# A hand of which less is in sight is not annotated.
_LEAST_VISIBLE = 0.2


@dataclass(frozen=True)
class ToyScenesConfig:
    """What to draw. Two equal configs give the same pixels and the same labels.

    Args:
        train_images: Number of images to train on.
        val_images: Number of held-out images.
        image_size: Rows and columns of every image, in pixels.
        hand_share: Share of the images that show a hand with the object, 0..1, spread evenly.
        orientation_spread: Degrees by which objects are turned at most from upright, and hands
            from the palm to the camera and the fingers up; 180 gives all orientations the same
            chance.
        seed: Where chance starts. The splits never share an image.

    Raises:
        ValueError: A count or the seed is negative, a share or an angle is out of its range, or
            images are too small.
    """

    train_images: int = 2000
    val_images: int = 300
    image_size: int = 224
    hand_share: float = 0.8
    orientation_spread: float = 60.0
    seed: int = 0

    def __post_init__(self):
        refuse_impossible_hands(self, "hand_share")

    def has_hand(self, index: int) -> bool:
        """Say whether image ``index`` of a split shows a hand."""
        return shows_share(self.hand_share, index)


def write_toy_scenes(
    folder: str | Path,
    config: ToyScenesConfig,
    *,
    force: bool = False,
    report: Callable[[str], None] = print,
) -> bool:
    """Draw the set into ``folder``, which ends up absent, what it was, or complete.

    Args:
        folder: Where the set goes.
        config: What to draw.
        force: Replace whatever ``folder`` holds.
        report: Called with one line now and then.

    Returns:
        True if the set was drawn, False if ``folder`` already held this very set.

    Raises:
        FileExistsError: ``folder`` holds something else and ``force`` is not set.
    """

    def write_split(root: Path, split: str) -> None:
        if not (root / "models").exists():
            write_models(root / "models")
            _write_keypoints(root / "models")
        _write_split(root, split, config, report)

    summary = f"{config.train_images} images to train on, {config.val_images} held out"
    return draw_set(
        *(folder, STAMP, DRAWING_VERSION, config), write_split, summary, force=force, report=report
    )


def _write_keypoints(folder: Path) -> None:
    models = read_models(folder)
    entries = {n: keypoints_of(model, f"obj_{n:06d}.ply") for n, model in models.items()}
    write_keypoints(folder / "keypoints.json", entries)


def _write_split(
    root: Path, split: str, config: ToyScenesConfig, report: Callable[[str], None]
) -> None:
    factory = HandFactory(config.image_size, config.orientation_spread)
    palm = palm_share(factory.layer.model.v_template, factory.layer.faces)
    place = Path(split) / SCENE
    for kind in ("rgb", "depth", "mask_visib"):
        (root / place / kind).mkdir(parents=True)
    labels = {name: {} for name in ("scene_camera", "scene_gt", "scene_gt_info")}
    coco = CocoHands(split)
    count = images_of(config, split)
    for index in range(count):
        rng = generator_of(config.seed, split, index)
        scene = draw_scene(
            rng,
            factory,
            name=TOY_OBJECTS[index % len(TOY_OBJECTS)],
            with_hand=config.has_hand(index),
            orientation_spread=config.orientation_spread,
        )
        hand = scene.hand
        picture = paint_scene(rng, scene, factory.faces(hand is None or hand.is_right), palm)
        file_name = f"{place.as_posix()}/rgb/{index:06d}.jpg"
        depth_file = f"{place.as_posix()}/depth/{index:06d}.png"
        write_image(root / file_name, picture.image)
        write_image(root / depth_file, draw_depth_map(rng, picture.depth))
        write_image(
            root / place / "mask_visib" / f"{index:06d}_000000.png",
            np.uint8(255) * picture.object_visible,
        )
        labels["scene_camera"][str(index)] = camera_entry(scene)
        labels["scene_gt"][str(index)] = [pose_entry(scene)]
        labels["scene_gt_info"][str(index)] = [visibility_entry(picture)]
        if picture.hand_visible.sum() > _LEAST_VISIBLE * picture.hand_mask.sum():
            coco.add(*(index + 1, file_name, depth_file, hand), picture.hand_visible, picture.depth)
        report_progress(report, split, index + 1, count)
    for name, content in labels.items():
        (root / place / f"{name}.json").write_text(to_json(content))
    coco.write(root / "annotations" / f"hands_{split}.json")
