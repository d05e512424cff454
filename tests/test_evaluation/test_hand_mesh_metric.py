"""HandMeshMetric on hands whose errors are known."""

import json
import math
import os
import re
import zipfile
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import METRICS, DefaultScope
from mmengine.structures import BaseDataElement, InstanceData
from processes import in_group

from mamba_mm.evaluation import HandMeshMetric
from mamba_mm.evaluation.functional import (
    fscore,
    pck,
    pck_auc,
    read_submission,
    similarity_align,
)
from mamba_mm.models.body_models import MANOLayer, axis_angle_to_matrix

ALL = (
    *("PA-MPJPE", "PA-MPVPE", "MPJPE", "MPVPE", "MPJPE_abs", "F@5", "F@15", "F@5_raw", "F@15_raw"),
    *("AUC_J", "AUC_V", "AUC_J_raw", "PCK3D@20", "PCK3D@30"),
)
DEFAULT = ("PA-MPJPE", "PA-MPVPE", "F@5", "F@15", "AUC_J", "AUC_V")


def hand(rng, count=778):
    """Joints and vertices of something as large as a hand, in front of the camera."""
    points = rng.normal(scale=0.04, size=(21 + count, 3)) + np.array([0.0, 0.1, 0.6])
    return points[:21], points[21:]


def sample(index=0, noise=0.004, **changes):
    """A labelled hand, and a prediction wrong by ``noise`` metres; ``changes`` of either side."""
    rng = np.random.default_rng(index)
    joints, vertices = hand(rng)
    pred = {
        "keypoints_3d": joints + rng.normal(scale=noise, size=joints.shape),
        "vertices": vertices + rng.normal(scale=noise, size=vertices.shape),
    }
    truth = {
        "keypoints_cam": joints,
        "keypoints_cam_valid": np.ones(21),
        "vertices_cam": vertices,
    }
    flags = dict.fromkeys(("has_3d", "has_mano", "has_vertices", "has_cam", "is_right"), 1.0)
    for name, value in changes.items():
        side = pred if name in ("keypoints_3d", "vertices", "cam_translation") else truth
        side[name] = value
    flags = {name: truth.pop(name, value) for name, value in flags.items()}
    instances = [
        {name: np.asarray(value, np.float32)[None] for name, value in side.items()}
        for side in (pred, truth | flags)
    ]
    return {
        "img_path": f"{index}.jpg",
        "id": index,
        "pred_instances": instances[0],
        "gt_instances": instances[1],
    }


def evaluate(samples, **options):
    metric = HandMeshMetric(**options)
    metric.process({}, samples)
    values = metric.evaluate(len(samples))
    assert all(name.startswith("mesh/") for name in values)
    return {name.removeprefix("mesh/"): value for name, value in values.items()}


def arrays(one):
    pred, truth = one["pred_instances"], one["gt_instances"]
    keys = (("keypoints_3d", "vertices"), ("keypoints_cam", "vertices_cam"))
    return [
        side[key][0].astype(np.float64)
        for side, names in zip((pred, truth), keys, strict=True)
        for key in names
    ]


def test_a_perfect_prediction():
    values = evaluate([sample(noise=0), sample(1, noise=0)], metrics=ALL)
    assert set(values) == set(ALL)
    for name, value in values.items():
        # Rounding moves the points off the first threshold of the curves, which is zero.
        tolerance = 0.5 / 99 if "AUC" in name else 1e-4
        assert value == pytest.approx(0.0 if "MP" in name else 1.0, abs=tolerance + 1e-12), name
        assert type(value) is float


