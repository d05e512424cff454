"""Errors of hand joints and meshes in 3-D, as the FreiHAND and HO3D benchmarks define them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mamba_mm.registry import METRICS

from .functional import (
    ALIGNMENTS,
    SUBMISSIONS,
    fscore,
    mean_error,
    pck,
    pck_auc,
    submission_order,
    write_submission,
)
from .functional.hand_comparison import WRIST, HandComparison, PredictedHand

NAN_POLICIES = ("raise", "worst")

_PCK_THRESHOLDS = (20, 30)
# The method of HandComparison that measures what a metric averages.
_JOINT_DISTANCES = {
    "PA-MPJPE": "joints_aligned",
    "AUC_J": "joints_aligned",
    **{f"PCK3D@{threshold}": "joints_aligned" for threshold in _PCK_THRESHOLDS},
    "MPJPE": "joints_wrist",
    "MPJPE_abs": "joints_raw",
    "AUC_J_raw": "joints_raw",
}
_VERTEX_DISTANCES = {
    "PA-MPVPE": "vertices_aligned",
    "AUC_V": "vertices_aligned",
    "MPVPE": "vertices_wrist",
}
_DISTANCES = _JOINT_DISTANCES | _VERTEX_DISTANCES
_HAND_LIMIT_MM = 1000.0
_NOT_COMPARABLE = -1.0


@METRICS.register_module()
class HandMeshMetric(BaseMetric):
    """Errors, F-scores, AUC and PCK of one hand an image.

    ========================  ===================================================================
    ``PA-MPJPE``              mean error of the 21 joints after alignment by the joints, mm
    ``PA-MPVPE``              mean error of the vertices after alignment by the vertices, mm
    ``MPJPE``, ``MPVPE``      the same relative to each side's wrist joint, not aligned
    ``MPJPE_abs``             the same for joints in camera coordinates
    ``F@5``, ``F@15``         F-score of the aligned vertices at these thresholds
    ``F@5_raw``, ...          F-score of the vertices in camera coordinates
    ``AUC_J``, ``AUC_V``      area under the PCK curve of aligned joints, vertices
    ``AUC_J_raw``             the same for joints in camera coordinates
    ``PCK3D@20``, ``...@30``  share of aligned joints within 20, 30 mm
    ========================  ===================================================================

    A prediction is ``pred_instances.keypoints_3d`` and ``vertices``. In camera coordinates it is
    these plus ``cam_translation``; predictions that have none are taken to be in camera
    coordinates already, and the log says so.

    The ground truth is ``gt_instances.keypoints_cam`` and ``vertices_cam``, in metres, of the same
    hand side as the prediction. Where joints are masked (``keypoints_cam_valid``), they influence
    nothing, alignment included; a sample with fewer than three labelled joints has no aligned
    joint error, and one without the wrist no relative ones. Samples without 3-D labels are
    skipped and counted in the log. As in FreiHAND's script, errors are averaged over samples for
    each point, then over points; and predicted meshes with another number of vertices than the
    ground truth are aligned by their joints, have F-scores, and -1 for the other mesh errors.

    Args:
        metrics: Any of the names above. Default: ``PA-MPJPE``, ``PA-MPVPE``, the F-scores of
            ``fscore_thrs``, ``AUC_J`` and ``AUC_V``.
        alignment: ``"similarity"``, or ``"freihand"``: as FreiHAND's script, which may reflect.
        fscore_thrs: Thresholds of the F-scores, in millimetres.
        auc_range: First and last threshold of the PCK curves, in millimetres.
        auc_steps: Number of thresholds of the PCK curves.
        unit_scale: Factor from the unit of the labels and predictions to millimetres.
        nan_policy: What non-finite predictions do: ``"raise"``, or ``"worst"``: count as misses,
            with F-score 0 and an infinite error (in a prediction file they are zeros).
        vertices_from_mano: Compute the vertices of samples that have MANO parameters
            (``gt_instance_labels`` of ``mamba_mm.MANOLabel``) but no vertices, and place them at
            the labelled wrist; needs the MANO model.
        mano_path: The MANO model; see :func:`mamba_mm.models.body_models.resolve_mano`.
        format_only: Write the prediction file, compute nothing.
        outfile_prefix: The prediction file without its ending, such as ``"work_dirs/pred"``.
            Given, the file is written whether or not ``format_only``. Samples stand in it by
            their ``id``, the place in the server's list that ``FreiHANDMeshDataset`` and
            ``HO3DMeshDataset`` give them, in whatever order they come; all must be there. Joints
            and vertices are in camera coordinates if every sample has known intrinsics and a
            predicted translation, else all relative to the wrist; the log says which.
        submission: Format of the file, ``"freihand"`` or ``"ho3d"``.
        collect_device: As in MMEngine.
        prefix: As in MMEngine.
        collect_dir: As in MMEngine.

    Raises:
        ValueError: A name is unknown, or ``format_only`` has no ``outfile_prefix``.
    """

    default_prefix = "mesh"

    def __init__(
        self,
        metrics: Sequence[str] | None = None,
        alignment: str = "similarity",
        fscore_thrs: Sequence[float] = (5, 15),
        auc_range: tuple[float, float] = (0, 50),
        auc_steps: int = 100,
        unit_scale: float = 1000.0,
        nan_policy: str = "raise",
        vertices_from_mano: bool = False,
        mano_path: str | Path | None = None,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        submission: str = "freihand",
        collect_device: str = "cpu",
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        self._fscore_thrs = {f"F@{threshold:g}": threshold for threshold in fscore_thrs}
        known = [*_DISTANCES, *self._fscore_thrs, *(f"{name}_raw" for name in self._fscore_thrs)]
        if metrics is None:
            metrics = ["PA-MPJPE", "PA-MPVPE", *self._fscore_thrs, "AUC_J", "AUC_V"]
        for name in metrics:
            _check_name("metric", name, known)
        _check_name("alignment", alignment, ALIGNMENTS)
        _check_name("nan_policy", nan_policy, NAN_POLICIES)
        _check_name("submission", submission, SUBMISSIONS)
        if format_only and outfile_prefix is None:
            raise ValueError("HandMeshMetric: format_only=True writes a file; give outfile_prefix")
        self.metrics = tuple(metrics)
        self.alignment = alignment
        self.auc_range = tuple(auc_range)
        self.auc_steps = auc_steps
        self.unit_scale = unit_scale
        self.nan_policy = nan_policy
        self.format_only = format_only
        self.outfile_prefix = outfile_prefix
        self.submission = submission
        self._mano = _build_mano(mano_path) if vertices_from_mano else None
        self._dataset_size = 0

    def evaluate(self, size: int) -> dict[str, float]:
        """Collect what all processes have measured, and average.

        Args:
            size: Number of samples of the data set.

        Returns:
            The metrics, named with the prefix.
        """
        self._dataset_size = size
        return super().evaluate(size)

    def process(self, data_batch: Any, data_samples: Sequence[Mapping]) -> None:
        """Measure a batch.

        Args:
            data_batch: Not used.
            data_samples: Samples as dicts, with ``pred_instances`` and ``gt_instances`` of one
                hand each.

        Raises:
            KeyError: The predictions lack joints or vertices, or the sample the ``id`` that its
                place in the prediction file is known by.
            ValueError: A shape is wrong, a label or, by ``nan_policy``, a prediction is not
                finite, or a labelled hand is larger than a metre.
        """
        for sample in data_samples:
            # Skipped samples leave a record too: collection from several processes restores the
            # order of the data set by counting records.
            record = {}
            hand = self._predicted_hand(sample)
            if self._writes_file:
                record["submitted"] = self._to_submit(hand, sample)
            if not self.format_only:
                record |= self._measure(hand, sample)
            self.results.append(record)

    def compute_metrics(self, results: Sequence[Mapping]) -> dict[str, float]:
        """Average over the samples, and write the prediction file where asked.

        Args:
            results: What ``process`` kept, of all ranks.

        Returns:
            The metrics by name; none with ``format_only``.

        Raises:
            ValueError: No sample has the labels for a metric, most predicted hands are larger
                than a metre, or a sample of the prediction file is missing or there twice.
        """
        if self._writes_file:
            self._write([record["submitted"] for record in results])
        if self.format_only:
            return {}
        self._log_counts(results)
        sizes = [record["size"] for record in results if "size" in record]
        # One wild prediction is a bad prediction; where it is most of them, it is the unit.
        if sizes and np.median(sizes) > _HAND_LIMIT_MM:
            raise ValueError(
                "HandMeshMetric: most predicted hands are larger than 1 m; predictions are to be "
                f"in the unit of the labels, of which one is {self.unit_scale:g} mm"
            )
        return {name: self._summarise(name, results) for name in self.metrics}

    @property
    def _needs_mesh(self) -> bool:
        return any(name not in _JOINT_DISTANCES for name in self.metrics)

    @property
    def _writes_file(self) -> bool:
        return self.outfile_prefix is not None

    def _predicted_hand(self, sample: Mapping) -> PredictedHand:
        found = sample["pred_instances"]
        translation = vertices = None
        if self._writes_file or self._needs_mesh:
            vertices = _points(found, "vertices", sample)
        if "cam_translation" in found:
            translation = _array(found["cam_translation"]).astype(np.float64).reshape(3)
        return PredictedHand(_points(found, "keypoints_3d", sample, 21), vertices, translation)

    def _measure(self, hand: PredictedHand, sample: Mapping) -> dict:
        """Distances in millimetres and F-scores of one sample."""
        truth = sample["gt_instances"]
        if not _is_set(truth, "has_3d"):
            return {"skipped": True}
        joints = _points(truth, "keypoints_cam", sample, 21)
        valid = np.ones(21, bool)
        if "keypoints_cam_valid" in truth:
            valid = _array(truth["keypoints_cam_valid"]).reshape(21) > 0
        if not valid.any():
            return {"skipped": True}
        self._check_truth(joints[valid], sample)
        record = {"no_translation": hand.translation is None}
        # A translation that is not finite would make joints look unlabelled.
        finite = self._is_finite(np.vstack([hand.joints[valid], hand.shift]), sample)
        if finite:
            record["size"] = _extent(hand.joints[valid]) * self.unit_scale
        comparison = HandComparison(hand, joints, valid, self.alignment, self.unit_scale)
        for name in {_JOINT_DISTANCES[m] for m in self.metrics if m in _JOINT_DISTANCES}:
            record[name] = _stored(getattr(comparison, name)()) if finite else _misses(valid)
        if not self._needs_mesh:
            return record
        vertices = self._true_vertices(sample, joints)
        if vertices is None:
            return record | {"no_vertices": True}
        self._check_truth(vertices, sample)
        finite = self._is_finite(hand.vertices, sample) and finite
        return (
            record
            | self._vertex_distances(comparison, vertices, finite)
            | self._fscores(comparison, vertices, finite)
        )

    def _vertex_distances(
        self, comparison: HandComparison, vertices: np.ndarray, finite: bool
    ) -> dict:
        if len(vertices) != len(comparison.hand.vertices):
            return {"other_mesh": True}
        names = {_VERTEX_DISTANCES[m] for m in self.metrics if m in _VERTEX_DISTANCES}
        if not finite:
            return dict.fromkeys(names, _misses(np.ones(len(vertices), bool)))
        return {name: _stored(getattr(comparison, name)(vertices)) for name in names}

    def _fscores(self, comparison: HandComparison, vertices: np.ndarray, finite: bool) -> dict:
        scores = {}
        for suffix in ("", "_raw"):
            names = [name for name in self._fscore_thrs if name + suffix in self.metrics]
            values = [0.0] * len(names)
            if names and finite:
                hand = comparison.hand
                found = (
                    hand.vertices + hand.shift if suffix else comparison.aligned_vertices(vertices)
                )
                thresholds = [self._fscore_thrs[name] for name in names]
                values = fscore(found * self.unit_scale, vertices * self.unit_scale, thresholds)
            scores |= {name + suffix: value for name, value in zip(names, values, strict=True)}
        return scores

    def _check_truth(self, points: np.ndarray, sample: Mapping) -> None:
        if not np.isfinite(points).all():
            raise ValueError(f"HandMeshMetric: the labels of {_name(sample)} are not finite")
        size = _extent(points) * self.unit_scale
        if size > _HAND_LIMIT_MM:
            raise ValueError(
                f"HandMeshMetric: the labelled hand of {_name(sample)} would be {size / 1000:.3g} "
                f"m large with unit_scale={self.unit_scale:g}; labels are to be in metres, or "
                "unit_scale the factor from their unit to millimetres"
            )

    def _is_finite(self, points: np.ndarray, sample: Mapping) -> bool:
        if np.isfinite(points).all():
            return True
        if self.nan_policy == "raise":
            raise ValueError(
                f"HandMeshMetric: the prediction for {_name(sample)} is not finite; to count such "
                "predictions as misses, set nan_policy='worst'"
            )
        return False

    def _true_vertices(self, sample: Mapping, joints: np.ndarray) -> np.ndarray | None:
        truth = sample["gt_instances"]
        if "vertices_cam" in truth and _is_set(truth, "has_vertices"):
            return _points(truth, "vertices_cam", sample)
        if self._mano is None or not _is_set(truth, "has_mano"):
            return None
        vertices, wrist = _mano_mesh(self._mano, sample)
        return (vertices - wrist) * (1000.0 / self.unit_scale) + joints[WRIST]

    def _summarise(self, name: str, records: Sequence[Mapping]) -> float:
        if name in _VERTEX_DISTANCES and any("other_mesh" in record for record in records):
            return _NOT_COMPARABLE
        key = _DISTANCES.get(name, name)
        values = [record[key] for record in records if key in record]
        if not values or np.isnan(values).all():
            raise ValueError(
                f"HandMeshMetric: none of {len(records)} samples has the labels for {name}; leave "
                "it out of `metrics`, or check has_3d, has_vertices and keypoints_cam_valid of the "
                "data set (where it has MANO parameters only, vertices_from_mano=True computes "
                "vertices)"
            )
        if name not in _DISTANCES:
            return float(np.mean(values))
        distances = np.stack(values)
        if name.startswith("AUC"):
            return pck_auc(distances, self.auc_range, self.auc_steps)
        if name.startswith("PCK3D"):
            return pck(distances, float(name.partition("@")[2]))
        return mean_error(distances)

    def _log_counts(self, results: Sequence[Mapping]) -> None:
        def count(mark: str) -> int:
            return sum(bool(record.get(mark)) for record in results)

        parts = [f"{len(results) - count('skipped')} samples, alignment '{self.alignment}'"]
        notes = {
            "skipped": "without 3-D labels skipped",
            "no_vertices": "without vertices, not in the mesh errors",
            "other_mesh": "with another number of vertices, so that mesh errors are -1",
        }
        if any(name.endswith(("_raw", "_abs")) for name in self.metrics):
            notes["no_translation"] = "without cam_translation, taken as camera coordinates"
        parts += [f"{count(mark)} {note}" for mark, note in notes.items() if count(mark)]
        _log("; ".join(parts))

    def _to_submit(self, hand: PredictedHand, sample: Mapping) -> dict:
        """What the file needs of a sample, once it is known whether all have a camera."""
        truth = sample.get("gt_instances", {})
        points = [
            values if values is None or self._is_finite(values, sample) else np.zeros_like(values)
            for values in (hand.joints, hand.vertices, hand.translation)
        ]
        return {
            "place": _place(sample),
            "joints": points[0],
            "vertices": points[1].astype(np.float32),
            "translation": points[2],
            "in_camera": hand.translation is not None
            and "has_cam" in truth
            and _is_set(truth, "has_cam"),
        }

    def _write(self, submitted: Sequence[Mapping]) -> None:
        order = submission_order([part["place"] for part in submitted], self._dataset_size)
        submitted = [submitted[index] for index in order]
        in_camera = all(part["in_camera"] for part in submitted)
        shifts = [
            part["translation"] if in_camera else -part["joints"][WRIST] for part in submitted
        ]
        joints = np.stack(
            [part["joints"] + shift for part, shift in zip(submitted, shifts, strict=True)]
        )
        vertices = (part["vertices"] + shift for part, shift in zip(submitted, shifts, strict=True))
        path = Path(f"{self.outfile_prefix}.json")
        archive = write_submission(path, joints, vertices, self.submission)
        frame = "in camera coordinates" if in_camera else "relative to the wrist"
        _log(
            f"wrote {len(submitted)} predictions for '{self.submission}' to {path} and {archive}; "
            f"joints and vertices are {frame}"
        )
        expected = SUBMISSIONS[self.submission].num_samples
        if len(submitted) not in expected:
            _log(
                f"the server of '{self.submission}' takes {' or '.join(map(str, expected))} "
                f"predictions and will refuse {len(submitted)}"
            )


def _build_mano(mano_path: str | Path | None) -> torch.nn.Module:
    from mamba_mm.models.body_models import MANOLayer

    return MANOLayer(mano_path).double()


def _mano_mesh(layer: torch.nn.Module, sample: Mapping) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and wrist of a sample's MANO parameters, in the orientation of its labels."""
    labels = sample.get("gt_instance_labels", {})
    names = ("mano_global_orient", "mano_hand_pose", "mano_betas")
    if any(name not in labels for name in names):
        raise KeyError(
            f"HandMeshMetric: vertices_from_mano=True needs {', '.join(names)} in the "
            f"gt_instance_labels of {_name(sample)}; put GenerateTarget with the codec "
            "mamba_mm.MANOLabel into the test pipeline too"
        )
    parameters = (torch.as_tensor(_array(labels[name]), dtype=torch.float64) for name in names)
    with torch.no_grad():
        mesh = layer(*parameters)
    # The parameters are a right hand's; points of left hands the estimator has mirrored back.
    side = np.array([1.0 if _is_set(sample["gt_instances"], "is_right") else -1.0, 1.0, 1.0])
    return mesh.vertices[0].numpy() * side, mesh.joints[0, WRIST].numpy() * side


