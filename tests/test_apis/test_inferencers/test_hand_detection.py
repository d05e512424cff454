from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

pytest.importorskip("mmdet")

import mmdet.apis
from mmdet.registry import MODELS as DETECTORS
from mmpose.apis.inferencers.utils import default_det_models

from mamba_mm.apis.inferencers import DetectedHands, HandMeshInferencer, WholeBodyHands
from mamba_mm.apis.inferencers.hand_detection import _sides_of_classes

WHOLE_BODY = "td-hm_vipnas-mbv3_8xb64-210e_coco-wholebody-256x192"


def whole_body_config():
    """A small estimator of MMPose, for 133 keypoints."""
    folder = HandMeshInferencer._get_repo_or_mim_dir("mmpose")
    return Config.fromfile(
        f"{folder}/configs/wholebody_2d_keypoint/topdown_heatmap/coco-wholebody/{WHOLE_BODY}.py"
    )


class TestSidesOfClasses:
    @pytest.mark.parametrize(
        ("names", "side", "expected"),
        [
            (("left_hand", "person", "Right Hand"), None, {0: "left", 2: "right"}),
            (("handbag", "lefthand", "righthands"), None, {1: "left", 2: "right"}),
            (("handbag", "hand"), "left", {1: "left"}),
            (("anything",), "right", {0: "right"}),
        ],
    )
    def test_by_their_names(self, names, side, expected):
        assert _sides_of_classes(names, None, side) == expected

    def test_as_the_caller_says(self):
        classes = {"b": "left", "c": None}
        assert _sides_of_classes(("a", "b", "c"), classes, "right") == {1: "left", 2: "right"}

    @pytest.mark.parametrize(
        ("names", "classes", "side", "message"),
        [
            (("a", "b"), {"c": "left"}, None, "no class 'c'; it has a, b"),
            (("handbag", "shorthand writer"), None, None, "no class of the detector is a hand"),
            (("hand",), None, None, "'hand' does not say which hand it is"),
            (("hand",), None, "both", "got 'both'"),
            (("a",), {"a": "both"}, None, "got 'both'"),
        ],
    )
    def test_mistakes(self, names, classes, side, message):
        with pytest.raises(ValueError, match=message):
            _sides_of_classes(names, classes, side)


@pytest.fixture(scope="module")
def detector_files(tmp_path_factory):
    """MMPose's config of hands with two classes, and random weights that name them."""
    config = Config.fromfile(default_det_models["hand"]["model"])
    config.model.bbox_head.num_classes = 2
    config.model.test_cfg.score_thr = 0.0
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = DETECTORS.build(config.model)
    for name, parameter in model.bbox_head.named_parameters():
        if "rtm_reg" in name and "bias" in name:
            torch.nn.init.constant_(parameter, 2.0)  # else the boxes of random weights are empty
    meta = dict(dataset_meta=dict(classes=("left_hand", "right_hand")))
    weights = tmp_path_factory.mktemp("detector") / "detector.pth"
    torch.save(dict(state_dict=model.state_dict(), meta=meta), weights)
    return config, weights


