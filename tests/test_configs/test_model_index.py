"""The model index and the metafiles: complete, read by MMEngine, and true.

The form of a metafile, beyond what MMEngine wants, is that of ``configs/README.md``.
"""

from __future__ import annotations

import functools
import importlib
import re
from pathlib import Path

import mmengine.hub.hub as mmengine_hub
import pytest
import torch
import yaml
from mmengine.analysis import FlopAnalyzer
from mmengine.config.utils import MODULE2PACKAGE, _get_cfg_metainfo
from mmengine.registry import MODELS, DefaultScope

ROOT = Path(__file__).resolve().parents[2]
INDEX = yaml.safe_load((ROOT / "model-index.yml").read_text())
METAFILES = {
    path.relative_to(ROOT).as_posix(): yaml.safe_load(path.read_text())
    for path in sorted(ROOT.glob("configs/*/*/metafile.yml"))
}
MODELS_OF = {name: metafile.get("Models", []) for name, metafile in METAFILES.items()}
ENTRIES = [entry for entries in MODELS_OF.values() for entry in entries]
SHIPPED = {
    path.relative_to(ROOT).as_posix()
    for path in ROOT.glob("configs/**/*.py")
    if "_base_" not in path.parts
}

MEASURED = "measured here"
PUBLISHED = {"official repository", "paper"}
FIGURES = ("Parameters", "FLOPs")

each_metafile = pytest.mark.parametrize("name", METAFILES)


def sources_of_figures(entry):
    """Where each figure of an entry is from; one word may stand for all."""
    metadata = entry["Metadata"]
    figures = [figure for figure in FIGURES if figure in metadata]
    source = metadata.get("Source of figures", {})
    return dict(source) if isinstance(source, dict) else dict.fromkeys(figures, source)


# --- what is there ----------------------------------------------------------------------


def test_the_index_names_every_metafile():
    assert {"Import": sorted(METAFILES)} == INDEX


def test_every_shipped_config_has_one_entry():
    named = [entry["Config"] for entry in ENTRIES]
    assert sorted(named) == sorted(SHIPPED)


@each_metafile
def test_the_entries_name_what_exists(name):
    folder = Path(name).parent
    collections = METAFILES[name]["Collections"]
    for entry in MODELS_OF[name]:
        config = Path(entry["Config"])
        assert (config.parent, entry["Name"]) == (folder, config.stem)
        assert entry["In Collection"] in {collection["Name"] for collection in collections}
        assert "Weights" not in entry, "we have trained nothing that could be downloaded"
    for collection in collections:
        assert collection["README"] == f"{folder.as_posix()}/README.md"
        assert (ROOT / collection["README"]).is_file()
        assert {"Title", "URL"} <= set(collection.get("Paper", {"Title", "URL"}))


def test_no_two_models_and_no_two_collections_share_a_name():
    models = [entry["Name"] for entry in ENTRIES]
    collections = [c["Name"] for metafile in METAFILES.values() for c in metafile["Collections"]]
    assert len(models) == len(set(models))
    assert len(collections) == len(set(collections))


# --- where figures are from -------------------------------------------------------------


@each_metafile
def test_every_result_says_where_it_is_from(name):
    for entry in MODELS_OF[name]:
        source = entry["Metadata"].get("Source of results")
        assert ("Results" in entry) == (source is not None), entry["Name"]
        assert source in {None, MEASURED, *PUBLISHED}, entry["Name"]
        for result in entry.get("Results", []):
            assert {"Task", "Dataset", "Metrics"} <= set(result), entry["Name"]


@each_metafile
def test_every_figure_says_whether_it_is_published_or_measured_here(name):
    for entry in MODELS_OF[name]:
        sources = sources_of_figures(entry)
        assert set(sources) == set(FIGURES) & set(entry["Metadata"]), entry["Name"]
        assert sources["Parameters"] == MEASURED, entry["Name"]
        assert set(sources.values()) <= {MEASURED, *PUBLISHED}, entry["Name"]


# --- what MMEngine makes of them --------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package's folder, laid out as in the wheel."""
    package = tmp_path_factory.mktemp("site-packages") / "mamba_mm"
    (package / ".mim").mkdir(parents=True)
    for name in ("configs", "tools", "model-index.yml"):
        (package / ".mim" / name).symlink_to(ROOT / name)
    return package


