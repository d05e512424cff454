"""Folders of images that we write: complete or absent, and never written twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np


def draw_folder(
    folder: str | Path,
    stamp_name: str,
    stamp: dict,
    draw: Callable[[Path], None],
    *,
    force: bool = False,
    report: Callable[[str], None] = print,
) -> bool:
    """Draw a set of images unless it is there already.

    The files are drawn into ``FOLDER.partial`` and renamed when all of them are there, so
    ``folder`` is either absent, what it was, or complete.

    Args:
        folder: Where the set goes.
        stamp_name: Name of the file that holds ``stamp``, written last.
        stamp: What was asked for; a folder with the same stamp is left as it is.
        draw: Draws all files into the folder that it is given.
        force: Replace whatever ``folder`` holds.
        report: Called with one line when there is nothing to draw.

    Returns:
        True if the set was drawn, False if ``folder`` already held this very set.

    Raises:
        FileExistsError: ``folder`` holds something else and ``force`` is not set.
    """
    folder = Path(folder)
    if not force:
        if _stamp_of(folder / stamp_name) == stamp:
            report(f"{folder}: complete, nothing to do")
            return False
        _refuse_to_overwrite(folder, stamp_name)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        draw(partial)
        (partial / stamp_name).write_text(to_json(stamp))
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an image in the format that its name says; JPEG as OpenCV does, quality 95.

    Raises:
        OSError: The system refuses to write.
    """
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, 3]):
        raise OSError(f"could not write {path}: is the disk full, or the folder read-only?")


def to_json(content: object) -> str:
    """Return compact JSON that ends in a line break."""
    return json.dumps(content, separators=(",", ":")) + "\n"


def _stamp_of(path: Path) -> dict | None:
    return json.loads(path.read_text()) if path.is_file() else None


def _refuse_to_overwrite(folder: Path, stamp_name: str) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    found = _stamp_of(folder / stamp_name)
    content = f"a set made with other arguments ({found})" if found else "other files"
    raise FileExistsError(
        f"{folder} holds {content}; name another folder, or pass --force (force=True) to replace it"
    )