class TestDetectedHands:
    @pytest.fixture(scope="class")
    def detector(self, detector_files):
        return DetectedHands(*detector_files, device="cpu", score_thr=0.0)

    def test_a_detector_of_mmdetection_finds_boxes_with_sides(self, detector, scene):
        with DefaultScope.overwrite_default_scope("mmpose"):
            hands = detector(SimpleNamespace(image=scene.image))
            assert DefaultScope.get_current_instance().scope_name == "mmpose"
        assert {hand.side for hand in hands} <= {"left", "right"}
        assert hands
        height, width = scene.image.shape[:2]
        for hand in hands:
            assert hand.bbox.min() >= 0
            assert hand.bbox[2] <= width
            assert hand.bbox[3] <= height
        assert [hand.score for hand in hands] == sorted([h.score for h in hands], reverse=True)

    def test_choice_among_detections(self, detector, monkeypatch):
        monkeypatch.setattr(detector, "score_thr", 0.3)
        boxes = [[0, 0, 10, 10], [0, 0, 10, 9], [50, 0, 60, 10], [90, 0, 99, 9], [5, 5, 5, 9]]
        scores, labels = [0.6, 0.8, 0.3, 0.4, 0.9], [0, 1, 1, 0, 0]
        hands = detector.hands_of(np.float32(boxes), np.float32(scores), np.array(labels))
        # The same hand with the other side, a weak one, and one without area are left out.
        assert [(hand.side, hand.bbox.tolist()) for hand in hands] == [
            ("right", boxes[1]),
            ("left", boxes[3]),
        ]

    def test_other_classes_are_no_hands(self, detector, monkeypatch):
        monkeypatch.setattr(detector, "sides", {1: "right"})
        boxes = np.float32([[0, 0, 10, 10], [50, 0, 60, 10]])
        (hand,) = detector.hands_of(boxes, np.float32([0.9, 0.8]), np.array([0, 1]))
        assert hand.bbox.tolist() == boxes[1].tolist()

    def test_none(self, detector):
        assert detector.hands_of(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)) == []

    def test_missing_weights(self, detector_files, tmp_path):
        with pytest.raises(FileNotFoundError, match="no file of weights"):
            DetectedHands(detector_files[0], tmp_path / "none.pth", side="left")

    def test_the_hand_detector_of_mmpose_by_its_name(self, monkeypatch):
        asked = []

        def refuse(model, weights, **settings):
            asked.append((model, weights))
            raise URLError("no network")

        monkeypatch.setattr(mmdet.apis, "DetInferencer", refuse)
        with pytest.raises(FileNotFoundError, match=r"detector could not .*no network.*name the"):
            DetectedHands("hand", side="left")
        known = default_det_models["hand"]
        assert asked == [(known["model"], known["weights"])]


class TestWholeBodyHands:
    @pytest.fixture(scope="class")
    def estimator(self):
        return WholeBodyHands(whole_body_config(), device="cpu", person_detector="whole_image")

    def people(self, *hands):
        """A person for each dict of sides to (corner, confidences)."""
        keypoints, scores = np.zeros((len(hands), 133, 2)), np.zeros((len(hands), 133))
        for person, of_person in enumerate(hands):
            for side, (corner, confidences) in of_person.items():
                first = dict(left=91, right=112)[side]
                steps = np.arange(21)[:, None] * [1.0, 2.0]
                keypoints[person, first : first + 21] = corner + steps
                scores[person, first : first + len(confidences)] = confidences
        return SimpleNamespace(
            pred_instances=InstanceData(keypoints=keypoints, keypoint_scores=scores)
        )

    def test_confident_joints_make_boxes_with_sides(self, estimator):
        people = self.people(
            dict(left=((10, 20), [0.9] * 5), right=((100, 20), [0.9] * 3)),
            dict(right=((50, 60), [0.2] + [0.8] * 20)),
        )
        hands = estimator.hands_of(people)
        assert [(hand.side, hand.bbox.tolist()) for hand in hands] == [
            ("right", [51, 62, 70, 100]),
            ("left", [10, 20, 14, 28]),
        ]
        assert [hand.score for hand in hands] == pytest.approx([0.8, 0.9])

    def test_a_hand_that_two_people_are_found_with_counts_once(self, estimator):
        people = self.people(
            dict(right=((10, 20), [0.7] * 21)),
            dict(right=((11, 20), [0.9] * 21), left=((11, 20), [0.6] * 21)),
        )
        hands = estimator.hands_of(people)
        assert [(hand.side, hand.score) for hand in hands] == [
            ("right", pytest.approx(0.9)),
            ("left", pytest.approx(0.6)),
        ]

    def test_nobody(self, estimator):
        assert estimator.hands_of(self.people()) == []

    def test_an_estimator_of_mmpose_runs(self, estimator, scene, monkeypatch):
        monkeypatch.setattr(estimator, "keypoint_thr", -1.0)
        hands = estimator(SimpleNamespace(image=scene.image))
        assert [hand.side for hand in hands] == ["right", "left"]

    def test_an_estimator_without_hands(self):
        config = whole_body_config()
        for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
            config[loader].dataset.type = "CocoDataset"
        with pytest.raises(ValueError, match="17 keypoints have no left and right hands"):
            WholeBodyHands(config, device="cpu", person_detector="whole_image")

    def test_missing_weights(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no file of weights"):
            WholeBodyHands(whole_body_config(), tmp_path / "none.pth")
