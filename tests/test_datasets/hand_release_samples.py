"""Small folders in the released layouts of InterHand2.6M, HO-3D and DexYCB."""

import json
import pickle

import cv2
import numpy as np
import yaml
from hand_mesh_samples import LAYER, SIZE, make_hand, mirrored, pixels
from scipy.spatial.transform import Rotation

from mamba_mm.models.body_models import MANO_TO_OPENPOSE

FLIP_YZ = np.diag([1.0, -1.0, -1.0])
MEAN = np.array(LAYER.hands_mean, np.float64)
COMPONENTS = np.array(LAYER.hands_components, np.float64)
MIRROR = np.tile([1.0, -1.0, -1.0], 15)
# How InterHand2.6M orders a hand: every finger from its tip, then the wrist.
TIP_FIRST = [
    *(4, 3, 2, 1),
    *(8, 7, 6, 5),
    *(12, 11, 10, 9),
    *(16, 15, 14, 13),
    *(20, 19, 18, 17),
    0,
]


def write_image(path, size=(SIZE, SIZE)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((*size, 3), np.uint8))


def turned(pose, rotation):
    """The pose (48,) of a hand that is turned as a whole."""
    pose = np.array(pose, np.float64)
    pose[:3] = Rotation.from_matrix(
        rotation @ Rotation.from_rotvec(pose[:3]).as_matrix()
    ).as_rotvec()
    return pose


# --- InterHand2.6M ---------------------------------------------------------------------------

CAM_ROT = Rotation.from_euler("xyz", [0.3, -0.5, 0.8]).as_matrix()
CAM_POS = np.array([300.0, -120.0, 640.0])  # millimetres


def interhand_hands():
    """A right and a left hand in the frame of the camera."""
    return make_hand(0), mirrored(make_hand(1))


def write_interhand(root):
    """Write the four files for an interacting, a right and a left hand; return the hands."""
    right, left = interhand_hands()

    def world(hand):
        return 1000 * hand["keypoints_cam"][TIP_FIRST] @ CAM_ROT + CAM_POS

    def fit(hand, mean):
        pose = turned(hand["mano_pose"], CAM_ROT.T)
        pose[3:] -= mean
        return dict(pose=pose.tolist(), shape=hand["mano_betas"].tolist(), trans=[0.0, 0, 0])

    frames, fits, images, annotations = {}, {}, [], []
    for number, side in enumerate(("interacting", "right", "left")):
        valid = np.repeat([side != "left", side != "right"], 21)
        joints = np.concatenate([world(right), world(left)])
        joints[~valid] = 1.0
        frames[str(number)] = dict(
            world_coord=joints.tolist(), joint_valid=valid[:, None].astype(int).tolist()
        )
        fits[str(number)] = dict(
            right=fit(right, MEAN) if side != "left" else None,
            left=fit(left, MEAN * MIRROR) if side != "right" else None,
        )
        images.append(
            dict(
                id=10 + number, file_name=f"{number}.jpg", capture=5, camera="400", frame_idx=number
            )
        )
        annotations.append(
            dict(
                id=20 + number,
                image_id=10 + number,
                bbox=[0, 0, SIZE, SIZE],
                joint_valid=valid[:, None].astype(int).tolist(),
                hand_type=side,
                hand_type_valid=1,
            )
        )
    K = right["cam_K"]
    camera = dict(
        campos={"400": CAM_POS.tolist()},
        camrot={"400": CAM_ROT.tolist()},
        focal={"400": [K[0, 0], K[1, 1]]},
        princpt={"400": [K[0, 2], K[1, 2]]},
    )
    for name, content in dict(
        data=dict(images=images, annotations=annotations),
        camera={"5": camera},
        joint_3d={"5": frames},
        MANO_NeuralAnnot={"5": fits},
    ).items():
        (root / f"{name}.json").write_text(json.dumps(content))
    left["keypoints"] = pixels(left["keypoints_cam"], K)
    left["cam_K"] = K
    return right, left


