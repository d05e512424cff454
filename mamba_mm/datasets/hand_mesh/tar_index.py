"""Where the hands of HaMeR's training archives are, so that any of them can be read at once.

The archives are plain tar files in WebDataset's manner: ``KEY.jpg`` (or ``.jpeg``, ``.png``) and
``KEY.data.pyd``, a pickled list of the labels of all hands in the image. A tar file has no table of
contents, and how many hands there are is known only from the labels, so all are read once. What is
learnt is kept in a file and used again for those archives that have not changed.
"""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from mamba_mm.models.body_models.array_pickle import RefusedPickleError

from .hamer_labels import ARCHIVE_BOX_UNIT, HandLabelError, HandLabels, parse_labels
from .safe_pickle import read_plain_pickle
from .whole_file import whole_file

INDEX_NAME = "index_mamba_mm.npz"
"""The file that keeps the index."""

FINE, IMPLAUSIBLE, BROKEN = range(3)
"""State of a hand's labels: usable; 3-D joints that are no hand's; numbers that are not finite."""

HAND = np.dtype(
    [
        ("tar", np.int32),
        ("image", np.int64),
        ("image_size", np.int64),
        ("labels", np.int64),
        ("labels_size", np.int64),
        ("number", np.int16),
        ("confidence", np.float32, (21,)),
        ("fitting_loss", np.float32),
        ("box_ratio", np.float32),
        ("state", np.uint8),
    ]
)
"""A hand in the index: the number of its archive, where image and labels are in it (in bytes), its
number among the hands of the image, and what decides whether to train on it."""

_IMAGES = ("jpg", "jpeg", "png")
_LABELS = "data.pyd"
_STAMPS = "stamps"
_HANDS = "hands"


class ArchiveError(ValueError):
    """An archive that is damaged or not one of HaMeR's."""


def index_archives(
    folder: str | Path, cache_dir: str | Path | None = None, workers: int = 1
) -> tuple[list[Path], np.ndarray]:
    """Find all hands of the archives in a folder.

    Args:
        folder: With ``*.tar``, one data set.
        cache_dir: Where the index is kept, below a folder of the same name; beside the archives by
            default.
        workers: Processes that read archives.

    Returns:
        The archives, and the hands of all of them in order, an array of :data:`HAND`.

    Raises:
        FileNotFoundError: There is no archive.
        ArchiveError: One is not what HaMeR released.
    """
    folder = Path(folder)
    tars = sorted(folder.glob("*.tar"))
    if not tars:
        raise FileNotFoundError(
            f"no *.tar in {folder}. It must be one data set of HaMeR's training data, such as "
            "hamer_training_data/dataset_tars/freihand-train"
        )
    cache = (folder if cache_dir is None else Path(cache_dir) / folder.name) / INDEX_NAME
    stamps = [_stamp(tar) for tar in tars]
    known = _read_cache(cache)
    new = [tar for tar, stamp in zip(tars, stamps, strict=True) if stamp not in known]
    if new:
        print_log(f"reading the labels of {len(new)} archives in {folder}, once", "current")
        found = dict(zip(new, _index_all(new, workers), strict=True))
        known |= {_stamp(tar): hands for tar, hands in found.items()}
        _write_cache(cache, {stamp: known[stamp] for stamp in stamps})
    hands = [known[stamp] for stamp in stamps]
    for number, part in enumerate(hands):
        part["tar"] = number
    return tars, np.concatenate(hands)


def read_member(tar: Path, offset: int, size: int) -> bytes:
    """Read bytes of an archive.

    Args:
        tar: The archive.
        offset: Where they begin.
        size: How many.

    Returns:
        The bytes.

    Raises:
        ArchiveError: The archive ends before.
    """
    with tar.open("rb") as file:
        file.seek(offset)
        content = file.read(size)
    if len(content) != size:
        raise ArchiveError(f"{tar} is cut off: {size} bytes at {offset} are not there")
    return content


