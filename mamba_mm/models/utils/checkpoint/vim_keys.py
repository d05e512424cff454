"""The keys of Vim weights: those of the official code, which :class:`VisionMamba` keeps."""

import re
from collections.abc import Iterable, Mapping

from .errors import CheckpointFormatError, bullets

HEAD = "head."
"""What the keys of the official classifier begin with."""

_SAMPLE = 12

_BACKWARD_BRANCH = re.compile(
    r"(^|\.)layers\.\d+\.mixer\.(A_b_log|D_b|(conv1d|x_proj|dt_proj)_b\.)"
)
_OUTNORM = re.compile(r"outnorm(\d+)\.weight")


def is_vim(keys: Iterable[str]) -> bool:
    """Tell whether the keys of a state dict, prefixed or not, are a Vim's.

    Its backward branch tells Vim from other models that stack Mamba's mixers.
    """
    return any(map(_BACKWARD_BRANCH.search, keys))


def is_rotary(key: str) -> bool:
    """Whether a key is one of the buffers of a rotary embedding, ``rope.freqs_cos`` or ``_sin``.

    They are tables made from the image size, not weights; older files hold them.
    """
    return key.startswith("rope.")


def output_norms(keys: Iterable[str]) -> set[int]:
    """Blocks for which there is an ``outnorm``."""
    return {int(match.group(1)) for match in map(_OUTNORM.fullmatch, keys) if match}


def require_vim(tensors: Mapping[str, object], where: str) -> None:
    """Refuse a backbone that is no Vim.

    Args:
        tensors (Mapping[str, object]): Entries of the backbone, unprefixed.
        where (str): What to call the checkpoint in messages, such as its path.

    Raises:
        CheckpointFormatError: Not one key of a backward branch is there, or no position
            embedding.
    """
    if not is_vim(tensors):
        raise CheckpointFormatError(
            f"{where} is no Vim: it has no backward branch (layers.N.mixer.A_b_log and others)"
            + bullets("its keys", tensors, _SAMPLE)
        )
    if "pos_embed" not in tensors:
        raise CheckpointFormatError(
            f"{where} has no pos_embed; every Vim has a position embedding"
            + bullets("its keys", tensors, _SAMPLE)
        )
