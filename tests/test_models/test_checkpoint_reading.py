"""Files: what can be read, what is refused, and what the refusal says."""

import collections
import sys
import threading
import types
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mamba_mm.models.utils.checkpoint import (
    CheckpointFormatError,
    CheckpointReadError,
    UnsafeCheckpointError,
    read_checkpoint,
)
from mamba_mm.models.utils.checkpoint.containers import (
    BARE,
    open_container,
    select_backbone,
)

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


class Surprise:
    """Any Python object beside the weights."""


@pytest.fixture
def saved(tmp_path):
    def save(content, **kwargs):
        path = tmp_path / "file.pth"
        torch.save(content, path, **kwargs)
        return path

    return save


@pytest.mark.parametrize("path", ["", None])
def test_an_empty_path_is_refused(path):
    with pytest.raises(CheckpointReadError, match="path is empty"):
        read_checkpoint(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(CheckpointReadError, match=r"absent\.pth") as missing:
        read_checkpoint(tmp_path / "absent.pth")
    assert isinstance(missing.value.__cause__, FileNotFoundError)
    with pytest.raises(CheckpointReadError) as folder:
        read_checkpoint(tmp_path)
    assert isinstance(folder.value.__cause__, IsADirectoryError)


def test_an_unknown_protocol_is_refused():
    with pytest.raises(CheckpointReadError, match=r"http\(s\)"):
        read_checkpoint("s3://bucket/file.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_refused(saved, zipped, share):
    path = saved({"model": WEIGHTS}, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointReadError, match=r"file\.pth cannot be read") as error:
        read_checkpoint(path)
    assert error.value.__cause__ is not None


def test_another_format_is_refused(tmp_path):
    path = tmp_path / "page.pth"
    path.write_text("<html>404</html>")
    with pytest.raises(CheckpointReadError, match="another format"):
        read_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_python_objects_are_refused_with_the_way_out(saved, zipped):
    content = {"model": WEIGHTS, "extra": Surprise()}
    path = saved(content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafeCheckpointError, match="Surprise") as error:
        read_checkpoint(path)
    assert "torch.save({'model': weights['model']}" in str(error.value)
    assert "--unsafe-load" in str(error.value)
    assert error.value.__cause__ is not None
    assert isinstance(read_checkpoint(path, trusted=True).content["extra"], Surprise)


def test_the_yacs_node_of_official_dumps_is_read_as_a_plain_dict(saved, monkeypatch):
    class CfgNode(dict):
        """Pickles as yacs's own: a dict with attributes."""

    CfgNode.__module__, CfgNode.__qualname__ = "yacs.config", "CfgNode"
    yacs = types.ModuleType("yacs.config")
    yacs.CfgNode = CfgNode
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
        patch.setitem(sys.modules, "yacs.config", yacs)
        node = CfgNode(MODEL=CfgNode(TYPE="vssm", DIMS=[96]))
        node.__dict__["__immutable__"] = True
        path = saved({"model": WEIGHTS, "config": node, "max_accuray_ema": 82.6})
    content = read_checkpoint(path).content
    assert content["config"]["MODEL"]["DIMS"] == [96]
    assert not isinstance(content["config"], CfgNode)


def test_the_configuration_that_lightning_keeps_is_forgotten(saved, monkeypatch):
    class DictConfig:
        """Pickles as OmegaConf's own: attributes, and the types of its values."""

    DictConfig.__module__, DictConfig.__qualname__ = "omegaconf.dictconfig", "DictConfig"
    omegaconf = types.ModuleType("omegaconf.dictconfig")
    omegaconf.DictConfig = DictConfig
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
        patch.setitem(sys.modules, "omegaconf.dictconfig", omegaconf)
        node = DictConfig()
        cache = collections.defaultdict(dict, a={1: 2})
        node.__dict__.update(types=[Any, dict, list, int], cache=cache, content={"BATCH": 8})
        path = saved({"state_dict": WEIGHTS, "hyper_parameters": {"cfg": node}})
    content = read_checkpoint(path).content
    assert torch.equal(content["state_dict"]["a.weight"], WEIGHTS["a.weight"])
    assert not isinstance(content["hyper_parameters"]["cfg"], DictConfig)


def test_the_log_history_of_mmengine_does_not_stand_in_the_way(saved):
    hub = {"log_scalars": {"loss": HistoryBuffer([1.0, 2.0], [1, 1])}}
    hub["sigmas"] = np.array([])  # MMPose's, of hands; its bytes are a global of their own
    content = read_checkpoint(saved({"state_dict": WEIGHTS, "message_hub": hub})).content
    assert torch.equal(content["state_dict"]["a.weight"], WEIGHTS["a.weight"])
    assert not isinstance(content["message_hub"]["log_scalars"]["loss"], HistoryBuffer)


def test_a_url_is_downloaded_once(saved, tmp_path, monkeypatch):
    saved({"model": WEIGHTS})
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/"
    try:
        first = read_checkpoint(url + "file.pth")
        with pytest.raises(CheckpointReadError, match="Downloading"):
            read_checkpoint(url + "absent.pth")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    again = read_checkpoint(url + "file.pth")  # the server is gone: from the cache
    assert first.sha256 == again.sha256
    assert first.path.parent == tmp_path / "hub/hub/checkpoints"


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_known_containers(key):
    container = open_container({key: WEIGHTS, "epoch": 3, "model_ema": {}})
    assert container.key == key
    assert set(container.tensors) == set(WEIGHTS)


def test_a_bare_state_dict_and_the_distributed_prefix():
    container = open_container({f"module.{key}": value for key, value in WEIGHTS.items()})
    assert container.key == BARE
    assert set(container.tensors) == set(WEIGHTS)


def test_ema_weights_only_on_request():
    ema = {key: value + 1 for key, value in WEIGHTS.items()}
    dump = {"model": WEIGHTS, "model_ema": ema}
    assert torch.equal(open_container(dump).tensors["a.bias"], WEIGHTS["a.bias"])
    assert torch.equal(open_container(dump, key="model_ema").tensors["a.bias"], ema["a.bias"])
    with pytest.raises(CheckpointFormatError, match=r"(?s)asked for.*model_ema"):
        open_container({"model_ema": ema, "epoch": 3})


@pytest.mark.parametrize(
    ("content", "key", "message"),
    [
        ([WEIGHTS], None, "holds a list"),
        ({}, None, "no state dict"),
        ({"net": WEIGHTS, "epoch": 3}, None, r"(?s)no state dict.*\(2\).*net.*epoch"),
        ({"model": WEIGHTS}, "model_ema", r"(?s)under 'model_ema'.*model"),
        ({"model": WEIGHTS, "state_dict": WEIGHTS}, None, "several state dicts"),
        ({"model": {}}, None, "empty state dict"),
        ({"model": {"a": torch.ones(1), "steps": 3}}, None, r"(?s)no tensors.*steps"),
        ({"model": {"a": torch.ones(1), "module.a": torch.ones(1)}}, None, "with and without"),
    ],
)
def test_other_contents_are_refused(content, key, message):
    with pytest.raises(CheckpointFormatError, match=message):
        open_container(content, key)


def test_the_backbone_is_selected_and_the_rest_counted():
    state = {"backbone.a": torch.ones(1), "neck.b": torch.ones(1), "neck.c": torch.ones(1)}
    selection = select_backbone(state)
    assert selection.prefix == "backbone."
    assert set(selection.tensors) == {"a"}
    assert selection.ignored == (("neck", 2),)
    assert set(select_backbone(state, "neck").tensors) == {"b", "c"}
    with pytest.raises(CheckpointFormatError, match=r"(?s)'teacher\.'.*neck"):
        select_backbone(state, "teacher")