@pytest.fixture(scope="module")
def get_config(installed):
    """MMEngine's function for ``package::config``, for which the package counts as installed.

    MMEngine has a list of the packages that it knows, in which ours is not.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODULE2PACKAGE, "mamba_mm", "mamba_mm")
        patch.setattr(mmengine_hub, "install_package", lambda package: None)
        patch.setattr(mmengine_hub, "get_installed_path", lambda package: str(installed))
        patch.setenv("MAMBA_MM_MANO", "toy")
        yield lambda entry: mmengine_hub.get_config(f"mamba_mm::{name_in_package(entry)}")


def name_in_package(entry):
    """What MMEngine calls a config by: its path below ``configs``."""
    return entry["Config"].removeprefix("configs/")


def test_mmengine_finds_every_model(installed):
    for entry in ENTRIES:
        found = _get_cfg_metainfo(str(installed), name_in_package(entry))
        assert found["Name"] == entry["Name"]


# --- whether the figures are true -------------------------------------------------------


@pytest.fixture(scope="module")
def load_config(get_config):
    return functools.cache(lambda name: get_config(ENTRY_OF[name]))


@pytest.fixture(scope="module")
def uninitialised():
    """Weights stay as they were allocated: only their shapes count here."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_"):
            patch.setattr(torch.nn.init, name, lambda tensor, *args, **kwargs: tensor)
        yield


@pytest.fixture(scope="module")
def count_parameters(uninitialised):
    """Count the parameters of a config's model, once for all configs with the same model."""
    counts = {}

    def count(name, config):
        # Some toolboxes read numbers back from tensors when they build; ours does it nowhere.
        device = "cpu" if "nano" in name else "meta"
        wanted = {key: part for key, part in config.model.items() if key in PARTS_WITH_PARAMETERS}
        key = repr(without_irrelevant(wanted))
        if key not in counts:
            counts[key] = sum(p.numel() for p in build(config, device).parameters())
        return counts[key]

    return count


ENTRY_OF = {entry["Name"]: entry for entry in ENTRIES}
PARTS_WITH_PARAMETERS = ("type", "backbone", "neck", "rpn_head", "roi_head", "bbox_head", "head")
PARTS_WITH_PARAMETERS += ("mask_head", "decode_head", "auxiliary_head")
IRRELEVANT = ("init_cfg", "drop_path_rate", "loss", "loss_decode", "loss_cls", "decoder")


def without_irrelevant(config):
    """A model's config without what has no parameters and differs from recipe to recipe."""
    if isinstance(config, dict):
        kept = {key: value for key, value in config.items() if key not in IRRELEVANT}
        return {key: without_irrelevant(value) for key, value in sorted(kept.items())}
    return config


def build(config, device):
    """The model of a config, with random weights or, on the device ``"meta"``, with none."""
    toolbox = config.default_scope
    importlib.import_module(f"{toolbox}.models")
    with DefaultScope.overwrite_default_scope(toolbox), torch.device(device):
        return MODELS.build(config.model)


@pytest.mark.parametrize("name", METAFILES)
def test_parameters_measured_here_are_those_of_the_model(name, load_config, count_parameters):
    toolbox = Path(name).parts[1]
    pytest.importorskip(toolbox, reason=f"the configs need {toolbox}")
    counted, stated = {}, {}
    for entry in MODELS_OF[name]:
        stated[entry["Name"]] = entry["Metadata"]["Parameters"]
        counted[entry["Name"]] = count_parameters(entry["Name"], load_config(entry["Name"]))
    assert counted == stated


def flops_to_count():
    """Names of the models with the fewest and the most FLOPs of each metafile.

    Only those of one image of a size that is known: as classified, or as the config's name ends.
    """
    for name, entries in MODELS_OF.items():
        known = [
            entry
            for entry in entries
            if sources_of_figures(entry).get("FLOPs") == MEASURED
            or ("FLOPs" in entry["Metadata"] and "/mmpretrain/" in name)
        ]
        known.sort(key=lambda entry: entry["Metadata"]["FLOPs"])
        yield from dict.fromkeys(entry["Name"] for entry in (*known[:1], *known[-1:]))


def image_size(name):
    """Height and width of an image, by the name of a config."""
    if name.endswith("_in1k"):
        return 224, 224
    size = re.search(r"-(\d+)x(\d+)$", name)
    assert size, f"FLOPs of {name} are measured here, but its name has no size of image"
    return int(size[1]), int(size[2])


@pytest.mark.slow
@pytest.mark.parametrize("name", flops_to_count())
def test_flops_are_what_mmengine_counts(name, load_config, uninitialised):
    """A multiply-accumulate counts as one, and the scan by our counter."""
    config = load_config(name)
    pytest.importorskip(config.default_scope, reason=f"the config needs {config.default_scope}")
    model = build(config, "cpu").eval()
    model.forward = getattr(model, "_forward", model.forward)  # of MMPose, without labels
    analysis = FlopAnalyzer(model, (torch.zeros(1, 3, *image_size(name)),))
    counted = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()
    entry = ENTRY_OF[name]
    exact = sources_of_figures(entry)["FLOPs"] == MEASURED
    assert counted == pytest.approx(entry["Metadata"]["FLOPs"], rel=0 if exact else 1e-4)
