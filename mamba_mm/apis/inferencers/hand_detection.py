"""Hands that a network finds: MMDetection's detectors, and MMPose's whole-body estimators."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.error import URLError

import numpy as np
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpose.apis.inferencers import Pose2DInferencer
from mmpose.apis.inferencers.utils import default_det_models
from mmpose.evaluation.functional import nms
from mmpose.structures import PoseDataSample

from mamba_mm.registry import require_toolbox

from .hand_boxes import SIDES, HandBox, HandBoxes, is_right_side
from .inputs import Frame

_HAND = re.compile(r"(^|[^a-z])(left|right)?hands?([^a-z]|$)")


class DetectedHands(HandBoxes):
    """Hands that a detector of MMDetection finds.

    Args:
        model: Config of a detector, or a name that MMDetection's ``DetInferencer`` knows, whose
            weights it then downloads. ``"hand"`` is MMPose's hand detector (RTMDet nano).
        weights: Its weights: a file or an address.
        device: Where it runs; by default on a GPU, if there is one.
        classes: The hands among its classes: from the name of a class to ``"right"``, ``"left"``
            or ``None``. By default those whose names have the word "hand", and a side if they
            have "left" or "right"; a detector with one class is one of hands.
        side: Which hand those mean that do not say it.
        score_thr: Weaker detections are left out.
        nms_thr: Of boxes that overlap more than that (intersection over union) the one with the
            better score stays, whatever their sides.

    Raises:
        FileNotFoundError: There is no such file of weights, or they could not be downloaded.
        ValueError: None of the classes is a hand, or a side is not known.
        ImportError: MMDetection is not installed.
    """

    def __init__(
        self,
        model: str | Path | Config,
        weights: str | Path | None = None,
        device: str | None = None,
        classes: Mapping[str, str | None] | None = None,
        side: str | None = None,
        score_thr: float = 0.3,
        nms_thr: float = 0.5,
    ) -> None:
        require_toolbox("mmdet", "a detector of hands")
        from mmdet.apis import DetInferencer

        if model == "hand":
            known = default_det_models["hand"]
            model, weights = known["model"], weights or known["weights"]
        _check_weights(weights)
        self.score_thr = score_thr
        self.nms_thr = nms_thr
        with DefaultScope.overwrite_default_scope("mmdet"), _explaining_downloads("detector"):
            self._detector = DetInferencer(
                str(model) if isinstance(model, Path) else model,
                None if weights is None else str(weights),
                device=device,
                scope="mmdet",
                show_progress=False,
            )
        names = self._detector.model.dataset_meta["classes"]
        names = (names,) if isinstance(names, str) else tuple(names)
        self.sides = _sides_of_classes(names, classes, side)

    def __call__(self, frame: Frame) -> list[HandBox]:
        """Return the hands of a picture, the best score first."""
        with DefaultScope.overwrite_default_scope("mmdet"):
            result = self._detector(frame.image, return_datasamples=True)
        found = result["predictions"][0].pred_instances.cpu().numpy()
        height, width = frame.image.shape[:2]
        # Some detectors pad pictures, and find things there.
        inside = np.clip(found.bboxes, 0, [width, height, width, height])
        return self.hands_of(inside, found.scores, found.labels)

    def hands_of(self, bboxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> list[HandBox]:
        """Choose the hands among detections.

        Args:
            bboxes: ``(N, 4)``; left, top, right, bottom.
            scores: ``(N,)``.
            labels: ``(N,)``, numbers of classes.
        """
        kept = np.flatnonzero((scores > self.score_thr) & np.isin(labels, list(self.sides)))
        # Boxes without an area, which detectors do report, have no hand to show.
        kept = kept[(bboxes[kept, 2:] > bboxes[kept, :2]).all(axis=1)]
        kept = kept[nms(np.column_stack([bboxes[kept], scores[kept]]), self.nms_thr)]
        return [HandBox(bboxes[i], self.sides[int(labels[i])], scores[i]) for i in kept]


class WholeBodyHands(HandBoxes):
    """Hands of the people whom a whole-body estimator of MMPose finds, which knows their sides.

    As HaMeR's demo does: a hand counts if enough of its joints are confident, and the box is that
    of those joints. The joints are told from their names in the data set's metainfo, such as
    ``left_thumb1``.

    Args:
        model: Config of an estimator, or a name that MMPose knows, such as ``"wholebody"``.
        weights: Its weights: a file or an address.
        device: Where it runs; by default on a GPU, if there is one.
        person_detector: Config or name of the detector of people that a top-down estimator
            needs; ``None`` takes MMPose's, ``"whole_image"`` none.
        person_detector_weights: Its weights.
        person_classes: Numbers of its classes that are people.
        keypoint_thr: Less confident joints do not count.
        min_keypoints: Joints that a hand needs.
        nms_thr: Of hands of one side that overlap more than that the more confident one stays:
            people who overlap are found with each other's hands.

    Raises:
        FileNotFoundError: There is no such file of weights, or they could not be downloaded.
        ValueError: The estimator's keypoints have no hands.
    """

    def __init__(
        self,
        model: str | Path | Config,
        weights: str | Path | None = None,
        device: str | None = None,
        person_detector: str | Path | None = None,
        person_detector_weights: str | Path | None = None,
        person_classes: int | Sequence[int] = 0,
        keypoint_thr: float = 0.5,
        min_keypoints: int = 4,
        nms_thr: float = 0.5,
    ) -> None:
        for file in (weights, person_detector_weights):
            _check_weights(file)
        self.keypoint_thr = keypoint_thr
        self.min_keypoints = min_keypoints
        self.nms_thr = nms_thr
        with DefaultScope.overwrite_default_scope("mmpose"), _explaining_downloads("estimator"):
            self._estimator = Pose2DInferencer(
                str(model) if isinstance(model, Path) else model,
                None if weights is None else str(weights),
                device=device,
                det_model=None if person_detector is None else str(person_detector),
                det_weights=(
                    None if person_detector_weights is None else str(person_detector_weights)
                ),
                det_cat_ids=person_classes,
            )
        self._joints = _hand_joints(self._estimator.model.dataset_meta["keypoint_id2name"])

    def __call__(self, frame: Frame) -> list[HandBox]:
        """Return the hands of all people of a picture."""
        with DefaultScope.overwrite_default_scope("mmpose"):
            (result,) = self._estimator(frame.image, return_datasamples=True)
        return self.hands_of(result["predictions"][0])

    def hands_of(self, people: PoseDataSample) -> list[HandBox]:
        """Return the hands of people.

        Args:
            people: ``pred_instances`` with ``keypoints`` (N, K, 2) and ``keypoint_scores`` (N, K).
        """
        found = people.pred_instances
        keypoints = np.asarray(found.keypoints)[..., :2]
        scores = np.asarray(found.keypoint_scores)
        hands = []
        for side, joints in self._joints.items():
            candidates = [
                self._hand(side, keypoints[person, joints], scores[person, joints])
                for person in range(len(keypoints))
            ]
            of_side = [hand for hand in candidates if hand is not None]
            boxes = np.array([[*hand.bbox, hand.score] for hand in of_side]).reshape(-1, 5)
            hands += [of_side[i] for i in nms(boxes, self.nms_thr)]
        return hands

    def _hand(self, side: str, joints: np.ndarray, scores: np.ndarray) -> HandBox | None:
        confident = scores > self.keypoint_thr
        if confident.sum() < self.min_keypoints:
            return None
        low, high = joints[confident].min(axis=0), joints[confident].max(axis=0)
        if not (high > low).all():
            return None
        return HandBox([*low, *high], side, scores[confident].mean())


def _sides_of_classes(
    names: Sequence[str], classes: Mapping[str, str | None] | None, side: str | None
) -> dict[int, str]:
    """From the number of a class of hands to its side."""
    if side is not None:
        is_right_side(side)
    if classes is None:
        classes = _classes_of_hands(names)
    unknown = [name for name in classes if name not in names]
    if unknown:
        raise ValueError(
            f"the detector has no class {', '.join(map(repr, unknown))}; it has {_listed(names)}"
        )
    without = [name for name, its_side in classes.items() if its_side is None]
    if without and side is None:
        raise ValueError(
            f"the detector's class {without[0]!r} does not say which hand it is, and a hand "
            "network cannot tell: give side='right' or side='left' if all hands are of one side, "
            "or take a whole-body estimator, which knows the sides"
        )
    sides = {names.index(name): its_side or side for name, its_side in classes.items()}
    for its_side in sides.values():
        is_right_side(its_side)
    return sides


def _classes_of_hands(names: Sequence[str]) -> dict[str, str | None]:
    if len(names) == 1:
        return {names[0]: _side_in(names[0])}
    found = {name: _side_in(name) for name in names if _HAND.search(name.lower())}
    if not found:
        raise ValueError(
            f"no class of the detector is a hand by its name; it has {_listed(names)}. Say which "
            "are: classes={'NAME': 'right'}, with 'left', 'right', or None for either"
        )
    return found


def _side_in(name: str) -> str | None:
    return next((side for side in SIDES if side in name.lower()), None)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def _hand_joints(names: Mapping[int, str]) -> dict[str, list[int]]:
    """Numbers of the joints of each hand, by its side."""
    parts = "hand|thumb|forefinger|index|middle|ring|pinky"
    joints = {
        side: [number for number, name in names.items() if re.match(f"{side}_({parts})", name)]
        for side in SIDES
    }
    if not all(joints.values()):
        raise ValueError(
            f"the estimator's {len(names)} keypoints have no left and right hands; it has to be "
            "one of whole bodies, such as those of COCO-WholeBody with 133 keypoints"
        )
    return joints


def _check_weights(weights: str | Path | None) -> None:
    is_address = "://" in str(weights)
    if weights is not None and not is_address and not Path(weights).is_file():
        raise FileNotFoundError(f"there is no file of weights {weights}")


@contextlib.contextmanager
def _explaining_downloads(what: str) -> Iterator[None]:
    """Say what to do where weights that a toolbox names cannot be downloaded."""
    try:
        yield
    except (URLError, ConnectionError, TimeoutError) as error:
        raise FileNotFoundError(
            f"the weights of the {what} could not be downloaded ({error}); download them "
            "elsewhere and name the file"
        ) from error
