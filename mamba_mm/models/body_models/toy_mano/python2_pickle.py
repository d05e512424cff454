"""Byte strings of a pickle as Python 2 wrote it (protocol 2), put together opcode by opcode.

No pickler of Python 3 writes them so, and this way nobody needs the modules that they name.
"""

from __future__ import annotations

import struct

import numpy as np

NONE = b"N"
TRUE = b"\x88"
FALSE = b"\x89"


def document(content: bytes) -> bytes:
    """Make a whole file of an object."""
    return b"\x80\x02" + content + b"."


def name(module: str, attribute: str) -> bytes:
    """Name a global, such as a class."""
    return f"c{module}\n{attribute}\n".encode("ascii")


def text(value: str | bytes) -> bytes:
    """Write a string of Python 2, which are bytes."""
    raw = value.encode("latin1") if isinstance(value, str) else value
    return b"T" + struct.pack("<i", len(raw)) + raw


def integer(value: int) -> bytes:
    """Write an integer of 32 bits."""
    return b"J" + struct.pack("<i", value)


def tuple_of(*items: bytes) -> bytes:
    """Write a tuple."""
    return b"(" + b"".join(items) + b"t"


def shape_of(sizes: tuple[int, ...]) -> bytes:
    """Write a tuple of integers."""
    return tuple_of(*map(integer, sizes))


def dictionary(items: dict[str, bytes]) -> bytes:
    """Write a dictionary with strings for keys."""
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def call(function: bytes, *arguments: bytes) -> bytes:
    """Write a call, which the reader makes."""
    return function + tuple_of(*arguments) + b"R"


def instance(cls: bytes, fields: dict[str, bytes]) -> bytes:
    """Write an object of a class by its attributes."""
    return cls + b")\x81" + dictionary(fields) + b"b"


def empty_set() -> bytes:
    """Write a set."""
    return call(name("__builtin__", "set"), b"]")


def array_type(code: str) -> bytes:
    """Write the type of an array, such as ``"f8"``."""
    made = call(name("numpy", "dtype"), text(code), integer(0), integer(1))
    state = (integer(3), text("<"), NONE, NONE, NONE, integer(-1), integer(-1), integer(0))
    return made + tuple_of(*state) + b"b"


def array(value: np.ndarray) -> bytes:
    """Write an array of numbers."""
    little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    empty = call(
        name("numpy.core.multiarray", "_reconstruct"),
        name("numpy", "ndarray"),
        shape_of((0,)),
        text("b"),
    )
    code = array_type(f"{little.dtype.kind}{little.dtype.itemsize}")
    state = tuple_of(integer(1), shape_of(value.shape), code, FALSE, text(little.tobytes()))
    return empty + state + b"b"