def test_every_value_is_its_definition():
    samples = [sample(i, noise=0.02) for i in range(3)]
    for one in samples:
        one["pred_instances"]["keypoints_3d"] += np.float32([0.05, 0.02, 0.01])
        one["pred_instances"]["vertices"] += np.float32([0.02, 0.0, -0.01])
    values = evaluate(samples, metrics=ALL)

    def distances(pred, gt):
        return 1000 * np.linalg.norm(pred - gt, axis=-1)

    joints = {"PA": [], "wrist": [], "raw": []}
    meshes = {"PA": [], "wrist": [], "raw": []}
    scores = {"": [], "_raw": []}
    for one in samples:
        pred_j, pred_v, gt_j, gt_v = arrays(one)
        joints["PA"].append(distances(similarity_align(pred_j, gt_j), gt_j))
        joints["wrist"].append(distances(pred_j - pred_j[0], gt_j - gt_j[0]))
        joints["raw"].append(distances(pred_j, gt_j))
        aligned = similarity_align(pred_v, gt_v)
        meshes["PA"].append(distances(aligned, gt_v))
        meshes["wrist"].append(distances(pred_v - pred_j[0], gt_v - gt_j[0]))
        scores[""].append(fscore(aligned, gt_v, (0.005, 0.015)))
        scores["_raw"].append(fscore(pred_v, gt_v, (0.005, 0.015)))
    expected = {
        "PA-MPJPE": np.mean(joints["PA"]),
        "MPJPE": np.mean(joints["wrist"]),
        "MPJPE_abs": np.mean(joints["raw"]),
        "PA-MPVPE": np.mean(meshes["PA"]),
        "MPVPE": np.mean(meshes["wrist"]),
        "AUC_J": pck_auc(np.array(joints["PA"])),
        "AUC_J_raw": pck_auc(np.array(joints["raw"])),
        "AUC_V": pck_auc(np.array(meshes["PA"])),
        "PCK3D@20": pck(np.array(joints["PA"]), 20),
        "PCK3D@30": pck(np.array(joints["PA"]), 30),
    }
    for suffix, per_sample in scores.items():
        for threshold, value in zip((5, 15), np.mean(per_sample, 0), strict=True):
            expected[f"F@{threshold}{suffix}"] = value
    assert values == pytest.approx(expected, rel=1e-6)
    assert len({round(value, 9) for value in values.values()}) == len(ALL)  # nothing saturated


def test_default_metrics_and_thresholds():
    assert tuple(evaluate([sample()])) == DEFAULT
    values = evaluate([sample()], fscore_thrs=(2.5,), auc_range=(0, 4), auc_steps=5)
    assert tuple(values) == ("PA-MPJPE", "PA-MPVPE", "F@2.5", "AUC_J", "AUC_V")
    assert 0 < values["F@2.5"] < 1
    assert values["AUC_J"] < evaluate([sample()])["AUC_J"]


def test_metrics_of_joints_need_no_mesh():
    one = sample(has_vertices=0.0)
    del one["pred_instances"]["vertices"], one["gt_instances"]["vertices_cam"]
    assert evaluate([one], metrics=["MPJPE", "AUC_J"])["MPJPE"] > 1


def test_units():
    one = sample()
    values = evaluate([one])
    for side in ("pred_instances", "gt_instances"):
        for name, value in one[side].items():
            if value.shape[-1] == 3:
                one[side][name] = value * 1000
    with pytest.raises(ValueError, match=r"labelled hand of 0.jpg would be \d+ m large"):
        evaluate([one])
    assert evaluate([one], unit_scale=1.0) == pytest.approx(values, rel=1e-4)


def test_predictions_in_millimetres_are_refused_and_one_wild_prediction_is_not():
    wild = sample()
    for name in ("keypoints_3d", "vertices"):
        wild["pred_instances"][name] *= 1000
    with pytest.raises(ValueError, match="most predicted hands are larger than 1 m"):
        evaluate([wild, wild, sample(1)], metrics=["PA-MPJPE"])
    assert evaluate([wild, sample(1), sample(2)], metrics=["MPJPE"])["MPJPE"] > 1000


