"""Reading pickles of arrays and plain values without running anything in them.

Hand models and annotations are published as pickles. An ordinary unpickler would import and call
whatever a file names. This one has a closed table of names, each standing for an inert class of
this module (or of its caller) that only records what it is given; nothing else can be called.
Arrays are made afterwards, from the bytes that are there.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

SIZE_LIMIT = 64 * 2**20
"""Bytes; published files of a model or of a frame have a few millions."""

MALFORMED = (
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
"""What reading a damaged file raises."""

Table = Mapping[tuple[str, str], type]
"""What stands for a name, given as (module, attribute)."""


class RefusedPickleError(ValueError):
    """A pickle holds something else than arrays and plain values."""


def read_array_pickle(path: str | Path) -> dict[str, Any]:
    """Read a pickled dictionary of arrays and plain values, of Python 2 or 3.

    Args:
        path: The file.

    Returns:
        Its entries: arrays, strings (bytes of Python 2 are taken for Latin-1), numbers, ``None``,
        and lists, tuples and dictionaries, in which arrays are *not* converted.

    Raises:
        RefusedPickleError: The file is too large, names something else than an array, is damaged,
            or holds no dictionary.
    """
    path = Path(path)
    try:
        document = unpickle(read_limited(path), {}, "an annotation")
    except RefusedPickleError as error:
        raise RefusedPickleError(f"{path}: {error}") from error
    except MALFORMED as error:
        raise RefusedPickleError(f"{path}: not a readable pickle: {error}") from error
    if not isinstance(document, dict):
        raise RefusedPickleError(
            f"{path}: expected a dictionary, the file has a {type(document).__name__}"
        )
    return {key: value_of(value) for key, value in document.items()}


def read_limited(path: Path) -> bytes:
    """Read a file of a sane size.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        RefusedPickleError: It is larger than :data:`SIZE_LIMIT`.
    """
    size = path.stat().st_size
    if size > SIZE_LIMIT:
        raise RefusedPickleError(
            f"the file has {size / 2**20:.0f} MiB; such files have a few, and more than "
            f"{SIZE_LIMIT >> 20} are not read"
        )
    return path.read_bytes()


def unpickle(content: bytes, stand_ins: Table, purpose: str) -> Any:
    """Unpickle arrays, plain values and what the caller has inert classes for.

    Args:
        content: The pickle.
        stand_ins: Classes for further names, which must do nothing when they are called.
        purpose: What the file is, for error messages.

    Returns:
        What the file holds, arrays as objects for :func:`value_of`.

    Raises:
        RefusedPickleError: It names something else.
        Exception: One of :data:`MALFORMED`: the file is damaged.
    """
    _check_opcodes(content)
    return RestrictedUnpickler(content, {**_TABLE, **stand_ins}, purpose).load()


def value_of(value: Any) -> Any:
    """Turn what stands for an array into the array; leave anything else as it is."""
    return value.value if is_array(value) else value


def is_array(value: Any) -> bool:
    """Say whether something stands for an array that has its content."""
    return isinstance(value, _Array) and hasattr(value, "value")


def is_shape(shape: Any) -> bool:
    """Say whether something is a tuple of at most four sizes."""
    return (
        isinstance(shape, tuple)
        and len(shape) <= 4
        and all(type(size) is int and size >= 0 for size in shape)
    )


class RestrictedUnpickler(pickle.Unpickler):
    """An unpickler that knows the names of a table and no other.

    Args:
        content: The pickle.
        table: The names, as they stand in the file.
        purpose: What the file is, for error messages.
    """

    def __init__(self, content: bytes, table: Table, purpose: str) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
        self._table = table
        self._purpose = purpose

    def find_class(self, module: str, name: str) -> type:
        """Look a name up in the table; import nothing."""
        try:
            return self._table[module, name]
        except KeyError:
            raise RefusedPickleError(
                f"refused: the file names {module}.{name}, which {self._purpose} has no use for; "
                "do not open it with another reader unless you trust where it comes from"
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to objects outside of the file."""
        raise RefusedPickleError(f"refused: the file refers to an object outside of it, {pid!r}")


