import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")
import matplotlib.pyplot as plt

from mamba_mm.ops.routes import ROUTE_SETS, presets, registry, route_set

TOOL = Path(__file__).parents[2] / "tools" / "analysis_tools" / "draw_routes.py"


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(TOOL))


@pytest.fixture
def own_names(monkeypatch):
    monkeypatch.setattr(registry, "_GENERATORS", dict(registry._GENERATORS))
    for name in set(ROUTE_SETS) - {"cross", "vim", "msvmamba_v1", "atrous2"}:
        monkeypatch.delitem(presets.ROUTE_SETS, name)


def shape_of(path):
    return plt.imread(path).shape[:2]


def colours_of(path):
    return len(np.unique(plt.imread(path)[..., :3].reshape(-1, 3), axis=0))


def test_a_picture_grows_with_what_it_shows(tool, tmp_path, capsys):
    sizes = {}
    for name, arguments in {
        "one": ["cross"],
        "two": ["cross", "atrous2"],
        "wrapped": ["fer"],
        "larger": ["cross", "--size", "5", "9"],
    }.items():
        path = tmp_path / f"{name}.png"
        assert tool["main"](["--size", "3", "4", *arguments, "--out", str(path)]) == 0
        assert capsys.readouterr().out == f"{path}\n"
        sizes[name] = shape_of(path)
        assert colours_of(path) > 100
    assert sizes["one"][1] == sizes["two"][1] == sizes["wrapped"][1] < sizes["larger"][1]
    assert sizes["one"][0] < min(sizes["two"][0], sizes["wrapped"][0])
    assert sizes["one"][0] < sizes["larger"][0]


def panels(tool, name, size=(3, 5)):
    titled = tool["named_sets"](name)
    return [row for title, routes in titled for row in tool["rows_of"](title, routes, *size)]


def test_every_sequence_has_a_panel_with_its_table(tool):
    (row,) = panels(tool, "atrous2")
    assert (row.title, row.note, row.height, row.width) == ("atrous2", "merge: sum", 3, 5)
    assert [panel.title for panel in row.panels] == [str(r) for r in route_set("atrous2").routes]
    notes = [panel.note for panel in row.panels]
    assert notes == [
        "group 0",
        "group 1, 3 padded steps",
        "group 2, 2 padded steps",
        "group 3, 4 padded steps",
    ]
    for panel, steps in zip(row.panels, route_set("atrous2").tables(3, 5).read, strict=True):
        assert panel.steps.tolist() == steps.tolist()


def test_a_joined_sequence_runs_on_over_its_panels(tool):
    full, half = panels(tool, "msvmamba_v1")
    assert (full.title, half.title) == ("msvmamba_v1, branch 0", "msvmamba_v1, branch 1")
    assert (half.height, half.width) == (2, 3)
    assert [panel.joined for panel in half.panels] == [False, True, True]
    assert [(panel.first, panel.length) for panel in half.panels] == [(0, 18), (6, 18), (12, 18)]
    assert [panel.note for panel in half.panels][1] == "group 0, part 2 of 3"
    assert full.panels[0].note == "group 1"


def test_layers_and_dynamic_sets_can_be_drawn(tool):
    assert len(panels(tool, "local_vmamba_tiny")) == 15
    (layer,) = panels(tool, "local_vmamba_tiny[3]")
    assert [p.title for p in layer.panels] == ["~row", "col", "~col", "window(w=2)"]
    assert "in the order of the call" in panels(tool, "top_vim")[0].title
    assert panels(tool, "serpentine")[0].note == "merge: sum, only the input walks, step codes"


@pytest.mark.parametrize("size", [("1", "1"), ("1", "7"), ("40", "3")])
def test_maps_of_any_shape(tool, tmp_path, size):
    path = tmp_path / "routes.png"
    routes = ["--routes", "row:reverse_then_middle", "~window(7):reverse_then_middle"]
    assert tool["main"]([*routes, "--size", *size, "--out", str(path)]) == 0
    assert min(shape_of(path)) > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["crosss"], "error: unknown route set 'crosss'; known: cross,"),
        (["local_vim_tiny[20]"], "error: local_vim_tiny has 20 layers, 0 to 19, not 20"),
        (["--routes", "diagonal"], "error: unknown route 'diagonal'; known: row,"),
        (["--routes", "window(side=2)"], "error: route 'window' has no keyword 'side'"),
        (["cross", "--size", "0", "3"], "error: a map has at least one row and column, got 0x3"),
        ([], "error: name a set, or use --routes or --all; sets: cross"),
        (["--all", "cross"], "error: --all draws every preset"),
        (["cross", "--import", "no_such_module"], "error: No module named 'no_such_module'"),
        (["cross", "--import", "none.py"], "error: there is no file none.py"),
    ],
)
def test_mistakes_are_one_line(tool, capsys, arguments, message):
    assert tool["main"](arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1


@pytest.mark.usefixtures("own_names")
def test_all_presets_and_own_ones_get_a_picture_each(tool, tmp_path):
    own = tmp_path / "own.py"
    own.write_text(
        "from mamba_mm.ops.routes import register_route, register_route_set\n"
        "@register_route('every_third')\n"
        "def every_third(height, width):\n"
        "    return list(range(0, height * width, 3))\n"
        "register_route_set('mine', ['every_third', '~every_third'])\n"
        "register_route_set('same', ['row', 'col', '~row', '~col'])\n"
    )
    out = tmp_path / "pictures"
    assert tool["main"](["--all", "--size", "3", "4", "--import", str(own), "--out", str(out)]) == 0
    # Sets of the same value share a picture, under the first of their names.
    names = {"cross.png", "vim.png", "msvmamba_v1.png", "atrous2.png", "mine.png"}
    assert {path.name for path in out.iterdir()} == names
    assert colours_of(out / "mine.png") > 50


def test_the_command_line(tmp_path):
    path = tmp_path / "folder" / "routes.png"
    command = [sys.executable, str(TOOL), "bidirectional", "--out", str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == f"{path}\n"
    assert run.stderr == ""
    assert plt.imread(path).ndim == 3