def test_translation_brings_predictions_into_the_camera_frame():
    joints, vertices = hand(np.random.default_rng(0))
    shift = np.array([0.1, 0.2, 0.3])
    moved = sample(keypoints_3d=joints - shift, vertices=vertices - shift, cam_translation=shift)
    raw = ("MPJPE_abs", "F@5_raw", "AUC_J_raw")
    values = evaluate([moved], metrics=raw)
    assert values == pytest.approx({"MPJPE_abs": 0, "F@5_raw": 1, "AUC_J_raw": 1}, abs=0.01)
    del moved["pred_instances"]["cam_translation"]
    length = 1000 * np.linalg.norm(shift)
    assert evaluate([moved], metrics=raw) == pytest.approx(
        {"MPJPE_abs": length, "F@5_raw": 0, "AUC_J_raw": 0}
    )


def test_reflections_count_unless_freihand():
    one = sample(noise=0)
    for name in ("keypoints_3d", "vertices"):
        one["pred_instances"][name] *= np.float32([-1, 1, 1])
    assert evaluate([one])["PA-MPJPE"] > 10
    assert evaluate([one], alignment="freihand")["PA-MPJPE"] < 1e-3
    assert evaluate([one], alignment="freihand")["PA-MPVPE"] < 1e-3


def test_an_all_zero_prediction_has_the_spread_of_the_truth():
    one = sample(keypoints_3d=np.zeros((21, 3)), vertices=np.zeros((778, 3)))
    *_, joints, vertices = arrays(one)
    values = evaluate([one], metrics=[*DEFAULT, "MPJPE_abs"])
    for name, points in (("PA-MPJPE", joints), ("PA-MPVPE", vertices)):
        spread = 1000 * np.linalg.norm(points - points.mean(0), axis=1).mean()
        assert values[name] == pytest.approx(spread)
    assert values["MPJPE_abs"] == pytest.approx(1000 * np.linalg.norm(joints, axis=1).mean())
    assert all(math.isfinite(value) for value in values.values())


JOINTS = ("PA-MPJPE", "MPJPE", "MPJPE_abs", "AUC_J", "AUC_J_raw", "PCK3D@20")


def test_masked_joints_have_no_influence():
    valid = np.ones(21)
    valid[[3, 8, 20]] = 0
    one, spoilt = sample(keypoints_cam_valid=valid), sample(keypoints_cam_valid=valid)
    spoilt["pred_instances"]["keypoints_3d"][0, valid == 0] = np.nan
    spoilt["gt_instances"]["keypoints_cam"][0, valid == 0] = 99.0
    assert evaluate([spoilt], metrics=JOINTS) == evaluate([one], metrics=JOINTS)


def test_masked_sets_are_averaged_over_samples_for_each_point_first():
    index = np.arange(21)
    offset = np.zeros((21, 3))
    offset[5, 0], offset[6, 0] = 0.004, 0.010
    first = sample(noise=0, keypoints_cam_valid=np.where(index == 6, 0, 1))
    second = sample(1, noise=0)
    for one in (first, second):
        one["pred_instances"]["keypoints_3d"][0] += offset.astype(np.float32)
    value = evaluate([first, second], metrics=["MPJPE"])["MPJPE"]
    assert value == pytest.approx((4 + 10) / 21, rel=1e-4)  # not (4 + 4 + 10) / 41


def test_a_masked_wrist_excludes_a_sample_from_relative_errors_only():
    valid = np.ones(21)
    valid[0] = 0
    masked, other = sample(keypoints_cam_valid=valid), sample(1)
    relative = ["MPJPE", "MPVPE"]
    assert evaluate([masked, other], metrics=relative) == evaluate([other], metrics=relative)
    both = evaluate([masked, other], metrics=["PA-MPJPE"])
    assert both != evaluate([other], metrics=["PA-MPJPE"])
    with pytest.raises(ValueError, match="none of 1 samples has the labels for MPJPE"):
        evaluate([masked], metrics=["MPJPE"])


@pytest.fixture
def log(monkeypatch):
    """The lines that the metric logs."""
    lines = []
    monkeypatch.setattr(
        "mamba_mm.evaluation.hand_mesh_metric.print_log", lambda text, logger: lines.append(text)
    )
    return lines


