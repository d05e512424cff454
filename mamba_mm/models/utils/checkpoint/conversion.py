"""From an official checkpoint file to an MMEngine one: find the family, convert, write."""

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch

from mamba_mm.version import __version__

from .errors import CheckpointFormatError, CheckpointWriteError, bullets
from .family import Converted, Family
from .hamer_vit import HAMER_VIT
from .loading import open_checkpoint
from .vim_conversion import VIM
from .vm_unet_conversion import VMUNET
from .vmamba_conversion import VMAMBA

FAMILIES: tuple[Family, ...] = (VMAMBA, VIM, VMUNET, HAMER_VIT)
"""All families that the converter knows; a new one is a further entry."""

_SAMPLE = 12


@dataclass(frozen=True)
class ConversionReport:
    """The account of one conversion; ``str()`` gives it in a few lines.

    Attributes:
        source (str): The file that was read.
        sha256 (str): Hash of that file.
        container (str): Top-level key of its state dict.
        family (str): Name of the family found.
        converted (Converted): Preset, config, spelling and weights.
        destination (str): The file that was written.
    """

    source: str
    sha256: str
    container: str
    family: str
    converted: Converted
    destination: str

    def __str__(self) -> str:
        found = self.converted
        config = found.config or "none: start a backbone of this preset from it, by init_cfg"
        options = (
            f"{name}={value}".replace(" ", "") for name, value in found.config_options.items()
        )
        lines = [
            f"found    {self.family}, preset {found.preset} ({self.container}, "
            f"spelling {found.spelling}), sha256 {self.sha256}",
            f"wrote    {self.destination}: {len(found.state_dict)} tensors",
            f"config   {config}",
        ]
        if found.config and found.config_options:
            lines.append(f"with     --cfg-options {' '.join(options)}")
        if found.dropped:
            lines.append(f"dropped  {len(found.dropped)} tensors: {_name_all(found.dropped)}")
        return "\n".join(lines)


def _name_all(keys: tuple[str, ...]) -> str:
    """List keys or, where they are many, the modules that they are in."""
    if len(keys) <= _SAMPLE:
        return ", ".join(keys)
    modules = Counter(key.split(".")[0] for key in keys)
    return ", ".join(f"{name} ({count})" for name, count in modules.items())


def convert_official(
    source: str | os.PathLike,
    destination: str | os.PathLike,
    *,
    arch: str | None = None,
    key: str | None = None,
    img_size: tuple[int, int] | None = None,
    drop_head: bool = False,
    force: bool = False,
    trusted: bool = False,
) -> ConversionReport:
    """Convert an official checkpoint to one that MMEngine loads strictly.

    The file written holds ``state_dict`` and ``meta``; ``meta`` has ``family``, ``preset``,
    ``config`` with its ``config_options`` and the origin of the weights, all plain Python
    values, so that it can be read with ``weights_only=True``. It appears at its destination
    complete or not at all.

    Args:
        source (str | os.PathLike): Path or ``http(s)`` URL of the official file.
        destination (str | os.PathLike): Path to write; missing folders are made.
        arch (str, optional): Preset that the file must hold. By default any.
        key (str, optional): Top-level key of the state dict, such as ``model_ema``.
        img_size (tuple[int, int], optional): (height, width) of the images that the file was
            trained with, where its family depends on it and the file does not tell.
        drop_head (bool): Leave out everything but the backbone. Defaults to False.
        force (bool): Overwrite the destination. Defaults to False.
        trusted (bool): Let the source run code while it is read. Defaults to False.

    Returns:
        ConversionReport: What was found and written.

    Raises:
        CheckpointError: One of its kinds for all that is wrong with source or destination.
    """
    target = Path(destination).expanduser()
    _check_destination(target, source, force)
    opened = open_checkpoint(source, key, trusted)
    where, container = opened.where, opened.container
    family = find_family(container.tensors, where)
    options = _size_options(family, img_size, where)
    converted = family.convert(
        container.tensors, where=where, arch=arch, drop_head=drop_head, **options
    )

    meta = {
        "family": family.name,
        "preset": converted.preset,
        "config": converted.config,
        "config_options": dict(converted.config_options),
        **converted.meta,
        "mamba_mm_version": __version__,
        "source": {
            "file": Path(where).name,
            "sha256": opened.sha256,
            "container": container.key,
            "spelling": converted.spelling,
        },
    }
    write_checkpoint({"meta": meta, "state_dict": converted.state_dict}, target)
    return ConversionReport(
        source=where,
        sha256=opened.sha256,
        container=container.key,
        family=family.name,
        converted=converted,
        destination=str(target),
    )


def find_family(keys: Collection[str], where: str) -> Family:
    """Tell which family a state dict is of.

    Args:
        keys (Collection[str]): The keys of the whole state dict.
        where (str): What to call the file in messages, such as its path.

    Raises:
        CheckpointFormatError: None of the families, or several, claim the keys.
    """
    found = [family for family in FAMILIES if family.detect(keys)]
    if len(found) != 1:
        claimed = " and ".join(family.name for family in found) or "none"
        raise CheckpointFormatError(
            f"{where} is not of one known family, but of {claimed}; "
            f"known: {', '.join(family.name for family in FAMILIES)}"
            + bullets("its keys", keys, _SAMPLE)
        )
    return found[0]


def _size_options(family: Family, img_size: tuple[int, int] | None, where: str) -> dict:
    if img_size is None:
        return {}
    if not family.takes_img_size:
        raise CheckpointFormatError(
            f"{where} holds a {family.name}, whose weights do not depend on the image size; "
            "leave --img-size out"
        )
    return {"img_size": tuple(img_size)}


def write_checkpoint(content: object, path: Path) -> None:
    """Write a checkpoint that is never seen half-written.

    Args:
        content (object): What ``torch.save`` gets.
        path (Path): Where to; an existing file is replaced.

    Raises:
        CheckpointWriteError: The system refuses to write.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.save(content, part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        raise CheckpointWriteError(f"{path} cannot be written: {error}") from error


def _check_destination(path: Path, source: str | os.PathLike, force: bool) -> None:
    """Refuse early, before time is spent on reading."""
    if path.resolve() == Path(source).expanduser().resolve():
        raise CheckpointWriteError(f"Source and destination are the same file, {path}")
    if path.is_dir():
        raise CheckpointWriteError(f"The destination {path} is a folder; name a file in it")
    if path.exists() and not force:
        raise CheckpointWriteError(f"{path} exists already; pass --force to overwrite it")
