"""Synapse multi-atlas abdomen, in the form that TransUNet's authors share and others use.

::

    SOURCE/
      train_npz/case0005_slice000.npz      image (H, W) in 0..1, label (H, W) in 0..8
      test_vol_h5/case0001.npy.h5          image (slices, H, W), label

What is written: grey images of 8 bits and label maps, one file a slice::

    FOLDER/
      synapse.json                         what was asked for; written last
      img_dir/train/case0005_slice000.png  ann_dir/train/...
      img_dir/val/case0001_slice000.png    ann_dir/val/...

The images show a window of 400 HU, so 8 bits are steps of 1.6 HU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ..drawn_folder import draw_folder, write_image

STAMP = "synapse.json"
NUM_CLASSES = 9

Slice = tuple[str, np.ndarray, np.ndarray]


def convert_synapse(
    source: str | Path,
    folder: str | Path,
    *,
    force: bool = False,
    report: Callable[[str], None] = print,
) -> bool:
    """Write the folders that :class:`mamba_mm.SynapseVolumeDataset` reads.

    Args:
        source: The folder with ``train_npz`` and ``test_vol_h5``.
        folder: Where the result goes; it ends up absent, what it was, or complete.
        force: Replace whatever ``folder`` holds.
        report: Called with one line now and then.

    Returns:
        True if the folders were written, False if they were there already.

    Raises:
        FileNotFoundError: The source has neither of its folders, or one is empty.
        FileExistsError: ``folder`` holds something else and ``force`` is not set.
        ValueError: Images or labels are not those expected.
        ImportError: h5py is not installed.
    """
    files = find_files(source)

    def draw(partial: Path) -> None:
        for split, paths in files.items():
            count = 0
            for path in paths:
                for name, image, label in READERS[split](path):
                    _write(partial, split, name, image, label, path)
                    count += 1
            report(f"{split}: {count} slices from {len(paths)} files")

    stamp = {"files": {split: [path.name for path in paths] for split, paths in files.items()}}
    return draw_folder(folder, STAMP, stamp, draw, force=force, report=report)


def find_files(source: str | Path) -> dict[str, list[Path]]:
    """Find the files of each split, sorted.

    Raises:
        FileNotFoundError: One of the folders is missing or empty.
    """
    source = Path(source)
    files = {
        "train": sorted((source / "train_npz").glob("*.npz")),
        "val": sorted((source / "test_vol_h5").glob("*.h5")),
    }
    empty = [split for split, paths in files.items() if not paths]
    if empty:
        raise FileNotFoundError(
            f"{source} has no files for {' and '.join(empty)}; expected train_npz/*.npz and "
            "test_vol_h5/*.npy.h5. MMSegmentation's tools/dataset_converters/synapse.py "
            "converts the original .nii.gz volumes"
        )
    return files


def _read_slice(path: Path) -> Iterator[Slice]:
    with np.load(path) as content:
        yield path.stem, content["image"], content["label"]


def _read_volume(path: Path) -> Iterator[Slice]:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ImportError(f"{path} needs h5py, which is not installed: pip install h5py") from error
    case = path.name.split(".")[0]
    with h5py.File(path, "r") as content:
        pairs = zip(content["image"][:], content["label"][:], strict=True)
        for index, (image, label) in enumerate(pairs):
            yield f"{case}_slice{index:03d}", image, label


READERS: dict[str, Callable[[Path], Iterator[Slice]]] = {"train": _read_slice, "val": _read_volume}


def _write(
    root: Path, split: str, name: str, image: np.ndarray, label: np.ndarray, source: Path
) -> None:
    if image.shape != label.shape or image.ndim != 2:
        raise ValueError(
            f"{source}: expected an image (H, W) and a label of its size, "
            f"got {image.shape} and {label.shape}"
        )
    if image.min() < 0 or image.max() > 1:
        raise ValueError(
            f"{source}: expected an image in 0..1, got {image.min()} to {image.max()}; was the "
            "window of -125 to 275 HU not applied?"
        )
    if label.min() < 0 or label.max() >= NUM_CLASSES:
        raise ValueError(
            f"{source}: expected labels 0..{NUM_CLASSES - 1}, got {label.min()} to {label.max()}; "
            "the original labels have other numbers"
        )
    pixels = {"img_dir": np.round(255 * image), "ann_dir": label}
    for folder, values in pixels.items():
        target = root / folder / split
        target.mkdir(parents=True, exist_ok=True)
        write_image(target / f"{name}.png", values.astype(np.uint8))
