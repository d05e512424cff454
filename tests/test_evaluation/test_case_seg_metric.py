"""Dice, IoU and HD95 of cases against numbers worked out by hand and by MONAI and SciPy."""

import math

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import METRICS, DefaultScope

from mamba_mm.evaluation import EMPTY_RULES, CaseSegMetric

pytest.importorskip("monai")
ndimage = pytest.importorskip("scipy.ndimage")

CLASSES = ("background", "liver", "aorta")


def sample(pred, truth, **metainfo):
    maps = {"pred_sem_seg": pred, "gt_sem_seg": truth}
    data = {k: {"data": torch.as_tensor(np.array(v))[None]} for k, v in maps.items()}
    return {"img_path": "a.png", **data, **metainfo}


def evaluate(samples, classes=CLASSES, **options):
    metric = CaseSegMetric(**options)
    metric.dataset_meta = {"classes": classes}
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def square(top, left, side, size=16, label=1):
    picture = np.zeros((size, size), np.int64)
    picture[top : top + side, left : left + side] = label
    return picture


def test_by_hand():
    values = evaluate([sample(square(2, 2, 4), square(2, 4, 4))], classes=CLASSES[:2])
    assert values["case/mDice"] == values["case/Dice_liver"] == pytest.approx(100 * 16 / 32)
    assert values["case/mIoU"] == pytest.approx(100 * 8 / 24)
    assert values["case/mHD95"] == pytest.approx(2.0)


def test_mean_over_cases_first_then_over_classes():
    both = square(0, 0, 4) + square(8, 8, 4, label=2)
    samples = [
        sample(both, both, img_path="a"),
        sample(square(0, 0, 4), square(0, 2, 4), img_path="b"),
    ]
    values = evaluate(samples, metrics=["dice"])
    assert values == {
        "case/Dice_liver": pytest.approx((100 + 50) / 2),
        "case/Dice_aorta": pytest.approx(100),  # of the one case that has it
        "case/mDice": pytest.approx((75 + 100) / 2),
    }


NAN = math.nan
DIAGONAL = math.hypot(15, 15)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        # prediction only, ground truth only, neither: Dice and HD95 of each
        ("worst", [(0, DIAGONAL), (0, DIAGONAL), (NAN, NAN)]),
        ("perfect", [(0, DIAGONAL), (0, DIAGONAL), (100, 0)]),
        ("skip", [(NAN, NAN), (0, NAN), (NAN, NAN)]),
        ("official", [(100, 0), (0, 0), (0, 0)]),
    ],
)
def test_rules_for_absent_classes(rule, expected):
    there, absent = square(0, 0, 4), square(0, 0, 0)
    cases = [(there, absent), (absent, there), (absent, absent)]
    for (pred, truth), (dice, distance) in zip(cases, expected, strict=True):
        values = evaluate([sample(pred, truth)], classes=CLASSES[:2], empty=rule)
        assert values["case/mDice"] == pytest.approx(dice, nan_ok=True)
        assert values["case/mIoU"] == pytest.approx(dice, nan_ok=True)
        assert values["case/mHD95"] == pytest.approx(distance, nan_ok=True)
    assert set(EMPTY_RULES) == {"worst", "perfect", "skip", "official"}


def random_masks(shape, seed):
    rng = np.random.default_rng(seed)
    smooth = (ndimage.gaussian_filter(rng.normal(size=shape), 2) for _ in range(2))
    return [s > 0.05 for s in smooth]


def directed_distances(one, other, spacing):
    """Distances from the surface voxels of a mask to those of another, by SciPy alone."""

    def surface(mask):
        return mask & ~ndimage.binary_erosion(mask)

    return ndimage.distance_transform_edt(~surface(other), sampling=spacing)[surface(one)]


