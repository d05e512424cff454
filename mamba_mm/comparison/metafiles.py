"""Accuracy that the metafiles of a toolbox, or ours, give for a config."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from mamba_mm.comparison.accuracy import MEASURED, PUBLISHED, Accuracy

INDEX = "model-index.yml"


def accuracy_of_metafile(config: Path) -> list[Accuracy]:
    """Read the results of a config from the metafile that lists it.

    Metafiles are those that the ``model-index.yml`` above the config imports, and those beside
    the config. Of several entries of one config (weights of other origin) the one that is named
    like the config counts, or else the first. Results are published ones unless the entry's
    metadata says ``Source of results: measured here``.

    Args:
        config: A config of an installed toolbox or of a checkout.

    Returns:
        Its metrics; none where no metafile has any.
    """
    entries = [
        (path, entry)
        for path in _metafiles(config.resolve())
        for entry in _entries(path)
        if _is_of(entry, config) and entry.get("Results")
    ]
    # False sorts before True, and the order of the files stays.
    entries.sort(key=lambda found: found[1].get("Name") != config.stem)
    return _results(*entries[0]) if entries else []


def _metafiles(config: Path) -> Iterator[Path]:
    """Yield the metafiles that mention the config, without parsing the many others."""
    found = dict.fromkeys([*config.parent.glob("*.yml"), *config.parent.glob("*.yaml")])
    root = _root(config)
    if root is not None:
        index = yaml.safe_load((root / INDEX).read_text(encoding="utf-8"))
        found |= dict.fromkeys(root / name for name in index["Import"])
    for path in found:
        if path.is_file() and config.stem in path.read_text(encoding="utf-8"):
            yield path


def _entries(path: Path) -> list[dict]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    # Some metafiles are the list of models itself; other files beside a config are anything.
    models = content.get("Models") if isinstance(content, dict) else content
    return [model for model in models or [] if isinstance(model, dict)]


def _is_of(entry: dict, config: Path) -> bool:
    """Tell whether an entry is of this file: the path of one metafile is relative to the root."""
    named = entry.get("Config")
    return named is not None and config.resolve().as_posix().endswith(f"/{named}")


def _results(path: Path, entry: dict) -> list[Accuracy]:
    results = entry["Results"]
    results = results if isinstance(results, list) else [results]
    measured = entry.get("Metadata", {}).get("Source of results") == MEASURED
    source = f"{entry['Name']} in {_short(path)}"
    return [
        Accuracy(
            MEASURED if measured else PUBLISHED, metric, float(value), result["Dataset"], source
        )
        for result in results
        for metric, value in result["Metrics"].items()
    ]


def _short(path: Path) -> str:
    """Name a metafile as its index does, an installed one after its package."""
    root = _root(path)
    if root is None:
        return path.as_posix()
    package = f"{root.parent.name}: " if root.name == ".mim" else ""
    return package + path.relative_to(root).as_posix()


def _root(path: Path) -> Path | None:
    return next((folder for folder in path.parents if (folder / INDEX).is_file()), None)
