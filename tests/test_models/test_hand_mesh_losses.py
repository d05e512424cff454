import math

import pytest
import torch

from mamba_mm.registry import MODELS

NAN = float("nan")


def keypoint_loss():
    return MODELS.build(dict(type="mamba_mm.Keypoint2DL1Loss", loss_weight=1.0))


def joint_loss(**settings):
    return MODELS.build(
        dict(type="mamba_mm.RootAlignedKeypoint3DL1Loss", **{"loss_weight": 1.0, **settings})
    )


def parameter_loss():
    return MODELS.build(dict(type="mamba_mm.ParameterL2Loss", loss_weight=1.0))


def vertex_loss():
    return MODELS.build(dict(type="mamba_mm.VertexL1Loss", loss_weight=1.0))


def inputs_of_every_loss(batch, weight, unlabelled=0.0):
    """By name, a loss and its arguments, all labels ``unlabelled`` and all weights ``weight``."""
    generator = torch.Generator().manual_seed(0)

    def predicted(*shape):
        return torch.randn(batch, *shape, generator=generator).requires_grad_()

    def labels(*shape):
        return torch.full((batch, *shape), unlabelled)

    def weights(*shape):
        return torch.full((batch, *shape), weight)

    return {
        "keypoints": (keypoint_loss(), [predicted(4, 2), labels(4, 2), weights(4)]),
        "joints": (joint_loss(), [predicted(4, 3), labels(4, 3), weights(4)]),
        "parameters": (parameter_loss(), [predicted(2, 3, 3), labels(2, 3, 3), weights()]),
        "vertices": (
            vertex_loss(),
            [predicted(6, 3), labels(6, 3), weights(), predicted(3), labels(3)],
        ),
    }


LOSSES = sorted(inputs_of_every_loss(1, 1.0))


class TestValues:
    def test_keypoints(self):
        pred = torch.tensor([[[0.1, 0.2], [0.5, 0.5]], [[0.0, 0.0], [0.3, 0.0]]])
        target = torch.tensor([[[0.2, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.1]]])
        weight = torch.tensor([[1.0, 0.5], [1.0, 0.0]])
        # First sample 0.1 + 0.2 + 0.5 (0.5 + 0.5) = 0.8, second 0: mean 0.4.
        assert keypoint_loss()(pred, target, weight).item() == pytest.approx(0.4)

    def test_joints_are_compared_relative_to_the_root(self):
        pred = torch.tensor([[[1.0, 1.0, 1.0], [1.5, 1.0, 1.0]]])
        target = torch.tensor([[[0.0, 5.0, 0.0], [0.0, 5.0, 0.25]]])
        # Relative: (0.5, 0, 0) against (0, 0, 0.25).
        weight = torch.ones(1, 2)
        assert joint_loss()(pred, target, weight).item() == pytest.approx(0.75)

    def test_joints_may_have_another_root(self):
        pred = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
        target = torch.zeros(1, 2, 3)
        weight = torch.tensor([[1.0, 0.25]])
        assert joint_loss(root=0)(pred, target, weight).item() == pytest.approx(0.25)
        assert joint_loss(root=1)(pred, target, weight).item() == pytest.approx(1.0)

    def test_joints_of_a_sample_without_root_do_not_count(self):
        pred = torch.tensor([[[1.0, 0.0, 0.0], [3.0, 0.0, 0.0]]]).repeat(2, 1, 1)
        target = torch.zeros(2, 2, 3)
        target[0, 0] = NAN
        weight = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
        # Only the second sample: |3 - 1| = 2, over a batch of two.
        assert joint_loss()(pred, target, weight).item() == pytest.approx(1.0)

    def test_confidence_of_the_root_does_not_weigh_the_other_joints(self):
        pred = torch.tensor([[[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]]])
        loss = joint_loss()(pred, torch.zeros(1, 2, 3), torch.tensor([[0.1, 1.0]]))
        assert loss.item() == pytest.approx(2.0)

    def test_parameters(self):
        pred = torch.zeros(2, 1, 3, 3)
        target = torch.zeros(2, 1, 3, 3)
        target[0, 0, 0, 0], target[0, 0, 1, 2], target[1] = 2.0, 1.0, 7.0
        # 4 + 1 of the first sample, over a batch of two.
        assert parameter_loss()(pred, target, torch.tensor([1.0, 0.0])).item() == 2.5

    def test_vertices_are_compared_relative_to_the_roots(self):
        pred, target = torch.ones(1, 2, 3), torch.zeros(1, 2, 3)
        pred_root = torch.tensor([[1.0, 1.0, 0.0]])
        target_root = torch.tensor([[0.0, 0.5, 0.0]])
        # Relative: (0, 0, 1) against (0, -0.5, 0), twice.
        loss = vertex_loss()(pred, target, torch.ones(1), pred_root, target_root)
        assert loss.item() == pytest.approx(3.0)

    @pytest.mark.parametrize("name", LOSSES)
    def test_weight_of_the_loss(self, name):
        loss, arguments = inputs_of_every_loss(3, 1.0)[name]
        whole = loss(*arguments).item()
        loss.loss_weight = 0.25
        assert whole > 0
        assert loss(*arguments).item() == pytest.approx(whole / 4)

    def test_default_weights_are_hamer_s(self):
        types = ["Keypoint2DL1Loss", "RootAlignedKeypoint3DL1Loss", "VertexL1Loss"]
        weights = [MODELS.build(dict(type=f"mamba_mm.{name}")).loss_weight for name in types]
        assert weights == [0.01, 0.05, 0.0]


