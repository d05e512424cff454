"""From a path or URL to the plain content of a checkpoint, without running its code."""

import hashlib
import os
import pickle
import re
import struct
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import torch

from .errors import CheckpointReadError, UnsafeCheckpointError

_HASH_BLOCK = 1 << 20

# What torch.load was seen to raise on files that are cut off, damaged or no checkpoint.
_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ImportError,
    struct.error,
    pickle.UnpicklingError,
)

_REFUSED_GLOBAL = re.compile(r"GLOBAL (\S+)")


class _Discarded:
    """Takes the place of a bookkeeping object and forgets all that it is given."""

    def __new__(cls, *args):
        return super().__new__(cls)

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        pass


def _plain_dict(*_) -> dict:
    """Takes the place of a dict's subclass; the unpickler fills plain dicts only."""
    return {}


# Objects that ordinary training writes beside the weights: the log history of MMEngine, the
# yacs configuration of the official VMamba code, the command line of DeiT's training script,
# which Vim's is, and the OmegaConf configuration that Lightning keeps of a HaMeR training. None
# is needed here, so the unpickler gets inert stand-ins of those names: nothing of numpy,
# mmengine, yacs or OmegaConf is called, and they need not even be installed.
_STAND_INS = [
    (OrderedDict, "yacs.config.CfgNode"),
    (_plain_dict, "collections.defaultdict"),
    *(
        (_Discarded, name)
        for name in (
            "mmengine.logging.history_buffer.HistoryBuffer",
            "argparse.Namespace",
            "builtins.getattr",  # how the history buffer pickles its own methods
            "builtins.bytes",  # of arrays without elements
            "numpy.ndarray",
            "numpy.dtype",
            "numpy._core.multiarray._reconstruct",
            "numpy._core.multiarray.scalar",
            "numpy.core.multiarray._reconstruct",
            "numpy.core.multiarray.scalar",
            "omegaconf.dictconfig.DictConfig",
            "omegaconf.listconfig.ListConfig",
            "omegaconf.base.ContainerMetadata",
            "omegaconf.base.Metadata",
            "omegaconf.nodes.AnyNode",
            # The types that OmegaConf notes of its values.
            "typing.Any",
            "builtins.dict",
            "builtins.list",
            "builtins.int",
        )
    ),
]


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint as it was read.

    Attributes:
        path (Path): The local file.
        sha256 (str): Hash of the whole file.
        content (object): What ``torch.load`` returned, on the CPU.
    """

    path: Path
    sha256: str
    content: object


def read_checkpoint(checkpoint: str | os.PathLike, trusted: bool = False) -> CheckpointFile:
    """Read a checkpoint file with ``weights_only=True``.

    Args:
        checkpoint (str | os.PathLike): A path, or an ``http(s)`` URL that is downloaded
            once into the cache of ``torch.hub``.
        trusted (bool): Allow the file to run code while it is unpickled. Only for a file
            whose origin is known. Defaults to False.

    Returns:
        CheckpointFile: Path, hash and content.

    Raises:
        CheckpointReadError: The path is empty, the file is missing, or it cannot be read.
        UnsafeCheckpointError: The file holds Python objects and ``trusted`` is False.
    """
    path = _local_path(checkpoint)
    content = _load(path, trusted)
    return CheckpointFile(path, _sha256(path), content)


def _local_path(checkpoint: str | os.PathLike) -> Path:
    if not checkpoint:
        raise CheckpointReadError(
            f"The checkpoint path is empty ({checkpoint!r}); give a file, or no init_cfg to "
            "start at random"
        )
    name = os.fspath(checkpoint)
    if urlparse(name).scheme in ("http", "https"):
        return _download(name)
    if "://" in name:
        raise CheckpointReadError(f"Only local files and http(s) URLs can be read, not {name}")
    path = Path(name).expanduser()
    if not path.is_file():
        # The cause gives the reason in the system's own words: absent, or a folder.
        cause = IsADirectoryError(name) if path.is_dir() else FileNotFoundError(name)
        raise CheckpointReadError(f"There is no checkpoint file at {name}") from cause
    return path


def _download(url: str) -> Path:
    """Fetch a URL once; the name in the cache is the one that ``torch.hub`` itself uses."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except (OSError, RuntimeError) as error:
            raise CheckpointReadError(f"Downloading {url} failed: {error}") from error
    return path


def _load(path: Path, trusted: bool) -> object:
    try:
        if trusted:
            return torch.load(path, map_location="cpu", weights_only=False)
        with torch.serialization.safe_globals(_STAND_INS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        refused = _REFUSED_GLOBAL.search(str(error))
        if refused:
            raise UnsafeCheckpointError(_way_out(path, refused.group(1))) from error
        raise CheckpointReadError(
            f"{path} cannot be read as a checkpoint: it is truncated, damaged or of another "
            f"format ({_reason(error)})"
        ) from error


def _way_out(path: Path, name: str) -> str:
    return (
        f"{path} holds the Python object {name}; reading it could run code, so it is refused.\n"
        "If you trust its origin, write a copy that holds the tensors alone and use that:\n"
        f"  weights = torch.load({str(path)!r}, map_location='cpu', weights_only=False)\n"
        "  torch.save({'model': weights['model']}, 'weights_only.pth')\n"
        "or pass --unsafe-load to tools/model_converters/convert_official.py."
    )


def _reason(error: Exception) -> str:
    """Shorten the original error; the unpickler's own text is advice on ``torch.load``."""
    lines = str(error).strip().splitlines()
    if not lines or isinstance(error, pickle.UnpicklingError):
        return type(error).__name__
    return f"{type(error).__name__}: {lines[0]}"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()
