import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet")
pytest.importorskip("mmcv.ops")
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

TOOL = Path(__file__).parents[2] / "tools" / "analysis_tools" / "draw_detections.py"


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(TOOL))


@pytest.fixture
def sample():
    mask = np.zeros((1, 40, 60), np.uint8)
    mask[0, 10:20, 5:25] = 1
    box = torch.tensor([[5.0, 10.0, 25.0, 20.0]])
    truth = InstanceData(
        bboxes=HorizontalBoxes(box), labels=torch.tensor([0]), masks=BitmapMasks(mask, 40, 60)
    )
    found = InstanceData(
        bboxes=box + 1,
        labels=torch.tensor([0]),
        scores=torch.tensor([0.9]),
        masks=torch.from_numpy(mask).bool(),
    )
    return DetDataSample(gt_instances=truth, pred_instances=found)


def test_image_boxes_and_masks_are_enlarged_together(tool, sample):
    image, large = tool["enlarged"](np.zeros((40, 60, 3), np.uint8), sample, short_side=120)

    assert image.shape == (120, 180, 3)
    for instances, shift in ((large.gt_instances, 0), (large.pred_instances, 3)):
        box = torch.tensor([[15.0, 30.0, 75.0, 60.0]]) + shift
        torch.testing.assert_close(instances.bboxes, box)
        assert instances.masks.shape == (1, 120, 180)
        rows, columns = np.nonzero(instances.masks[0])
        assert (rows.min(), rows.max() + 1) == (30, 60)
        assert (columns.min(), columns.max() + 1) == (15, 75)
    assert large.pred_instances.scores.tolist() == pytest.approx([0.9])


def test_a_large_image_is_left_as_it_is(tool, sample):
    image, large = tool["enlarged"](np.zeros((40, 60, 3), np.uint8), sample, short_side=30)

    assert image.shape == (40, 60, 3)
    torch.testing.assert_close(large.pred_instances.bboxes, sample.pred_instances.bboxes)


def test_a_missing_checkpoint_is_one_line(tool, tmp_path, capsys):
    assert tool["main"]([str(TOOL), str(tmp_path / "none.pth"), str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == f"error: there is no file {tmp_path / 'none.pth'}\n"
