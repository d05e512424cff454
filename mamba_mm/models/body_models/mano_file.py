"""Finding, reading and writing the file of a hand model."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from .array_pickle import SIZE_LIMIT
from .mano_model import SIDES, MANOModel
from .released_pickle import (
    MANOFileError,
    check_keys,
    check_skinning,
    read_released_pickle,
)
from .toy_mano import build_toy_mano

MANO_VARIABLE = "MAMBA_MM_MANO"
"""Environment variable that says which hand model to use where the config does not."""

TOY = "toy"
"""The word for the synthetic model, where a path is expected."""

RIGHT_HAND_MD5 = "fd5a9d35f914987cf1cc04ffe338caa1"
"""Of the MANO_RIGHT.pkl that FreiHAND's ground truth was made with."""

FORMAT_VERSION = 1

_HOW_TO_GET_IT = (
    "The MANO hand model is licensed and cannot be shipped: register and download it at "
    f"https://mano.is.tue.mpg.de, then set mano_path or the environment variable {MANO_VARIABLE} "
    f"to its MANO_RIGHT.pkl. For a trial without it, use the word '{TOY}': our synthetic hand."
)
_COMMON_KEYS = (
    "v_template",
    "shapedirs",
    "posedirs",
    "weights",
    "J_regressor",
    "hands_components",
    "hands_mean",
)


def resolve_mano(mano_path: str | Path | None = None) -> MANOModel:
    """Get the hand model that a config asks for.

    Args:
        mano_path: A file for :func:`load_mano`; ``"toy"`` for the synthetic model of
            :func:`~mamba_mm.models.body_models.build_toy_mano`; ``None`` for what the environment
            variable ``MAMBA_MM_MANO`` says, which may be ``"toy"``, too.

    Returns:
        The model.

    Raises:
        FileNotFoundError: There is no such file, or nothing says which; the message tells where
            to get the model.
        MANOFileError: The file is no hand model.
    """
    wanted = mano_path if mano_path is not None else os.environ.get(MANO_VARIABLE)
    if not wanted:
        raise FileNotFoundError(
            f"No hand model: mano_path is not given and {MANO_VARIABLE} is not set. "
            + _HOW_TO_GET_IT
        )
    return build_toy_mano() if str(wanted) == TOY else load_mano(wanted)


def load_mano(path: str | Path, side: str | None = None) -> MANOModel:
    """Read a hand model.

    Three kinds of files are known: the released ``.pkl``, read without running anything in it;
    the ``.npz`` of :func:`save_mano_npz`; and files of plain arrays, ``.npz`` or ``.pkl``, with
    the keys of the released one (``f``, ``kintree_table``), as tools around smplx write them.

    A left hand is read as it is. Note that the ``shapedirs`` of the released left model are
    reported to have the wrong sign in x; its shapes then are not mirror images of the right
    model's. This package needs no left model: it mirrors left hands and uses the right one.

    Args:
        path: The file.
        side: ``"right"`` or ``"left"``. ``None`` means what the file says, and where it does not,
            what the template shows: the fingers of a right hand point to -x.

    Returns:
        The model.

    Raises:
        FileNotFoundError: There is no such file; the message tells where to get the model.
        MANOFileError: The file is no hand model, damaged or not safe to read.
        ValueError: ``side`` is unknown.
    """
    path = Path(path).expanduser()
    if side is not None and side not in SIDES:
        raise ValueError(f"load_mano: side must be 'right' or 'left', got {side!r}")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. {_HOW_TO_GET_IT}")
    if path.suffix not in _READERS:
        raise MANOFileError(f"{path}: expected a file that ends in {' or '.join(_READERS)}")
    arrays = _READERS[path.suffix](path)
    known = side or arrays.get("side")
    try:
        model = MANOModel(
            **{key: arrays[key] for key in _COMMON_KEYS if key != "J_regressor"},
            joint_regressor=arrays["J_regressor"],
            parents=_parents(arrays),
            faces=arrays["faces"] if "faces" in arrays else arrays["f"],
            side=known or "right",
            synthetic=arrays["synthetic"],
        )
    except ValueError as error:
        raise MANOFileError(f"{path}: {error}") from error
    if known is None:
        model = dataclasses.replace(model, side=_guess_side(model))
    if path.suffix == ".pkl" and model.side == "right" and not model.synthetic:
        _compare_md5(path)
    return model


