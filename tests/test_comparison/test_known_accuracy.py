"""Accuracy from work directories is measured, from metafiles published."""

import json
import re
from pathlib import Path

import pytest
import yaml

pytest.importorskip("mmengine")

from mamba_mm.comparison.accuracy import MEASURED, PUBLISHED, Accuracy
from mamba_mm.comparison.configs import find_config
from mamba_mm.comparison.errors import ComparisonError
from mamba_mm.comparison.metafiles import accuracy_of_metafile
from mamba_mm.comparison.work_dirs import Choice, accuracy_of_work_dir

TRAINING = {"lr": 0.1, "loss": 2.0, "time": 0.1, "epoch": 1, "iter": 5, "step": 5}


def write_training(folder, stamp, *metrics, first_step=1):
    """Write what a training logs: a line of training before each validation."""
    path = folder / stamp / "vis_data/scalars.json"
    path.parent.mkdir(parents=True)
    lines = []
    for step, values in enumerate(metrics, first_step):
        lines += [TRAINING, {**values, "data_time": 0.1, "time": 0.2, "step": step}]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


def write_test(folder, stamp, **metrics):
    path = folder / stamp / f"{stamp}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**metrics, "data_time": 0.1, "time": 0.2}))
    return path


def test_the_last_validation_counts(tmp_path):
    write_training(tmp_path, "20260101_000000", {"coco/AP": 0.5}, {"coco/AP": 0.7})
    resumed = write_training(
        tmp_path, "20260102_000000", {"coco/AP": 0.6, "coco/AR": 0.8}, first_step=3
    )
    source = f"the last validation, step 3, in {resumed}"
    assert accuracy_of_work_dir(tmp_path, Choice()) == [
        Accuracy(MEASURED, "coco/AP", 0.6, "", source),
        Accuracy(MEASURED, "coco/AR", 0.8, "", source),
    ]


@pytest.mark.parametrize(
    ("highest", "value", "step", "word"), [(True, 0.7, 2, "highest"), (False, 0.5, 1, "lowest")]
)
def test_the_best_validation_counts_where_it_is_asked_for(tmp_path, highest, value, step, word):
    write_test(tmp_path, "20260103_000000", EPE=9.0)
    path = write_training(
        tmp_path, "20260101_000000", {"EPE": 0.5, "AUC": 1.0}, {"EPE": 0.7, "AUC": 2.0}
    )
    write_training(tmp_path, "20260102_000000", {"EPE": 0.6, "AUC": 3.0}, first_step=3)
    found = accuracy_of_work_dir(tmp_path, Choice("EPE", highest))
    # All metrics are those of one evaluation.
    assert [(a.metric, a.value) for a in found] == [("EPE", value), ("AUC", float(step))]
    assert found[0].source == f"the validation of the {word} EPE, step {step}, in {path}"


def test_the_newest_test_counts_before_validations(tmp_path):
    write_training(tmp_path, "20260104_000000", {"mIoU": 1.0})
    write_test(tmp_path, "20260102_000000", mIoU=2.0)
    newest = write_test(tmp_path, "20260103_000000", mIoU=3, classes=["a"], per_class=[1, 2])
    (tmp_path / "20260103_000000/other.json").write_text("{}")
    assert accuracy_of_work_dir(tmp_path, Choice()) == [
        Accuracy(MEASURED, "mIoU", 3.0, "", f"the newest test, in {newest}")
    ]


def test_work_dirs_without_an_answer(tmp_path):
    with pytest.raises(ComparisonError, match=r"there is no work directory .*absent"):
        accuracy_of_work_dir(tmp_path / "absent", Choice())
    with pytest.raises(ComparisonError, match="nothing was evaluated in"):
        accuracy_of_work_dir(tmp_path, Choice())
    write_training(tmp_path, "20260101_000000", {"mIoU": 1.0, "aAcc": 2.0})
    with pytest.raises(ComparisonError, match="has the metric 'AP'; there are aAcc, mIoU"):
        accuracy_of_work_dir(tmp_path, Choice("AP"))


def results(metric, value):
    return [{"Task": "T", "Dataset": "D", "Metrics": {metric: value}}]


@pytest.fixture
def zoo(tmp_path):
    """A tree of configs with an index; returns a writer of a metafile, and the config."""
    config = tmp_path / "configs/net/net-tiny.py"
    config.parent.mkdir(parents=True)
    config.touch()

    def write(name, *models):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({"Models": list(models)}))
        (tmp_path / "model-index.yml").write_text(yaml.safe_dump({"Import": [name, "absent.yml"]}))
        return config

    return write


def entry(name="net-tiny", results=None, **others):
    return dict(Name=name, Config="configs/net/net-tiny.py", Results=results, **others)


@pytest.mark.parametrize("metafile", ["configs/net/metafile.yml", "configs/all/metafile.yml"])
def test_metafiles_publish(zoo, metafile):
    config = zoo(metafile, entry(results=results("AP", 0.5)))
    assert accuracy_of_metafile(config) == [
        Accuracy(PUBLISHED, "AP", 0.5, "D", f"net-tiny in {metafile}")
    ]


def test_metafiles_of_our_own_figures(zoo):
    metadata = {"Source of results": "measured here"}
    config = zoo("metafile.yml", entry(results=results("AP", 0.5), Metadata=metadata))
    assert [a.kind for a in accuracy_of_metafile(config)] == [MEASURED]


def test_the_entry_that_is_named_like_the_config_counts(zoo):
    models = [
        entry("net-tiny_3rdparty", results("AP", 1)),
        entry("net-tiny", results("AP", 2)),
        dict(Name="net-tiny", Config="configs/net/another.py", Results=results("AP", 3)),
    ]
    assert [a.value for a in accuracy_of_metafile(zoo("m.yml", *models))] == [2]
    assert [a.value for a in accuracy_of_metafile(zoo("m.yml", *models[:1]))] == [1]
    assert accuracy_of_metafile(zoo("m.yml", *models[2:], entry())) == []


def test_without_a_metafile_nothing_is_known(tmp_path):
    (tmp_path / "config.py").touch()
    (tmp_path / "notes.yml").write_text("- config\n")
    assert accuracy_of_metafile(tmp_path / "config.py") == []


INSTALLED = [
    ("mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py", "box AP"),
    ("mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py", "Top 1 Accuracy"),
    (
        "mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py",
        "mIoU",
    ),
    (
        "mmpose::body_2d_keypoint/topdown_heatmap/coco/"
        "td-hm_swin-t-p4-w7_8xb32-210e_coco-256x192.py",
        "AP",
    ),
]


@pytest.mark.parametrize(("given", "metric"), INSTALLED)
def test_metafiles_of_installed_toolboxes(given, metric):
    toolbox = given.partition("::")[0]
    pytest.importorskip(toolbox)
    config = find_config(given)
    found = accuracy_of_metafile(config)
    assert {a.kind for a in found} == {PUBLISHED}
    assert found[0].metric == metric
    assert found[0].value > 0
    # No path of this machine.
    assert re.match(rf"{config.stem} in {toolbox}: configs/\S+\.ya?ml$", found[0].source)


def test_our_metafiles():
    config = find_config("mamba_mm::mmdet/vmamba/mask-rcnn_vmamba-t_fpn_1x_coco.py")
    found = accuracy_of_metafile(config)
    assert [(a.kind, a.metric, a.value) for a in found] == [
        (PUBLISHED, "box AP", 47.3),
        (PUBLISHED, "mask AP", 42.7),
    ]
    assert not Path(found[0].source.partition(" in ")[2]).is_absolute()
