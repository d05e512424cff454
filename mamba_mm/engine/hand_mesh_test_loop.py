"""MMEngine's test loop, with test-time augmentation as an option."""

from __future__ import annotations

import copy

from mmengine.evaluator import Evaluator
from mmengine.runner import Runner, TestLoop
from torch.utils.data import DataLoader

from mamba_mm.datasets.transforms.rot_scale_test_time_aug import rot_scale_pipeline
from mamba_mm.models.pose_estimators.hand_mesh_tta import HandMeshTTAModel

_LABEL = "rot_scale_tta"


class HandMeshTestLoop(TestLoop):
    """Tests a network of hand meshes, on one crop of each hand or on many.

    With test-time augmentation every metric's name begins with ``rot_scale_tta/``, so that its
    results are not taken for those without: ``rot_scale_tta/mesh/PA-MPJPE``. It costs as many
    times the time as there are crops, 95 by default, and the crops of a batch are in memory
    together.

    Args:
        runner: As in MMEngine.
        dataloader: As in MMEngine.
        evaluator: As in MMEngine.
        fp16: As in MMEngine.
        rot_scale_tta: ``True``: the 95 crops of Hamba's best row for FreiHAND. A dict: ``scales``
            and ``rotations`` of :class:`~mamba_mm.datasets.transforms.RotScaleTestTimeAug`.

    Raises:
        TypeError: The dataloader is built already, so that its pipeline cannot be changed.
        ValueError: Its data set has no pipeline that crops, or a setting is not usable.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        evaluator: Evaluator | dict | list,
        fp16: bool = False,
        rot_scale_tta: bool | dict = False,
    ) -> None:
        self.rot_scale_tta = rot_scale_tta is not False
        if self.rot_scale_tta:
            dataloader = _augmented(dataloader, {} if rot_scale_tta is True else rot_scale_tta)
        super().__init__(runner, dataloader, evaluator, fp16)
        if self.rot_scale_tta:
            for metric in self.evaluator.metrics:
                metric.prefix = f"{_LABEL}/{metric.prefix}" if metric.prefix else _LABEL

    def run(self) -> dict:
        """Test.

        Returns:
            The metrics.
        """
        if not self.rot_scale_tta:
            return super().run()
        model = self.runner.model
        self.runner.model = HandMeshTTAModel(model)
        try:
            return super().run()
        finally:
            self.runner.model = model


def _augmented(dataloader: DataLoader | dict, settings: dict) -> dict:
    if not isinstance(dataloader, dict):
        raise TypeError(
            "HandMeshTestLoop: rot_scale_tta changes the pipeline of the test set, so the "
            f"dataloader has to be a config, got a {type(dataloader).__name__}"
        )
    dataloader = copy.deepcopy(dataloader)
    dataset = dataloader["dataset"]
    dataset["pipeline"] = rot_scale_pipeline(dataset.get("pipeline", ()), **settings)
    return dataloader
