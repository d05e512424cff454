import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

pytest.importorskip("mmseg")


def build(name, **options):
    with DefaultScope.overwrite_default_scope("mmseg"):
        return MODELS.build(dict(type=f"mamba_mm.{name}", **options))


def logits_of(labels, classes):
    """Logits that are sure of the labels."""
    return 40.0 * torch.nn.functional.one_hot(labels, classes).movedim(-1, 1) - 20.0


def test_binary_dice_of_an_image_by_hand():
    target = torch.tensor([[[1, 1, 0, 0]], [[1, 0, 0, 0]]])
    found = torch.tensor([[[1, 0, 0, 0]], [[0, 1, 1, 1]]])
    pred = (40.0 * found - 20.0).unsqueeze(1)
    loss = build("BinaryDiceLoss")(pred, target)
    by_hand = 1 - torch.tensor([(2 * 1 + 1) / (1 + 2 + 1), 1 / (3 + 1 + 1)]).mean()
    torch.testing.assert_close(loss, by_hand)


def test_binary_dice_is_of_the_foreground():
    """The toolbox's own loss takes the background for one channel; ours must not."""
    target = torch.zeros(1, 4, 4, dtype=torch.long)
    target[0, :2] = 1
    right = (40.0 * target - 20.0).unsqueeze(1)
    loss = build("BinaryDiceLoss", eps=1e-6)
    assert loss(right, target) < 1e-5
    assert loss(-right, target) > 1 - 1e-5


def test_class_dice_by_hand():
    target = torch.tensor([[[0, 0, 1, 2]], [[0, 1, 1, 1]]])
    found = torch.tensor([[[0, 1, 1, 2]], [[0, 1, 1, 0]]])
    loss = build("ClassDiceLoss")(logits_of(found, 3), target)
    # Over both images: background 2 of 3 and 3, class 1 3 of 4 and 4, class 2 1 of 1 and 1.
    by_hand = 1 - torch.tensor([2 * 2 / (3 + 3), 2 * 3 / (4 + 4), 1.0]).mean()
    torch.testing.assert_close(loss, by_hand, rtol=1e-4, atol=1e-4)


def test_a_small_class_counts_as_much_as_a_large_one():
    target = torch.zeros(1, 16, 16, dtype=torch.long)
    target[0, 0, 0] = 1
    missed = logits_of(torch.zeros_like(target), 2)
    assert build("ClassDiceLoss")(missed, target) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("name", "classes"), [("BinaryDiceLoss", 1), ("ClassDiceLoss", 3)])
def test_ignored_pixels_do_not_count(name, classes):
    torch.manual_seed(0)
    pred = torch.randn(2, classes, 4, 6, requires_grad=True)
    target = torch.randint(0, max(classes, 2), (2, 4, 6))
    loss = build(name)
    half = loss(pred[..., :3], target[..., :3])
    target[..., 3:] = 255
    torch.testing.assert_close(loss(pred, target), half)
    loss(pred, target).backward()
    assert (pred.grad[..., 3:] == 0).all()
    assert (pred.grad[..., :3] != 0).all()
    loss(pred, target.clamp(max=classes - 1), ignore_index=None)


def test_an_absent_class_gives_no_nan():
    pred = torch.zeros(1, 3, 4, 4, requires_grad=True)
    build("ClassDiceLoss")(pred, torch.zeros(1, 4, 4, dtype=torch.long)).backward()
    assert pred.grad.isfinite().all()


def test_weight_and_name():
    loss = build("ClassDiceLoss", loss_weight=0.5, loss_name="loss_organs")
    pred, target = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 4, 4))
    assert loss.loss_name == "loss_organs"
    torch.testing.assert_close(2 * loss(pred, target), build("ClassDiceLoss")(pred, target))


def test_other_numbers_of_channels_are_refused():
    target = torch.zeros(1, 4, 4, dtype=torch.long)
    with pytest.raises(ValueError, match=r"\(N, 1, H, W\).*use mamba_mm\.ClassDiceLoss"):
        build("BinaryDiceLoss")(torch.zeros(1, 2, 4, 4), target)
    with pytest.raises(ValueError, match=r"use mamba_mm\.BinaryDiceLoss"):
        build("ClassDiceLoss")(torch.zeros(1, 1, 4, 4), target)
