"""Reading the pickle in which MANO is released, without running anything in it.

The file was written by Python 2 with chumpy and scipy objects in it. For their names there are
inert classes in this module that only record what they are given; the rest is that of
:mod:`.array_pickle`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .array_pickle import (
    MALFORMED,
    RefusedPickleError,
    is_array,
    is_shape,
    read_limited,
    unpickle,
    value_of,
)
from .mano_model import NUM_JOINTS, NUM_VERTICES

_ARRAY_KEYS = (
    "v_template",
    "shapedirs",
    "posedirs",
    "weights",
    "J_regressor",
    "kintree_table",
    "f",
    "hands_components",
    "hands_mean",
)


class MANOFileError(ValueError):
    """A file is not a hand model, or not one that is safe to read."""


def read_released_pickle(path: str | Path) -> dict[str, Any]:
    """Read a pickle of MANO's released format as plain arrays.

    Neither chumpy nor scipy is needed. Besides the released file, pickles of the same keys with
    plain NumPy arrays are read.

    Args:
        path: The file.

    Returns:
        ``v_template``, ``shapedirs``, ``posedirs``, ``weights``, ``J_regressor`` (dense),
        ``kintree_table``, ``f``, ``hands_components``, ``hands_mean`` as arrays, and
        ``synthetic``. Shapes of the arrays are not checked here.

    Raises:
        MANOFileError: The file is too large, names something that is not in the table, is
            damaged, or lacks something.
    """
    path = Path(path)
    try:
        return _plain_document(unpickle(read_limited(path), _TABLE, "a hand model"))
    except (MANOFileError, RefusedPickleError) as error:
        raise MANOFileError(f"{path}: {error}") from error
    except MALFORMED as error:
        raise MANOFileError(f"{path}: not a readable pickle of a hand model: {error}") from error


class _Record:
    """Base of the stand-ins: keeps the state it gets and does nothing."""

    def __new__(cls, *args: Any) -> Any:
        """Ignore what the original class would be built from."""
        record = super().__new__(cls)
        record.fields = {}
        return record

    # An unpickler calls this instead of writing attributes, also of the class.
    def __setstate__(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        for part in parts:
            if part is None:
                continue
            if not isinstance(part, dict):
                raise MANOFileError(f"unexpected state of a {type(self).__name__[1:]}")
            self.fields.update(part)

    def field(self, *names: str) -> Any:
        """Return the first of these fields that there is."""
        for name in names:
            if name in self.fields:
                return self.fields[name]
        raise MANOFileError(f"a {type(self).__name__[1:]} object has no field {names[0]!r}")


class _Ch(_Record):
    """An array of chumpy."""


class _Select(_Record):
    """Picked entries of an array of chumpy."""


class _CSCMatrix(_Record):
    """A sparse matrix of scipy, column by column."""


# Names as they stand in the file; an overridden ``find_class`` gets those of Python 2.
_TABLE: dict[tuple[str, str], type] = {
    ("__builtin__", "set"): set,
    ("chumpy.ch", "Ch"): _Ch,
    ("chumpy.reordering", "Select"): _Select,
    ("scipy.sparse.csc", "csc_matrix"): _CSCMatrix,
    ("scipy.sparse._csc", "csc_matrix"): _CSCMatrix,
}


def _plain_document(document: Any) -> dict[str, Any]:
    """Turn what was read into arrays."""
    if not isinstance(document, dict):
        raise MANOFileError(f"expected a dictionary, the file has a {type(document).__name__}")
    check_keys(document, (*_ARRAY_KEYS, "bs_style", "bs_type"))
    check_skinning(document["bs_style"], document["bs_type"])
    plain = {key: _plain_array(key, document[key]) for key in _ARRAY_KEYS}
    plain["synthetic"] = document.get("synthetic", False) is True
    return plain


def check_keys(document: Any, keys: tuple[str, ...]) -> None:
    """Check that a file has all it needs.

    Args:
        document: A mapping.
        keys: What it must have.

    Raises:
        MANOFileError: Something is missing.
    """
    missing = [key for key in keys if key not in document]
    if missing:
        raise MANOFileError(f"lacks {', '.join(missing)}; it is not a model of the MANO hand")


def check_skinning(style: Any, kind: Any) -> None:
    """Check that the model is to be skinned as :class:`MANOLayer` does.

    Args:
        style: ``bs_style`` of the file.
        kind: ``bs_type`` of the file.

    Raises:
        MANOFileError: They are not ``"lbs"`` and ``"lrotmin"``.
    """
    if (style, kind) != ("lbs", "lrotmin"):
        raise MANOFileError(
            f"bs_style and bs_type must be 'lbs' and 'lrotmin', got {style!r} and {kind!r}"
        )


def _plain_array(key: str, value: Any) -> np.ndarray:
    """Evaluate the stand-ins of one entry."""
    if isinstance(value, _CSCMatrix):
        return _dense(value)
    if isinstance(value, _Select):
        return _selected(value)
    return _unwrapped(key, value)


def _unwrapped(key: str, value: Any) -> np.ndarray:
    """Value of an array, also inside of one Ch."""
    if isinstance(value, _Ch):
        value = value.field("x")
    if not is_array(value):
        raise MANOFileError(f"{key} is no array")
    return value_of(value)


def _selected(select: _Select) -> np.ndarray:
    """Value of ``ravel(a)[idxs].reshape(preferred_shape)``."""
    source = _unwrapped("what a Select picks from", select.field("a")).ravel()
    indices = _unwrapped("idxs of a Select", select.field("idxs")).ravel()
    shape = select.field("preferred_shape")
    if indices.dtype.kind not in "iu" or not indices.size:
        raise MANOFileError("idxs of a Select must be integers")
    if indices.min() < 0 or indices.max() >= source.size:
        raise MANOFileError(
            f"idxs of a Select must be in [0, {source.size}), got "
            f"[{indices.min()}, {indices.max()}]"
        )
    if not is_shape(shape) or np.prod(shape, dtype=object) != indices.size:
        raise MANOFileError(f"a Select of {indices.size} entries cannot have the shape {shape!r}")
    return source[indices].reshape(shape)


def _dense(matrix: _CSCMatrix) -> np.ndarray:
    """Value of a sparse joint regressor, (16, 778)."""
    shape = matrix.field("_shape", "shape")
    if not is_shape(shape) or shape != (NUM_JOINTS, NUM_VERTICES):
        raise MANOFileError(
            f"J_regressor must have the shape ({NUM_JOINTS}, {NUM_VERTICES}), got {shape!r}"
        )
    data, rows, starts = (
        _unwrapped(f"{name} of J_regressor", matrix.field(name)).ravel()
        for name in ("data", "indices", "indptr")
    )
    if rows.dtype.kind not in "iu" or starts.dtype.kind not in "iu":
        raise MANOFileError("indices and indptr of J_regressor must be integers")
    rows, starts = rows.astype(np.int64), starts.astype(np.int64)
    counts = np.diff(starts)
    fits = len(starts) == NUM_VERTICES + 1 and starts[0] == 0 and counts.min() >= 0
    if not fits or not starts[-1] == len(rows) == len(data):
        raise MANOFileError("indptr of J_regressor does not fit its indices and data")
    if len(rows) and (rows.min() < 0 or rows.max() >= NUM_JOINTS):
        raise MANOFileError(f"indices of J_regressor must be in [0, {NUM_JOINTS})")
    dense = np.zeros(shape)
    np.add.at(dense, (rows, np.repeat(np.arange(NUM_VERTICES), counts)), data)
    return dense
