"""Sets of objects in BOP's layout, written by the tests."""

import json

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

CAM_K = np.array([[500.0, 0, 110], [0, 510, 130], [0, 0, 1]])
SIZE = (240, 220)

# A wedge, which no motion leaves as it is, and a square plate; millimetres.
WEDGE = np.array([[0, 0, 0], [80, 0, 0], [0, 50, 0], [0, 0, 30], [80, 0, 30], [0, 50, 30.0]])
WEDGE_FACES = [[0, 2, 1], [3, 4, 5], [0, 1, 4], [0, 4, 3], [1, 2, 5], [1, 5, 4], [2, 0, 3]]
WEDGE_FACES += [[2, 3, 5]]
HALF_TURN = [-1.0, 0, 0, 80, 0, -1, 0, 50, 0, 0, 1, 0, 0, 0, 0, 1]

POSES = [
    (Rotation.from_euler("xyz", [20, -30, 40], degrees=True).as_matrix(), [10.0, -20, 600]),
    (Rotation.from_euler("xyz", [-70, 10, 0], degrees=True).as_matrix(), [-30.0, 25, 700]),
]


def write_ply(path, vertices, faces):
    lines = ["ply", "format ascii 1.0", f"element vertex {len(vertices)}"]
    lines += [f"property float {axis}" for axis in "xyz"]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    lines += [" ".join(map(str, vertex)) for vertex in np.asarray(vertices).tolist()]
    lines += [f"3 {a} {b} {c}" for a, b, c in faces]
    path.write_text("\n".join([*lines, ""]))


def diameter(vertices):
    return float(np.linalg.norm(vertices[:, None] - vertices[None], axis=-1).max())


def bop_content():
    """Labels of two images: one with a wedge, one with a box and a hidden wedge."""

    def pose(number, index):
        rotation, translation = POSES[index]
        return dict(cam_R_m2c=rotation.ravel().tolist(), cam_t_m2c=translation, obj_id=number)

    def info(box, fraction):
        return dict(bbox_obj=[1, 2, 90, 80], bbox_visib=box, visib_fract=fraction)

    camera = dict(cam_K=CAM_K.ravel().tolist(), depth_scale=1.0)
    return dict(
        scene_gt={"3": [pose(5, 0)], "12": [pose(9, 1), pose(5, 0)]},
        scene_camera={"3": camera, "12": camera},
        scene_gt_info={
            "3": [info([10, 20, 60, 50], 0.9)],
            "12": [info([30, 40, 50, 60], 0.5), info([-1, -1, -1, -1], 0.0)],
        },
        models_info={
            "5": dict(diameter=diameter(WEDGE), name="wedge"),
            "9": dict(diameter=diameter(WEDGE), symmetries_discrete=[HALF_TURN]),
        },
    )


def write_bop(root, content=None, ending="png"):
    """Write a set; return its folder."""
    content = bop_content() if content is None else content
    scene, models = root / "train" / "000001", root / "models"
    (scene / "rgb").mkdir(parents=True)
    models.mkdir()
    for image in content["scene_gt"]:
        cv2.imwrite(
            str(scene / "rgb" / f"{int(image):06d}.{ending}"), np.zeros((*SIZE, 3), np.uint8)
        )
    for number in content["models_info"]:
        write_ply(models / f"obj_{int(number):06d}.ply", WEDGE, WEDGE_FACES)
    for name, entries in content.items():
        folder = models if name == "models_info" else scene
        (folder / f"{name}.json").write_text(json.dumps(entries))
    return root
