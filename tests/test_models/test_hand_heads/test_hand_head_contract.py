"""What the three heads owe MMPose, and each other."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hand_samples import (
    CHANNELS,
    DECODER,
    HEADS,
    SMALL,
    TOY,
    build_head,
    count,
    random_map,
    random_samples,
)
from mmengine.analysis import get_model_complexity_info
from torch import nn

SIZES = {"MANOHead": 139_629, "HaMeRHead": 39_497_837, "HambaHead": 44_069_644}
NAMES = ("kpt2d", "kpt3d", "global_orient", "hand_pose", "betas")
INSTANCE_SHAPES = dict(
    keypoints=(1, 21, 2),
    keypoint_scores=(1, 21),
    keypoints_3d=(1, 21, 3),
    vertices=(1, 778, 3),
    mano_rotations=(1, 16, 3, 3),
    mano_betas=(1, 10),
    cam=(1, 3),
)

all_heads = pytest.mark.parametrize("name", HEADS)


@all_heads
def test_sizes_for_a_huge_vit(name):
    with torch.device("meta"):
        assert count(build_head(name, small=False, in_channels=1280)) == SIZES[name]


@all_heads
def test_instances(name):
    head = build_head(name).eval()
    x = random_map(3)
    with torch.no_grad():
        instances = head.predict((x,), random_samples(3), test_cfg={})
        hand = head((x,))["final"]
    assert len(instances) == 3
    for i, instance in enumerate(instances):
        assert {k: v.shape for k, v in instance.items()} == INSTANCE_SHAPES
        assert {v.dtype for v in instance.values()} == {np.dtype("float32")}
        pixels = hand.joints_2d[i] * 256 + torch.tensor([96, 128])
        np.testing.assert_allclose(instance.keypoints[0], pixels, rtol=1e-5)
        assert (instance.keypoint_scores == 1).all()
        np.testing.assert_array_equal(instance.vertices[0], hand.vertices[i])
        np.testing.assert_array_equal(instance.mano_rotations[0], hand.rotations[i])
        np.testing.assert_array_equal(instance.cam[0], hand.cam[i])


@all_heads
def test_loss_names_and_values(name):
    """By hand, from the tensors: HaMeR's weights, sums over joints, means over samples."""
    head, samples, x = build_head(name), random_samples(2), random_map()
    torch.manual_seed(0)
    losses = head.loss((x,), samples, train_cfg={})
    outputs = head((x,))
    prefixes = {"final": "loss_", "jr": "loss_jr_"}
    assert set(losses) == {prefixes[output] + term for output in outputs for term in NAMES}
    assert (set(outputs) == {"final", "jr"}) == (name == "HambaHead")
    gt = {
        key: torch.cat([s.gt_instance_labels[key] for s in samples])
        for key in samples[0].gt_instance_labels.keys()  # noqa: SIM118
    }
    for output, hand in outputs.items():
        wrists = hand.joints_3d[:, :1], gt["keypoints_3d"][:, :1]
        sums = dict(
            kpt2d=0.01 * (hand.joints_2d - gt["keypoint_labels"]).abs().sum(),
            kpt3d=0.05
            * ((hand.joints_3d - wrists[0]) - (gt["keypoints_3d"] - wrists[1])).abs().sum(),
            global_orient=1e-3 * (hand.rotations[:, :1] - gt["mano_global_orient"]).square().sum(),
            hand_pose=1e-3 * (hand.rotations[:, 1:] - gt["mano_hand_pose"]).square().sum(),
            betas=5e-4 * (hand.betas - gt["mano_betas"]).square().sum(),
        )
        for term, total in sums.items():
            torch.testing.assert_close(losses[prefixes[output] + term], total / 2)


def test_vertex_loss_is_relative_to_each_sides_wrist():
    losses = dict(verts=dict(loss_weight=2.0))
    head, samples, x = build_head("MANOHead", losses=losses), random_samples(2), random_map()
    hand = head((x,))["final"]
    expected = []
    for i, sample in enumerate(samples):
        gt = sample.gt_instance_labels
        predicted = hand.vertices[i] - hand.joints_3d[i, 0]
        expected.append((predicted - (gt.vertices_3d[0] - gt.keypoints_3d[0, 0])).abs().sum())
    value = head.loss((x,), samples)["loss_verts"]
    torch.testing.assert_close(value, 2.0 * torch.stack(expected).mean())
    samples[1].gt_instance_labels.keypoints_3d_weights[:, 0] = 0  # no wrist to refer to
    torch.testing.assert_close(head.loss((x,), samples)["loss_verts"], expected[0])


def test_losses_are_changed_and_turned_off():
    losses = dict(
        kpt2d=dict(loss_weight=0.02),
        kpt3d=None,
        betas=dict(loss_weight=0.0),
        hand_pose=dict(type="mmengine.MODELS_has_no_such", loss_weight=1.0),
    )
    with pytest.raises(KeyError):
        build_head("MANOHead", losses=losses)
    del losses["hand_pose"]
    head, samples, x = build_head("MANOHead", losses=losses), random_samples(2), random_map()
    changed = head.loss((x,), samples)
    assert set(changed) == {"loss_kpt2d", "loss_global_orient", "loss_hand_pose"}
    plain = build_head("MANOHead")
    plain.load_state_dict(head.state_dict())
    torch.testing.assert_close(changed["loss_kpt2d"], 2 * plain.loss((x,), samples)["loss_kpt2d"])


