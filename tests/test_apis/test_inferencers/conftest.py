import pytest
import torch

pytest.importorskip("mmpose")

import cv2
from hand_pictures import CONFIG, FakeCamera, Scene
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpose.registry import MODELS

from mamba_mm.apis.inferencers import HandMeshInferencer


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Random weights, of a head that makes more of what it sees than a new one does."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmpose"):
        model = MODELS.build(Config.fromfile(CONFIG).model)
    for name, parameter in model.head.named_parameters():
        if "read_out" in name and parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save({"state_dict": model.state_dict()}, path)
    return path


@pytest.fixture(scope="session")
def inferencer(checkpoint):
    return HandMeshInferencer(CONFIG, checkpoint, "cpu", panel_height=64)


@pytest.fixture(scope="session")
def scene():
    """A right hand and a left one."""
    return Scene(["right", "left"])


@pytest.fixture(scope="session")
def write_video():
    def write(path, images, fps=10):
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = images[0].shape[:2]
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, (width, height))
        for image in images:
            writer.write(image)
        writer.release()
        return path

    return write


@pytest.fixture
def camera(monkeypatch, scene):
    fake = FakeCamera([scene.image] * 4)
    monkeypatch.setattr(cv2, "VideoCapture", fake)
    return fake
