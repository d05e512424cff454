"""The JSON files of the official FreiHAND release, and a faster copy of them."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from .whole_file import whole_file

ENTRY_SHAPES: dict[str, tuple[int, ...]] = dict(K=(3, 3), xyz=(21, 3), verts=(778, 3), mano=(61,))
"""What one entry of ``SPLIT_NAME.json`` becomes; the file's ``mano`` entries are 1 x 61."""

_STAMP = "stamp"
_SEPARATOR = re.compile(r"[\s,]*")


def read_freihand(
    root: Path, split: str, names: Sequence[str], cache: bool = False
) -> dict[str, np.ndarray]:
    """Read label files of one split.

    Args:
        root: Folder of the release.
        split: ``"training"`` or ``"evaluation"``.
        names: Keys of :data:`ENTRY_SHAPES`; their files must exist.
        cache: Keep the numbers as ``SPLIT_mamba_mm.npz`` beside the JSON files, hundreds of
            megabytes of text that take minutes to read. It is written again when one of them
            changes.

    Returns:
        For each name an array (entries, ...) in float32; all have the same number of entries.

    Raises:
        ValueError: A file is not what the release has, or the files differ in length.
    """
    paths = {name: root / f"{split}_{name}.json" for name in names}
    cache_file = root / f"{split}_mamba_mm.npz"
    arrays = _read_cache(cache_file, root, split, names) if cache else {}
    missing = [name for name in names if name not in arrays]
    for name in missing:
        arrays[name] = _read_json(paths[name], ENTRY_SHAPES[name])
    if cache and missing:
        others = [name for name in ENTRY_SHAPES if name not in arrays]
        kept = _read_cache(cache_file, root, split, others)
        _write_cache(cache_file, root, split, kept | arrays)
    lengths = {paths[name].name: len(arrays[name]) for name in names}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the files of {root} do not belong together, their lengths: {lengths}")
    return arrays


def _read_json(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read a list of nested lists, entry by entry.

    As Python objects the vertices would take several gigabytes, as arrays 300 MB.
    """
    text = path.read_text().strip()
    decoder = json.JSONDecoder()
    entries = []
    if not (text.startswith("[") and text.endswith("]")):
        raise ValueError(f"{path} holds no JSON list; is the download complete?")
    position = _SEPARATOR.match(text, 1).end()
    while position < len(text) - 1:
        entry, position = decoder.raw_decode(text, position)
        entry = np.array(entry, np.float32)
        if entry.size != np.prod(shape):
            raise ValueError(
                f"{path}: entry {len(entries)} has the shape {entry.shape}, expected {shape}"
            )
        entries.append(entry.reshape(shape))
        position = _SEPARATOR.match(text, position).end()
    if not entries:
        raise ValueError(f"{path} is an empty list")
    return np.stack(entries)


def _stamp_of(path: Path) -> list | None:
    """Size and time of a file, which tell whether it has changed; ``None`` without a file."""
    if not path.is_file():
        return None
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _read_cache(
    cache_file: Path, root: Path, split: str, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return those of the named arrays whose files have not changed since they were cached."""
    if not cache_file.is_file():
        return {}
    try:
        with np.load(cache_file, allow_pickle=False) as stored:
            stamps = json.loads(str(stored[_STAMP]))
            return {
                name: stored[name]
                for name in names
                if name in stamps and _stamp_of(root / f"{split}_{name}.json") == stamps[name]
            }
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
        print_log(f"{cache_file} is unreadable ({error}); reading the JSON files", "current")
        return {}


def _write_cache(cache_file: Path, root: Path, split: str, arrays: dict[str, np.ndarray]) -> None:
    stamps = {name: _stamp_of(root / f"{split}_{name}.json") for name in arrays}
    with whole_file(cache_file) as file:
        np.savez(file, **{_STAMP: np.array(json.dumps(stamps))}, **arrays)
