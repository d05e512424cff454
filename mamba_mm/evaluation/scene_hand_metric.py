"""The metric of hands, in a set that has other things too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mamba_mm.registry import METRICS

from .hand_mesh_metric import HandMeshMetric


@METRICS.register_module()
class SceneHandMeshMetric(HandMeshMetric):
    """:class:`HandMeshMetric` of the samples that are hands, in a set of hands and objects.

    A sample whose ``gt_instances`` have the pose of an object is skipped, and counted in the log as
    one without 3-D labels.

    Args:
        **settings: As in :class:`HandMeshMetric`, but no submission: a file of some samples of a
            set is none.

    Raises:
        ValueError: ``outfile_prefix`` or ``format_only`` is given.
    """

    def __init__(self, **settings: Any) -> None:
        if settings.get("format_only") or settings.get("outfile_prefix") is not None:
            raise ValueError(
                "SceneHandMeshMetric writes no submission; test the hands' data set alone with "
                "mamba_mm.HandMeshMetric"
            )
        super().__init__(**settings)

    def process(self, data_batch: Any, data_samples: Sequence[Mapping]) -> None:
        """Measure the hands of a batch.

        Args:
            data_batch: Not used.
            data_samples: Samples as dicts.
        """
        for sample in data_samples:
            if "object_rotation" in sample["gt_instances"]:
                # In its place, as collection from several processes counts records.
                self.results.append({"skipped": True})
            else:
                super().process(data_batch, [sample])
