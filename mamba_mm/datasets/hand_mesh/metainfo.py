"""What MMPose wants to know about the 21 joints of a hand, without a file to look for."""

from __future__ import annotations

NUM_JOINTS = 21

_WHITE = [255, 255, 255]
_FINGERS = {
    "thumb": [255, 128, 0],
    "forefinger": [255, 153, 255],
    "middle_finger": [102, 178, 255],
    "ring_finger": [255, 51, 51],
    "pinky_finger": [0, 255, 0],
}


def hand_metainfo(dataset_name: str) -> dict:
    """Describe 21 joints in OpenPose order, with the joint names of MMPose's own hand sets.

    Args:
        dataset_name: What MMPose calls the set, for instance in evaluators of several sets.

    Returns:
        A dict that MMPose takes as ``metainfo`` or ``METAINFO``. MMPose finds a metainfo file only
        from the working directory or its own package, hence a dict.
    """
    joints = [dict(name="wrist", id=0, color=_WHITE, type="", swap="")]
    links = []
    for finger, color in _FINGERS.items():
        parent = "wrist"
        for number in range(1, 5):
            name = f"{finger}{number}"
            links.append(dict(link=(parent, name), id=len(links), color=color))
            joints.append(dict(name=name, id=len(joints), color=color, type="", swap=""))
            parent = name
    return dict(
        dataset_name=dataset_name,
        keypoint_info=dict(enumerate(joints)),
        skeleton_info=dict(enumerate(links)),
        joint_weights=[1.0] * NUM_JOINTS,
        sigmas=[],
    )
