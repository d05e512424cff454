"""The head of objects: points of each class, symmetric poses, and the graph."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mamba_mm.models.body_models.camera import project_crop
from mamba_mm.models.heads import ClassPointsOutputModel, all_pairs, nearest_neighbours
from mamba_mm.models.losses import CentredKeypoint3DL1Loss
from mamba_mm.registry import MODELS

DIAMETERS = [0.1, 0.2]


# --- The graph -------------------------------------------------------------------------------


def test_all_pairs_are_joined():
    assert all_pairs(3) == ((0, 1), (0, 2), (1, 2))
    assert len(all_pairs(8)) == 28


def test_neighbours_are_the_nearest_on_the_object():
    line = np.array([[0.0, 0, 0], [1, 0, 0], [3, 0, 0], [7, 0, 0]])
    assert nearest_neighbours(line, 1) == ((0, 1), (1, 2), (2, 3))
    assert nearest_neighbours(line, 3) == all_pairs(4)
    # One graph for two classes has the edges of both.
    assert nearest_neighbours(np.stack([line, line[[0, 2, 1, 3]]]), 1) == (
        *((0, 1), (0, 2), (1, 2), (1, 3)),
        (2, 3),
    )
    with pytest.raises(ValueError, match="1 to 3 neighbours, not 4"):
        nearest_neighbours(line, 4)
    with pytest.raises(ValueError, match="points must be"):
        nearest_neighbours(line[0])


# --- The output model ------------------------------------------------------------------------


def offsets(seed=0, batch=3):
    generator = torch.Generator().manual_seed(seed)
    return dict(
        points=torch.randn(batch, 2 * 8 * 3, generator=generator),
        cam=0.1 * torch.randn(batch, 2 * 3, generator=generator),
    )


def test_points_are_those_of_the_class_in_metres():
    mean = np.random.default_rng(0).normal(0, 0.03, (2, 8, 3))
    model = ClassPointsOutputModel(DIAMETERS, mean_points=mean.tolist(), cam_init=(0.8, 0.1, 0.2))
    assert model.sizes == dict(points=48, cam=6)
    assert not model.state_dict()
    drawn = offsets()
    with model.of_classes(torch.tensor([0, 1, 1])):
        found = model(drawn)
    for index, label in enumerate((0, 1, 1)):
        radius = DIAMETERS[label] / 2
        points = drawn["points"][index].reshape(2, 8, 3)[label].numpy() * radius + mean[label]
        np.testing.assert_allclose(found.joints_3d[index], points - points.mean(0), atol=1e-6)
        scale, x, y = drawn["cam"][index].reshape(2, 3)[label] + torch.tensor([0.8, 0.1, 0.2])
        expected = [scale / radius, x * radius, y * radius]
        np.testing.assert_allclose(found.cam[index], expected, rtol=1e-5)
    assert torch.equal(found.joints_2d, project_crop(found.joints_3d, found.cam, 1.0))


def test_the_diameter_covers_its_share_of_the_crop():
    """A bar across the object, in the plane of its middle, at the initial camera."""
    bar = [[-1.0, 0, 0], [1, 0, 0]]
    mean = [(d / 2 * np.array(bar)).tolist() for d in DIAMETERS]
    model = ClassPointsOutputModel(DIAMETERS, 2, mean, cam_init=(0.9, 0, 0))
    with model.of_classes(torch.tensor([0, 1])):
        found = model(dict(points=torch.zeros(2, 12), cam=torch.zeros(2, 6)))
    np.testing.assert_allclose(found.joints_2d[:, 1, 0] - found.joints_2d[:, 0, 0], 0.9, rtol=1e-6)


def test_every_output_gets_a_gradient_and_others_classes_zero():
    model = ClassPointsOutputModel(DIAMETERS)
    drawn = {name: values.requires_grad_() for name, values in offsets().items()}
    with model.of_classes(torch.tensor([1, 1, 1])):
        found = model(drawn)
    (found.joints_2d.square().sum() + found.joints_3d.square().sum()).backward()
    points = drawn["points"].grad.reshape(3, 2, 24)
    assert (points[:, 0] == 0).all()
    assert (points[:, 1] != 0).all()


def test_the_classes_hold_in_the_context_only():
    model, drawn = ClassPointsOutputModel(DIAMETERS), offsets(batch=1)
    with model.of_classes(torch.tensor([0])):
        first = model(drawn).joints_3d
    with model.of_classes(torch.tensor([1])):
        assert not torch.equal(model(drawn).joints_3d, first)
    assert torch.equal(model(drawn).joints_3d, first)  # class 0, as where operations are counted
    with (
        pytest.raises(ValueError, match=r"2 classes, got the labels \[2\]"),
        model.of_classes(torch.tensor([2])),
    ):
        pass


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(diameters=[]), "one a class"),
        (dict(diameters=[0.1, -0.1]), "must be positive"),
        (dict(diameters=[0.1], mean_points=[[[0, 0, 0]]]), "must be 1 x 8 x 3 numbers"),
        (dict(diameters=[0.1], cam_init=(0, 0, 0)), "s > 0"),
    ],
)
def test_unusable_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(type="mamba_mm.ClassPointsOutputModel", **settings))


# --- The loss --------------------------------------------------------------------------------


def test_the_loss_is_that_of_points_relative_to_their_mean():
    loss = CentredKeypoint3DL1Loss(loss_weight=2.0)
    target = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(2, 4)
    assert loss(target + 5, target, ones) < 1e-5
    pred = target.clone()
    pred[0, 0, 0] += 0.4  # the mean moves by 0.1: 0.3 and three times 0.1
    assert loss(pred, target, ones).item() == pytest.approx(2.0 * 0.6 / 2, rel=1e-5)


def test_what_is_not_labelled_does_not_count():
    loss = CentredKeypoint3DL1Loss(loss_weight=1.0)
    target, weight = torch.zeros(2, 4, 3), torch.ones(2, 4)
    target[0, 3] = torch.nan
    weight[0, 3] = 0
    pred = torch.zeros(2, 4, 3, requires_grad=True)
    moved = pred + torch.tensor([[[0.3, 0, 0]], [[0.0, 0, 0]]])
    moved = torch.cat([moved[:, :1] + 0.3, moved[:, 1:]], dim=1)
    value = loss(moved, target, weight)
    # 0.2 and twice 0.1 for each coordinate of the first, 0.225 and three times 0.075.
    assert value.item() == pytest.approx(3 * (0.4 + 0.45) / 2, rel=1e-5)
    value.backward()
    assert pred.grad.isfinite().all()
    assert (pred.grad[0, 3] == 0).all()
    empty = loss(pred, target, torch.zeros(2, 4))
    assert empty.item() == 0
    empty.backward()
    with pytest.raises(ValueError, match="weight must have the shape"):
        loss(pred, target, weight[:, :3])


# --- The head --------------------------------------------------------------------------------


def head(**settings):
    pytest.importorskip("mmpose")
    return MODELS.build(
        dict(
            type="mamba_mm.HambaObjectHead",
            in_channels=8,
            embed_dims=16,
            input_size=(96, 128),
            jr=dict(depth=1),
            gss=dict(num_blocks=1),
            output_model=dict(diameters=DIAMETERS),
            decoder=dict(type="mamba_mm.ObjectKeypointLabel", input_size=(96, 128)),
            readout_init_gain=1.0,
            **settings,
        )
    )


def labelled(label, points, cam):
    """A sample whose label has the points (S, 8, 3) in S symmetric poses."""
    from mmpose.structures import PoseDataSample

    points = torch.as_tensor(points, dtype=torch.float32)
    sample = PoseDataSample()
    sample.gt_instance_labels = InstanceData(
        keypoint_labels=project_crop(points, cam.expand(len(points), 3), 1.0)[None],
        keypoint_weights=torch.ones(1, 8),
        keypoints_3d=points[None],
        keypoints_3d_weights=torch.ones(1, 8),
        object_label=torch.tensor([label]),
    )
    return sample


@pytest.fixture
def feats():
    return (torch.randn(2, 8, 8, 6, generator=torch.Generator().manual_seed(0)),)


def test_the_loss_is_zero_for_the_prediction_in_any_symmetric_pose(feats):
    torch.manual_seed(0)
    model = head().eval()
    with model.output_model.of_classes(torch.tensor([1, 0])):
        outputs = model(feats)
    other = torch.randn(2, 8, 3) * 0.05
    for name in ("final", "jr"):
        prediction = outputs[name]
        samples = [
            labelled(
                (1, 0)[i],
                # Anywhere in space, and last of one pose or three.
                torch.stack([other[i]] * (2 * i) + [prediction.joints_3d[i]]),
                prediction.cam[i : i + 1],
            )
            for i in range(2)
        ]
        losses = model.loss(feats, samples)
        prefix = "loss_" if name == "final" else "loss_jr_"
        rest = "loss_jr_" if name == "final" else "loss_"
        assert losses[f"{prefix}kpt3d"].item() == pytest.approx(0, abs=1e-7)
        assert losses[f"{prefix}kpt2d"].item() == pytest.approx(0, abs=1e-7)
        assert losses[f"{rest}kpt3d"].item() > 1e-4


def test_both_outputs_share_one_pose(feats):
    from mamba_mm.models.heads.hamba_object_head import nearest_variant

    variants = torch.zeros(1, 2, 4, 3)
    variants[0, 0, 0, 0], variants[0, 1, 0, 0] = 1.0, -1.0
    near_first, nearer_second = variants[:, 0] * 0.1, variants[:, 1] * 0.5
    assert nearest_variant([near_first], variants).tolist() == [0]
    assert nearest_variant([near_first, nearer_second], variants).tolist() == [1]
    # Where they are does not matter, only how they are turned.
    assert nearest_variant([nearer_second + 7], variants).tolist() == [1]


def test_what_is_predicted_is_of_the_samples_class(feats):
    torch.manual_seed(0)
    model = head().eval()
    with torch.no_grad(), model.output_model.of_classes(torch.tensor([0, 1])):
        expected = model(feats)["final"]
    samples = [labelled(label, torch.zeros(1, 8, 3), torch.ones(1, 3)) for label in (0, 1)]
    with torch.no_grad():
        found = model.predict(feats, samples)
    for index, instance in enumerate(found):
        np.testing.assert_allclose(instance.keypoints_3d[0], expected.joints_3d[index])
        np.testing.assert_allclose(instance.cam[0], expected.cam[index])
        pixels = expected.joints_2d[index] * 128 + torch.tensor([48.0, 64])
        np.testing.assert_allclose(instance.keypoints[0], pixels, rtol=1e-5)
    del samples[1].gt_instance_labels.object_label
    with pytest.raises(ValueError, match=r"samples \[1\] have no label 'object_label'"):
        model.predict(feats, samples)


def test_every_parameter_learns_even_those_of_classes_that_are_not_there(feats):
    model = head(head_hidden_dims=8)
    samples = [labelled(1, torch.randn(1, 8, 3) * 0.05, torch.tensor([[9.0, 0, 0]]))] * 2
    sum(model.loss(feats, samples).values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_losses_and_edges_can_be_chosen(feats):
    model = head(edges=[(i, i + 1) for i in range(7)], losses=dict(kpt3d=None))
    samples = [labelled(0, torch.randn(1, 8, 3), torch.tensor([[9.0, 0, 0]]))] * 2
    assert set(model.loss(feats, samples)) == {"loss_kpt2d", "loss_jr_kpt2d"}
    assert model.gss[0].graph_conv.edge_logits.numel() == 14
    assert head().gss[0].graph_conv.edge_logits.numel() == 56
    assert (
        head(losses=dict(kpt3d=dict(loss_weight=0.3))).loss_module.losses["kpt3d"].loss_weight
        == 0.3
    )
