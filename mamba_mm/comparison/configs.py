"""The configs to compare: where they are, what they are called, and that they belong together."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from mamba_mm.apis.toolbox_scripts import TOOLBOXES
from mamba_mm.comparison.errors import ComparisonError
from mamba_mm.comparison.sets import Entry

PACKAGES = (*TOOLBOXES, "mamba_mm")


@dataclass(frozen=True)
class ModelConfig:
    """A config that takes part.

    Attributes:
        name: What its model is called in tables and plots.
        given: What the user wrote for it.
        path: The file.
        toolbox: The toolbox that builds it, its ``default_scope``.
        config: What the file says.
    """

    name: str
    given: str
    path: Path
    toolbox: str
    config: Config

    @property
    def is_ours(self) -> bool:
        """Whether a part of the model comes from ``mamba_mm``."""
        return any(str(kind).startswith("mamba_mm.") for kind in _types(self.config.model))

    @property
    def is_installed(self) -> bool:
        """Whether the file came with an installed toolbox."""
        return self.given.partition("::")[0] in TOOLBOXES


def read_configs(entries: Sequence[Entry]) -> list[ModelConfig]:
    """Read configs that shall be compared with one another.

    Args:
        entries: The configs, each a path or ``package::path``, and their names.

    Returns:
        One config an entry, in their order. Those without a name are called like their file,
        or as they were given where files of one name meet.

    Raises:
        ComparisonError: There are none, one does not exist, has no model or no toolbox, they are
            of different toolboxes, or two have one name.
    """
    if not entries:
        raise ComparisonError("nothing to compare: name configs, or a ready-made set with --set")
    paths = [find_config(entry.config) for entry in entries]
    stems = Counter(path.stem for path in paths)
    configs = []
    for entry, path in zip(entries, paths, strict=True):
        name = entry.name or (path.stem if stems[path.stem] == 1 else entry.config)
        config = Config.fromfile(path)
        configs.append(ModelConfig(name, entry.config, path, _toolbox(path, config), config))
    _check_names(configs)
    _check_toolboxes(configs)
    return configs


def find_config(given: str) -> Path:
    """Return the file of a config.

    MMEngine resolves ``package::path`` only for packages of a fixed list, and not
    ``mmseg::`` of the maintained line; here it is looked up in the package itself.

    Args:
        given: A path, or ``package::path`` for one that came with an installed package.

    Raises:
        ComparisonError: The package is unknown or not installed, or the file is absent.
    """
    package, separator, inner = given.partition("::")
    if not separator:
        if not Path(given).is_file():
            raise ComparisonError(f"there is no config {given} (looked from {Path.cwd()})")
        return Path(given)
    folder = _configs_of(package, given)
    if not (folder / inner).is_file():
        raise ComparisonError(f"there is no config {given} (looked in {folder})")
    return folder / inner


def _configs_of(package: str, given: str) -> Path:
    """Return the folder of a package's configs: in its wheel, or beside it in a checkout."""
    if package not in PACKAGES:
        raise ComparisonError(
            f"{given}: unknown package {package!r} before `::`; known are {', '.join(PACKAGES)}"
        )
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ComparisonError(
            f"{given}: {TOOLBOXES[package].title} is not installed: {TOOLBOXES[package].install}"
        )
    root = Path(next(iter(spec.submodule_search_locations)))
    folders = (root / ".mim" / "configs", root.parent / "configs")
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _toolbox(path: Path, config: Config) -> str:
    scope = config.get("default_scope")
    if scope not in TOOLBOXES:
        raise ComparisonError(
            f"{path} has default_scope = {scope!r}; expected one of {', '.join(TOOLBOXES)}"
        )
    if "model" not in config:
        raise ComparisonError(f"{path} describes no model; name the config of a whole model")
    return scope


def _check_names(configs: Sequence[ModelConfig]) -> None:
    twice = [name for name, count in Counter(c.name for c in configs).items() if count > 1]
    if twice:
        raise ComparisonError(f"named more than once: {', '.join(twice)}; name each config once")


def _check_toolboxes(configs: Sequence[ModelConfig]) -> None:
    toolboxes = {config.name: config.toolbox for config in configs}
    if len(set(toolboxes.values())) > 1:
        listed = ", ".join(f"{name}: {toolbox}" for name, toolbox in toolboxes.items())
        raise ComparisonError(
            "whole models of different toolboxes do different tasks and cannot be compared; "
            f"name configs of one toolbox, or run once for each ({listed})"
        )


def _types(node: object) -> Iterator[object]:
    """Yield every ``type`` within a config."""
    if isinstance(node, dict):
        if "type" in node:
            yield node["type"]
        for value in node.values():
            yield from _types(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _types(value)
