"""Medical data sets for MMSegmentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from mmseg.datasets import BaseSegDataset, SynapseDataset

_SLICE_NAME = re.compile(r"(?P<case>.+)_slice(?P<index>\d+)")


class ISICDataset(BaseSegDataset):
    """Skin lesions of the ISIC challenges 2017 (part 1) and 2018 (task 1).

    ``tools/dataset_converters/isic.py`` writes the folders: ``img_dir/SPLIT/*.jpg`` and
    ``ann_dir/SPLIT/*.png``, labels 0 and 1. Arguments as in MMSegmentation's
    ``BaseSegDataset``.
    """

    METAINFO: ClassVar[dict] = dict(
        classes=("background", "lesion"), palette=[[0, 0, 0], [220, 20, 60]]
    )


class SynapseVolumeDataset(SynapseDataset):
    """Abdominal organs of the Synapse multi-atlas data, slice by slice, volumes kept together.

    Every sample knows its ``case``, the volume that it is a slice of, and its ``slice_index``:
    pack both as ``meta_keys``, and :class:`mamba_mm.CaseSegMetric` judges whole volumes.
    ``tools/dataset_converters/synapse.py`` writes the folders: ``img_dir/SPLIT/*.png`` and
    ``ann_dir/SPLIT/*.png``, named ``case0005_slice012.png``.

    Args:
        img_suffix: Ending of the images' names.
        **kwargs: As in MMSegmentation's ``SynapseDataset``, which refuses unknown ones.

    Raises:
        ValueError: A file's name does not tell case and slice.
    """

    def __init__(self, img_suffix: str = ".png", **kwargs) -> None:
        super().__init__(img_suffix=img_suffix, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the slices in the order of their volumes."""
        data_list = super().load_data_list()
        for sample in data_list:
            name = Path(sample["img_path"]).stem
            found = _SLICE_NAME.fullmatch(name)
            if not found:
                raise ValueError(
                    f"SynapseVolumeDataset: {sample['img_path']} is not named like "
                    "case0005_slice012; convert the data with tools/dataset_converters/synapse.py"
                )
            sample["case"], sample["slice_index"] = found["case"], int(found["index"])
        return data_list
