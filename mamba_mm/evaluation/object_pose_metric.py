"""Errors of 6-D poses of rigid objects over a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mamba_mm.registry import METRICS

from .functional.object_pose import (
    add_error,
    adds_error,
    projection_error,
    rotation_error,
    transformed,
    translation_error,
)

POSES = ("pnp", "fit")

_MILLIMETRES = 1000.0
# Of an axis of symmetry: steps of a degree, so that a right pose is measured to half of one.
_SYMMETRY_STEPS = 360
# The shares and pixels that papers use.
_ADD_SHARE = 0.1
_PIXELS = 5.0
_NAMES = (
    "ADD(-S)@0.1d",
    "ADD@0.1d",
    "ADD-S@0.1d",
    "ADD",
    "ADD-S",
    "Proj2D",
    "Proj2D@5px",
    "rotation",
    "translation",
)


@METRICS.register_module()
class ObjectPoseMetric(BaseMetric):
    """Errors of the poses of known objects, one object a sample.

    ================  ===========================================================================
    ``ADD``           mean distance of the model's vertices in the two poses, mm
    ``ADD-S``         mean distance to the nearest vertex, mm; the measure for symmetric objects
    ``ADD@0.1d``      share of the objects with ADD below a tenth of their diameter
    ``ADD-S@0.1d``    likewise for ADD-S
    ``ADD(-S)@0.1d``  ADD-S@0.1d of objects with symmetries, ADD@0.1d of the others: the figure of
                      the papers
    ``Proj2D``        mean distance of the vertices in the picture, pixels
    ``Proj2D@5px``    share of the objects of which that is below 5 pixels
    ``rotation``      angle, degrees; of symmetric objects the least over their symmetries, an axis
                      of symmetry in steps of a degree
    ``translation``   distance of the origins, mm, likewise
    ================  ===========================================================================

    ADD and ADD-S are those of Hinterstoisser et al. (ACCV 2012), over the vertices of the mesh;
    Proj2D is that of Brachmann et al. (CVPR 2016) and knows no symmetries. Every figure is a mean
    over the samples of each class, then over the classes, as in the papers' tables. A sample
    without a pose of an object, such as a hand in a mixed set, is skipped and counted in the log.

    A prediction is ``pred_instances.pnp_rotation`` and ``pnp_translation`` (or ``fit_...``) of
    :class:`mamba_mm.TopdownObjectPoseEstimator`; the truth ``gt_instances.object_rotation``,
    ``object_translation``, ``object_label`` and ``cam_K``.

    Args:
        models: Folder of the models in BOP's layout.
        object_ids: The objects in the order of their labels, as in the data set; ``None`` for
            those that have keypoints, by their numbers.
        pose: Which recovered pose, ``"pnp"`` or ``"fit"``.
        metrics: Any of the names above; all by default.
        per_class: Report every figure for each class too, as ``NAME/CLASS``.
        collect_device: As in MMEngine.
        prefix: As in MMEngine; ``"object"`` by default.
        collect_dir: As in MMEngine.

    Raises:
        ValueError: A name is unknown.
    """

    default_prefix = "object"

    def __init__(
        self,
        models: str | Path,
        object_ids: Sequence[int] | None = None,
        pose: str = "pnp",
        metrics: Sequence[str] | None = None,
        per_class: bool = False,
        collect_device: str = "cpu",
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        if pose not in POSES:
            raise ValueError(f"ObjectPoseMetric: unknown pose {pose!r}; known: {', '.join(POSES)}")
        metrics = tuple(_NAMES if metrics is None else metrics)
        if unknown := [name for name in metrics if name not in _NAMES]:
            raise ValueError(
                f"ObjectPoseMetric: unknown metrics {unknown}; known: {', '.join(_NAMES)}"
            )
        self.folder = Path(models)
        self.object_ids = object_ids
        self.pose = pose
        self.metrics = metrics
        self.per_class = per_class
        self._models: list | None = None

    @property
    def models(self) -> list:
        """The objects, by their labels; read when they are needed first."""
        if self._models is None:
            from mamba_mm.datasets.object_pose.class_models import read_class_models

            self._models = read_class_models(self.folder, self.object_ids, _SYMMETRY_STEPS)
        return self._models

    def process(self, data_batch: Any, data_samples: Sequence[Mapping]) -> None:
        """Measure a batch.

        Args:
            data_batch: Not used.
            data_samples: Samples as dicts, with ``pred_instances`` and ``gt_instances`` of one
                object each.

        Raises:
            KeyError: The sample of an object has no predicted pose.
            ValueError: A pose is not finite, or the class has no model.
        """
        for sample in data_samples:
            # Skipped samples leave a record too: collection from several processes restores the
            # order of the data set by counting records.
            has_object = "object_rotation" in sample["gt_instances"]
            self.results.append(self._measure(sample) if has_object else {})

    def compute_metrics(self, results: Sequence[Mapping]) -> dict[str, float]:
        """Average over the samples of each class, and over the classes.

        Args:
            results: What ``process`` kept, of all ranks.

        Returns:
            The metrics by name.

        Raises:
            ValueError: No sample has the pose of an object.
        """
        labels = sorted({record["label"] for record in results if record})
        if not labels:
            raise ValueError(
                f"ObjectPoseMetric: none of {len(results)} samples has the pose of an object; the "
                "codec mamba_mm.ObjectKeypointLabel puts it into gt_instances"
            )
        measured = [record for record in results if record]
        skipped = len(results) - len(measured)
        print_log(
            f"ObjectPoseMetric: {len(measured)} objects of {len(labels)} classes, poses by "
            f"'{self.pose}', {skipped} samples of other kinds skipped",
            logger="current",
        )
        summary = {}
        for name in self.metrics:
            of_class = {
                label: float(np.mean([_value(name, r) for r in measured if r["label"] == label]))
                for label in labels
            }
            summary[name] = float(np.mean(list(of_class.values())))
            if self.per_class:
                for label, value in of_class.items():
                    summary[f"{name}/{self.models[label].name}"] = value
        return summary

    def _measure(self, sample: Mapping) -> dict:
        truth, found = sample["gt_instances"], sample["pred_instances"]
        true_pose = _pose(truth, "object", sample)
        found_pose = _pose(found, self.pose, sample)
        label = int(np.ravel(truth["object_label"])[0])
        if label >= len(self.models):
            raise ValueError(
                f"ObjectPoseMetric: {_name(sample)} is of class {label}, but {self.folder} has "
                f"{len(self.models)} models; give the object_ids of the data set"
            )
        model = self.models[label]
        in_truth = transformed(model.vertices, *true_pose)
        as_found = transformed(model.vertices, *found_pose)
        symmetries = model.symmetries
        cam_K = np.asarray(truth["cam_K"], dtype=np.float64)[0]
        return dict(
            label=label,
            diameter=model.diameter,
            is_symmetric=model.is_symmetric,
            add=add_error(as_found, in_truth),
            adds=adds_error(as_found, in_truth),
            pixels=projection_error(as_found, in_truth, cam_K),
            degrees=rotation_error(found_pose[0], true_pose[0], symmetries),
            metres=translation_error(found_pose, true_pose, symmetries),
        )


def _value(name: str, record: Mapping) -> float:
    """The figure of one sample that a metric averages."""
    limit = _ADD_SHARE * record["diameter"]
    is_symmetric = record["is_symmetric"]
    return {
        "ADD(-S)@0.1d": float(record["adds" if is_symmetric else "add"] < limit),
        "ADD@0.1d": float(record["add"] < limit),
        "ADD-S@0.1d": float(record["adds"] < limit),
        "ADD": record["add"] * _MILLIMETRES,
        "ADD-S": record["adds"] * _MILLIMETRES,
        "Proj2D": record["pixels"],
        "Proj2D@5px": float(record["pixels"] < _PIXELS),
        "rotation": record["degrees"],
        "translation": record["metres"] * _MILLIMETRES,
    }[name]


def _pose(instances: Mapping, prefix: str, sample: Mapping) -> tuple[np.ndarray, np.ndarray]:
    names = [f"{prefix}_rotation", f"{prefix}_translation"]
    if missing := [name for name in names if name not in instances]:
        raise KeyError(
            f"ObjectPoseMetric: {_name(sample)} has no {', '.join(missing)}; the model must be a "
            "mamba_mm.TopdownObjectPoseEstimator"
        )
    rotation, translation = (np.asarray(instances[name], np.float64)[0] for name in names)
    if not (np.isfinite(rotation).all() and np.isfinite(translation).all()):
        raise ValueError(f"ObjectPoseMetric: the pose {prefix} of {_name(sample)} is not finite")
    return rotation, translation


def _name(sample: Mapping) -> str:
    return str(sample.get("img_path", "a sample"))
