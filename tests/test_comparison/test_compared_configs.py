"""Which configs are compared, and what is refused."""

import pytest

pytest.importorskip("mmengine")

from small_configs import VIT, VMAMBA, write_config

from mamba_mm.comparison import configs as module
from mamba_mm.comparison.configs import find_config, read_configs
from mamba_mm.comparison.errors import ComparisonError
from mamba_mm.comparison.sets import Entry


def entries(*paths):
    return [Entry(str(path)) for path in paths]


def test_names_and_origin(tmp_path):
    ours = write_config(tmp_path / "ours.py", VMAMBA)
    other = write_config(tmp_path / "other.py", VIT)
    read = read_configs([*entries(ours), Entry(str(other), "ViT")])
    assert [config.name for config in read] == ["ours", "ViT"]
    assert [config.is_ours for config in read] == [True, False]
    assert [config.toolbox for config in read] == ["mmpretrain"] * 2
    assert not any(config.is_installed for config in read)


def test_files_of_one_name_are_called_as_they_were_given(tmp_path):
    paths = [write_config(tmp_path / folder / "same.py", VIT) for folder in ("a", "b")]
    assert [config.name for config in read_configs(entries(*paths))] == [*map(str, paths)]


@pytest.mark.parametrize(
    "given",
    [
        "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
        "mmpretrain::resnet/resnet50_8xb32_in1k.py",
        "mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py",
        "mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py",
    ],
)
def test_configs_of_installed_toolboxes(given):
    toolbox = given.partition("::")[0]
    pytest.importorskip(toolbox)
    (config,) = read_configs([Entry(given)])
    assert config.toolbox == toolbox
    assert config.is_installed
    assert not config.is_ours


def test_our_configs_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = find_config("mamba_mm::mmpretrain/vmamba/vmamba-tiny-s1l8_8xb128_in1k.py")
    assert path.is_file()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("absent.py", r"there is no config absent\.py \(looked from "),
        ("mmseg::absent.py", r"no config mmseg::absent\.py \(looked in .*mmseg.*configs\)"),
        ("timm::a.py", r"unknown package 'timm' before `::`; known are mmdet, .*mamba_mm"),
    ],
)
def test_what_is_not_there_is_explained(given, message):
    with pytest.raises(ComparisonError, match=message):
        find_config(given)


def test_a_toolbox_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ComparisonError, match="MMDetection is not installed: pip install onedl"):
        find_config("mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py")


def test_nothing_to_compare():
    with pytest.raises(ComparisonError, match=r"nothing to compare: name configs, or .* --set"):
        read_configs([])


def test_toolboxes_are_not_mixed(tmp_path):
    one = write_config(tmp_path / "one.py", VIT)
    two = write_config(tmp_path / "two.py", VIT, scope="mmdet")
    with pytest.raises(ComparisonError, match=r"\(one: mmpretrain, two: mmdet\)"):
        read_configs(entries(one, two))


def test_the_same_config_twice(tmp_path):
    path = write_config(tmp_path / "one.py", VIT)
    with pytest.raises(ComparisonError, match=r"named more than once: .*one\.py"):
        read_configs(entries(path, path))


@pytest.mark.parametrize(
    ("model", "scope", "message"),
    [
        (VIT, None, "has default_scope = None; expected one of mmdet, "),
        (VIT, "mmrazor", "has default_scope = 'mmrazor'; expected one of mmdet, "),
        (None, "mmdet", "describes no model; name the config of a whole model"),
    ],
)
def test_incomplete_configs(tmp_path, model, scope, message):
    path = write_config(tmp_path / "one.py", model, scope)
    with pytest.raises(ComparisonError, match=message):
        read_configs(entries(path))
