"""The comparison of configs as a command, and what it measures and writes."""

import csv
import importlib
import json
import sys
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("mmpretrain")
pytest.importorskip("matplotlib")

from small_configs import SWIN, VIT, VMAMBA, read, write_config
from torch import nn

from mamba_mm.comparison.accuracy import MEASURED, PUBLISHED, Accuracy
from mamba_mm.comparison.costs import Operations
from mamba_mm.comparison.measurement import Contender, Setting, forward_run, measure, prepare
from mamba_mm.comparison.models import TensorForward
from mamba_mm.measuring.image_shape import ImageShape

ROOT = Path(__file__).parents[2]
METAFILE = """
- Name: vit
  Config: configs/vit.py
  Results: {Task: T, Dataset: D, Metrics: {Top 1 Accuracy: 71.5, Top 5 Accuracy: 90}}
"""


@pytest.fixture(scope="module")
def tool():
    """The command, in this process: it would start anew to keep freed memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools/analysis_tools")
        module = importlib.import_module("compare")
        patch.setattr(module, "keep_freed_memory", lambda: None)
        yield module


@pytest.fixture
def call(tool, monkeypatch):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, arguments)])
        threads = torch.get_num_threads()
        try:
            tool.main()
        finally:
            torch.set_num_threads(threads)

    return call


@pytest.fixture(scope="module")
def folder(tool, tmp_path_factory):
    """Run the command on three small configs at three shapes; return its folder."""
    root = tmp_path_factory.mktemp("compare")
    names = {"ours": VMAMBA, "vit": VIT, "swin": SWIN}
    paths = [write_config(root / f"configs/{n}.py", model) for n, model in names.items()]
    (root / "configs/metafile.yml").write_text(METAFILE)
    tested = root / "work/20260101_000000/20260101_000000.json"
    tested.parent.mkdir(parents=True)
    tested.write_text('{"accuracy/top1": 12.25, "time": 1.0}')
    arguments = [*paths, "--shapes", "64@2", "64", "32x96", "--rounds", "2", "--budget", "0"]
    arguments += ["--threads", "1", "--out", root / "new/out", "--baseline", "vit"]
    arguments += ["--work-dir", f"ours={root / 'work'}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["compare.py", *map(str, arguments)])
        threads = torch.get_num_threads()
        tool.main()
        torch.set_num_threads(threads)
    return root / "new/out"


@pytest.fixture(scope="module")
def rows(folder):
    with (folder / "compare.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_one_row_a_model_and_shape(rows):
    shapes = [("64", "64", "2"), ("64", "64", "1"), ("32", "96", "1")]
    assert [(r["height"], r["width"], r["batch"], r["model"]) for r in rows] == [
        (*shape, model) for shape in shapes for model in ("ours", "vit", "swin")
    ]
    for row in rows:
        assert row["threads"] == "1"
        assert row["toolbox"] == "mmpretrain"
        assert row["config"].endswith(f"configs/{row['model']}.py")
        assert row["baseline"] == "vit"
        if row["model"] == "swin":
            continue
        low, middle, high = (
            float(row[name]) for name in ("lower_quartile", "milliseconds", "upper_quartile")
        )
        assert 0 < low <= middle <= high
        for name, milliseconds in (("", middle), ("_lower", high), ("_upper", low)):
            throughput = 1e3 * int(row["batch"]) / milliseconds
            assert float(row["images_per_second" + name]) == pytest.approx(throughput, rel=1e-4)
        assert row["turns"] == "2"
        assert float(row["peak_mib"]) > 0
        assert float(row["ratio"]) > 0
        if row["model"] == "vit":
            assert float(row["ratio"]) == 1


def test_sizes_are_exact(rows):
    """By hand; ``test_model_costs.py`` has the sums."""
    vit = [row for row in rows if row["model"] == "vit"]
    assert {(r["parameters"], r["backbone_parameters"]) for r in vit} == {("34122", "33792")}
    assert [r["flops"] for r in vit[:2]] == [vit[0]["flops"]] * 2  # of one image
    assert all(int(r["scan_flops"]) == 0 for r in vit)
    ours = [row for row in rows if row["model"] == "ours"]
    assert all(0 < int(r["scan_flops"]) < int(r["flops"]) for r in ours)


def test_a_shape_that_a_model_cannot_take_is_a_row(rows):
    for row in rows:
        failed = row["model"] == "swin"
        assert (row["failure"] != "") == failed
        assert (row["milliseconds"] == "") == failed
    assert rows[2]["failure"].startswith("AssertionError: The input shape")
    assert rows[2]["flops_failure"] == rows[2]["failure"]


def test_accuracy_is_marked(rows, folder):
    for row in rows:
        assert row["measured here: accuracy/top1"] == ("12.25" if row["model"] == "ours" else "")
        published = row["published: Top 1 Accuracy (D)"], row["published: Top 5 Accuracy (D)"]
        assert published == (("71.5", "90") if row["model"] == "vit" else ("", ""))
    text = (folder / "compare.md").read_text()
    assert "| ours | measured here |  | accuracy/top1 12.25 | the newest test, in " in text
    assert "| vit | published | D | Top 1 Accuracy 71.5, Top 5 Accuracy 90 | vit in " in text


def test_csv_json_and_markdown_agree(rows, folder):
    content = json.loads((folder / "compare.json").read_text())
    assert [m["name"] for m in content["models"]] == ["ours", "vit", "swin"]
    assert [m["is_ours"] for m in content["models"]] == [True, False, False]
    assert content["models"][0]["accuracies"][0]["kind"] == MEASURED
    assert content["models"][1]["accuracies"][0]["kind"] == PUBLISHED
    assert len(content["measurements"]) == len(rows)
    text = (folder / "compare.md").read_text()
    for row, m in zip(rows, content["measurements"], strict=True):
        for name, value in m.items():
            written = row[name]
            if isinstance(value, float):
                assert float(written) == pytest.approx(value, rel=1e-5)
            else:
                assert written == ("" if value is None else str(value))
        if not m["failure"]:
            milliseconds = m["milliseconds"]
            short = f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"
            assert f"{short} (" in text
            assert f", {m['ratio']:.2f}x |" in text
            assert f"| {m['flops'] / 1e9:.4g} " in text
    lines = text.splitlines()
    assert "| model | 64x64@2 | 64x64@1 | 32x96@1 |" in lines
    failures = [line for line in lines if line.startswith("- ")]
    assert len(failures) == 2  # a reason is told once
    assert failures[0].startswith("- swin at 64x64@2, 64x64@1: AssertionError: The input shape (4")
    assert (folder / "compare.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to compare: name configs, or a ready-made set with --set"),
        (["{one}", "--rounds", "1"], "--rounds must be at least 2, for quartiles; got 1"),
        (["{one}", "--threads", "0"], "--threads must be at least 1; got 0"),
        (["{one}", "--shapes", "224@"], "shape '224@' is not of the form SIZE or HEIGHTxWIDTH"),
        (["{one}", "--baseline", "two"], "--baseline two: no config is called so; there are one"),
        (["{one}", "--work-dir", "one"], "--work-dir one: expected NAME=DIR"),
        (["{one}", "--work-dir", "two=x"], "--work-dir two: no config is called so"),
        (["{one}", "--work-dir", "one=absent"], "there is no work directory absent"),
        (["{one}", "--highest", "a", "--lowest", "b"], "not allowed with argument --highest"),
        (["{one}", "--set", "poses"], "invalid choice: 'poses'"),
        (["absent.py"], "there is no config absent.py"),
    ],
)
def test_wrong_arguments_are_explained(call, tmp_path, capsys, arguments, message):
    one = write_config(tmp_path / "one.py", VIT)
    with pytest.raises(SystemExit):
        call(*(argument.format(one=one) for argument in arguments))
    assert message in capsys.readouterr().err


def test_without_a_gpu_cuda_is_refused(call, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        call("--set", "pose", "--device", "cuda")
    assert "--device cuda: PyTorch finds no CUDA device" in capsys.readouterr().err


@pytest.fixture
def compared(tool, call, monkeypatch):
    """Call the command and return what it would measure."""
    taken = []
    monkeypatch.setattr(tool, "compare", lambda *arguments: taken.append(arguments))

    def compared(*arguments):
        call(*arguments)
        return taken[-1]

    return compared


def test_a_set_brings_its_baseline_and_shapes(tool, compared, tmp_path):
    more = write_config(tmp_path / "more.py", VIT)
    configs, baseline, accuracies, options = compared("--set", "classification", more)
    assert [config.name for config in configs][-2:] == ["ResNet-50", "more"]
    assert baseline == "Swin-T"
    assert accuracies["Swin-T"][0].value == 81.18
    assert [str(shape) for shape in tool._shapes(options)][:2] == ["224x224@8", "224x224@1"]


def test_the_baseline_is_the_first_of_the_toolbox(compared, tmp_path):
    one = write_config(tmp_path / "one.py", VIT)
    assert compared(one)[1] == "one"
    theirs = "mmpretrain::resnet/resnet18_8xb32_in1k.py"
    assert compared(one, theirs)[1] == "resnet18_8xb32_in1k"
    assert compared(one, theirs, "--baseline", one)[1] == "one"


@pytest.mark.parametrize(("option", "value"), [("--highest", 0.75), ("--lowest", 0.25)])
def test_work_dirs_are_searched_as_asked(compared, tmp_path, option, value):
    one = write_config(tmp_path / "one.py", VIT)
    log = tmp_path / "work/20260101_000000/vis_data/scalars.json"
    log.parent.mkdir(parents=True)
    lines = [{"EPE": epe, "step": step} for step, epe in enumerate((0.75, 0.25, 0.5))]
    log.write_text("\n".join(map(json.dumps, lines)))
    _, _, found, _ = compared(one, "--work-dir", f"{one}={tmp_path / 'work'}", option, "EPE")
    assert [(a.kind, a.value) for a in found["one"]] == [(MEASURED, value)]


class Fake(nn.Module):
    """Stands for a model; ``run`` gets the images."""

    def __init__(self, run):
        super().__init__()
        self.run = run

    def forward(self, images, samples, mode):
        assert (mode, len(samples)) == ("tensor", len(images))
        assert samples[0].img_shape == tuple(images.shape[2:])
        self.run(images)
        return {"a": [images], "b": (images, None)}


def contender(tmp_path, name, run):
    config = read(tmp_path / f"{name}.py", VIT)
    known = (Accuracy(PUBLISHED, "AP", 1.0, "", ""),)
    model = TensorForward(Fake(run))
    return Contender(config, model, 1, None, {(20, 30): Operations(5, 2)}, known)


SHAPE = ImageShape(20, 30, 2)
QUICK = Setting(rounds=3, budget=10)


def test_ratio_and_memory_are_those_of_the_models(tmp_path):
    def work(seconds, mebibytes):
        return lambda images: (torch.empty(mebibytes * 2**18), time.sleep(seconds))

    models = [
        contender(tmp_path, "ours", work(0.03, 3)),
        contender(tmp_path, "base", work(0.09, 8)),
    ]
    ours, base = measure(models, "base", SHAPE, QUICK)
    assert (ours.model, base.model, base.ratio) == ("ours", "base", 1)
    assert 2 < ours.ratio < 4
    assert (ours.peak_mib, base.peak_mib) == (3, 8)
    assert (ours.flops, ours.scan_flops) == (5, 2)
    assert 20 < ours.images_per_second < 67


def test_what_does_not_fit_in_memory_is_reported_and_the_rest_measured(tmp_path):
    models = [
        contender(tmp_path, "base", lambda images: torch.empty(2**58)),
        contender(tmp_path, "ours", lambda images: None),
    ]
    base, ours = measure(models, "base", SHAPE, QUICK)
    assert (base.failure, base.milliseconds, base.turns) == ("out of memory", None, 0)
    assert ours.milliseconds > 0
    assert ours.ratio is None


def test_mistakes_are_not_hidden(tmp_path):
    models = [contender(tmp_path, "ours", lambda images: images.absent)]
    with pytest.raises(AttributeError, match="absent"):
        measure(models, "ours", SHAPE, QUICK)


def test_images_and_weights_are_as_the_setting_says(tmp_path):
    seen = []

    def run(images):
        product = images.flatten(1) @ images.flatten(1).T
        seen.append((images.shape, images.is_contiguous(), product.dtype, images.sum()))

    model = contender(tmp_path, "ours", run).model
    for setting in (Setting(), Setting(dtype="bfloat16", memory_format="channels_last")):
        forward_run(model, SHAPE, setting)()
    assert seen[0][:3] == ((2, 3, 20, 30), True, torch.float32)
    assert seen[1][:3] == ((2, 3, 20, 30), False, torch.bfloat16)
    assert torch.isclose(seen[0][3], seen[1][3], atol=1e-2)  # the same noise


def test_weights_keep_the_layout_that_they_were_built_with(tmp_path):
    model = prepare(read(tmp_path / "v.py", VMAMBA), [], Setting()).model
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == 1]
    # VMamba's are in the format of its maps; a conversion in every pass would be slow.
    channels_last = [c.weight.is_contiguous(memory_format=torch.channels_last) for c in convs]
    assert channels_last == [True] * 5
    vit = prepare(read(tmp_path / "w.py", VIT), [], Setting(memory_format="channels_last"))
    patches = vit.model.model.backbone.patch_embed.projection.weight
    assert patches.is_contiguous(memory_format=torch.channels_last)


def test_what_was_measured_before_an_error_is_written(tool, call, tmp_path, monkeypatch):
    one = write_config(tmp_path / "one.py", VIT)
    measured = iter([tool.measure])

    def fail_later(*arguments):
        return next(measured)(*arguments)

    monkeypatch.setattr(tool, "measure", fail_later)
    with pytest.raises(StopIteration):
        call(one, "--shapes", "64", "32", "--rounds", "2", "--budget", "0", "--out", tmp_path)
    assert "| model | 64x64@1 |" in (tmp_path / "compare.md").read_text()
    assert len((tmp_path / "compare.csv").read_text().splitlines()) == 2
    assert (tmp_path / "compare.png").exists()