@pytest.mark.parametrize("name", LOSSES)
class TestMasks:
    def test_unlabelled_nan_does_no_harm_and_leaves_a_zero_gradient(self, name):
        loss, arguments = inputs_of_every_loss(3, 0.0, unlabelled=NAN)[name]
        value = loss(*arguments)
        assert value.item() == 0
        value.backward()
        for argument in arguments:
            if argument.requires_grad:
                assert argument.grad.abs().sum() == 0

    def test_masked_samples_count_in_the_denominator(self, name):
        loss, arguments = inputs_of_every_loss(2, 1.0)[name]
        both = loss(*arguments).item()
        alone = [loss(*(a[i : i + 1] for a in arguments)).item() for i in range(2)]
        assert both == pytest.approx(sum(alone) / 2)
        arguments[2][1] = 0
        assert loss(*arguments).item() == pytest.approx(alone[0] / 2)

    def test_masks_may_be_boolean(self, name):
        loss, arguments = inputs_of_every_loss(2, 1.0)[name]
        expected = loss(*arguments)
        arguments[2] = arguments[2].bool()
        assert loss(*arguments) == expected

    def test_empty_batch_gives_zero(self, name):
        loss, arguments = inputs_of_every_loss(0, 1.0)[name]
        value = loss(*arguments)
        value.backward()
        assert value.item() == 0

    def test_half_precision_does_not_overflow(self, name):
        loss, arguments = inputs_of_every_loss(2, 1.0, unlabelled=60000.0)[name]
        arguments = [a.detach().half() for a in arguments]
        for index in (0, 3)[: len(arguments) // 2]:
            arguments[index].requires_grad_()
        with torch.autocast("cpu", dtype=torch.float16):
            value = loss(*arguments)
        assert value.dtype == torch.float32
        assert math.isfinite(value.item())
        (value * 1e-6).backward()
        assert arguments[0].grad.isfinite().all()

    def test_target_of_another_shape_is_refused(self, name):
        loss, arguments = inputs_of_every_loss(2, 1.0)[name]
        arguments[1] = arguments[1][:1]
        with pytest.raises(ValueError, match="target must have the shape"):
            loss(*arguments)

    def test_mask_of_another_shape_is_refused(self, name):
        loss, arguments = inputs_of_every_loss(2, 1.0)[name]
        arguments[2] = arguments[2][..., None]
        with pytest.raises(ValueError, match=r"(weight|valid) must have the shape"):
            loss(*arguments)


@pytest.mark.parametrize("root", [3, 4])
def test_a_root_of_another_shape_is_refused(root):
    loss, arguments = inputs_of_every_loss(2, 1.0)["vertices"]
    arguments[root] = arguments[root].unsqueeze(1)
    with pytest.raises(ValueError, match="root must have the shape"):
        loss(*arguments)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name):
    loss, arguments = inputs_of_every_loss(2, 0.5)[name]
    arguments = [a.detach().double().requires_grad_(a.requires_grad) for a in arguments]
    assert torch.autograd.gradcheck(loss, arguments)


def test_parameters_without_labels_can_be_drawn_to_zero():
    pred = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], requires_grad=True)
    target = torch.tensor([[0.0, 2.0], [float("nan"), 1.0], [5.0, 6.0]])
    valid = torch.tensor([1.0, 0.0, 0.5])
    config = dict(type="mamba_mm.ParameterL2Loss", loss_weight=3.0)
    loss = MODELS.build(config)(pred, target, valid)
    assert loss.item() == pytest.approx(3 * 1 / 3)
    loss = MODELS.build(dict(config, absent_weight=0.1))(pred, target, valid)
    assert loss.item() == pytest.approx(3 * (1 + 0.1 * 25) / 3)
    loss.backward()
    torch.testing.assert_close(pred.grad, torch.tensor([[2.0, 0.0], [0.6, 0.8], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="absent_weight must not be negative"):
        MODELS.build(dict(config, absent_weight=-1.0))
