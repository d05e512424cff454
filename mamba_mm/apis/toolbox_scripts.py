"""Run the script that an installed toolbox ships, the toolbox chosen by the config.

``tools/train.py``, ``tools/test.py`` and ``python -m mamba_mm train|test`` all end here.
The script runs in this process as if it had been called itself: launchers, Ctrl-C,
tracebacks and the exit code are its own, and it sees the very arguments that were given.
Launched several times on a machine without a GPU, the processes find each other here.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .cpu_processes import join_cpu_processes

CONFIG_SUFFIXES = (".py", ".yaml", ".yml", ".json")


class ToolboxScriptError(Exception):
    """Nothing can be run; the message says in one line why and what to do."""


@dataclass(frozen=True)
class Toolbox:
    """One OpenMMLab toolbox.

    Attributes:
        module: The name it is imported by, which is also its ``default_scope``.
        title: The name it goes by.
        install: The command that installs it.
    """

    module: str
    title: str
    install: str


TOOLBOXES = {
    toolbox.module: toolbox
    for toolbox in (
        Toolbox("mmdet", "MMDetection", "pip install onedl-mmdetection"),
        Toolbox("mmpretrain", "MMPretrain", "pip install onedl-mmpretrain"),
        Toolbox("mmseg", "MMSegmentation", "pip install onedl-mmsegmentation ftfy"),
        Toolbox("mmpose", "MMPose", "pip install --no-deps mmpose"),
    )
}


def run_toolbox_script(name: str, arguments: Sequence[str]) -> None:
    """Run a script of the toolbox that a config belongs to.

    Args:
        name: ``"train"`` or ``"test"``.
        arguments: The script's arguments, passed on unchanged. The first one that is a
            config file tells the toolbox.

    Raises:
        ToolboxScriptError: No config is named or it does not exist, its ``default_scope``
            is missing or unknown, or its toolbox is not installed.
        SystemExit: Whatever exit status the script itself asks for.
    """
    config = find_config(name, arguments)
    script = find_script(toolbox_of(config), name)
    sys.argv = [str(script), *arguments]
    join_cpu_processes(arguments)
    runpy.run_path(str(script), run_name="__main__")


def main(name: str, arguments: Sequence[str]) -> int:
    """Run :func:`run_toolbox_script` for a command line.

    Returns:
        0, or 2 after printing why no script could be run.
    """
    try:
        run_toolbox_script(name, arguments)
    except ToolboxScriptError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def find_config(name: str, arguments: Sequence[str]) -> Path:
    """Return the first of ``arguments`` that is a config file.

    Raises:
        ToolboxScriptError: There is none, or the file does not exist.
    """
    for argument in arguments:
        if not argument.startswith("-") and argument.endswith(CONFIG_SUFFIXES):
            path = Path(argument)
            if not path.is_file():
                raise ToolboxScriptError(
                    f"there is no config {argument} (looked from {Path.cwd()})"
                )
            return path
    raise ToolboxScriptError(
        f"name a config, as in `{name} CONFIG.py ...`; all flags are those of the {name} script "
        f"of the config's toolbox, which `{name} CONFIG.py --help` prints"
    )


def toolbox_of(config: Path) -> Toolbox:
    """Return the toolbox that ``config`` names as its ``default_scope``.

    Raises:
        ToolboxScriptError: MMEngine is absent, or the scope is missing or unknown.
    """
    if importlib.util.find_spec("mmengine") is None:
        raise ToolboxScriptError("reading a config needs MMEngine: pip install onedl-mmengine")
    from mmengine.config import Config

    scope = Config.fromfile(config).get("default_scope")
    known = ", ".join(TOOLBOXES)
    if scope is None:
        raise ToolboxScriptError(
            f"{config} has no default_scope; write default_scope = '...' with one of {known}"
        )
    if scope not in TOOLBOXES:
        raise ToolboxScriptError(f"{config} has default_scope = {scope!r}; expected one of {known}")
    return TOOLBOXES[scope]


def find_script(toolbox: Toolbox, name: str) -> Path:
    """Return the path of ``name``.py as ``toolbox`` installed it.

    A wheel carries its scripts in ``.mim/tools``; a checkout that is installed in place
    may lack that folder and has them in ``tools`` beside the package.

    Raises:
        ToolboxScriptError: The toolbox is not installed, or came without scripts.
    """
    spec = importlib.util.find_spec(toolbox.module)
    if spec is None or not spec.submodule_search_locations:
        raise ToolboxScriptError(
            f"the config belongs to {toolbox.title}, which is not installed: {toolbox.install}"
        )
    package = Path(next(iter(spec.submodule_search_locations)))
    for folder in (package / ".mim" / "tools", package.parent / "tools"):
        script = folder / f"{name}.py"
        if script.is_file():
            return script
    raise ToolboxScriptError(
        f"{toolbox.title} in {package} came without tools/{name}.py; "
        f"install it from its wheel: {toolbox.install}"
    )