@pytest.mark.parametrize("spacing", [None, (3.0, 0.8, 0.7)])
@pytest.mark.parametrize("seed", range(3))
def test_hd95_of_volumes(spacing, seed):
    from monai.metrics import compute_hausdorff_distance

    pred, truth = random_masks((8, 24, 20), seed)
    samples = [
        sample(p.astype(int), t.astype(int), case="c1", slice_index=i)
        for i, (p, t) in enumerate(zip(pred, truth, strict=True))
    ]
    options = dict(classes=CLASSES[:2], metrics=["hd95"], spacing=spacing)
    by_monai = compute_hausdorff_distance(
        torch.tensor(pred)[None, None],
        torch.tensor(truth)[None, None],
        include_background=True,
        percentile=95,
        spacing=None if spacing is None else list(spacing),
    )
    assert evaluate(samples, **options)["case/mHD95"] == pytest.approx(by_monai.item(), rel=1e-4)

    scale = spacing or (1, 1, 1)
    both = [directed_distances(pred, truth, scale), directed_distances(truth, pred, scale)]
    pooled = evaluate(samples, hd95_rule="pooled", **options)["case/mHD95"]
    assert pooled == pytest.approx(np.percentile(np.concatenate(both), 95), rel=1e-4)


def test_slices_of_a_case_are_put_in_order():
    pred = [square(0, 0, side) for side in (2, 6, 9)]
    truth = [square(0, 1, side) for side in (2, 6, 9)]
    ordered = [
        sample(p, t, case="c", slice_index=i)
        for i, (p, t) in enumerate(zip(pred, truth, strict=True))
    ]
    shuffled = [ordered[i] for i in (2, 0, 1)]
    assert evaluate(shuffled, classes=CLASSES[:2]) == evaluate(ordered, classes=CLASSES[:2])
    apart = [
        sample(p, t, img_path=str(i)) for i, (p, t) in enumerate(zip(pred, truth, strict=True))
    ]
    assert evaluate(apart, classes=CLASSES[:2]) != evaluate(ordered, classes=CLASSES[:2])


def test_ignored_pixels_do_not_count():
    truth = square(2, 2, 4)
    truth[:, 8:] = 255
    values = evaluate([sample(square(2, 2, 10), truth)], classes=CLASSES[:2], metrics=["dice"])
    # Of the 10 x 10 predicted pixels, 10 x 6 count.
    assert values["case/mDice"] == pytest.approx(100 * 2 * 16 / (16 + 60))


def test_the_rules_are_logged(caplog):
    from mmengine.logging import MMLogger

    logger = MMLogger.get_instance("metric-test")
    logger.addHandler(caplog.handler)
    evaluate([sample(square(0, 0, 2), square(0, 0, 2))], empty="skip")
    logger.removeHandler(caplog.handler)
    assert "1 cases; absent classes by the rule 'skip'" in caplog.text


def test_through_the_registry():
    with DefaultScope.overwrite_default_scope("mmseg"):
        metric = METRICS.build(dict(type="mamba_mm.CaseSegMetric", metrics=["iou"]))
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = {"classes": CLASSES[:2]}
    evaluator.process([sample(square(0, 0, 2), square(0, 0, 2))], {})
    assert evaluator.evaluate(1)["case/mIoU"] == 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["dize"]}, "unknown metric 'dize'; known: dice, iou, hd95"),
        ({"empty": "zero"}, "unknown empty rule 'zero'; known: worst, perfect, skip, official"),
        ({"hd95_rule": "mean"}, "unknown hd95_rule 'mean'; known: max, pooled"),
    ],
)
def test_unknown_names_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CaseSegMetric(**options)


def test_what_cannot_be_one_case_is_refused():
    one = square(0, 0, 2)
    with pytest.raises(ValueError, match="case c has slices twice"):
        evaluate([sample(one, one, case="c", slice_index=0)] * 2)
    with pytest.raises(ValueError, match="slices twice, or images without slice_index"):
        evaluate([sample(one, one)] * 2)
    small = square(0, 0, 2, size=8)
    slices = [
        sample(one, one, case="c", slice_index=0),
        sample(small, small, case="c", slice_index=1),
    ]
    with pytest.raises(ValueError, match="differ in size"):
        evaluate(slices)
    with pytest.raises(ValueError, match="LoadAnnotations after Resize"):
        evaluate([sample(one, square(0, 0, 2, size=8))])
