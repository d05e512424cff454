"""Writing a synthetic hand model in the format in which MANO is released."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..mano_model import NUM_BETAS, NUM_JOINTS, NUM_POSE, NUM_VERTICES, MANOModel
from . import python2_pickle as py2

_ALL_SHAPES = 20
_SEED = 20261


def save_released_pickle(model: MANOModel, path: str | Path) -> None:
    """Write a model as the pickle of Python 2, chumpy and scipy that MANO is released as.

    For tests of readers. There is one key more than in the released file, ``synthetic``.

    Args:
        model: A synthetic model: MANO itself must not be copied.
        path: The file.

    Raises:
        ValueError: The model is not synthetic.
    """
    if not model.synthetic:
        raise ValueError(
            "save_released_pickle: this writes synthetic models only; the license of MANO does "
            "not allow to pass it on"
        )
    Path(path).write_bytes(py2.document(py2.dictionary(released_entries(model))))


def released_entries(model: MANOModel) -> dict[str, bytes]:
    """Write every entry of the dictionary in such a pickle.

    Args:
        model: The model.

    Returns:
        From keys to bytes for :func:`~.python2_pickle.dictionary`.
    """
    rng = np.random.default_rng(_SEED)
    table = np.stack((model.parents, np.arange(NUM_JOINTS))).astype(np.int64) % 2**32
    return {
        "v_template": py2.array(model.v_template),
        "shapedirs": _chumpy_selection(model.shapedirs, rng),
        "posedirs": py2.array(model.posedirs),
        "weights": py2.array(model.weights),
        "J_regressor": _sparse(model.joint_regressor),
        "J": py2.array(model.joint_regressor @ model.v_template),
        "kintree_table": py2.array(table.astype(np.uint32)),
        "f": py2.array(model.faces.astype(np.uint32)),
        "hands_components": py2.array(model.hands_components),
        "hands_mean": py2.array(model.hands_mean),
        "hands_coeffs": py2.array(rng.standard_normal((5, NUM_POSE))),
        "bs_style": py2.text("lbs"),
        "bs_type": py2.text("lrotmin"),
        "synthetic": py2.TRUE,
    }


def _chumpy_selection(shapedirs: np.ndarray, rng: np.random.Generator) -> bytes:
    """Write the first ten of twenty shape directions, picked out by flat indices."""
    rest = rng.standard_normal((NUM_VERTICES, 3, _ALL_SHAPES - NUM_BETAS))
    everything = np.concatenate((shapedirs, rest), axis=2)
    picked = np.arange(everything.size).reshape(everything.shape)[..., :NUM_BETAS]
    inner = py2.instance(
        py2.name("chumpy.ch", "Ch"),
        {"x": py2.array(everything), "_dirty_vars": py2.empty_set()},
    )
    fields = {
        "a": inner,
        "idxs": py2.array(picked.ravel()),
        "preferred_shape": py2.shape_of(shapedirs.shape),
        "_dirty_vars": py2.empty_set(),
    }
    return py2.instance(py2.name("chumpy.reordering", "Select"), fields)


def _sparse(matrix: np.ndarray) -> bytes:
    """Write a matrix column by column, as scipy does."""
    columns, rows = np.nonzero(matrix.T)
    starts = np.searchsorted(columns, np.arange(matrix.shape[1] + 1))
    fields = {
        "format": py2.text("csc"),
        "_shape": py2.shape_of(matrix.shape),
        "data": py2.array(matrix[rows, columns]),
        "indices": py2.array(rows.astype(np.int32)),
        "indptr": py2.array(starts.astype(np.int32)),
        "maxprint": py2.integer(50),
    }
    return py2.instance(py2.name("scipy.sparse.csc", "csc_matrix"), fields)
