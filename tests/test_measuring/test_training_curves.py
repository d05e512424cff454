"""Curves are read as MMEngine logs them, over interruptions, and aggregated over seeds."""

import json
import math

import numpy as np
import pytest

from mamba_mm.measuring.training_curves import (
    read_run,
    running_mean,
    sample_std,
    spread_over_runs,
)


def training(iteration, loss, seconds=0.5, **more):
    return dict(loss=loss, time=seconds, epoch=1, iter=iteration, step=iteration, **more)


def validation(epoch, **metrics):
    return {**{k.replace("__", "/"): v for k, v in metrics.items()}, "time": 9.0, "step": epoch}


def write_log(work_dir, time, *lines, cut=""):
    folder = work_dir / time / "vis_data"
    folder.mkdir(parents=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "scalars.json").write_text(text + cut)


def test_loss_metric_and_time_are_read(tmp_path):
    write_log(
        tmp_path,
        "20260101_000000",
        *(training(20, 4.0, 0.4), training(40, 3.0, 0.9), training(60, 2.5, 0.5)),
        validation(1, coco__bbox_mAP=0.25, coco__segm_mAP=0.125),
        {"lr": 0.1, "iter": 60, "step": 60},
    )
    run = read_run(tmp_path, "coco/bbox_mAP")

    assert run.loss == {20: 4.0, 40: 3.0, 60: 2.5}
    assert run.metric == {1: 0.25}
    assert run.seconds_per_iteration == 0.5  # the validation's 9 s are no iteration's
    assert {"coco/bbox_mAP", "coco/segm_mAP"} <= set(run.metrics_found)


def test_what_was_done_again_after_an_interruption_counts_once(tmp_path):
    write_log(
        tmp_path,
        "20260101_000001",
        *(training(20, 4.0), validation(1, m=0.1), training(40, 9.0)),
        cut='{"loss": 8.0, "it',
    )
    write_log(
        tmp_path, "20260101_000002", *(training(40, 3.0), training(60, 2.0), validation(2, m=0.2))
    )
    run = read_run(tmp_path, "m")

    assert run.loss == {20: 4.0, 40: 3.0, 60: 2.0}
    assert run.metric == {1: 0.1, 2: 0.2}


def test_a_line_that_is_damaged_before_the_end_is_named(tmp_path):
    write_log(tmp_path, "20260101_000000", training(20, 4.0), cut='{"loss"\n{"step": 1}\n')

    with pytest.raises(ValueError, match=r"scalars\.json, line 2 "):
        read_run(tmp_path, "m")


def test_validations_without_the_metric_leave_it_empty(tmp_path):
    write_log(
        tmp_path,
        "20260101_000000",
        *(training(20, 4.0), validation(1), training(40, 4.0), validation(2, other=1.0)),
    )
    run = read_run(tmp_path, "m")

    assert run.metric == {}
    assert "other" in run.metrics_found


def test_a_folder_without_a_log_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no training logged there"):
        read_run(tmp_path, "m")


def test_mean_and_spread_by_hand():
    spread = spread_over_runs([{10: 1.0, 20: 4.0}, {10: 3.0, 20: 4.0}, {10: 8.0, 20: 7.0}])

    assert spread.steps.tolist() == [10, 20]
    assert spread.mean.tolist() == [4.0, 5.0]
    # (9 + 1 + 16) / 2 and (1 + 1 + 4) / 2
    np.testing.assert_allclose(spread.std, [math.sqrt(13), math.sqrt(3)])
    assert spread.low.tolist() == [1.0, 4.0]
    assert spread.high.tolist() == [8.0, 7.0]
    assert spread.runs.tolist() == [3, 3]


def test_curves_of_unequal_lengths_count_who_is_there():
    spread = spread_over_runs([{1: 0.1, 3: 0.3}, {2: 0.4, 1: 0.3}])

    assert spread.steps.tolist() == [1, 2, 3]
    np.testing.assert_allclose(spread.mean, [0.2, 0.4, 0.3])
    assert spread.runs.tolist() == [2, 1, 1]
    assert np.isnan(spread.std[1:]).all()


def test_no_curve_gives_no_step():
    assert len(spread_over_runs([]).steps) == len(spread_over_runs([{}]).mean) == 0


def test_one_value_has_no_deviation():
    assert math.isnan(sample_std([3.0]))
    assert sample_std([1.0, 3.0]) == pytest.approx(math.sqrt(2))


def test_a_running_mean_is_centred_and_cut_alike_on_both_sides():
    curve = {10: 0.0, 20: 3.0, 30: 9.0, 40: 0.0, 50: 3.0}

    assert running_mean(curve, 3) == {10: 0.0, 20: 4.0, 30: 4.0, 40: 4.0, 50: 3.0}
    assert running_mean(curve, 5) == {10: 0.0, 20: 4.0, 30: 3.0, 40: 4.0, 50: 3.0}
    assert running_mean(curve, 1) == curve


@pytest.mark.parametrize("window", [0, 2, -3])
def test_a_running_mean_without_a_centre_is_refused(window):
    with pytest.raises(ValueError, match="odd number"):
        running_mean({1: 1.0}, window)
