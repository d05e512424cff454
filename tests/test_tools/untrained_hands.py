"""A network of random weights, and drawn hands to show it."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpose.registry import MODELS

from mamba_mm.datasets.toy_hands import ToyHandsConfig, write_toy_hands


def write_untrained(folder: Path, config: Path, monkeypatch, **drawn) -> Path:
    """Draw hands into ``folder/hands``, where configs then look; return a config's checkpoint.

    One hand to train on and two held out; ``drawn`` says what else of :class:`ToyHandsConfig`.
    """
    hands = ToyHandsConfig(train_images=1, val_images=2, image_size=96, **drawn)
    write_toy_hands(folder / "hands", hands, report=lambda line: None)
    monkeypatch.setenv("MAMBA_MM_HANDS_DATA", str(folder / "hands"))
    monkeypatch.delenv("MAMBA_MM_MANO", raising=False)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmpose"):
        model = MODELS.build(Config.fromfile(config).model)
    path = folder / "random.pth"
    torch.save({"state_dict": model.state_dict()}, path)
    return path