def test_samples_without_labels_are_skipped_and_counted(log):
    unlabelled = sample(1, has_3d=0.0, keypoints_cam=np.zeros((21, 3)))
    nothing_valid = sample(2, keypoints_cam_valid=np.zeros(21))
    flat = sample(3, has_vertices=0.0, vertices_cam=np.zeros((778, 3)))
    values = evaluate([unlabelled, sample(0), nothing_valid, flat], metrics=ALL)
    (line,) = log
    assert "2 samples, alignment 'similarity'; 2 without 3-D labels skipped" in line
    assert "1 without vertices, not in the mesh errors" in line
    assert "2 without cam_translation, taken as camera coordinates" in line
    meshes = [name for name in ALL if name in ("PA-MPVPE", "MPVPE", "AUC_V") or "F@" in name]
    alone = evaluate([sample(0)], metrics=ALL)
    assert {n: values[n] for n in meshes} == {n: alone[n] for n in meshes}
    assert values["PA-MPJPE"] != alone["PA-MPJPE"]


@pytest.mark.parametrize(
    ("changes", "metric"),
    [
        ({"has_3d": 0.0}, "PA-MPJPE"),
        ({"has_vertices": 0.0}, "PA-MPVPE"),
        ({"has_vertices": 0.0}, "F@5"),
    ],
)
def test_no_valid_sample_at_all_is_an_error(changes, metric):
    with pytest.raises(ValueError, match=f"none of 1 samples has the labels for {metric}"):
        evaluate([sample(**changes)], metrics=[metric])


def test_a_mesh_of_another_kind_has_fscores_only():
    one = sample(noise=0)
    pred_j, pred_v, *_ = arrays(one)
    turned = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]) * 0.5
    for name, points in (("keypoints_3d", pred_j), ("vertices", pred_v[:700])):
        one["pred_instances"][name] = (points @ turned.T)[None].astype(np.float32)
    values = evaluate([one, sample(1)], metrics=[*DEFAULT, "MPVPE"])
    assert values["PA-MPVPE"] == values["MPVPE"] == values["AUC_V"] == -1.0
    assert values["PA-MPJPE"] > 0
    # By the joints' transform every vertex that there is lies on its own.
    assert evaluate([one], metrics=["F@5"])["F@5"] > 2 * (700 / 778) / (1 + 700 / 778) - 1e-9


@pytest.mark.parametrize("where", ["keypoints_3d", "vertices"])
def test_predictions_that_are_not_finite(where):
    bad = sample()
    bad["pred_instances"][where][0, 7, 1] = np.nan
    with pytest.raises(ValueError, match=r"prediction for 0.jpg is not finite.*nan_policy='worst'"):
        evaluate([bad])
    both = evaluate([bad, sample(1, noise=0)], metrics=ALL, nan_policy="worst")
    missed = [name for name in ALL if where == "keypoints_3d" or "V" in name or "F@" in name]
    for name in missed:
        expected = math.inf if "MP" in name else 0.5
        assert both[name] == pytest.approx(expected, abs=0.01), name
    if where == "vertices":
        assert math.isfinite(both["PA-MPJPE"])


def test_a_translation_that_is_not_finite_is_a_bad_prediction_not_a_missing_label():
    samples = [sample(i, noise=0, cam_translation=np.zeros(3)) for i in range(2)]
    samples[0]["pred_instances"]["cam_translation"][0, 2] = np.nan
    with pytest.raises(ValueError, match=r"prediction for 0.jpg is not finite"):
        evaluate(samples, metrics=["MPJPE_abs"])
    values = evaluate(samples, metrics=["MPJPE_abs", "AUC_J_raw"], nan_policy="worst")
    assert values == {"MPJPE_abs": math.inf, "AUC_J_raw": pytest.approx(0.5, abs=0.01)}


