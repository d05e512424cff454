"""Files of hand models: read without chumpy, never run, refused with a reason."""

import copyreg
import dataclasses
import importlib.util
import os
import pickle
import struct
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from mamba_mm.models.body_models import (
    MANO_VARIABLE,
    MANOFileError,
    MANOLayer,
    array_pickle,
    build_toy_mano,
    load_mano,
    mano_file,
    released_pickle,
    resolve_mano,
    save_mano_npz,
    save_released_pickle,
)
from mamba_mm.models.body_models.toy_mano import python2_pickle as py2
from mamba_mm.models.body_models.toy_mano.released_format import released_entries

ARRAYS = (
    "v_template",
    "shapedirs",
    "posedirs",
    "weights",
    "joint_regressor",
    "parents",
    "faces",
    "hands_components",
    "hands_mean",
)
TOOL = Path(__file__).parents[3] / "tools/model_converters/mano_to_npz.py"


@pytest.fixture(scope="module")
def entries():
    return released_entries(build_toy_mano())


@pytest.fixture
def write(tmp_path):
    """Write bytes, or entries of a dictionary, to a .pkl and return its path."""

    def write(content):
        path = tmp_path / "MANO_RIGHT.pkl"
        if isinstance(content, dict):
            content = py2.document(py2.dictionary(content))
        path.write_bytes(content)
        return path

    return write


@pytest.fixture
def messages(monkeypatch):
    collected = []
    monkeypatch.setattr(mano_file, "print_log", lambda text, **_: collected.append(text))
    return collected


def assert_same(model, expected):
    for name in ARRAYS:
        assert np.array_equal(getattr(model, name), getattr(expected, name)), name
    assert model.side == expected.side


