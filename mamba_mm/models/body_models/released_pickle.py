"""Reading the pickle in which MANO is released, without running anything in it.

The file was written by Python 2 with chumpy and scipy objects in it. An ordinary unpickler would
import and call whatever a file names. This one has a closed table of names, each standing for an
inert class of this module that only records what it is given; nothing else can be called. Arrays
are made afterwards, from the bytes that are there.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any

import numpy as np

from .mano_model import NUM_JOINTS, NUM_VERTICES

SIZE_LIMIT = 64 * 2**20
"""Bytes; the released file has a few millions."""

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
_MALFORMED = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
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
    content = read_limited(path)
    try:
        _check_opcodes(content)
        document = _RestrictedUnpickler(io.BytesIO(content), encoding="latin1").load()
        return _plain_document(document)
    except MANOFileError as error:
        raise MANOFileError(f"{path}: {error}") from error
    except _MALFORMED as error:
        raise MANOFileError(f"{path}: not a readable pickle of a hand model: {error}") from error


def read_limited(path: Path) -> bytes:
    """Read a file of a sane size.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        MANOFileError: It is larger than :data:`SIZE_LIMIT`.
    """
    size = path.stat().st_size
    if size > SIZE_LIMIT:
        raise MANOFileError(
            f"{path} has {size / 2**20:.0f} MiB; a hand model has a few, and more than "
            f"{SIZE_LIMIT >> 20} are not read"
        )
    return path.read_bytes()


def _check_opcodes(content: bytes) -> None:
    """Refuse what would bypass the table of names, or fill the memory, before reading.

    Codes of the extension registry may be answered from a cache of the process; the slots of the
    memo are allocated up to the largest number named.
    """
    for opcode, argument, position in pickletools.genops(content):
        if opcode.name.startswith("EXT") or opcode.name.endswith("PERSID"):
            raise MANOFileError(
                f"refused: {opcode.name} at byte {position} refers to an object outside the file"
            )
        if opcode.name.endswith("PUT") and int(argument) > len(content):
            raise MANOFileError(f"refused: memo slot {argument} at byte {position}")


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


class _DType:
    """Type of an array: a number of fixed size, nothing with objects or fields."""

    def __new__(cls, name: Any, align: Any = False, copy: Any = True) -> Any:
        if not isinstance(name, str) or not re.fullmatch("b1|i[1248]|u[1248]|f[248]", name):
            raise MANOFileError(f"refused: an array of the type {name!r}; only numbers are read")
        record = super().__new__(cls)
        record.name, record.order = name, "="
        return record

    def __setstate__(self, state: Any) -> None:
        if len(state) < 5 or state[1] not in ("<", ">", "=", "|") or any(state[2:5]):
            raise MANOFileError("refused: an array type with fields or of unknown byte order")
        self.order = state[1]

    def plain(self) -> np.dtype:
        return np.dtype(self.order + self.name)


class _Array:
    """An array: filled from its bytes, of which there must be exactly as many as it needs."""

    def __new__(cls, *args: Any) -> Any:
        raise MANOFileError("refused: a direct call of numpy.ndarray")

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _DType):
            raise MANOFileError("refused: an array without a type")
        plain = dtype.plain()
        if isinstance(data, str):  # a string of Python 2
            data = data.encode("latin1")
        if not isinstance(data, bytes) or not _is_shape(shape):
            raise MANOFileError("refused: an array that is not given by its shape and bytes")
        # Integers of Python do not overflow, and nothing has been allocated yet.
        needed = plain.itemsize
        for size in shape:
            needed *= size
        if needed != len(data):
            raise MANOFileError(
                f"refused: an array of the shape {shape} needs {needed} bytes, it has {len(data)}"
            )
        self.value = np.frombuffer(data, plain).reshape(shape, order="F" if fortran else "C")


class _Reconstruct:
    """NumPy's maker of empty arrays."""

    def __new__(cls, subtype: Any, shape: Any, code: Any) -> Any:
        if subtype is not _Array:
            raise MANOFileError(f"refused: an array of the class {subtype!r}")
        if shape != (0,):
            raise MANOFileError(f"refused: an empty array of the shape {shape!r}")
        return object.__new__(_Array)

    def __setstate__(self, state: Any) -> None:
        raise MANOFileError("refused: a state for a function")


class _Encode:
    """The call by which Python 3 writes bytes into old pickles."""

    def __new__(cls, text: Any, encoding: Any = None) -> Any:
        if not isinstance(text, str) or encoding != "latin1":
            raise MANOFileError(f"refused: _codecs.encode with the encoding {encoding!r}")
        return text.encode("latin1")

    def __setstate__(self, state: Any) -> None:
        raise MANOFileError("refused: a state for a function")


# Names as they stand in the file; an overridden ``find_class`` gets those of Python 2.
_TABLE: dict[tuple[str, str], type] = {
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("__builtin__", "set"): set,
    ("chumpy.ch", "Ch"): _Ch,
    ("chumpy.reordering", "Select"): _Select,
    ("scipy.sparse.csc", "csc_matrix"): _CSCMatrix,
    ("scipy.sparse._csc", "csc_matrix"): _CSCMatrix,
    ("_codecs", "encode"): _Encode,
}


class _RestrictedUnpickler(pickle.Unpickler):
    """An unpickler that knows the names of the table and no other."""

    def find_class(self, module: str, name: str) -> type:
        """Look a name up in the table; import nothing."""
        try:
            return _TABLE[module, name]
        except KeyError:
            raise MANOFileError(
                f"refused: the file names {module}.{name}, which a hand model has no use for; "
                "do not open it with another reader unless you trust where it comes from"
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to objects outside of the file."""
        raise MANOFileError(f"refused: the file refers to an object outside of it, {pid!r}")


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
    if not isinstance(value, _Array) or not hasattr(value, "value"):
        raise MANOFileError(f"{key} is no array")
    return value.value


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
    if not _is_shape(shape) or np.prod(shape, dtype=object) != indices.size:
        raise MANOFileError(f"a Select of {indices.size} entries cannot have the shape {shape!r}")
    return source[indices].reshape(shape)


def _dense(matrix: _CSCMatrix) -> np.ndarray:
    """Value of a sparse joint regressor, (16, 778)."""
    shape = matrix.field("_shape", "shape")
    if not _is_shape(shape) or shape != (NUM_JOINTS, NUM_VERTICES):
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


def _is_shape(shape: Any) -> bool:
    return (
        isinstance(shape, tuple)
        and len(shape) <= 4
        and all(type(size) is int and size >= 0 for size in shape)
    )