def test_bad_labels_and_shapes_are_refused():
    one = sample()
    one["gt_instances"]["vertices_cam"][0, 0, 0] = np.inf
    with pytest.raises(ValueError, match=r"labels of 0.jpg are not finite"):
        evaluate([one])
    with pytest.raises(ValueError, match=r"keypoints_3d of 0.jpg has the shape \(1, 20, 3\)"):
        evaluate([sample(keypoints_3d=np.zeros((20, 3)))])
    two_hands = sample()
    two_hands["pred_instances"]["vertices"] = np.zeros((2, 778, 3))
    with pytest.raises(ValueError, match=r"vertices of 0.jpg has the shape \(2, 778, 3\)"):
        evaluate([two_hands])
    flat = sample()
    del flat["pred_instances"]["vertices"]
    with pytest.raises(KeyError, match="no vertices, only keypoints_3d"):
        evaluate([flat])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["PA-MPJPE", "EPE"]}, "unknown metric 'EPE'; known: PA-MPJPE"),
        ({"metrics": ["F@10"]}, "unknown metric 'F@10'"),
        ({"alignment": "rigid"}, "unknown alignment 'rigid'; known: similarity, freihand"),
        ({"nan_policy": "skip"}, "unknown nan_policy 'skip'"),
        ({"submission": "dexycb"}, "unknown submission 'dexycb'"),
        ({"format_only": True}, "give outfile_prefix"),
    ],
)
def test_settings_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        HandMeshMetric(**options)


def test_tensors_and_an_evaluator_as_toolboxes_use_it():
    one = sample()
    element = BaseDataElement(metainfo={"img_path": one["img_path"]})
    for side in ("pred_instances", "gt_instances"):
        fields = {name: torch.from_numpy(value) for name, value in one[side].items()}
        element.set_field(InstanceData(**fields), side)
    with DefaultScope.overwrite_default_scope("mmpose"):
        evaluator = Evaluator(METRICS.build({"type": "mamba_mm.HandMeshMetric"}))
        evaluator.process(data_samples=[element])
        values = evaluator.evaluate(1)
    assert values == {f"mesh/{name}": value for name, value in evaluate([one]).items()}


def mano_sample(is_right=True, **changes):
    """A hand with MANO parameters and joints, and the vertices that these give as prediction."""
    rng = np.random.default_rng(5)
    rotations = axis_angle_to_matrix(torch.from_numpy(rng.normal(scale=0.3, size=(1, 16, 3))))
    betas = torch.from_numpy(rng.normal(size=(1, 10)))
    mesh = MANOLayer("toy").double()(rotations[:, :1], rotations[:, 1:], betas)
    side, shift = np.array([1.0 if is_right else -1.0, 1, 1]), np.array([0.1, 0.2, 0.7])
    joints, vertices = (points[0].numpy() * side + shift for points in (mesh.joints, mesh.vertices))
    one = sample(
        keypoints_3d=joints,
        vertices=vertices,
        keypoints_cam=joints,
        **{
            "vertices_cam": np.zeros((778, 3)),
            "has_vertices": 0.0,
            "is_right": float(is_right),
        }
        | changes,
    )
    one["gt_instance_labels"] = {
        "mano_global_orient": rotations[:, :1].float(),
        "mano_hand_pose": rotations[:, 1:].float(),
        "mano_betas": betas.float(),
    }
    return one


class TestVerticesFromMano:
    OPTIONS = MappingProxyType(
        {"vertices_from_mano": True, "mano_path": "toy", "metrics": ("MPVPE", "F@5_raw")}
    )

    @pytest.mark.parametrize("is_right", [True, False])
    def test_they_are_those_of_the_parameters(self, is_right):
        one = mano_sample(is_right)
        values = evaluate([one], **self.OPTIONS)
        assert values == pytest.approx({"MPVPE": 0, "F@5_raw": 1}, abs=1e-3)
        with pytest.raises(ValueError, match="vertices_from_mano=True computes"):
            evaluate([one], metrics=["MPVPE"])

    def test_their_unit_is_that_of_the_labels(self):
        one = mano_sample()
        for side, name in (
            *(("pred_instances", name) for name in ("keypoints_3d", "vertices")),
            ("gt_instances", "keypoints_cam"),
        ):
            one[side][name] = one[side][name] * 1000
        assert evaluate([one], unit_scale=1.0, **self.OPTIONS)["MPVPE"] < 1e-3

    def test_given_vertices_go_first(self):
        one = mano_sample(has_vertices=1.0, vertices_cam=np.full((778, 3), 0.5))
        assert evaluate([one], **self.OPTIONS)["MPVPE"] > 10

    def test_samples_without_parameters_stay_without_vertices(self):
        with pytest.raises(ValueError, match="none of 1 samples"):
            evaluate([mano_sample(has_mano=0.0)], **self.OPTIONS)

    def test_labels_that_the_pipeline_does_not_make_are_asked_for(self):
        one = mano_sample()
        del one["gt_instance_labels"]["mano_betas"]
        with pytest.raises(KeyError, match="put GenerateTarget with the codec"):
            evaluate([one], **self.OPTIONS)