def _place(sample: Mapping) -> int:
    """The place of a sample in the server's list."""
    if "id" not in sample:
        raise KeyError(
            f"HandMeshMetric: the sample of {_name(sample)} has no id, by which the prediction "
            "file is ordered; PackPoseInputs must have 'id' among its meta_keys"
        )
    return int(sample["id"])


def _points(instances: Mapping, key: str, sample: Mapping, count: int | None = None) -> np.ndarray:
    """The points of the one hand of a sample, ``(N, 3)``, in float64."""
    if key not in instances:
        raise KeyError(
            f"HandMeshMetric: the sample of {_name(sample)} has no {key}, only "
            f"{', '.join(sorted(instances))}"
        )
    points = _array(instances[key])
    if points.ndim != 3 or points.shape[::2] != (1, 3) or count not in (None, points.shape[1]):
        raise ValueError(
            f"HandMeshMetric: {key} of {_name(sample)} has the shape {points.shape}, expected is "
            f"(1, {count or 'vertices'}, 3)"
        )
    return points[0].astype(np.float64)


def _array(value: torch.Tensor | np.ndarray) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def _is_set(instances: Mapping, flag: str) -> bool:
    """Whether a flag is set; one that a data set does not have counts as set."""
    return flag not in instances or bool(_array(instances[flag]).all())


def _extent(points: np.ndarray) -> float:
    """Longest side of the points' bounding box."""
    return float(np.ptp(points, axis=0).max())


def _stored(distances: np.ndarray) -> np.ndarray:
    return distances.astype(np.float32)


def _misses(valid: np.ndarray) -> np.ndarray:
    return np.where(valid, np.inf, np.nan).astype(np.float32)


def _name(sample: Mapping) -> str:
    return str(sample.get("img_path", "a sample without img_path"))


def _check_name(kind: str, name: str, known: Sequence[str] | Mapping) -> None:
    if name not in known:
        raise ValueError(f"HandMeshMetric: unknown {kind} {name!r}; known: {', '.join(known)}")


def _log(text: str) -> None:
    print_log(f"HandMeshMetric: {text}", logger="current")
