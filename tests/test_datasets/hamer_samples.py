"""Small archives and evaluation files in the layout that HaMeR released, of synthetic hands."""

import io
import json
import pickle
import tarfile

import cv2
import numpy as np
from hand_mesh_samples import SIZE, make_hand, mirrored


def hamer_label(seed, *, left=False, fitting_loss=100.0, **changes):
    """The labels of one hand in an archive, with ``changes``."""
    hand = make_hand(seed)
    if left:
        hand = mirrored(hand)
    low, high = hand["keypoints"].min(0), hand["keypoints"].max(0)
    label = dict(
        keypoints_2d=np.c_[hand["keypoints"], np.ones(21)].astype(np.float32),
        keypoints_3d=np.c_[hand["keypoints_cam"], np.ones(21)].astype(np.float32),
        center=(low + high) / 2,
        scale=1.5 * (high - low) / 200,
        hand_pose=hand["mano_pose"].astype(np.float32),
        betas=hand["mano_betas"].astype(np.float32),
        has_hand_pose=np.array(1.0),
        has_betas=np.array(1.0),
        right=np.array(float(not left)),
        extra_info={},
    )
    if fitting_loss is not None:
        losses = np.array(dict(reprojection_loss=np.float32(fitting_loss), total=1))
        label["extra_info"] = dict(fitting_loss=losses, name=np.array("somewhere"))
    return {key: value for key, value in (label | changes).items() if value is not None}


def encoded_image(grey):
    return cv2.imencode(".jpg", np.full((SIZE, SIZE, 3), grey, np.uint8))[1].tobytes()


def write_tar(path, samples):
    """Write an archive of ``(key, labels)``; labels that are bytes are written as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    members = []
    for number, (key, labels) in enumerate(samples):
        members.append((f"{key}.jpg", encoded_image(10 * number % 250)))
        content = labels if isinstance(labels, bytes) else pickle.dumps(labels)
        members.append((f"{key}.data.pyd", content))
    write_members(path, members)


def write_members(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def write_set(folder, seeds, per_tar=2, **changes):
    """Write archives of a hand an image."""
    for number in range(0, len(seeds), per_tar):
        part = seeds[number : number + per_tar]
        samples = [(f"img{seed:04d}", [hamer_label(seed, **changes)]) for seed in part]
        write_tar(folder / f"{number // per_tar:06d}.tar", samples)


def evaluation_arrays(seeds, lefts=()):
    """The arrays of an evaluation file: boxes in pixels, names under ``imgname``."""
    labels = [hamer_label(seed, left=seed in lefts) for seed in seeds]
    return dict(
        imgname=np.array([f"img{seed:04d}.jpg".encode() for seed in seeds]),
        center=np.stack([label["center"] for label in labels]),
        scale=np.stack([label["scale"] * 200 for label in labels]),
        hand_keypoints_2d=np.stack([label["keypoints_2d"] for label in labels]),
        hand_keypoints_3d=np.stack([label["keypoints_3d"] for label in labels]),
        right=np.array([float(seed not in lefts) for seed in seeds]),
        personid=np.zeros(len(seeds), np.int32),
    )


def write_hint(root, folder="TEST_newdays_img", tall=False):
    """Two images as released: a right hand, and a left one of which joints 3 and 4 are hidden."""
    (root / folder).mkdir(parents=True)
    for number, (name, hand) in enumerate(
        (("ND_a_frame1_r", make_hand(0)), ("ND_b_frame2_l", mirrored(make_hand(1))))
    ):
        low, high = hand["keypoints"].min(0), hand["keypoints"].max(0)
        if tall:
            low, high = (low + high) / 2 - [30, 60], (low + high) / 2 + [30, 60]
        annotation = dict(
            bbox=[[*low, *high]],
            keypoints=hand["keypoints"].tolist(),
            occlusion=[int(number and joint in (3, 4)) for joint in range(21)],
        )
        (root / folder / f"{name}.jpg").write_bytes(encoded_image(50))
        (root / folder / f"{name}.json").write_text(json.dumps([annotation]))
    return root / folder
