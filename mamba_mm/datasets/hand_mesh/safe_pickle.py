"""Reading the pickled labels of HaMeR's archives without running anything in them.

Beyond arrays of numbers these have arrays of text and of Python objects: a dictionary in an array
without dimensions. So there are stand-ins for NumPy's names here that let such arrays through, as
long as what they hold is plain too; everything else is that of
:mod:`mamba_mm.models.body_models.array_pickle`, which calls nothing that a file names.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from mamba_mm.models.body_models.array_pickle import (
    MALFORMED,
    RefusedPickleError,
    is_shape,
    unpickle,
)

_NUMBERS = re.compile("b1|[iu][1248]|f[248]")
_TEXT = re.compile(r"[SU]\d{1,4}")
_OBJECTS = re.compile("O8?")


def read_plain_pickle(content: bytes) -> Any:
    """Read a pickle of plain values and arrays of them.

    Args:
        content: The pickle.

    Returns:
        What it holds: numbers, text, ``None``, lists, tuples, sets, dictionaries, and arrays of
        numbers, of text, or of any of these. Arrays are of a subclass of ``numpy.ndarray``.

    Raises:
        RefusedPickleError: It names anything else, or is damaged.
    """
    try:
        return unpickle(content, _STAND_INS, "a label of a hand")
    except RefusedPickleError:
        raise
    except MALFORMED as error:
        raise RefusedPickleError(f"not a readable pickle: {error}") from error


class _Type:
    """The type of an array. ``code`` is NumPy's name of it without the byte order."""

    def __new__(cls, code: Any, align: Any = False, copy: Any = True) -> Any:
        known = isinstance(code, str) and any(
            form.fullmatch(code) for form in (_NUMBERS, _TEXT, _OBJECTS)
        )
        if not known:
            raise RefusedPickleError(f"refused: an array of the type {code!r}")
        record = super().__new__(cls)
        record.code, record.order = code, "="
        return record

    def __setstate__(self, state: Any) -> None:
        if len(state) < 5 or state[1] not in ("<", ">", "=", "|") or any(state[2:5]):
            raise RefusedPickleError("refused: an array type with fields or of unknown byte order")
        self.order = state[1]

    @property
    def holds_objects(self) -> bool:
        return _OBJECTS.fullmatch(self.code) is not None

    def plain(self) -> np.dtype:
        return np.dtype(object) if self.holds_objects else np.dtype(self.order + self.code)


class _Array(np.ndarray):
    """An array that takes exactly the content that its shape and type need."""

    def __new__(cls, *args: Any) -> Any:
        raise RefusedPickleError("refused: a direct call of numpy.ndarray")

    def __setstate__(self, state: Any) -> None:
        version, shape, kind, fortran, data = state
        if not isinstance(kind, _Type) or not is_shape(shape):
            raise RefusedPickleError("refused: an array that is not given by its shape and type")
        plain = kind.plain()
        # Integers of Python do not overflow, and nothing has been allocated yet.
        count = math.prod(shape)
        if kind.holds_objects:
            fits = isinstance(data, list) and len(data) == count
        else:
            if isinstance(data, str):  # a string of Python 2
                data = data.encode("latin1")
            fits = isinstance(data, bytes) and len(data) == count * plain.itemsize
        if not fits:
            raise RefusedPickleError(f"refused: an array whose content is not of the shape {shape}")
        super().__setstate__((version, shape, plain, bool(fortran), data))

    def __array_finalize__(self, source: Any) -> None:
        """Views and results are made by NumPy, not by a file."""


class _Reconstruct:
    """NumPy's maker of empty arrays."""

    def __new__(cls, subtype: Any, shape: Any, code: Any) -> Any:
        if subtype is not _Array or shape != (0,):
            raise RefusedPickleError(f"refused: an empty array {subtype!r} of the shape {shape!r}")
        return np.ndarray.__new__(_Array, (0,), np.int8)

    def __setstate__(self, state: Any) -> None:
        raise RefusedPickleError("refused: a state for a function")


class _Scalar:
    """A single number or text of NumPy, made from its bytes."""

    def __new__(cls, kind: Any, data: Any) -> Any:
        array = np.ndarray.__new__(_Array, (0,), np.int8)
        array.__setstate__((1, (), kind, False, data))
        return array.item()

    def __setstate__(self, state: Any) -> None:
        raise RefusedPickleError("refused: a state for a function")


class _OrderedDict(dict):
    """A dictionary that remembers the order, as all do now."""

    def __new__(cls, *args: Any) -> Any:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        raise RefusedPickleError("refused: a state for a dictionary")


_STAND_INS: dict[tuple[str, str], type] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("collections", "OrderedDict"): _OrderedDict,
} | {
    (f"numpy.{core}.multiarray", name): stand_in
    for core in ("core", "_core")
    for name, stand_in in (("_reconstruct", _Reconstruct), ("scalar", _Scalar))
}