def save_mano_npz(model: MANOModel, path: str | Path) -> None:
    """Write a hand model as plain arrays, which load faster and more safely than the pickle.

    The license of the model holds for this file too: do not pass it on.

    Args:
        model: The model.
        path: The file, which ends in ``.npz``.

    Raises:
        ValueError: It does not.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"save_mano_npz: the file must end in .npz, got {path}")
    arrays = {key: getattr(model, key) for key in _COMMON_KEYS if key != "J_regressor"}
    np.savez_compressed(
        path,
        **arrays,
        J_regressor=model.joint_regressor,
        parents=model.parents,
        faces=model.faces,
        side=np.array(model.side),
        synthetic=np.array(model.synthetic),
        format_version=np.array(FORMAT_VERSION),
    )


def _read_npz(path: Path) -> dict[str, Any]:
    """Read plain arrays of either set of keys."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > SIZE_LIMIT:
            raise MANOFileError(
                f"{path} unpacks to {size / 2**20:.0f} MiB; more than {SIZE_LIMIT >> 20} are "
                "not read"
            )
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, MemoryError, RuntimeError) as error:
        raise MANOFileError(f"{path}: not a readable .npz: {error}") from error
    except ValueError as error:
        if isinstance(error, MANOFileError):
            raise
        raise MANOFileError(
            f"{path}: holds something that is no plain array ({error}); convert the original with "
            "tools/model_converters/mano_to_npz.py"
        ) from error
    try:
        return _checked_npz(arrays)
    except MANOFileError as error:
        raise MANOFileError(f"{path}: {error}") from error


def _checked_npz(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    tree, faces = ("parents", "faces") if "parents" in arrays else ("kintree_table", "f")
    check_keys(arrays, (*_COMMON_KEYS, tree, faces))
    version = arrays["format_version"].tolist() if "format_version" in arrays else FORMAT_VERSION
    if version != FORMAT_VERSION:
        raise MANOFileError(
            f"has the format version {version}, this release reads {FORMAT_VERSION}; convert the "
            "original again"
        )
    if "bs_style" in arrays or "bs_type" in arrays:
        check_skinning(str(arrays.get("bs_style")), str(arrays.get("bs_type")))
    checked: dict[str, Any] = {key: arrays[key] for key in (*_COMMON_KEYS, tree, faces)}
    checked["synthetic"] = "synthetic" in arrays and arrays["synthetic"].tolist() is True
    if "side" in arrays:
        checked["side"] = str(arrays["side"])
    return checked


_READERS = {".npz": _read_npz, ".pkl": read_released_pickle}


def _parents(arrays: Mapping[str, Any]) -> np.ndarray:
    """Parents of the joints, from either form."""
    if "parents" in arrays:
        return arrays["parents"]
    table = arrays["kintree_table"]
    if table.shape != (2, 16) or table.dtype.kind not in "iu":
        raise ValueError(
            f"kintree_table must hold integers of the shape (2, 16), got {table.dtype} of the "
            f"shape {table.shape}"
        )
    table = table.astype(np.int64)
    if table[1].tolist() != list(range(16)):
        raise ValueError(f"kintree_table must list the joints in order, got {table[1].tolist()}")
    # The released file has the -1 of the wrist as an unsigned number.
    return np.where(table[0] == 2**32 - 1, -1, table[0])


def _guess_side(model: MANOModel) -> str:
    """Tell the side by where the fingers are, seen from the wrist."""
    x = (model.joint_regressor @ model.v_template)[:, 0]
    return "right" if x[1:].mean() < x[0] else "left"


def _compare_md5(path: Path) -> None:
    """Mention it if this is another version of the right hand than FreiHAND's."""
    md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if md5 != RIGHT_HAND_MD5:
        print_log(
            f"{path} has the MD5 {md5}, not {RIGHT_HAND_MD5}: it is another version of the right "
            "hand than the one that FreiHAND's ground truth was made with",
            logger="current",
        )
