"""What is installed, what of it works, and what to do about the rest.

Versions are read from the distributions' metadata, so a module that cannot be imported
still shows its version; each module is then imported once to see whether it works.
"""

from __future__ import annotations

import importlib
import importlib.util
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from mamba_mm.apis.toolbox_scripts import TOOLBOXES
from mamba_mm.version import __version__

# What a broken installation of these packages is known to raise while it is imported:
# a version check, a missing operator, a library that does not load, another NumPy's ABI.
IMPORT_FAILURES = (
    ImportError,
    RuntimeError,
    OSError,
    AssertionError,
    AttributeError,
    ValueError,
)

# (part of the message, what to do)
KNOWN_FAILURES = (
    (
        "torchvision::nms",
        "torch and torchvision are not a pair: install both from the same index at once",
    ),
    (
        "numpy.dtype size changed",
        "it was built for another NumPy: pip install --no-build-isolation --no-binary "
        "xtcocotools --force-reinstall --no-deps xtcocotools",
    ),
    (
        "mmcv._ext",
        "mmcv has no compiled ops: pip uninstall mmcv-lite, then build onedl-mmcv from source",
    ),
    ("libGL", "OpenCV needs libGL: pip install --force-reinstall --no-deps opencv-python-headless"),
    ("is used but incompatible", "stock and onedl packages are mixed: install one line only"),
    ("pkg_resources", "pip install 'setuptools<82'"),
)


@dataclass(frozen=True)
class ModuleStatus:
    """What can be said of one module.

    Attributes:
        module: The name it is imported by.
        distributions: The distributions that provide it, each as "name version".
        problem: Why it does not work, in one line; empty if it does.
        remedy: What to do about the problem; empty where nothing is known to help.
        note: Something worth knowing of a module that works.
    """

    module: str
    distributions: tuple[str, ...]
    problem: str = ""
    remedy: str = ""
    note: str = ""

    @property
    def installed(self) -> bool:
        """Whether any distribution provides the module."""
        return bool(self.distributions)


@dataclass(frozen=True)
class _Module:
    """A module to report on.

    ``parts`` are imported too, where the module itself is known to import although it
    cannot be used.
    """

    name: str
    install: str
    parts: tuple[str, ...] = ()
    note: Callable[[], str] | None = None


def _torch_note() -> str:
    import torch

    built_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    if torch.cuda.is_available():
        return f"{built_for} build, GPU: {torch.cuda.get_device_name()}"
    return f"{built_for} build, no GPU in use, {torch.get_num_threads()} CPU threads"


def _mmcv_note() -> str:
    return "with compiled ops"


LIBRARIES = (
    _Module("torch", "pip install torch", note=_torch_note),
    _Module("torchvision", "pip install torchvision"),
    _Module("triton", "not needed without a GPU; pip install triton"),
    _Module("numpy", "pip install numpy"),
    _Module("cv2", "pip install opencv-python-headless"),
    _Module("mmengine", "pip install onedl-mmengine"),
    _Module("mmcv", "pip install onedl-mmcv", parts=("mmcv._ext",), note=_mmcv_note),
)
_TOOLBOX_PARTS = {"mmdet": ("pycocotools.mask",), "mmpose": ("xtcocotools.mask",)}


def module_report() -> list[ModuleStatus]:
    """Return the state of torch, of the OpenMMLab libraries and of the toolboxes."""
    providers = metadata.packages_distributions()
    toolboxes = (
        _Module(toolbox.module, toolbox.install, _TOOLBOX_PARTS.get(toolbox.module, ()))
        for toolbox in TOOLBOXES.values()
    )
    return [_status(module, providers) for module in (*LIBRARIES, *toolboxes)]


def _status(module: _Module, providers: dict[str, list[str]]) -> ModuleStatus:
    names = sorted(set(providers.get(module.name, ())))
    distributions = tuple(f"{name} {metadata.version(name)}" for name in names)
    failure = import_failure(module.name, *module.parts)
    if failure and not distributions and _is_absent(module.name):
        return ModuleStatus(module.name, (), "not installed", module.install)
    if failure:
        return ModuleStatus(module.name, distributions, failure, _remedy(failure))
    note = module.note() if module.note else ""
    return ModuleStatus(module.name, distributions, note=note)


def _is_absent(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is None
    except ValueError:  # a module of that name was put into sys.modules without a spec
        return False


def import_failure(*names: str) -> str:
    """Import modules and return what the first that fails says, in one line, or ""."""
    for name in names:
        try:
            importlib.import_module(name)
        except IMPORT_FAILURES as error:
            lines = str(error).strip().splitlines() or ["no reason given"]
            return f"import {name} raises {type(error).__name__}: {lines[0]}"
    return ""


def _remedy(failure: str) -> str:
    return next((remedy for part, remedy in KNOWN_FAILURES if part in failure), "")


def environment_report() -> str:
    """Return the whole report, as ``python -m mamba_mm`` prints it."""
    modules = module_report()
    lines = [
        f"mamba_mm     {__version__}",
        f"python       {platform.python_version()}, {platform.system()} {platform.machine()}",
        *_lines_of_modules(modules),
        "",
        *_lines_of_backends(),
    ]
    return "\n".join(lines)


def _lines_of_modules(modules: list[ModuleStatus]) -> list[str]:
    lines = []
    for status in modules:
        what = " + ".join(status.distributions)
        state = status.problem or status.note
        lines.append(f"{status.module:<12} {'; '.join(filter(None, (what, state)))}")
        if status.remedy:
            lines.append(f"{'':<12}   -> {status.remedy}")
    return lines


def _lines_of_backends() -> list[str]:
    failure = import_failure("mamba_mm.ops.backends")
    if failure:
        return [f"scan backends: none; {failure}"]
    from mamba_mm.ops.backends import backend_report, default_backend

    lines = [
        f"scan backends (a CPU tensor goes to {default_backend('cpu')!r} by itself, "
        f"a GPU tensor to {default_backend('cuda')!r}):"
    ]
    for status in backend_report():
        mark = "usable" if status.usable else "NOT usable"
        lines.append(f"  {status.name:<10} {mark}: {status.detail}")
        if status.remedy:
            lines.append(f"  {'':<10}   -> {status.remedy}")
    return lines
