"""Files that are there completely or not at all."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file beside its place and rename it, so that nobody sees a part of it.

    Several processes may write the same file at a time; the last one's stays.

    Args:
        path: The file, in a folder that exists.

    Yields:
        What to write into. After an error there, ``path`` is what it was.
    """
    # Not by tempfile, whose files only their owner may read: data are shared.
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("xb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
