"""Labels of the objects in BOP's layout: millimetres, matrices row by row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..toy_hands.depth import DEPTH_UNIT
from .appearance import Picture
from .scenes import Scene
from .shapes import TOY_OBJECTS, ToyObject, toy_object

_MILLIMETRES = 1000.0


def camera_entry(scene: Scene) -> dict:
    """Return what ``scene_camera.json`` says of an image."""
    return dict(
        cam_K=scene.view.intrinsics.ravel().tolist(),
        depth_scale=round(DEPTH_UNIT * _MILLIMETRES, 6),
    )


def pose_entry(scene: Scene) -> dict:
    """Return what ``scene_gt.json`` says of the object of an image."""
    return dict(
        cam_R_m2c=np.round(scene.rotation, 8).ravel().tolist(),
        cam_t_m2c=np.round(_MILLIMETRES * scene.translation, 5).tolist(),
        obj_id=scene.object.object_id,
    )


def visibility_entry(picture: Picture) -> dict:
    """Return what ``scene_gt_info.json`` says of the object of an image."""
    whole, visible = picture.object_mask, picture.object_visible
    return dict(
        bbox_obj=_box(whole),
        bbox_visib=_box(visible),
        px_count_all=int(whole.sum()),
        px_count_valid=int(whole.sum()),
        px_count_visib=int(visible.sum()),
        visib_fract=float(visible.sum() / max(whole.sum(), 1)),
    )


def write_models(folder: Path) -> None:
    """Write the meshes and ``models_info.json``."""
    folder.mkdir(parents=True)
    infos = {}
    for name in TOY_OBJECTS:
        shape = toy_object(name)
        _write_ply(folder / f"obj_{shape.object_id:06d}.ply", shape)
        low, size = shape.vertices.min(axis=0), np.ptp(shape.vertices, axis=0)
        box = {
            f"{prefix}_{axis}": round(float(value) * _MILLIMETRES, 5)
            for prefix, values in (("min", low), ("size", size))
            for axis, value in zip("xyz", values, strict=True)
        }
        diameter = round(shape.diameter * _MILLIMETRES, 5)
        infos[str(shape.object_id)] = dict(name=name, diameter=diameter, **box, **shape.symmetries)
    (folder / "models_info.json").write_text(json.dumps(infos, indent=1) + "\n")


def _write_ply(path: Path, shape: ToyObject) -> None:
    """Write a mesh as text, one of the two forms of the format."""
    header = ["ply", "format ascii 1.0", f"element vertex {len(shape.vertices)}"]
    header += [f"property float {axis}" for axis in "xyz"]
    header += [f"element face {len(shape.faces)}", "property list uchar int vertex_indices"]
    vertices = [f"{x:.5f} {y:.5f} {z:.5f}" for x, y, z in _MILLIMETRES * shape.vertices]
    faces = [f"3 {a} {b} {c}" for a, b, c in shape.faces]
    path.write_text("\n".join([*header, "end_header", *vertices, *faces, ""]))


def _box(mask: np.ndarray) -> list[int]:
    """Return x, y, width and height of a mask, or BOP's -1 for an empty one."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return [-1, -1, -1, -1]
    x, y = int(columns.min()), int(rows.min())
    return [x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1]
