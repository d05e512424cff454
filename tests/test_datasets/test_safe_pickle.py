"""Pickled labels are read as plain values, and nothing that they name is run."""

import collections
import io
import os
import pickle

import numpy as np
import pytest

from mamba_mm.datasets.hand_mesh.safe_pickle import read_plain_pickle
from mamba_mm.models.body_models.array_pickle import RefusedPickleError

PLAIN = dict(
    number=3,
    text="hand",
    nothing=None,
    nested=[(1, 2.5), {"a": b"bytes"}],
    ordered=collections.OrderedDict(b=1, a=2),
    scalar=np.float32(1.5),
    word=np.str_("palm"),
    flag=np.array(True),
    floats=np.arange(6, dtype=np.float32).reshape(2, 3),
    columns=np.asfortranarray(np.arange(6).reshape(2, 3)),
    big_endian=np.arange(3, dtype=">f8"),
    names=np.array(["left", "right"]),
    losses=np.array({"reprojection_loss": np.array(7.0)}),
    objects=np.array([[None, "a"], [1, [2]]], object),
)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_plain_values_and_arrays_of_them_are_read(protocol):
    read = read_plain_pickle(pickle.dumps(PLAIN, protocol))
    assert list(read) == list(PLAIN)
    for key, value in PLAIN.items():
        if isinstance(value, np.ndarray):
            assert read[key].dtype.kind == value.dtype.kind
            assert read[key].shape == value.shape
            np.testing.assert_array_equal(read[key], value)
        else:
            assert read[key] == value
            assert not isinstance(read[key], np.ndarray)


def test_names_of_old_numpy_are_known():
    content = pickle.dumps(np.arange(3.0), 2).replace(b"numpy._core", b"numpy.core")
    np.testing.assert_array_equal(read_plain_pickle(content), [0, 1, 2])


class _Calls:
    def __init__(self, function, *arguments):
        self.parts = (function, arguments)

    def __reduce__(self):
        return self.parts


@pytest.mark.parametrize("within_an_array", [False, True])
def test_code_is_refused_by_name_and_not_run(tmp_path, within_an_array):
    victim = tmp_path / "victim"
    call = _Calls(os.mkdir, str(victim))
    content = pickle.dumps([dict(betas=np.array(call) if within_an_array else call)])
    with pytest.raises(RefusedPickleError, match=r"names posix\.mkdir"):
        read_plain_pickle(content)
    assert not victim.exists()


def array_with(shape, kind, data, code="f4"):
    """A pickle of an array with this state, whatever it is."""
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, 2)
    dtype = np.dtype(code)

    class Array:
        def __reduce__(self):
            function, arguments, _ = np.zeros(1).__reduce__()
            return function, arguments, (1, shape, dtype if kind is None else kind, False, data)

    pickler.dump(Array())
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        array_with((2**40,), None, b"\0" * 8),
        array_with((3,), None, b"\0" * 8),
        array_with((-1,), None, b"\0" * 8),
        array_with((1,) * 5, None, b"\0" * 4),
        array_with((2,), None, [1], "O"),
        array_with((2,), None, b"\0" * 16, "O"),
        array_with((1,), "f4", b"\0" * 4),
        array_with((1,), None, b"\0" * 8, "M8[s]"),
        array_with((1,), None, b"\0" * 8, [("a", "f4"), ("b", "f4")]),
    ],
    ids=[
        *("huge", "short", "negative", "deep", "few objects", "objects of bytes", "no type"),
        *("dates", "fields"),
    ],
)
def test_arrays_must_be_what_they_claim(content):
    with pytest.raises(RefusedPickleError):
        read_plain_pickle(content)


def test_numpy_cannot_be_called_directly():
    with pytest.raises(RefusedPickleError, match=r"direct call of numpy\.ndarray"):
        read_plain_pickle(pickle.dumps(_Calls(np.ndarray, (2**40,))))
    with pytest.raises(RefusedPickleError, match="an empty array"):
        read_plain_pickle(
            pickle.dumps(_Calls(np.zeros(1).__reduce__()[0], np.ndarray, (2**40,), b"b"))
        )


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps(PLAIN)[:-20]])
def test_damage_is_named(content):
    with pytest.raises(RefusedPickleError, match="not a readable pickle"):
        read_plain_pickle(content)
