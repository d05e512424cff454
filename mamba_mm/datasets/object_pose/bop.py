"""Objects with 6-D poses in BOP's layout, as the BOP benchmark distributes its sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from mmpose.datasets.datasets.base import BaseCocoStyleDataset

from .keypoint_file import ObjectKeypoints, read_keypoints
from .metainfo import object_metainfo
from .models import METRES, MODELS_INFO
from .record import object_record
from .symmetries import symmetry_transforms

_BOXES = {"visible": "bbox_visib", "whole": "bbox_obj"}
_IMAGE_FOLDERS = ("rgb", "gray")
_IMAGE_ENDINGS = ("png", "jpg", "tif")


class BOPObjectDataset(BaseCocoStyleDataset):
    """Rigid objects of a set in BOP's layout (Hodan et al., ECCV 2018), one record an object.

    ::

        ROOT/SPLIT/SCENE/rgb/IMAGE.png (or gray/, .jpg)
        ROOT/SPLIT/SCENE/scene_gt.json        object, rotation and translation, for each image
        ROOT/SPLIT/SCENE/scene_camera.json    intrinsics, for each image
        ROOT/SPLIT/SCENE/scene_gt_info.json   boxes and how much is visible; some sets lack it, and
                                              BOP's toolkit (calc_gt_info.py) makes it
        ROOT/MODELS/models_info.json          diameters and symmetries
        ROOT/MODELS/keypoints.json            from tools/.../select_object_keypoints.py

    Files are in millimetres, records in metres. What is hardly visible, or not at all, is left out.

    HO-3D and DexYCB have their own layouts with the objects of YCB; the BOP project distributes
    conversions of such sets, which this class reads. It has been tested on files of the layout,
    not on a released set.

    Args:
        data_root: Folder of the set.
        split: Its folder of scenes, such as ``"train_pbr"``.
        object_ids: The objects; the first is class 0, and others are left out. ``None`` takes all
            that have keypoints, in the order of their numbers.
        models: Folder of the models, from ``data_root`` on.
        keypoints: File of the keypoints, from ``data_root`` on.
        min_visible_fraction: Least part of the silhouette in sight, by ``scene_gt_info.json``.
        bbox: ``"visible"``: the box of what is in sight, which a detector would find; ``"whole"``:
            that of the whole silhouette.
        symmetry_steps: Into how many turns an axis of symmetry is divided.
        metainfo: As in MMPose.
        indices: As in MMPose.
        pipeline: As in MMPose.
        test_mode: As in MMPose.
        serialize_data: As in MMPose.
        lazy_init: As in MMPose.
        max_refetch: As in MMPose.

    Raises:
        FileNotFoundError: A file that must be there is not.
        ValueError: An argument or a file has unusable content.
    """

    METAINFO: ClassVar[dict] = object_metainfo("object_pose")

    def __init__(
        self,
        data_root: str,
        split: str = "train",
        object_ids: Sequence[int] | None = None,
        models: str = "models",
        keypoints: str = "models/keypoints.json",
        min_visible_fraction: float = 0.1,
        bbox: str = "visible",
        symmetry_steps: int = 24,
        metainfo: dict | None = None,
        indices: int | Sequence[int] | None = None,
        pipeline: Sequence[dict | Callable] = (),
        test_mode: bool = False,
        serialize_data: bool = True,
        lazy_init: bool = False,
        max_refetch: int = 1000,
    ) -> None:
        if bbox not in _BOXES:
            raise ValueError(f"BOPObjectDataset: unknown bbox {bbox!r}; known: {', '.join(_BOXES)}")
        if not 0 <= min_visible_fraction <= 1:
            raise ValueError(
                f"BOPObjectDataset: min_visible_fraction is 0..1, got {min_visible_fraction}"
            )
        self.root = Path(data_root)
        self.split = split
        self.object_ids = object_ids
        self.models = models
        self.keypoints = keypoints
        self.min_visible_fraction = min_visible_fraction
        self.bbox = bbox
        self.symmetry_steps = symmetry_steps
        super().__init__(
            data_root=str(data_root),
            metainfo=metainfo,
            indices=indices,
            pipeline=list(pipeline),
            test_mode=test_mode,
            serialize_data=serialize_data,
            lazy_init=lazy_init,
            max_refetch=max_refetch,
        )

    def load_data_list(self) -> list[dict]:
        """Read the labels of all scenes.

        Returns:
            What a record needs beside its class, for each object.
        """
        self._classes = self._read_classes()
        folder = self.root / self.split
        scenes = sorted(path.parent for path in folder.glob("*/scene_gt.json"))
        if not scenes:
            raise FileNotFoundError(f"BOPObjectDataset: {folder} has no scenes (*/scene_gt.json)")
        objects = [entry for scene in scenes for entry in self._objects_of(scene)]
        if not objects:
            raise ValueError(
                f"BOPObjectDataset: no object of {folder} is one of {sorted(self._classes)} and "
                f"visible to {self.min_visible_fraction:g} or more"
            )
        return [dict(entry, id=number) for number, entry in enumerate(objects)]

    def get_data_info(self, idx: int) -> dict:
        """Return the record of a sample, with what MMPose adds.

        Args:
            idx: Index of the sample.

        Returns:
            What :func:`~mamba_mm.datasets.object_pose.object_record` returns, and the metainfo
            that MMPose's transforms use.
        """
        info = super().get_data_info(idx)
        label, points, symmetries = self._classes[info.pop("object_id")]
        names = ("source", "img_path", "img_id", "id", "bbox", "rotation", "translation", "cam_K")
        values = {name: info.pop(name) for name in (*names, "visible_fraction")}
        record = object_record(**values, label=label, keypoints_model=points, symmetries=symmetries)
        return info | record

    def _read_classes(self) -> dict[int, tuple[int, np.ndarray, np.ndarray]]:
        """Label, keypoints and symmetries of every object, by its number."""
        keypoints = read_keypoints(self.root / self.keypoints)
        ids = sorted(keypoints) if self.object_ids is None else list(self.object_ids)
        if missing := [number for number in ids if number not in keypoints]:
            raise ValueError(
                f"BOPObjectDataset: {self.root / self.keypoints} has no keypoints of the objects "
                f"{missing}; it has {sorted(keypoints)}"
            )
        counts = {number: len(keypoints[number].keypoints) for number in ids}
        if len(set(counts.values())) != 1:
            raise ValueError(f"BOPObjectDataset: objects have different numbers of points {counts}")
        infos = _read_json(self.root / self.models / MODELS_INFO)
        return {
            number: (
                label,
                _checked(keypoints[number], infos, number, self.root / self.models),
                symmetry_transforms(infos[str(number)], self.symmetry_steps, METRES["mm"]),
            )
            for label, number in enumerate(ids)
        }

    def _objects_of(self, scene: Path) -> list[dict]:
        truth = _read_json(scene / "scene_gt.json")
        cameras = _read_json(scene / "scene_camera.json")
        infos = _read_json(scene / "scene_gt_info.json")
        folder = next((scene / name for name in _IMAGE_FOLDERS if (scene / name).is_dir()), None)
        if folder is None:
            raise FileNotFoundError(f"BOPObjectDataset: {scene} has neither {_IMAGE_FOLDERS}")
        objects = []
        for image, poses in truth.items():
            for file, content in (("scene_camera.json", cameras), ("scene_gt_info.json", infos)):
                if image not in content:
                    raise ValueError(f"{scene / file} has no image {image}, scene_gt.json has")
            if len(infos[image]) != len(poses):
                raise ValueError(
                    f"{scene / 'scene_gt_info.json'}: image {image} has {len(infos[image])} "
                    f"objects, in scene_gt.json it has {len(poses)}"
                )
            for number, (pose, info) in enumerate(zip(poses, infos[image], strict=True)):
                source = f"object {number} of image {image} of {scene / 'scene_gt.json'}"
                if self._counts(source, pose, info):
                    entry = self._parse(source, pose, info, cameras[image])
                    objects.append(dict(entry, img_path=_image(folder, image), img_id=int(image)))
        return objects

    def _counts(self, source: str, pose: Mapping, info: Mapping) -> bool:
        """Whether an object is one of the wanted classes, and is to be seen."""
        fraction = info.get("visib_fract")
        if not isinstance(fraction, (int, float)) or not 0 <= fraction <= 1:
            raise ValueError(f"{source}: visib_fract is {fraction}, expected 0..1")
        box = info.get(_BOXES[self.bbox], ())
        if len(box) != 4:
            raise ValueError(
                f"{source}: {_BOXES[self.bbox]} is {box}, expected left, top, width, height"
            )
        width, height = box[2:]
        # BOP writes a box of -1 where nothing is to be seen.
        return (
            pose.get("obj_id") in self._classes
            and fraction >= self.min_visible_fraction
            and min(width, height) > 0
        )

    def _parse(self, source: str, pose: Mapping, info: Mapping, camera: Mapping) -> dict:
        x, y, width, height = info[_BOXES[self.bbox]]
        entry = dict(
            source=source,
            object_id=pose["obj_id"],
            bbox=[x, y, x + width, y + height],
            rotation=_matrix(source, pose, "cam_R_m2c"),
            translation=np.array(pose.get("cam_t_m2c", ()), np.float64) * METRES["mm"],
            cam_K=_matrix(source, camera, "cam_K"),
            visible_fraction=float(info["visib_fract"]),
        )
        label, points, symmetries = self._classes[pose["obj_id"]]
        # A whole record, so that bad fields are found when the set is read, not in the training.
        values = {name: value for name, value in entry.items() if name != "object_id"}
        object_record(
            **values,
            **dict(img_path="", img_id=0, id=0, label=label),
            keypoints_model=points,
            symmetries=symmetries,
        )
        return entry


def _checked(entry: ObjectKeypoints, infos: Mapping, number: int, folder: Path) -> np.ndarray:
    """Return the keypoints of an object if they are those of its mesh."""
    if str(number) not in infos:
        raise ValueError(f"{folder / MODELS_INFO} has no object {number}")
    diameter = infos[str(number)].get("diameter", np.nan) * METRES["mm"]
    if not np.isclose(entry.diameter, diameter, rtol=1e-2):
        raise ValueError(
            f"the keypoints of object {number} are of a mesh of {entry.diameter:.4g} m diameter, "
            f"{folder / MODELS_INFO} says {diameter:.4g} m; choose them again"
        )
    return entry.keypoints


def _read_json(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f"BOPObjectDataset: {path} is missing")
    return json.loads(path.read_text())


def _matrix(source: str, content: Mapping, name: str) -> np.ndarray:
    """Nine numbers of a file, row by row, as a matrix."""
    values = np.array(content.get(name, ()), dtype=np.float64)
    if values.size != 9:
        raise ValueError(f"{source}: {name} has {values.size} numbers, expected 9, row by row")
    return values.reshape(3, 3)


def _image(folder: Path, image: str) -> str:
    """Path of an image; the folder is not listed, as some scenes have thousands."""
    stem = folder / f"{int(image):06d}"
    for ending in _IMAGE_ENDINGS:
        path = stem.with_suffix(f".{ending}")
        if path.is_file():
            return str(path)
    raise FileNotFoundError(f"BOPObjectDataset: there is no image {stem}.* ({_IMAGE_ENDINGS})")