class TestPredictionFile:
    METRICS = (*DEFAULT, "MPJPE", "MPVPE", "MPJPE_abs", "F@5_raw", "AUC_J_raw")

    @staticmethod
    def samples(**changes):
        return [
            sample(i, noise=0.02, cam_translation=np.array([0.01, 0, i / 100]), **changes)
            for i in range(3)
        ]

    @staticmethod
    def from_file(path, submission, samples):
        joints, vertices = read_submission(path, submission)
        for one, j, v in zip(samples, joints, vertices, strict=True):
            one["pred_instances"] = {"keypoints_3d": j[None], "vertices": v[None]}
        return samples

    @pytest.mark.parametrize("submission", ["freihand", "ho3d"])
    def test_evaluating_it_equals_evaluating_in_memory(self, submission, tmp_path, log):
        options = {"outfile_prefix": str(tmp_path / "pred.1"), "submission": submission}
        values = evaluate(self.samples(), metrics=self.METRICS, **options)
        again = self.from_file(tmp_path / "pred.1.json", submission, self.samples())
        assert evaluate(again, metrics=self.METRICS) == pytest.approx(values, abs=1e-5)
        assert any("in camera coordinates" in line for line in log)
        assert zipfile.ZipFile(tmp_path / "pred.1.zip").namelist() == ["pred.json"]

    def test_without_intrinsics_it_is_relative_to_the_wrist(self, tmp_path, log):
        samples = self.samples()
        samples[1]["gt_instances"]["has_cam"][:] = 0
        evaluate(samples, outfile_prefix=str(tmp_path / "pred"))
        joints, vertices = read_submission(tmp_path / "pred.json", "freihand")
        np.testing.assert_array_equal(joints[:, 0], 0)
        pred = samples[2]["pred_instances"]
        expected = pred["vertices"][0].astype(np.float64) - pred["keypoints_3d"][0, 0]
        np.testing.assert_allclose(vertices[2], expected, atol=1e-7)
        assert any("relative to the wrist" in line for line in log)

    @pytest.mark.parametrize("missing", ["translation", "has_cam"])
    def test_neither_is_the_frame_known_without_the_keys(self, missing, tmp_path):
        samples = self.samples()
        for one in samples:
            if missing == "translation":
                del one["pred_instances"]["cam_translation"]
            else:
                del one["gt_instances"]["has_cam"]
        evaluate(samples, outfile_prefix=str(tmp_path / "pred"))
        joints, _ = read_submission(tmp_path / "pred.json", "freihand")
        np.testing.assert_array_equal(joints[:, 0], 0)

    def test_format_only_needs_no_labels_and_computes_nothing(self, tmp_path):
        samples = self.samples()
        for one in samples:
            del one["gt_instances"]
        metric = HandMeshMetric(
            metrics=["PA-MPJPE"], format_only=True, outfile_prefix=str(tmp_path / "pred")
        )
        metric.process({}, samples)
        assert metric.evaluate(3) == {}
        joints, vertices = read_submission(tmp_path / "pred.json", "freihand")
        assert joints.shape == (3, 21, 3)
        assert len(vertices) == 3

    def test_samples_stand_in_it_by_their_id(self, tmp_path, log):
        samples = self.samples()
        evaluate(samples, outfile_prefix=str(tmp_path / "dealt"), format_only=True)
        mixed = [samples[i] for i in (2, 0, 1)]
        evaluate(mixed, outfile_prefix=str(tmp_path / "mixed"), format_only=True)
        assert (tmp_path / "mixed.json").read_bytes() == (tmp_path / "dealt.json").read_bytes()
        assert any("takes 3960 predictions and will refuse 3" in line for line in log)

    @pytest.mark.parametrize(
        ("ids", "size", "complaint"),
        [
            ((0, 1, 1), 3, "1 of its samples are there more than once (id 1)"),
            ((0, 1), 3, "1 of its samples are missing (id 2)"),
            ((5, 6, 7), 3, "3 of its samples are not in a list of 3 (id 5, 6, 7)"),
        ],
    )
    def test_incomplete_sets_are_refused(self, ids, size, complaint, tmp_path):
        options = dict(outfile_prefix=str(tmp_path / "pred"), format_only=True)
        metric = HandMeshMetric(**options)
        metric.process({}, [sample(i, cam_translation=np.zeros(3)) | {"id": i} for i in ids])
        with pytest.raises(ValueError, match=re.escape(complaint)):
            metric.evaluate(size)
        assert not list(tmp_path.iterdir())

    def test_samples_without_an_id_are_refused(self, tmp_path):
        one = sample()
        del one["id"]
        assert evaluate([one])
        with pytest.raises(KeyError, match=r"sample of 0.jpg has no id.*meta_keys"):
            evaluate([one], outfile_prefix=str(tmp_path / "pred"))

    @pytest.mark.parametrize("where", ["keypoints_3d", "vertices", "cam_translation"])
    def test_it_holds_no_nan(self, where, tmp_path):
        samples = self.samples()
        samples[0]["pred_instances"][where].reshape(-1)[1] = np.nan
        options = {"outfile_prefix": str(tmp_path / "pred"), "format_only": True}
        with pytest.raises(ValueError, match="not finite"):
            evaluate(samples, **options)
        evaluate(samples, nan_policy="worst", **options)
        assert "NaN" not in (tmp_path / "pred.json").read_text()


