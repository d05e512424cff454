import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from mamba_mm.apis import toolbox_scripts
from mamba_mm.apis.toolbox_scripts import TOOLBOXES, Toolbox, ToolboxScriptError, main

ROOT = Path(__file__).parents[2]

pytest.importorskip("mmengine")


@pytest.fixture
def fake_toolbox(tmp_path, monkeypatch):
    """A toolbox whose train script tells what it was given and exits with 7."""
    tools = tmp_path / "site" / "mmfake" / ".mim" / "tools"
    tools.mkdir(parents=True)
    (tools.parents[1] / "__init__.py").touch()
    (tools / "train.py").write_text("import sys\nprint(__name__, sys.argv)\nsys.exit(7)\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    toolbox = Toolbox("mmfake", "MMFake", "pip install mmfake")
    monkeypatch.setitem(TOOLBOXES, "mmfake", toolbox)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    return tools


def write_config(folder, text):
    path = folder / "config.py"
    path.write_text(text)
    return path


def test_the_script_gets_all_arguments_and_its_exit_code_comes_back(
    fake_toolbox, tmp_path, monkeypatch, capsys
):
    write_config(tmp_path, "default_scope = 'mmfake'")
    monkeypatch.chdir(tmp_path)
    arguments = ["--unknown-flag", "x", "config.py", "--cfg-options", "a.b=[1, 2]", "c=d.py"]

    with pytest.raises(SystemExit) as stop:
        main("train", arguments)

    assert stop.value.code == 7
    script = str(fake_toolbox / "train.py")
    assert capsys.readouterr().out == f"__main__ {[script, *arguments]}\n"


def test_a_script_that_ends_normally_gives_0(fake_toolbox, tmp_path, capsys):
    (fake_toolbox / "test.py").write_text("print('tested')\n")
    config = write_config(tmp_path, "default_scope = 'mmfake'")

    assert main("test", [str(config), "weights.pth"]) == 0
    assert capsys.readouterr().out == "tested\n"


def test_a_traceback_of_the_script_is_not_hidden(fake_toolbox, tmp_path):
    (fake_toolbox / "train.py").write_text("raise KeyError('inside')\n")
    config = write_config(tmp_path, "default_scope = 'mmfake'")

    with pytest.raises(KeyError, match="inside"):
        main("train", [str(config)])


def test_a_toolbox_installed_in_place_has_its_scripts_beside_the_package(fake_toolbox, tmp_path):
    site = fake_toolbox.parents[2]
    (site / "tools").mkdir()
    (fake_toolbox / "train.py").rename(site / "tools" / "train.py")

    assert toolbox_scripts.find_script(TOOLBOXES["mmfake"], "train") == site / "tools" / "train.py"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "there is no config missing.py"),
        ("x = 1", "has no default_scope; write"),
        ("default_scope = 'mmnone'", "default_scope = 'mmnone'; expected one of mmdet, mmpretrain"),
        ("default_scope = 'absent'", "Absent, which is not installed: pip install absent"),
        ("default_scope = 'json'", "came without tools/train.py; install it from its wheel"),
    ],
)
def test_errors_are_one_line(config, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(TOOLBOXES, "absent", Toolbox("absent", "Absent", "pip install absent"))
    monkeypatch.setitem(TOOLBOXES, "json", Toolbox("json", "Json", "pip install json"))
    monkeypatch.chdir(tmp_path)
    arguments = ["missing.py"] if config is None else [str(write_config(tmp_path, config))]

    assert main("train", arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


def test_no_config_is_an_error(capsys):
    assert main("train", ["--help"]) == 2
    assert "name a config" in capsys.readouterr().err


def test_without_mmengine_the_error_says_what_to_install(tmp_path, monkeypatch):
    config = write_config(tmp_path, "default_scope = 'mmdet'")
    monkeypatch.setattr(toolbox_scripts.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(ToolboxScriptError, match="pip install onedl-mmengine"):
        toolbox_scripts.run_toolbox_script("train", [str(config)])


@pytest.mark.parametrize("scope", ["mmdet", "mmpretrain", "mmseg", "mmpose"])
@pytest.mark.parametrize("name", ["train", "test"])
def test_every_installed_toolbox_ships_both_scripts(scope, name):
    pytest.importorskip(scope)
    script = toolbox_scripts.find_script(TOOLBOXES[scope], name)
    assert scope in str(script)


def test_the_toolboxs_own_help_is_printed_by_the_tool(tmp_path):
    pytest.importorskip("mmpretrain")
    config = write_config(tmp_path, "default_scope = 'mmpretrain'")

    run = subprocess.run(
        [sys.executable, "tools/train.py", str(config), "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
    )

    assert "--no-persistent-workers" in run.stdout


def test_the_toolboxs_own_help_is_printed_by_the_module(tmp_path, monkeypatch, capsys):
    pytest.importorskip("mmpretrain")
    config = write_config(tmp_path, "default_scope = 'mmpretrain'")
    monkeypatch.setattr(sys, "argv", ["mamba_mm", "train", str(config), "--help"])

    with pytest.raises(SystemExit) as exit_:
        runpy.run_module("mamba_mm", run_name="__main__")

    assert exit_.value.code == 0
    assert "--no-persistent-workers" in capsys.readouterr().out
