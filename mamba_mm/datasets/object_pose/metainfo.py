"""What MMPose wants to know about the keypoints of an object, without a file to look for."""

from __future__ import annotations

import colorsys
from itertools import combinations

NUM_KEYPOINTS = 8


def object_metainfo(dataset_name: str, num_keypoints: int = NUM_KEYPOINTS) -> dict:
    """Describe keypoints on the surface of an object.

    They have no order and no skeleton of their own; all are joined, as in the graph of the head.

    Args:
        dataset_name: What MMPose calls the set, for instance in evaluators of several sets.
        num_keypoints: How many there are.

    Returns:
        A dict that MMPose takes as ``metainfo`` or ``METAINFO``.
    """
    names = [f"point{number}" for number in range(1, num_keypoints + 1)]
    colors = [
        [round(255 * channel) for channel in colorsys.hsv_to_rgb(index / num_keypoints, 0.8, 1.0)]
        for index in range(num_keypoints)
    ]
    points = [
        dict(name=name, id=index, color=colors[index], type="", swap="")
        for index, name in enumerate(names)
    ]
    links = [
        dict(link=(names[i], names[j]), id=number, color=colors[i])
        for number, (i, j) in enumerate(combinations(range(num_keypoints), 2))
    ]
    return dict(
        dataset_name=dataset_name,
        keypoint_info=dict(enumerate(points)),
        skeleton_info=dict(enumerate(links)),
        joint_weights=[1.0] * num_keypoints,
        sigmas=[],
    )
