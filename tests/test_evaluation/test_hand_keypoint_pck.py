"""The 2-D PCK of hands, by hand."""

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.evaluator import Evaluator
from mmengine.registry import METRICS, DefaultScope

from mamba_mm.evaluation import HandKeypointPCK

# Longest side 200, so 10 pixels are 0.05.
BOX = (50, 20, 150, 220)


def sample(errors=(), confidence=1.0, box=BOX):
    """A hand whose first joints are off by so many pixels."""
    truth = np.random.default_rng(0).uniform(40, 200, (1, 21, 2)).round()
    predicted = truth.copy()
    for joint, error in enumerate(errors):
        predicted[0, joint] += np.array([0.6, -0.8]) * error
    visible = np.broadcast_to(np.float32(confidence), (1, 21))
    return dict(
        img_path="hand.jpg",
        pred_instances=dict(keypoints=predicted),
        gt_instances=dict(
            keypoints=torch.tensor(truth),
            keypoints_visible=visible,
            bboxes=np.float32([box]),
        ),
    )


def evaluate(samples, **options):
    metric = HandKeypointPCK(**options)
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def test_the_threshold_itself_is_correct():
    found = evaluate([sample([10, 10.001, 20, 30, 31])])
    assert found == {
        "hand2d/PCK@0.05": pytest.approx(17 / 21),
        "hand2d/PCK@0.1": pytest.approx(19 / 21),
        "hand2d/PCK@0.15": pytest.approx(20 / 21),
    }


def test_the_longest_side_of_the_box_is_the_measure():
    errors = [15]
    assert evaluate([sample(errors)])["hand2d/PCK@0.05"] < 1
    for box in ((0, 0, 300, 10), (0, 0, 10, 300)):
        assert evaluate([sample(errors, box=box)])["hand2d/PCK@0.05"] == 1


def test_only_confident_labels_count():
    half = np.where(np.arange(21) == 0, 0.5, 0.51)
    assert evaluate([sample([99], half)])["hand2d/PCK@0.05"] == 1
    assert evaluate([sample([0, 99], half)])["hand2d/PCK@0.05"] == pytest.approx(19 / 20)
    assert evaluate([sample([99], half)], min_confidence=0.4)["hand2d/PCK@0.05"] < 1


def test_the_mean_is_over_joints_not_over_labels():
    """Joint 0 is labelled once and right, joint 1 twice and once right, others never."""
    both, second = np.arange(21) < 2, np.arange(21) == 1
    found = evaluate([sample([0, 0], both), sample([99, 99], second)])
    assert found["hand2d/PCK@0.05"] == pytest.approx((1 + 1 / 2) / 2)


def test_joints_without_label_may_be_anything():
    hand = sample(confidence=np.arange(21) > 0)
    hand["pred_instances"]["keypoints"][0, 0] = np.nan
    assert evaluate([hand])["hand2d/PCK@0.05"] == 1


def test_options_and_prefix():
    found = evaluate([sample([40])], thresholds=[0.2], prefix="visor")
    assert found == {"visor/PCK@0.2": 1}
    for thresholds in ([], [0.1, 0]):
        with pytest.raises(ValueError, match="thresholds must be positive"):
            HandKeypointPCK(thresholds)


def test_what_is_wrong_is_named():
    hand = sample()
    hand["pred_instances"]["keypoints"][0, 3] = np.inf
    with pytest.raises(ValueError, match=r"prediction for hand\.jpg is not finite"):
        evaluate([hand])
    hand = sample()
    hand["gt_instances"]["keypoints"][0, 3] = np.nan
    with pytest.raises(ValueError, match=r"label of hand\.jpg is not finite"):
        evaluate([hand])
    for box in ((5, 5, 5, 5), (9, 9, 2, 2), (np.nan, 0, 9, 9)):
        with pytest.raises(ValueError, match=r"the box of hand\.jpg is empty"):
            evaluate([sample(box=box)])
    hand = sample()
    hand["gt_instances"].pop("bboxes")
    with pytest.raises(KeyError, match=r"gt_instances of hand\.jpg has no bboxes, only keypoints"):
        evaluate([hand])
    hand = sample()
    hand["pred_instances"]["keypoints"] = np.zeros((2, 21, 2))
    with pytest.raises(ValueError, match=r"keypoints of hand\.jpg has the shape \(2, 21, 2\)"):
        evaluate([hand])
    with pytest.raises(ValueError, match="none of 1 samples labels a joint"):
        evaluate([sample(confidence=0.5)])


def test_it_is_registered_and_works_beside_the_metric_of_meshes():
    with DefaultScope.overwrite_default_scope("mmpose"):
        metric = METRICS.build(dict(type="mamba_mm.HandKeypointPCK"))
        evaluator = Evaluator([ConfigDict(type="mamba_mm.HandKeypointPCK", thresholds=[0.1])])
    assert isinstance(metric, HandKeypointPCK)
    evaluator.process([sample([20])])
    assert evaluator.evaluate(1) == {"hand2d/PCK@0.1": 1}
