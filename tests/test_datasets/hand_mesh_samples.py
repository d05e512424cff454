"""Hands of the synthetic MANO model in front of a camera, also in FreiHAND's layout."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from mamba_mm.models.body_models import MANOLayer

SHARED_DATA = Path(
    os.environ.get(
        "MAMBA_MM_SHARED_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"
    )
)
CAM_K = np.array([[480.0, 0, 115], [0, 470, 108], [0, 0, 1]])
SIZE = 224

LAYER = MANOLayer("toy")


def matrices(pose):
    """Rotation matrices (16, 3, 3) of 48 axis-angle numbers."""
    return Rotation.from_rotvec(np.reshape(pose, (16, 3))).as_matrix()


def posed(pose, betas):
    """Joints (21, 3) and vertices (778, 3) of the synthetic model."""
    rotations = torch.tensor(matrices(pose))[None]
    out = LAYER(rotations[:, :1], rotations[:, 1:], torch.tensor(np.array(betas))[None])
    return out.joints[0].double().numpy(), out.vertices[0].double().numpy()


def make_hand(seed, betas=None):
    """A random hand within the image of CAM_K: everything that a record can have."""
    rng = np.random.default_rng(seed)
    pose = np.concatenate([Rotation.random(random_state=seed).as_rotvec(), LAYER.hands_mean])
    pose[3:] += rng.normal(0, 0.2, 45)
    drawn = rng.normal(0, 1, 10).clip(-2, 2)
    betas = drawn if betas is None else betas
    joints, vertices = posed(pose, betas)
    shift = np.array([0.02, -0.01, 0.6]) + rng.normal(0, 0.01, 3) - joints[9]
    return dict(
        mano_pose=pose,
        mano_betas=betas,
        keypoints_cam=joints + shift,
        vertices_cam=vertices + shift,
        cam_K=CAM_K,
        keypoints=pixels(joints + shift, CAM_K),
    )


def pixels(points, cam_K):
    """Pinhole projection, written out."""
    rays = np.einsum("ij,...j->...i", np.float64(cam_K), np.float64(points))
    return rays[..., :2] / rays[..., 2:]


def write_freihand(
    root, poses=3, versions=2, split="training", names=("K", "xyz", "verts", "mano")
):
    """Write a small FreiHAND folder; return its hands."""
    hands = [make_hand(seed) for seed in range(poses)]
    (root / split / "rgb").mkdir(parents=True)
    for number in range(poses * versions):
        image = np.full((SIZE, SIZE, 3), 20 * number, np.uint8)
        cv2.imwrite(str(root / split / "rgb" / f"{number:08d}.jpg"), image)
    labels = dict(K=[], xyz=[], verts=[], mano=[])
    for hand in hands:
        offset = np.concatenate(
            [hand["mano_pose"][:3], hand["mano_pose"][3:] - np.array(LAYER.hands_mean)]
        )
        labels["K"].append(hand["cam_K"].tolist())
        labels["xyz"].append(hand["keypoints_cam"].tolist())
        labels["verts"].append(hand["vertices_cam"].tolist())
        labels["mano"].append([[*offset, *hand["mano_betas"], *hand["keypoints"][9], 0.0]])
    for name in names:
        (root / f"{split}_{name}.json").write_text(json.dumps(labels[name]))
    return hands


def write_coco(path, hands, sides, **extra):
    """Write a COCO-style file of hands, all in one black image; ``extra`` goes into each hand."""
    cv2.imwrite(str(path.with_name("black.jpg")), np.zeros((SIZE, SIZE, 3), np.uint8))
    image = dict(id=7, file_name="black.jpg", width=SIZE, height=SIZE)
    image["cam_param"] = dict(focal=[CAM_K[0, 0], CAM_K[1, 1]], princpt=[CAM_K[0, 2], CAM_K[1, 2]])
    annotations = []
    for number, (hand, side) in enumerate(zip(hands, sides, strict=True)):
        low, high = hand["keypoints"].min(0), hand["keypoints"].max(0)
        annotation = dict(
            id=number,
            image_id=7,
            category_id=1,
            bbox=[*low, *(high - low)],
            keypoints=np.c_[hand["keypoints"], np.full(21, 2)].ravel().tolist(),
            hand_type=side,
            joint_cam=hand["keypoints_cam"].tolist(),
            vertices_cam=hand["vertices_cam"].tolist(),
            mano_pose=hand["mano_pose"].tolist(),
            mano_betas=hand["mano_betas"].tolist(),
        )
        annotations.append({**annotation, **extra})
    path.write_text(
        json.dumps(
            dict(images=[image], annotations=annotations, categories=[dict(id=1, name="hand")])
        )
    )


def mirrored(hand):
    """The left hand that is the mirror image of a right one, in the mirrored image."""
    left = {key: np.array(value) for key, value in hand.items()}
    left["keypoints"] = hand["keypoints"] * [-1, 1] + [SIZE - 1, 0]
    left["keypoints_cam"] = hand["keypoints_cam"] * [-1, 1, 1]
    left["vertices_cam"] = hand["vertices_cam"] * [-1, 1, 1]
    flip = np.diag([-1.0, 1, 1])
    left["mano_pose"] = (
        Rotation.from_matrix(flip @ matrices(hand["mano_pose"]) @ flip).as_rotvec().ravel()
    )
    left["cam_K"][0, 2] = SIZE - 1 - hand["cam_K"][0, 2]
    return left