def plain_arrays():
    """The toy with the keys of the released file, as plain arrays."""
    toy = build_toy_mano()
    return {
        "v_template": toy.v_template,
        "shapedirs": toy.shapedirs,
        "posedirs": toy.posedirs,
        "weights": toy.weights,
        "J_regressor": toy.joint_regressor,
        "kintree_table": (np.stack((toy.parents, np.arange(16))) % 2**32).astype(np.uint32),
        "f": toy.faces.astype(np.uint32),
        "hands_components": toy.hands_components,
        "hands_mean": toy.hands_mean,
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


# Reading what is well


def test_released_format_is_read_without_chumpy_and_scipy(tmp_path, monkeypatch):
    path = tmp_path / "MANO_RIGHT.pkl"
    save_released_pickle(build_toy_mano(), path)
    for module in ("chumpy", "scipy"):
        monkeypatch.setitem(sys.modules, module, None)
    model = load_mano(path)
    assert_same(model, build_toy_mano())
    assert model.synthetic
    # What the file names, and only that, as the released one does.
    content = path.read_bytes()
    assert {line for line in content.split(b"\n") if line in (b"Ch", b"Select", b"csc_matrix")} == {
        b"Ch",
        b"Select",
        b"csc_matrix",
    }
    assert b"_codecs" not in content


def test_npz_round_trip(tmp_path):
    for name, model in (("r", build_toy_mano()), ("l", build_toy_mano().mirrored())):
        path = tmp_path / f"{name}.npz"
        save_mano_npz(model, path)
        assert_same(load_mano(path), model)
        assert load_mano(path).synthetic
        with np.load(path, allow_pickle=False) as archive:
            assert set(archive.files) == {
                *("v_template", "shapedirs", "posedirs", "weights", "J_regressor", "parents"),
                *("faces", "hands_components", "hands_mean", "side", "synthetic"),
                "format_version",
            }
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        save_mano_npz(build_toy_mano(), tmp_path / "model.npy")


def test_npz_with_the_keys_of_smplx(tmp_path):
    np.savez(tmp_path / "m.npz", **plain_arrays())
    model = load_mano(tmp_path / "m.npz")
    assert_same(model, build_toy_mano())
    assert not model.synthetic


@pytest.mark.parametrize("protocol", [2, 4])
def test_pickle_of_plain_arrays_by_python_3(write, protocol):
    # Python 3 brings _codecs.encode, NumPy 2 another module name, protocol 4 STACK_GLOBAL.
    model = load_mano(write(pickle.dumps(plain_arrays(), protocol=protocol)))
    assert_same(model, build_toy_mano())


def test_imitation_by_dummy_modules(write, monkeypatch):
    """The objects of an ordinary pickler, not put together by our own writer."""

    def dummy(module, name, **base):
        cls = type(name, (), {"__module__": module, **base})
        for part in (module.rpartition(".")[0], module):
            monkeypatch.setitem(sys.modules, part, sys.modules.get(part, types.ModuleType(part)))
        setattr(sys.modules[module], name, cls)
        return cls

    for known in ("chumpy", "scipy", "scipy.sparse"):
        monkeypatch.setitem(sys.modules, known, types.ModuleType(known))
    toy, document = build_toy_mano(), plain_arrays()
    inner = dummy("chumpy.ch", "Ch")()
    everything = np.zeros((778, 3, 20))
    everything[..., :10] = toy.shapedirs
    inner.x, inner.names = everything, {"a"}
    select = dummy("chumpy.reordering", "Select")()
    select.a = inner
    select.idxs = np.arange(everything.size).reshape(everything.shape)[..., :10].ravel()
    select.preferred_shape = (778, 3, 10)
    matrix = dummy("scipy.sparse.csc", "csc_matrix")()
    columns, rows = np.nonzero(toy.joint_regressor.T)
    matrix.shape = (16, 778)
    matrix.data, matrix.indices = toy.joint_regressor[rows, columns], rows
    matrix.indptr = np.searchsorted(columns, np.arange(779))
    document |= {"shapedirs": select, "J_regressor": matrix, "posedirs": inner}
    inner_of_posedirs = type(inner)()
    inner_of_posedirs.x = np.asfortranarray(toy.posedirs)
    document["posedirs"] = inner_of_posedirs
    content = pickle.dumps(document, protocol=2)
    monkeypatch.undo()
    assert "chumpy" not in sys.modules
    assert_same(load_mano(write(content)), toy)
    assert "chumpy" not in sys.modules


def test_states_in_two_parts_are_read(write, entries):
    """An object with slots has a pair of dictionaries for its state."""
    fields = py2.dictionary({"x": py2.array(build_toy_mano().posedirs)})
    for state in (py2.tuple_of(fields, py2.NONE), py2.tuple_of(py2.NONE, fields)):
        ch = py2.name("chumpy.ch", "Ch") + b")\x81" + state + b"b"
        assert_same(load_mano(write({**entries, "posedirs": ch})), build_toy_mano())


def test_signed_root_parent(write, entries):
    table = np.stack((build_toy_mano().parents, np.arange(16)))
    model = load_mano(write({**entries, "kintree_table": py2.array(table)}))
    assert model.parents[0] == -1


def test_side_is_told_by_the_fingers_or_by_the_caller(tmp_path):
    path = tmp_path / "MANO_LEFT.pkl"
    left = build_toy_mano().mirrored()
    save_released_pickle(left, path)
    assert_same(load_mano(path), left)
    assert MANOLayer(path).model.side == "left"
    assert load_mano(path, side="right").side == "right"
    with pytest.raises(ValueError, match="side must be 'right' or 'left', got 'both'"):
        load_mano(path, side="both")


def test_another_version_of_the_right_hand_is_mentioned(write, entries, messages, monkeypatch):
    real = {key: value for key, value in entries.items() if key != "synthetic"}
    path = write(real)
    assert not load_mano(path).synthetic
    assert len(messages) == 1
    assert "fd5a9d35f914987cf1cc04ffe338caa1" in messages[0]
    load_mano(path, side="left")
    load_mano(write(entries))
    assert len(messages) == 1
    md5 = mano_file.hashlib.md5(write(real).read_bytes()).hexdigest()
    monkeypatch.setattr(mano_file, "RIGHT_HAND_MD5", md5)
    load_mano(path)
    assert len(messages) == 1


def test_only_synthetic_models_are_written_as_released(tmp_path):
    real = dataclasses.replace(build_toy_mano(), synthetic=False)
    with pytest.raises(ValueError, match="license"):
        save_released_pickle(real, tmp_path / "x.pkl")
    assert not (tmp_path / "x.pkl").exists()


# Refusing what would run something


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def hostile_contents(sentinel):
    """Files that would create the sentinel, or worse, in an ordinary unpickler."""
    command = f"touch {sentinel}"
    code = f"__import__('pathlib').Path({str(sentinel)!r}).touch()"
    posix = py2.name("posix", "system")
    toy_array = py2.array(np.zeros(3))
    registered = b"\x82\xf0" + py2.tuple_of(py2.text(command)) + b"R"
    empty_array = py2.call(
        py2.name("numpy.core.multiarray", "_reconstruct"),
        py2.name("numpy", "ndarray"),
        py2.shape_of((0,)),
        py2.text("b"),
    )
    oversize = py2.tuple_of(
        py2.integer(1), py2.shape_of((2**30, 2**30, 2**30)), py2.array_type("f8"), py2.FALSE
    )
    return {
        "os.system": (py2.call(py2.name("os", "system"), py2.text(command)), r"os\.system"),
        "posix.system": (py2.call(posix, py2.text(command)), r"posix\.system"),
        "INST": (
            b"(" + py2.text(command) + b"iposix\nsystem\n",
            r"posix\.system",
        ),
        "OBJ": (b"(" + posix + py2.text(command) + b"o", r"posix\.system"),
        "STACK_GLOBAL": (
            b"\x8c\x05posix\x8c\x06system\x93" + py2.tuple_of(py2.text(command)) + b"R",
            r"posix\.system",
        ),
        "builtins.eval": (
            py2.call(py2.name("builtins", "eval"), py2.text(code)),
            r"builtins\.eval",
        ),
        "__builtin__.eval": (
            py2.call(py2.name("__builtin__", "eval"), py2.text(code)),
            r"__builtin__\.eval",
        ),
        "builtins.getattr": (
            py2.call(py2.name("builtins", "getattr"), toy_array, py2.text("tofile")),
            r"builtins\.getattr",
        ),
        "dotted name": (py2.name("numpy", "ndarray.tofile"), r"numpy\.ndarray\.tofile"),
        "numpy.load": (
            py2.call(py2.name("numpy", "load"), py2.text(str(sentinel))),
            r"numpy\.load",
        ),
        "copyreg": (
            py2.call(py2.name("copyreg", "_reconstructor"), posix, py2.NONE, py2.NONE),
            r"copyreg\._reconstructor",
        ),
        "copy_reg": (py2.name("copy_reg", "_reconstructor"), r"copy_reg\._reconstructor"),
        "set of Python 3": (py2.name("builtins", "set"), r"builtins\.set"),
        "persistent id": (b"Pone\n", "PERSID.*outside the file"),
        "binary persistent id": (py2.text("one") + b"Q", "BINPERSID.*outside the file"),
        "extension": (registered, "EXT1.*outside the file"),
        "object array": (
            empty_array
            + py2.tuple_of(
                *(py2.integer(1), py2.shape_of((1,)), py2.array_type("O8"), py2.FALSE, b"]")
            )
            + b"b",
            "type 'O8'; only numbers",
        ),
        "record array": (py2.array_type("V16"), "type 'V16'; only numbers"),
        "dtype of an object": (py2.call(py2.name("numpy", "dtype"), b"]"), "only numbers"),
        "dtype with fields": (
            py2.call(py2.name("numpy", "dtype"), py2.text("f8"))
            + py2.tuple_of(
                *(py2.integer(3), py2.text("<"), py2.NONE, py2.tuple_of(py2.text("a"))),
                py2.dictionary({"a": py2.NONE}),
            )
            + b"b",
            "fields",
        ),
        "oversize array": (
            empty_array + oversize[:-1] + py2.text("") + b"tb",
            "needs 9903520314283042199192993792 bytes, it has 0",
        ),
        "oversize empty array": (
            py2.call(
                py2.name("numpy.core.multiarray", "_reconstruct"),
                *(py2.name("numpy", "ndarray"), py2.shape_of((2**30,)), py2.text("b")),
            ),
            r"empty array of the shape \(1073741824,\)",
        ),
        "array of another class": (
            py2.call(
                py2.name("numpy.core.multiarray", "_reconstruct"),
                *(py2.name("chumpy.ch", "Ch"), py2.shape_of((0,)), py2.text("b")),
            ),
            "array of the class",
        ),
        "direct call of ndarray": (
            py2.call(py2.name("numpy", "ndarray"), py2.shape_of((2**30,))),
            r"direct call of numpy\.ndarray",
        ),
        "negative sizes": (
            empty_array
            + py2.tuple_of(
                *(py2.integer(1), py2.shape_of((-1, -8)), py2.array_type("i1"), py2.FALSE),
                py2.text("12345678"),
            )
            + b"b",
            "not given by its shape and bytes",
        ),
        "other encoding": (
            py2.call(py2.name("_codecs", "encode"), py2.text("x"), py2.text("zip")),
            r"_codecs\.encode with the encoding 'zip'",
        ),
        "state of a class": (
            py2.name("chumpy.ch", "Ch") + py2.dictionary({"__call__": py2.NONE}) + b"b",
            "__setstate__",
        ),
        "state of set": (
            py2.name("__builtin__", "set") + py2.dictionary({"add": py2.NONE}) + b"b",
            "not a readable pickle",
        ),
        "state of a function": (
            py2.name("_codecs", "encode") + py2.dictionary({"a": py2.NONE}) + b"b",
            "__setstate__",
        ),
        "huge memo": (py2.NONE + b"r" + struct.pack("<I", 2**32 - 1), "memo slot 4294967295"),
        "huge text": (b"T" + struct.pack("<i", 2**31 - 1), "not a readable pickle"),
    }


@pytest.fixture
def registered_extension():
    """An extension code that the process has already resolved, and keeps in its cache."""
    copyreg.add_extension("posix", "system", 0xF0)
    assert pickle.loads(b"\x80\x02\x82\xf0.") is os.system
    yield
    copyreg.remove_extension("posix", "system", 0xF0)
    copyreg.clear_extension_cache()


@pytest.mark.parametrize("name", hostile_contents("x"))
@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a model"])
def test_hostile_files(write, entries, tmp_path, registered_extension, name, inside):
    sentinel = tmp_path / "sentinel"
    content, message = hostile_contents(sentinel)[name]
    path = write({**entries, "J": content} if inside else py2.document(content))
    with pytest.raises(MANOFileError, match=message) as caught:
        load_mano(path)
    assert str(path) in str(caught.value)
    assert not sentinel.exists()


@pytest.mark.parametrize(
    "name", ["os.system", "posix.system", "INST", "builtins.eval", "extension"]
)
def test_the_hostile_files_are_hostile(tmp_path, registered_extension, name):
    """An ordinary unpickler runs them: the test above proves something."""
    sentinel = tmp_path / "sentinel"
    pickle.loads(py2.document(hostile_contents(sentinel)[name][0]), encoding="latin1")
    assert sentinel.exists()


def test_the_table_is_closed():
    table = array_pickle._TABLE | released_pickle._TABLE
    unpickler = array_pickle.RestrictedUnpickler(b"", table, "a hand model")
    for module, name in [("os", "system"), ("numpy", "frombuffer"), ("chumpy.ch", "Add")]:
        with pytest.raises(array_pickle.RefusedPickleError, match=rf"{module}\.{name}"):
            unpickler.find_class(module, name)
    with pytest.raises(array_pickle.RefusedPickleError, match="outside of it"):
        unpickler.persistent_load("x")
    # What a name of the table gives never is what the name means elsewhere, but for set.
    originals = [value for value in table.values() if value is not set]
    assert {cls.__module__ for cls in originals} == {
        array_pickle.__name__,
        released_pickle.__name__,
    }


def test_hostile_npz(tmp_path):
    sentinel = tmp_path / "sentinel"
    arrays = plain_arrays()
    arrays["hands_mean"] = np.array([Call(os.system, f"touch {sentinel}")], dtype=object)
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(MANOFileError, match=r"no plain array.*mano_to_npz"):
        load_mano(tmp_path / "m.npz")
    assert not sentinel.exists()


@pytest.mark.parametrize("suffix", [".pkl", ".npz"])
def test_large_files_are_not_read(tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    if suffix == ".pkl":
        with path.open("wb") as file:
            file.truncate(array_pickle.SIZE_LIMIT + 1)
        message = "64 MiB"
    else:
        np.savez_compressed(path, v_template=np.zeros(array_pickle.SIZE_LIMIT // 8 + 1))
        assert path.stat().st_size < 2**20
        message = "unpacks to 64 MiB"
    with pytest.raises(MANOFileError, match=message):
        load_mano(path)


# Refusing what is wrong


def changed(name, index, value):
    array = getattr(build_toy_mano(), name).copy()
    array[index] = value
    return array


def selection(**changes):
    """A Select over three numbers, of which it picks two."""
    fields = {
        "a": py2.instance(py2.name("chumpy.ch", "Ch"), {"x": py2.array(np.arange(3.0))}),
        "idxs": py2.array(np.array([0, 2])),
        "preferred_shape": py2.shape_of((2, 1)),
    }
    fields = {key: value for key, value in (fields | changes).items() if value is not None}
    return py2.instance(py2.name("chumpy.reordering", "Select"), fields)


def sparse(**changes):
    toy = build_toy_mano()
    columns, rows = np.nonzero(toy.joint_regressor.T)
    fields = {
        "_shape": py2.shape_of((16, 778)),
        "data": py2.array(toy.joint_regressor[rows, columns]),
        "indices": py2.array(rows.astype(np.int32)),
        "indptr": py2.array(np.searchsorted(columns, np.arange(779)).astype(np.int32)),
    }
    return py2.instance(py2.name("scipy.sparse.csc", "csc_matrix"), fields | changes)


def wrong_entries():
    toy = build_toy_mano()
    table = np.stack((toy.parents, np.arange(16)))
    starts = np.zeros(779, np.int32)
    return [
        ("shapedirs", selection(), r"shapedirs must have the shape \(778, 3, 10\), got \(2, 1\)"),
        ("shapedirs", selection(idxs=py2.array(np.array([0, 3]))), r"idxs.*\[0, 3\), got \[0, 3\]"),
        ("shapedirs", selection(idxs=py2.array(np.array([-1, 1]))), r"idxs.*got \[-1, 1\]"),
        ("shapedirs", selection(idxs=py2.array(np.array([0.0, 1]))), "idxs.*must be integers"),
        ("shapedirs", selection(preferred_shape=py2.shape_of((3,))), "Select of 2 entries"),
        ("shapedirs", selection(preferred_shape=py2.shape_of((-1, -2))), "Select of 2 entries"),
        ("shapedirs", selection(a=selection()), "what a Select picks from is no array"),
        ("shapedirs", selection(a=None), "Select object has no field 'a'"),
        ("posedirs", py2.instance(py2.name("chumpy.ch", "Ch"), {"y": py2.NONE}), "no field 'x'"),
        ("posedirs", py2.text("none"), "posedirs is no array"),
        ("v_template", py2.array(toy.v_template[:-1]), r"v_template must have.*got \(777, 3\)"),
        ("v_template", py2.array(changed("v_template", 3, np.nan)), "v_template has.*not finite"),
        ("hands_mean", py2.array(changed("hands_mean", 0, np.inf)), "hands_mean has.*not finite"),
        ("weights", py2.array(changed("weights", (5, 3), 0.01)), "rows of weights must sum to 1"),
        ("weights", py2.array(2 * toy.weights - 1 / 16), "weights must not be negative"),
        ("J_regressor", py2.array(0.9 * toy.joint_regressor), "joint_regressor must sum to 1"),
        ("J_regressor", sparse(_shape=py2.shape_of((10**9, 10**9))), "J_regressor must have"),
        ("J_regressor", sparse(indptr=py2.array(starts)), "indptr of J_regressor does not fit"),
        ("J_regressor", sparse(indptr=py2.array(starts[:9])), "indptr.*does not fit"),
        ("J_regressor", sparse(indptr=py2.array(starts * 0.5)), "must be integers"),
        ("J_regressor", sparse(data=py2.array(np.ones(3))), "indptr.*does not fit"),
        ("f", py2.array(changed("faces", 0, 778)), r"faces must have indices.*got \[0, 778\]"),
        ("f", py2.array(changed("faces", 0, -1)), r"faces must have indices.*got \[-1, 777\]"),
        ("f", py2.array(toy.faces.astype(float)), "faces has the unexpected type float64"),
        ("kintree_table", py2.array(table[:, ::-1].copy()), "list the joints in order"),
        ("kintree_table", py2.array(table[0]), r"shape \(16,\)"),
        ("kintree_table", py2.array(table.astype(float)), "must hold integers"),
        (
            "kintree_table",
            py2.array(np.stack((np.where(table[0] == 4, 6, table[0]), table[1]))),
            "precede their children",
        ),
        ("kintree_table", py2.array(np.stack((table[0] + 1, table[1]))), "start with -1"),
        ("bs_style", py2.text("dqbs"), "'lbs' and 'lrotmin', got 'dqbs' and 'lrotmin'"),
        ("bs_type", py2.NONE, "got 'lbs' and None"),
    ]


@pytest.mark.parametrize("number", range(len(wrong_entries())))
def test_wrong_entries_are_named(write, entries, number):
    key, value, message = wrong_entries()[number]
    path = write({**entries, key: value})
    with pytest.raises(MANOFileError, match=message) as caught:
        load_mano(path)
    assert str(path) in str(caught.value)


def test_sparse_rows_out_of_range(write, entries):
    count = np.count_nonzero(build_toy_mano().joint_regressor)
    rows = sparse(indices=py2.array(np.full(count, 16, np.int32)))
    with pytest.raises(MANOFileError, match=r"indices of J_regressor must be in \[0, 16\)"):
        load_mano(write({**entries, "J_regressor": rows}))


@pytest.mark.parametrize("key", ["hands_mean", "f", "J_regressor", "bs_type"])
def test_missing_entries_are_named(write, entries, key):
    path = write({name: value for name, value in entries.items() if name != key})
    with pytest.raises(MANOFileError, match=f"lacks {key}; it is not a model of the MANO hand"):
        load_mano(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x02", b"PK\x03\x04", b"\x80\x02]q", b"version https://git-lfs"]
)
def test_damaged_pickles(write, content):
    with pytest.raises(MANOFileError, match="not a readable pickle of a hand model"):
        load_mano(write(content))


def test_other_documents(write):
    with pytest.raises(MANOFileError, match="expected a dictionary, the file has a list"):
        load_mano(write(py2.document(b"]")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": None}, "lacks weights"),
        ({"f": None}, "lacks f"),
        ({"bs_style": "x"}, "'lbs' and 'lrotmin'"),
        ({"format_version": [1, 2]}, r"format version \[1, 2\]"),
        ({"v_template": 1.0}, r"v_template must have the shape \(778, 3\), got \(\)"),
        ({"v_template": np.full((778, 3), "x")}, "v_template has the unexpected type"),
        ({"format_version": 2}, "format version 2, this release reads 1"),
        ({"hands_mean": np.zeros(48)}, r"hands_mean must have the shape \(45,\), got \(48,\)"),
        ({"J_regressor": np.zeros((21, 777))}, r"joint_regressor must have the shape"),
        ({"side": "both"}, "side must be 'right' or 'left'"),
    ],
)
def test_wrong_npz(tmp_path, changes, message):
    arrays = {k: v for k, v in (plain_arrays() | changes).items() if v is not None}
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(MANOFileError, match=message):
        load_mano(tmp_path / "m.npz")


def test_npz_with_damaged_bytes(tmp_path):
    save_mano_npz(build_toy_mano(), tmp_path / "m.npz")
    content = bytearray((tmp_path / "m.npz").read_bytes())
    content[1000:3000] = bytes(2000)
    (tmp_path / "m.npz").write_bytes(content)
    with pytest.raises(MANOFileError, match=r"m\.npz: not a readable \.npz"):
        load_mano(tmp_path / "m.npz")


def test_damaged_npz(tmp_path):
    (tmp_path / "m.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(MANOFileError, match=r"m\.npz: not a readable \.npz"):
        load_mano(tmp_path / "m.npz")


def test_other_suffixes(tmp_path):
    (tmp_path / "m.txt").write_text("")
    with pytest.raises(MANOFileError, match=r"ends in \.npz or \.pkl"):
        load_mano(tmp_path / "m.txt")


# Finding the model


def test_the_word_toy(monkeypatch):
    monkeypatch.delenv(MANO_VARIABLE, raising=False)
    assert resolve_mano("toy") is build_toy_mano()
    monkeypatch.setenv(MANO_VARIABLE, "toy")
    assert resolve_mano(None) is build_toy_mano()
    assert MANOLayer().model is build_toy_mano()


def test_the_path_wins_over_the_variable(tmp_path, monkeypatch):
    save_mano_npz(build_toy_mano().mirrored(), tmp_path / "left.npz")
    monkeypatch.setenv(MANO_VARIABLE, str(tmp_path / "left.npz"))
    assert resolve_mano(None).side == "left"
    assert resolve_mano("toy").side == "right"
    monkeypatch.setenv(MANO_VARIABLE, "toy")
    assert resolve_mano(tmp_path / "left.npz").side == "left"


@pytest.mark.parametrize("path", [None, "nowhere/MANO_RIGHT.pkl"])
def test_a_missing_model_says_where_to_get_it(monkeypatch, path):
    for value in (None, ""):
        if value is None:
            monkeypatch.delenv(MANO_VARIABLE, raising=False)
        else:
            monkeypatch.setenv(MANO_VARIABLE, value)
        with pytest.raises(FileNotFoundError, match=r"https://mano\.is\.tue\.mpg\.de.*'toy'"):
            resolve_mano(path)


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
    save_mano_npz(build_toy_mano(), tmp_path / "m.npz")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_mano("~/m.npz").synthetic


# The converter


@pytest.fixture
def converter(monkeypatch, capsys):
    """Run the tool in this process; return its status and what it printed."""
    spec = importlib.util.spec_from_file_location("mano_to_npz", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["mano_to_npz.py", *map(str, arguments)])
        status = tool.main()
        return status, "".join(capsys.readouterr())

    return run


def test_converter(converter, tmp_path):
    status, output = converter("--toy", tmp_path / "toy")
    assert status == 0
    assert "TOY_RIGHT.npz" in output
    for suffix in (".npz", ".pkl"):
        assert_same(load_mano(tmp_path / f"toy/TOY_RIGHT{suffix}"), build_toy_mano())
    source, destination = tmp_path / "toy/TOY_RIGHT.pkl", tmp_path / "converted.npz"
    assert converter(source, destination)[0] == 0
    assert_same(load_mano(destination), build_toy_mano())
    status, output = converter(source, destination)
    assert status == 1
    assert "use --force" in output
    assert converter(source, destination, "--force", "--side", "left")[0] == 0
    assert load_mano(destination).side == "left"


def test_converter_refuses(converter, write, tmp_path):
    path = write(py2.document(py2.name("os", "system")))
    status, output = converter(path, tmp_path / "m.npz")
    assert status == 1
    assert "os.system" in output
    assert converter(tmp_path / "none.pkl", tmp_path / "m.npz")[0] == 1
    assert not (tmp_path / "m.npz").exists()
    for wrong in ([], ["a.pkl"], ["--toy", "x", "a.pkl", "b.npz"]):
        with pytest.raises(SystemExit):
            converter(*wrong)