def read_hands(source: str, content: bytes) -> list[HandLabels]:
    """Read the labels of all hands of an image.

    Args:
        source: Where they come from, for error messages.
        content: The member ``KEY.data.pyd``.

    Returns:
        The labels.

    Raises:
        ArchiveError: They are not of HaMeR's form.
    """
    try:
        document = read_plain_pickle(content)
        if not isinstance(document, list | tuple):
            raise HandLabelError(f"expected a list of hands, got a {type(document).__name__}")
        return [parse_labels(fields, ARCHIVE_BOX_UNIT) for fields in document]
    except (HandLabelError, RefusedPickleError) as error:
        raise ArchiveError(f"{source}: {error}") from error


def _index_all(tars: Sequence[Path], workers: int) -> Iterator[np.ndarray]:
    if workers == 1:
        yield from map(_index_one, tars)
        return
    # Threads of a library may be running here, which a fork would leave locked.
    with get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(_index_one, tars)


def _index_one(tar: Path) -> np.ndarray:
    """The hands of one archive."""
    hands = []
    with tar.open("rb") as file:
        for key, members in _samples(tar).items():
            source = f"{tar}, sample {key}"
            image, labels = _image_and_labels(source, members)
            file.seek(labels.offset_data)
            content = file.read(labels.size)
            place = (image.offset_data, image.size, labels.offset_data, labels.size)
            for number, hand in enumerate(read_hands(source, content)):
                hands.append((0, *place, number, *_summary(hand)))
    return np.array(hands, HAND)


def _samples(tar: Path) -> dict[str, dict[str, tarfile.TarInfo]]:
    """Members by key, then by extension: what follows the first dot of the name."""
    samples = {}
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                if member.isfile():
                    folder, _, name = member.name.rpartition("/")
                    stem, _, extension = name.partition(".")
                    samples.setdefault(f"{folder}/{stem}".lstrip("/"), {})[extension] = member
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ArchiveError(f"{tar} is damaged, fetch it again: {error}") from error
    if not samples:
        raise ArchiveError(f"{tar} has no files in it")
    return samples


def _image_and_labels(
    source: str, members: dict[str, tarfile.TarInfo]
) -> tuple[tarfile.TarInfo, tarfile.TarInfo]:
    images = [members[extension] for extension in _IMAGES if extension in members]
    if len(images) != 1 or _LABELS not in members:
        raise ArchiveError(
            f"{source} has the members {sorted(members)}; expected one of {', '.join(_IMAGES)}, "
            f"and {_LABELS}"
        )
    return images[0], members[_LABELS]


def _summary(hand: HandLabels) -> tuple:
    """What the last fields of :data:`HAND` are of a hand."""
    state = BROKEN
    if hand.is_finite:
        state = FINE if hand.has_plausible_joints else IMPLAUSIBLE
    return hand.keypoints[:, 2], hand.fitting_loss, hand.box_ratio, state


def _stamp(tar: Path) -> tuple:
    """What tells whether an archive is the one that was indexed."""
    status = tar.stat()
    return (tar.name, status.st_size, status.st_mtime_ns)


def _read_cache(cache: Path) -> dict[tuple, np.ndarray]:
    """Hands by the stamp of their archive."""
    if not cache.is_file():
        return {}
    try:
        with np.load(cache, allow_pickle=False) as stored:
            stamps = [tuple(stamp) for stamp in json.loads(str(stored[_STAMPS]))]
            hands = stored[_HANDS]
            if hands.dtype != HAND:
                raise ValueError("of another version")
            ends = np.cumsum(np.bincount(hands["tar"], minlength=len(stamps)))
            return dict(zip(stamps, np.split(hands, ends[:-1]), strict=True))
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
        print_log(f"{cache} is unusable ({error}); reading the archives", "current")
        return {}


def _write_cache(cache: Path, known: dict[tuple, np.ndarray]) -> None:
    """Keep the hands of archives, by their stamps; where that is refused, say so and go on."""
    parts = [part.copy() for part in known.values()]
    for number, part in enumerate(parts):
        part["tar"] = number
    stamps = np.array(json.dumps(list(known)))
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(cache) as file:
            np.savez(file, **{_STAMPS: stamps, _HANDS: np.concatenate(parts)})
    except OSError as error:
        print_log(
            f"the index of the archives could not be kept ({error}), and will be made again next "
            "time; give a folder that can be written to as cache_dir",
            "current",
        )