def _check_opcodes(content: bytes) -> None:
    """Refuse what would bypass the table of names, or fill the memory, before reading.

    Codes of the extension registry may be answered from a cache of the process; the slots of the
    memo are allocated up to the largest number named.
    """
    for opcode, argument, position in pickletools.genops(content):
        if opcode.name.startswith("EXT") or opcode.name.endswith("PERSID"):
            raise RefusedPickleError(
                f"refused: {opcode.name} at byte {position} refers to an object outside the file"
            )
        if opcode.name.endswith("PUT") and int(argument) > len(content):
            raise RefusedPickleError(f"refused: memo slot {argument} at byte {position}")


class _DType:
    """Type of an array: a number of fixed size, nothing with objects or fields."""

    def __new__(cls, name: Any, align: Any = False, copy: Any = True) -> Any:
        if not isinstance(name, str) or not re.fullmatch("b1|i[1248]|u[1248]|f[248]", name):
            raise RefusedPickleError(
                f"refused: an array of the type {name!r}; only numbers are read"
            )
        record = super().__new__(cls)
        record.name, record.order = name, "="
        return record

    def __setstate__(self, state: Any) -> None:
        if len(state) < 5 or state[1] not in ("<", ">", "=", "|") or any(state[2:5]):
            raise RefusedPickleError("refused: an array type with fields or of unknown byte order")
        self.order = state[1]

    def plain(self) -> np.dtype:
        return np.dtype(self.order + self.name)


class _Array:
    """An array: filled from its bytes, of which there must be exactly as many as it needs."""

    def __new__(cls, *args: Any) -> Any:
        raise RefusedPickleError("refused: a direct call of numpy.ndarray")

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _DType):
            raise RefusedPickleError("refused: an array without a type")
        plain = dtype.plain()
        if isinstance(data, str):  # a string of Python 2
            data = data.encode("latin1")
        if not isinstance(data, bytes) or not is_shape(shape):
            raise RefusedPickleError("refused: an array that is not given by its shape and bytes")
        # Integers of Python do not overflow, and nothing has been allocated yet.
        needed = plain.itemsize
        for size in shape:
            needed *= size
        if needed != len(data):
            raise RefusedPickleError(
                f"refused: an array of the shape {shape} needs {needed} bytes, it has {len(data)}"
            )
        self.value = np.frombuffer(data, plain).reshape(shape, order="F" if fortran else "C")


class _Reconstruct:
    """NumPy's maker of empty arrays."""

    def __new__(cls, subtype: Any, shape: Any, code: Any) -> Any:
        if subtype is not _Array:
            raise RefusedPickleError(f"refused: an array of the class {subtype!r}")
        if shape != (0,):
            raise RefusedPickleError(f"refused: an empty array of the shape {shape!r}")
        return object.__new__(_Array)

    def __setstate__(self, state: Any) -> None:
        raise RefusedPickleError("refused: a state for a function")


class _Encode:
    """The call by which Python 3 writes bytes into old pickles."""

    def __new__(cls, text: Any, encoding: Any = None) -> Any:
        if not isinstance(text, str) or encoding != "latin1":
            raise RefusedPickleError(f"refused: _codecs.encode with the encoding {encoding!r}")
        return text.encode("latin1")

    def __setstate__(self, state: Any) -> None:
        raise RefusedPickleError("refused: a state for a function")


class _Scalar:
    """A single number of NumPy, made from its bytes."""

    def __new__(cls, dtype: Any, data: Any) -> Any:
        if isinstance(data, str):  # a string of Python 2
            data = data.encode("latin1")
        if not isinstance(dtype, _DType) or not isinstance(data, bytes):
            raise RefusedPickleError("refused: a number that is not given by its type and bytes")
        plain = dtype.plain()
        if len(data) != plain.itemsize:
            raise RefusedPickleError(f"refused: a {plain} of {len(data)} bytes")
        return np.frombuffer(data, plain)[0].item()

    def __setstate__(self, state: Any) -> None:
        raise RefusedPickleError("refused: a state for a function")


# Names as they stand in the file; an overridden ``find_class`` gets those of Python 2.
_TABLE: dict[tuple[str, str], type] = {
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy.core.multiarray", "scalar"): _Scalar,
    ("numpy._core.multiarray", "scalar"): _Scalar,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _Encode,
}
