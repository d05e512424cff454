"""The training archives of HaMeR: ten sets of hands, 2.7 million samples, in one form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from mmengine.logging import print_log
from mmpose.datasets.datasets.base import BaseCocoStyleDataset
from numpy.lib.recfunctions import repack_fields

from .filters import HandFilters
from .hamer_labels import check_boxes, labels_to_record
from .metainfo import hand_metainfo
from .tar_index import BROKEN, IMPLAUSIBLE, ArchiveError, index_archives, read_hands, read_member

_BAD_SHARE = 0.05
_TAR_BLOCK = 512


class HaMeRTarDataset(BaseCocoStyleDataset):
    """Hands of one of HaMeR's training sets (Pavlakos et al., CVPR 2024), read from its archives.

    The archives (``000000.tar`` and so on, in WebDataset's manner) stay as they were downloaded.
    Samples are read from them in any order, so MMPose's samplers and ``CombinedDataset`` work. On
    first use the labels of all archives are read to find the hands; the index is kept beside
    them. ``tools/dataset_converters/index_hamer_archives.py`` does that beforehand, in parallel.

    The labels are pickled; they are read without running anything that they name. A record has the
    decoded image as ``img``, BGR, not turned by its EXIF data, as in HaMeR; MMPose's ``LoadImage``
    takes it from there. There are neither intrinsics nor vertices. 3-D joints are known up to a
    translation.

    Hands whose labels are not finite are left out, and 3-D joints that cannot be a hand's are
    not used; the log says how many. More than one in twenty of them is an error.

    Args:
        data_root: Folder with the archives of one set, ``dataset_tars/freihand-train``.
        filters: Thresholds that differ from those of
            :class:`mamba_mm.datasets.hand_mesh.filters.HandFilters`, which are HaMeR's.
        cache_dir: Where the index is kept if not beside the archives.
        indices: Which of the hands that the filters keep: the first ``n``, the last ``-n``, or a
            list.
        metainfo: As in MMPose. By default the set is called ``hamer_`` and the folder's name.
        pipeline: As in MMPose.
        test_mode: As in MMPose.
        lazy_init: As in MMPose.
        max_refetch: As in MMPose.

    Raises:
        FileNotFoundError: There are no archives.
        ValueError: An argument or an archive has unusable content.
    """

    METAINFO: ClassVar[dict] = hand_metainfo("hamer_mesh")

    def __init__(
        self,
        data_root: str,
        filters: Mapping[str, float] | None = None,
        cache_dir: str | None = None,
        indices: int | Sequence[int] | None = None,
        metainfo: dict | None = None,
        pipeline: Sequence[dict | Callable] = (),
        test_mode: bool = False,
        lazy_init: bool = False,
        max_refetch: int = 1000,
    ) -> None:
        self.root = Path(data_root)
        self.filters = HandFilters(**(filters or {}))
        self.cache_dir = cache_dir
        self.hand_indices = indices
        super().__init__(
            data_root=str(data_root),
            metainfo=hand_metainfo(f"hamer_{self.root.name}") if metainfo is None else metainfo,
            pipeline=list(pipeline),
            test_mode=test_mode,
            # Millions of hands are an array here, which worker processes share as it is.
            serialize_data=False,
            lazy_init=lazy_init,
            max_refetch=max_refetch,
        )

    def load_data_list(self) -> Sequence[dict]:
        """Find the hands to train on.

        Returns:
            For every hand its number among them.
        """
        self._tars, hands = index_archives(self.root, self.cache_dir)
        self._check(hands)
        keep = self.filters.keeps(hands["confidence"], hands["fitting_loss"])
        keep &= hands["state"] != BROKEN
        print_log(f"{self.root}: {keep.sum()} of {len(hands)} hands pass the filters", "current")
        fields = ["tar", "image", "image_size", "labels", "labels_size", "number"]
        self._hands = self._chosen(repack_fields(hands[keep][fields]))
        return _Numbers(range(len(self._hands)))

    def get_data_info(self, idx: int) -> dict:
        """Return the record of a hand, with what MMPose adds.

        Args:
            idx: Index of the hand.

        Returns:
            What :func:`hand_record` returns, the image as ``img``, and the metainfo that MMPose's
            transforms use.

        Raises:
            ValueError: The archive was changed while in use.
        """
        info = super().get_data_info(idx)
        place = self._hands[info["img_id"]]
        tar = self._tars[place["tar"]]
        name, image = self._read_image(tar, place)
        source = f"{tar}, sample {name}"
        content = read_member(tar, int(place["labels"]), int(place["labels_size"]))
        labels = read_hands(source, content)[place["number"]]
        record = labels_to_record(
            f"{source}, hand {place['number']}",
            labels,
            self.filters,
            img_path=f"{tar}/{name}",
            img_id=info["img_id"],
            id=info["img_id"],
        )
        return info | record | dict(img=image)

    def _read_image(self, tar: Path, place: np.void) -> tuple[str, np.ndarray]:
        """Name of the image within the archive, and the image."""
        # Its header in the archive is right before it, and begins with the name.
        start, size = int(place["image"]) - _TAR_BLOCK, int(place["image_size"]) + _TAR_BLOCK
        content = read_member(tar, start, size)
        name = content[:100].split(b"\0")[0].decode(errors="replace")
        encoded = np.frombuffer(content, np.uint8, offset=_TAR_BLOCK)
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if image is None:
            raise ArchiveError(
                f"{tar}: the image {name} cannot be decoded; fetch the archive again"
            )
        return name, image

    def _check(self, hands: np.ndarray) -> None:
        if not len(hands):
            raise ArchiveError(f"{self.root}: no archive has labels of a hand")
        check_boxes(str(self.root), hands["box_ratio"], "the side of the box divided by 200")
        for state, what, done in (
            (BROKEN, "labels that are not finite or an empty box", "left out"),
            (IMPLAUSIBLE, "3-D joints that are no hand's in metres", "used without them"),
        ):
            bad = hands[hands["state"] == state]
            if len(bad) > _BAD_SHARE * len(hands):
                raise ArchiveError(
                    f"{self.root}: {len(bad)} of {len(hands)} hands have {what}, the first of them "
                    f"in {self._tars[bad['tar'][0]]} at byte {bad['labels'][0]}; expected are "
                    "metres, OpenPose order, and x right, y down, z forward"
                )
            if len(bad):
                print_log(f"{self.root}: {len(bad)} hands have {what}, {done}", "current")

    def _chosen(self, hands: np.ndarray) -> np.ndarray:
        chosen = self.hand_indices
        if isinstance(chosen, int):
            hands = hands[:chosen] if chosen >= 0 else hands[chosen:]
        elif chosen is not None:
            if len(chosen) and not 0 <= min(chosen) <= max(chosen) < len(hands):
                raise ValueError(
                    f"HaMeRTarDataset: indices must choose among the {len(hands)} hands of "
                    f"{self.root} that pass the filters, numbered from 0"
                )
            hands = hands[list(chosen)]
        if not len(hands):
            raise ValueError(
                f"HaMeRTarDataset: no hand of {self.root} is left; indices and filters leave none"
            )
        return hands


class _Numbers(Sequence):
    """Numbers as records, without a record for each in memory."""

    def __init__(self, numbers: range) -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int | slice) -> dict[str, Any] | _Numbers:
        found = self._numbers[index]
        return _Numbers(found) if isinstance(found, range) else dict(img_id=found)
