"""Depth maps from files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path, PurePath

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mamba_mm.registry import TRANSFORMS

from .depth_maps import add_depth, check_kind

_MISSING = ("error", "unknown")


@TRANSFORMS.register_module()
class LoadDepth(BaseTransform):
    """Load the depth map of an image, for ``mamba_mm.AppendDepth`` further on in the pipeline.

    The file is what the sample's ``depth_path`` names. Without that, it is found beside the image:
    ``folders=("rgb", "depth")`` makes ``.../rgb/00000000.jpg`` to ``.../depth/00000000.png``.

    Files are images of one channel (PNG of 16 bits, TIFF, ...) or ``.npy``, as large as the photo.
    Units do not matter, as maps are normalised crop by crop. Zeros, negative numbers and what is
    not finite stand for unknown.

    Adds ``inverse_depth``, (H, W), float32, not a number where it is unknown, in the frame of the
    image **as it was loaded**: ``AppendDepth`` takes it the way that the image went since. Adds
    ``has_depth``, (1,), 1 or 0. Place it after ``LoadImage``.

    Args:
        folders: Name of the folder of the images, which must occur in their path (the last one
            counts), and that of the maps. ``None``: only samples with ``depth_path`` have a map.
        suffix: Of the maps that are found by ``folders``.
        kind: ``"depth"``, as of a camera, or ``"inverse_depth"``, larger where it is nearer, also
            called disparity: what most networks for single images give.
        missing: What to do for a photo without a map: ``"error"``, or ``"unknown"`` for a map
            without any known depth, with one warning. A file that ``depth_path`` names and that is
            not there, or that cannot be read, is an error in any case.

    Raises:
        ValueError: An argument is none of those listed.
    """

    def __init__(
        self,
        folders: Sequence[str] | None = None,
        suffix: str = ".png",
        kind: str = "depth",
        missing: str = "error",
    ) -> None:
        if folders is not None and (isinstance(folders, str) or len(folders) != 2):
            raise ValueError(
                f"LoadDepth: folders must be two names, such as ('rgb', 'depth'); got {folders!r}"
            )
        if missing not in _MISSING:
            raise ValueError(
                f"LoadDepth: unknown missing {missing!r}; known: {', '.join(_MISSING)}"
            )
        self.folders = None if folders is None else tuple(folders)
        self.suffix = suffix
        self.kind = check_kind("LoadDepth", kind)
        self.missing = missing

    def transform(self, results: dict) -> dict:
        """Load the map of a sample.

        Args:
            results: The sample; its image is there.

        Returns:
            The sample.

        Raises:
            FileNotFoundError: There is no map, and that is an error.
            ValueError: The file is no depth map, or not as large as the image.
        """
        named = results.get("depth_path")
        path = Path(named) if named else self._path_beside(results.get("img_path"))
        if path is not None and path.is_file():
            return add_depth(results, _read(path), self.kind, f"LoadDepth: {path}")
        if named:
            raise FileNotFoundError(
                f"LoadDepth: there is no depth map {path}, which a sample names"
            )
        if self.missing == "error":
            raise FileNotFoundError(self._complaint(path, results.get("img_path")))
        # The same text every time, so that Python shows it once.
        warnings.warn(
            "LoadDepth: there are photos without a depth map; they get one of unknown depth",
            stacklevel=2,
        )
        unknown = np.zeros(results["img"].shape[:2], np.float32)
        return add_depth(results, unknown, self.kind, "LoadDepth")

    def _path_beside(self, img_path: str | None) -> Path | None:
        if self.folders is None or not img_path:
            return None
        images, maps = self.folders
        *folders, name = PurePath(img_path).parts
        if images not in folders:
            return None
        last = len(folders) - 1 - folders[::-1].index(images)
        folders[last] = maps
        return Path(*folders, name).with_suffix(self.suffix)

    def _complaint(self, path: Path | None, img_path: str | None) -> str:
        found = f"there is no depth map {path} of {img_path}"
        if path is None:
            found = f"{img_path or 'an image'} has no depth_path, and folders={self.folders} lead "
            found += "to no depth map"
        return f"LoadDepth: {found}. With missing='unknown', photos without a map are let pass"

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(folders={self.folders}, suffix={self.suffix!r}, "
            f"kind={self.kind!r}, missing={self.missing!r})"
        )


def _read(path: Path) -> np.ndarray:
    """The values of a file, whatever they mean."""
    if path.suffix == ".npy":
        values = np.load(path, allow_pickle=False)
    else:
        values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if values is None or values.ndim != 2:
        what = "cannot be read" if values is None else f"has the shape {values.shape}"
        raise ValueError(
            f"LoadDepth: {path} {what}; expected an image of one channel, or such an array (.npy)"
        )
    return values