def test_a_skipped_sample_keeps_its_place():
    """Collection from several processes counts records, and drops those that are None."""
    metric = HandMeshMetric()
    metric.process({}, [sample(has_3d=0.0), sample(1)])
    assert len(metric.results) == 2
    assert None not in metric.results


def mixed_samples():
    """Seven samples of which some have no labels: an odd number, so that two ranks need padding."""
    valid = np.ones(21)
    valid[[2, 9]] = 0
    changes = {1: {"has_3d": 0.0}, 2: {"has_3d": 0.0}, 4: {"keypoints_cam_valid": valid}}
    return [sample(i, noise=0.02, **changes.get(i, {})) for i in range(7)]


def evaluate_half(rank, folder):
    """Evaluate and dump what one of two processes has of the samples."""
    os.chdir(folder)
    samples = mixed_samples()
    own = (samples + samples[:1])[rank::2]  # as DefaultSampler deals and pads them
    metric = HandMeshMetric(metrics=ALL, collect_dir="collected", outfile_prefix="pred")
    metric.process({}, own[:2])
    metric.process({}, own[2:])
    values = metric.evaluate(len(samples))
    shuffled = [samples[i] for i in (3, 0, 6, 1, 5, 2, 4)]
    metric = HandMeshMetric(format_only=True, collect_dir="collected", outfile_prefix="shuffled")
    metric.process({}, (shuffled + shuffled[:1])[rank::2])
    metric.evaluate(len(samples))
    if rank == 1:
        Path("values.json").write_text(json.dumps(values))


def test_two_processes_give_what_one_gives(tmp_path):
    in_group(evaluate_half, tmp_path)
    found = json.loads((tmp_path / "values.json").read_text())
    expected = evaluate(mixed_samples(), metrics=ALL, outfile_prefix=str(tmp_path / "alone"))
    assert found == {f"mesh/{name}": value for name, value in expected.items()}
    for name in ("pred", "shuffled"):
        assert (tmp_path / f"{name}.json").read_bytes() == (tmp_path / "alone.json").read_bytes()