@all_heads
def test_samples_without_any_labels_still_give_every_parameter_a_gradient(name):
    head, samples = build_head(name), random_samples(2)
    for sample in samples:
        labels = sample.gt_instance_labels
        for key in ("keypoint_weights", "keypoints_3d_weights", "has_mano"):
            labels[key] = torch.zeros_like(labels[key])
    losses = head.loss((random_map(),), samples)
    total = sum(losses.values())
    assert total == 0
    total.backward()
    assert all(p.grad is not None and (p.grad == 0).all() for p in head.parameters())


@all_heads
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_training_under_autocast(name, dtype):
    torch.manual_seed(0)
    head, samples, x = build_head(name), random_samples(2), random_map()
    with torch.autocast("cpu", dtype=dtype):
        losses = head.loss((x.to(dtype),), samples)
        prediction = head((x.to(dtype),))["final"]
    assert {t.dtype for t in prediction} == {torch.float32}
    eye = prediction.rotations @ prediction.rotations.transpose(2, 3)
    torch.testing.assert_close(eye, torch.eye(3).expand_as(eye), rtol=0, atol=1e-5)
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in head.parameters())


@all_heads
def test_no_array_of_the_hand_model_is_saved(name):
    names = build_head(name).state_dict()
    assert not [n for n in names if "mano" in n or "mean_" in n or "output_model" in n]


@all_heads
def test_an_empty_batch(name):
    head = build_head(name).eval()
    assert head((random_map(0),))["final"].vertices.shape == (0, 778, 3)


class _Forward(nn.Module):
    """What MMPose's get_flops.py sees of a head."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, x):
        return self.head.forward((x,))


@all_heads
def test_operations_are_counted(name):
    head = build_head(name).eval()
    info = get_model_complexity_info(
        _Forward(head), inputs=(random_map(1),), show_table=False, show_arch=False
    )
    assert info["params"] == count(head)
    assert info["flops"] > count(head)


def test_the_scan_is_among_the_operations():
    """Two sizes of the state differ by the scan and by its projections, and nothing else."""

    def flops(states):
        ssm = dict(mlp_ratio=1.0, d_state=states)
        head = build_head("HambaHead", ssm=ssm).eval()
        return get_model_complexity_info(
            _Forward(head), inputs=(random_map(1),), show_table=False, show_arch=False
        )["flops"]

    inner, lengths = 32, 4 * 16 * 12 + 2 * 2 * 22  # routes x positions of the map and the blocks
    per_state = inner * lengths * (9 + 2)
    assert flops(3) - flops(1) == 2 * per_state


@all_heads
def test_the_map_is_chosen_and_checked(name):
    head = build_head(name, input_index=1).eval()
    x, other = random_map(), torch.zeros(2, 5, 32, 24)
    last = build_head(name).eval()
    last.load_state_dict(head.state_dict())
    torch.testing.assert_close(
        head((other, x, other))["final"].vertices, last((other, x))["final"].vertices
    )
    for feats, named in [
        ((other,), "one at 1, got 1"),
        (x, "expected a tuple of maps"),
        ((x, other), rf"expected a map \(B, {CHANNELS}, H, W\).*got \(2, 5, 32, 24\)"),
        ((x, x.flatten(2)), "return a map"),
        ((x, (x,)), "got a tuple"),
    ]:
        with pytest.raises(ValueError, match=named):
            head(feats)


def test_flip_test_is_refused():
    x = random_map()
    with pytest.raises(ValueError, match="a flipped right hand is a left hand"):
        build_head("MANOHead").predict([(x,), (x,)], random_samples(2))


def test_a_missing_label_is_named():
    samples = random_samples(3)
    del samples[1].gt_instance_labels.mano_betas
    with pytest.raises(ValueError, match=r"samples \[1\] have no label 'mano_betas'.*MANOLabel"):
        build_head("MANOHead").loss((random_map(3),), samples)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (dict(losses=dict(heatmap={})), r"\['heatmap'\] do not apply.*known: kpt2d"),
        (dict(input_size=(256, 256)), r"input_size \(256, 256\) is not that of the decoder"),
    ],
)
def test_bad_options_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        build_head("MANOHead", **options)


def test_unknown_settings_are_refused():
    with pytest.raises(TypeError, match="hidden_dim"):
        build_head("MANOHead", hidden_dim=3)


def test_names_are_found_in_mmpose_without_custom_imports():
    code = f"""
from mmengine.registry import init_default_scope
init_default_scope("mmpose")
from mmpose.registry import MODELS
for name, settings in {SMALL!r}.items():
    head = MODELS.build(dict(type="mamba_mm." + name, in_channels=4, decoder={DECODER!r},
                             output_model={TOY!r}, **settings))
    print(type(head).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(SMALL)


def test_parts_need_no_toolbox():
    code = """
import sys
sys.modules["mmpose"] = sys.modules["mmcv"] = None
from mamba_mm.registry import MODELS
for name in ("JointsRegressor", "TokenSampler", "HandGraphConv", "GSSBlock", "MANOOutputModel",
             "DirectOutputModel", "ChannelReduction"):
    assert issubclass(MODELS.get(name), sys.modules["torch"].nn.Module), name
try:
    MODELS.build(dict(type="HambaHead", in_channels=4))
except (ImportError, ValueError) as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "mmpose" in done.stdout.lower()