def change_json(path, change):
    """Change what a JSON file holds; return its path."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


# --- HO-3D -----------------------------------------------------------------------------------


def ho3d_meta(hand, split="train"):
    """The labels of a frame: what the release has of the hand, and of the object."""
    order = np.argsort(MANO_TO_OPENPOSE)
    opengl = hand["keypoints_cam"][order] @ FLIP_YZ
    common = dict(
        camMat=hand["cam_K"],
        objName="021_bleach_cleanser",
        objLabel=np.int64(12),
        objRot=np.zeros((3, 1)),
        objTrans=np.zeros(3),
    )
    if split == "evaluation":
        low, high = hand["keypoints"].min(0), hand["keypoints"].max(0)
        return common | dict(
            handJoints3D=opengl[0], handBoundingBox=[*low.tolist(), *high.tolist()]
        )
    return common | dict(
        handJoints3D=opengl,
        handPose=turned(hand["mano_pose"], FLIP_YZ),
        handBeta=hand["mano_betas"],
        handTrans=np.zeros(3),
        handVertContact=np.zeros(778, bool),
    )


def write_ho3d(root, split="train", ending="jpg", frames=("AB1/0003", "AB1/0001", "SM1/0002")):
    """Write the files of a split, listed in this order; return the hands."""
    hands = [make_hand(seed) for seed in range(len(frames))]
    for name, hand in zip(frames, hands, strict=True):
        sequence, frame = name.split("/")
        folder = root / split / sequence
        write_image(folder / "rgb" / f"{frame}.{ending}")
        write_meta(folder / "meta" / f"{frame}.pkl", ho3d_meta(hand, split))
    (root / f"{split}.txt").write_text("\n".join(frames) + "\n")
    return hands


def write_meta(path, labels):
    """Write a pickle as Python 2 could read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(labels, protocol=2))


def write_ho3d_truth(root, hands):
    """Write the joints and meshes of the evaluation split, as a prediction file has them."""
    order = np.argsort(MANO_TO_OPENPOSE)
    xyz = [(hand["keypoints_cam"][order] @ FLIP_YZ).tolist() for hand in hands]
    verts = [(hand["vertices_cam"] @ FLIP_YZ).tolist() for hand in hands]
    (root / "evaluation_xyz.json").write_text(json.dumps(xyz))
    (root / "evaluation_verts.json").write_text(json.dumps(verts))


# --- DexYCB ----------------------------------------------------------------------------------

SUBJECT = "20200709-subject-01"
SERIALS = ("836212060125", "839512060362")


def dexycb_labels(hand, mean, components):
    """The archive of a frame; ``None`` for a hand stands for a frame without one."""
    if hand is None:
        return dict(
            joint_3d=np.full((1, 21, 3), -1, np.float32),
            joint_2d=np.full((1, 21, 2), -1, np.float32),
            pose_m=np.zeros((1, 51), np.float32),
        )
    coefficients = np.linalg.solve(components.T, hand["mano_pose"][3:] - mean)
    pose = np.concatenate([hand["mano_pose"][:3], coefficients, [0.1, 0.2, 0.3]])
    return dict(
        seg=np.zeros((4, 4), np.uint8),
        joint_3d=np.float32(hand["keypoints_cam"])[None],
        joint_2d=np.float32(hand["keypoints"])[None],
        pose_m=np.float32(pose)[None],
    )


def write_dexycb(root, sequences=("20200709_1", "20200709_2"), serials=SERIALS, subject=SUBJECT):
    """Write right hands in the even and left ones in the odd sequences: frames 0 (without), 1, 2.

    Returns:
        The hands by (sequence, serial, frame).
    """
    hands = {}
    for serial in serials:
        path = root / "calibration" / "intrinsics" / f"{serial}_640x480.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        K = make_hand(0)["cam_K"]
        color = dict(fx=K[0, 0], fy=K[1, 1], ppx=K[0, 2], ppy=K[1, 2])
        path.write_text(yaml.safe_dump(dict(color={k: float(v) for k, v in color.items()})))
    for number, sequence in enumerate(sequences):
        right = number % 2 == 0
        calibration = f"{sequence}_{'right' if right else 'left'}"
        betas = None
        for camera, serial in enumerate(serials):
            folder = root / subject / sequence / serial
            folder.mkdir(parents=True, exist_ok=True)
            for frame in range(3):
                hand = make_hand(9 * number + 3 * camera + frame, betas) if frame else None
                if hand is not None:
                    betas = hand["mano_betas"]
                    if not right:
                        hand = mirrored(hand)
                        hand["cam_K"] = K
                        hand["keypoints"] = pixels(hand["keypoints_cam"], K)
                    hands[sequence, serial, frame] = hand
                signs = np.ones(45) if right else MIRROR
                labels = dexycb_labels(hand, MEAN * signs, COMPONENTS * signs)
                np.savez(folder / f"labels_{frame:06d}.npz", **labels)
                write_image(folder / f"color_{frame:06d}.jpg", (8, 8))
        meta = dict(
            serials=list(serials),
            mano_sides=["right" if right else "left"],
            mano_calib=[calibration],
            num_frames=3,
        )
        (root / subject / sequence / "meta.yml").write_text(yaml.safe_dump(meta))
        shape = root / "calibration" / f"mano_{calibration}" / "mano.yml"
        shape.parent.mkdir(parents=True)
        shape.write_text(yaml.safe_dump(dict(betas=[float(b) for b in betas])))
    return hands
