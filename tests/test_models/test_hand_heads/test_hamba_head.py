"""Hamba's head: what flows where, its ablations, its size, other objects than hands."""

from itertools import combinations

import pytest
import torch
from hand_samples import build_head, count, random_map, random_samples, randomise
from mmengine.structures import InstanceData

from mamba_mm.models.body_models.joint_orders import HAND_BONES
from mamba_mm.models.heads import PointPrediction
from mamba_mm.models.heads.hamba_head import BRANCHES

SUBSETS = [s for n in range(1, 5) for s in combinations(BRANCHES, n)]
WIDTHS = dict(gss=16, joints2d=42, ts=16) | {"global": 16}


def loss_of(head, feats, samples):
    return sum(head.loss(feats, samples).values())


# What a batch norm subtracts again, up to rounding.
CANCELLED = ("reduction.0.bias", "ts.mlp.0.bias", "graph_conv.bias")


def unused(head):
    """Parameters without a finite gradient other than zero, beside those documented."""
    bad = [n for n, p in head.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    zero = [n for n, p in head.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    return bad + [name for name in zero if not name.endswith(CANCELLED)]


# --- size ------------------------------------------------------------------------------------

# (L, ssm_depth, K, shared): millions without and with the regressor, by the specification, whose
# kernels are square
CONFIGURATIONS = [
    ((2, 1, 2, False), (30.2, 44.1)),
    ((2, 1, 4, False), (30.5, 44.4)),
    ((2, 1, 2, True), (9.3, 23.1)),
    ((1, 2, 4, False), (19.5, 33.4)),
    ((1, 1, 2, False), (15.9, 29.8)),
]


@pytest.mark.parametrize(("configuration", "millions"), CONFIGURATIONS)
def test_sizes(configuration, millions):
    blocks, depth, directions, shared = configuration
    gss = dict(num_blocks=blocks, ssm_depth=depth, num_directions=directions, share_weights=shared)
    with torch.device("meta"):
        line = build_head(small=False, in_channels=1280, gss=gss)
        gss["ssm"] = dict(conv_size=(3, 3))
        square = build_head(small=False, in_channels=1280, gss=gss)
    sizes = count(square) - count(square.jr), count(square)
    assert tuple(round(size / 1e6, 1) for size in sizes) == millions
    assert count(square) - count(line) == blocks * depth * 6 * 1024


def test_sizes_of_the_parts():
    with torch.device("meta"):
        head = build_head(small=False, in_channels=1280)
    sizes = {name: count(part) for name, part in head.named_children() if count(part)}
    assert sizes == dict(
        reduction=919_552,
        jr=13_833_837,
        ts=526_336,
        gss=2 * (11_011_624 + 3_302_912 - 6 * 1024),
        gss_norm=1024,
        read_out=172_111,
    )


# --- what flows where ------------------------------------------------------------------------


def test_the_regressor_gives_the_points_and_a_prediction_of_its_own():
    head = randomise(build_head()).eval()
    x = random_map()
    seen = {}
    head.ts.register_forward_hook(lambda _, inputs, out: seen.update(ts=inputs[1], tokens=out))
    head.gss.register_forward_hook(lambda _, inputs, out: seen.update(gss=(inputs[0], out)))
    head.read_out.register_forward_hook(lambda _, inputs, out: seen.update(fused=inputs[0]))
    outputs = head((x,))
    reduced = head.reduction(x)
    first = head.output_model(head.jr(reduced))
    torch.testing.assert_close(outputs["jr"], first)
    torch.testing.assert_close(seen["ts"], first.joints_2d * 256 + torch.tensor([96.0, 128.0]))
    mean = reduced.mean(dim=(2, 3))
    given, refined = seen["gss"]
    torch.testing.assert_close(given, torch.cat([seen["tokens"], mean[:, None]], dim=1))
    expected = torch.cat(
        [
            head.gss_norm(refined).mean(dim=1),
            first.joints_2d.flatten(1),
            mean,
            seen["tokens"].mean(dim=1),
        ],
        dim=1,
    )
    torch.testing.assert_close(seen["fused"], expected)
    torch.testing.assert_close(
        outputs["final"], head.output_model(head.read_out(expected)), rtol=1e-4, atol=1e-5
    )


def test_the_blocks_follow_each_other():
    """The second block gets the global token as the first has left it."""
    head = randomise(build_head()).eval()
    seen = []
    for block in head.gss:
        block.register_forward_hook(lambda _, inputs, out: seen.append((inputs[0], out)))
    head((random_map(),))
    assert len(seen) == 2
    assert torch.equal(seen[1][0], seen[0][1])


@pytest.mark.parametrize("fusion", SUBSETS, ids="-".join)
def test_every_subset_of_branches_trains_all_it_has(fusion):
    torch.manual_seed(0)
    head = randomise(build_head(fusion=fusion[::-1]))
    assert head.fusion == fusion  # always in the same order, so that weights fit
    assert head.read_out.outputs["pose"].in_features == sum(WIDTHS[name] for name in fusion)
    loss_of(head, (random_map(),), random_samples(2)).backward()
    assert not unused(head)


def test_gradient_of_every_parameter_but_those_documented():
    """In double precision; the biases before the batch norms cancel there."""
    torch.manual_seed(0)
    head = randomise(build_head()).double()
    samples = random_samples(2)
    samples = [s.to(torch.float64) for s in samples]
    loss_of(head, (random_map().double(),), samples).backward()
    dead = {name for name, p in head.named_parameters() if p.grad.abs().max() < 1e-12}
    assert dead == {name for name, _ in head.named_parameters() if name.endswith(CANCELLED)}
    assert len(dead) == 4


def final_loss_reaches_regressor(**options):
    """Whether the losses of the final prediction alone reach the regressor."""
    head = randomise(build_head(jr_loss_weight=0.0, **options))
    loss_of(head, (random_map(),), random_samples(2)).backward()
    return head.jr.read_out.outputs["cam"].weight.grad.abs().max() > 0


def test_gradient_reaches_the_regressor_through_its_joints_and_not_through_the_sampler():
    assert final_loss_reaches_regressor(fusion=("joints2d",))
    assert not final_loss_reaches_regressor(fusion=("gss", "global", "ts"))
    assert final_loss_reaches_regressor(fusion=("ts",), ts=dict(detach=False))


def test_weight_of_the_regressors_losses():
    x, samples = random_map(), random_samples(2)
    head = build_head().eval()
    plain = head.loss((x,), samples)
    head.outputs["jr"] = build_head(jr_loss_weight=0.25).outputs["jr"]
    weighted = head.loss((x,), samples)
    for name, value in plain.items():
        expected = value * 0.25 if name.startswith("loss_jr_") else value
        torch.testing.assert_close(weighted[name], expected)


# --- ablations -------------------------------------------------------------------------------

NO_TS = ("gss", "joints2d", "global")


@pytest.mark.parametrize(
    "options",
    [
        dict(tokens="mean", fusion=NO_TS),
        dict(tokens="learned", fusion=NO_TS),
        dict(tokens="learned", fusion=("global",)),
        dict(gss=dict(bidirectional=False)),
        dict(gss=dict(use_gcn=False)),
        dict(gss=dict(use_gcn=False, bidirectional=False)),
        dict(gss=dict(use_ssm=False)),
        dict(gss=dict(num_blocks=3, ssm_depth=2, num_directions=4, share_weights=True)),
        dict(jr=dict(mode="mlp")),
        dict(head_hidden_dims=8),
        dict(ts=dict(mlp=False)),
        dict(ssm=dict(mlp_ratio=0.0, d_state=2, drop_path=0.1)),
    ],
    ids=str,
)
def test_ablations_train_all_they_have(options):
    torch.manual_seed(0)
    head = randomise(build_head(**options))
    loss_of(head, (random_map(),), random_samples(2)).backward()
    assert not unused(head)


def test_tokens_that_are_not_sampled():
    x = random_map()
    for tokens in ("mean", "learned"):
        head = randomise(build_head(tokens=tokens, fusion=NO_TS)).eval()
        assert head.ts is None
        seen = []
        head.gss.register_forward_hook(lambda _, inputs, out, seen=seen: seen.append(inputs[0]))
        head((x,))
        mean = head.reduction(x).mean(dim=(2, 3))[:, None].expand(2, 22, 16)
        if tokens == "learned":
            mean = torch.cat([head.learned_tokens.expand(2, -1, -1), mean[:, :1]], dim=1)
        torch.testing.assert_close(seen[0], mean)


def test_settings_reach_the_parts():
    head = build_head(
        ssm=dict(d_state=2, drop_path=0.1),
        jr=dict(depth=3, num_directions=2, ssm=dict(d_state=3)),
        gss=dict(num_blocks=1),
        ts=dict(token_offset=6.0),
        head_hidden_dims=7,
        readout_init_gain=None,
    )
    assert len(head.jr.blocks) == 3
    assert head.jr.blocks[0].op.A_logs.shape[1] == 3
    assert head.jr.read_out.hidden[0].out_features == 7
    assert head.read_out.hidden[0].out_features == 7
    assert head.jr.read_out.outputs["cam"].bias.abs().max() > 0
    assert [b.blocks[0].op.A_logs.shape[1] for b in head.gss] == [2]
    assert head.gss[0].blocks[0].drop_path.rate == 0.1
    assert head.ts.token_offset == (6.0, 6.0)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (dict(fusion=()), "one or more of gss, joints2d, global, ts"),
        (dict(fusion=("gss", "jr")), r"one or more of gss, .*got \('gss', 'jr'\)"),
        (dict(tokens="random"), "unknown tokens 'random'; known: sampled, learned, mean"),
        (dict(tokens="mean"), "leave 'ts' out of fusion"),
        (dict(gss=dict(num_blocks=0)), "num_blocks of 1 or more"),
        (dict(ssm=dict(rank=3)), "unknown settings"),
        (dict(edges=HAND_BONES[:-1]), r"nodes \[20\] of 21 have no neighbour"),
    ],
)
def test_bad_options_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        build_head(**options)


@pytest.mark.parametrize(("part", "option"), [("jr", "width"), ("ts", "stride"), ("gss", "gcn")])
def test_unknown_settings_of_parts_are_refused(part, option):
    with pytest.raises(TypeError, match=option):
        build_head(**{part: {option: 1}})


# --- other sizes, other objects ----------------------------------------------------------------


@pytest.mark.parametrize(("size", "map_size"), [((256, 256), (8, 8)), ((128, 96), (3, 4))])
def test_other_inputs(size, map_size):
    decoder = dict(type="mamba_mm.MANOLabel", input_size=size)
    head = randomise(build_head(input_size=size, decoder=decoder)).eval()
    seen = []
    head.ts.register_forward_hook(lambda _, inputs, out: seen.append(inputs[1]))
    x = random_map(height=map_size[0], width=map_size[1])
    instances = head.predict((x,), random_samples(2))
    # What the codec makes of the regressor's joints are the pixels that were sampled.
    codec_pixels = head.decode(head((x,))["jr"].joints_2d.unsqueeze(1))
    torch.testing.assert_close(torch.tensor(codec_pixels[1].keypoints[0]), seen[0][1])
    assert len(instances) == 2


def test_an_object_of_eight_points():
    corners = [(i, j) for i in range(8) for j in range(i)]  # everyone with everyone
    torch.manual_seed(0)
    head = build_head(
        output_model=dict(type="mamba_mm.DirectOutputModel", num_joints=8), edges=corners
    )
    randomise(head)
    assert head.read_out.outputs["points"].in_features == 3 * 16 + 16
    samples = random_samples(2)
    for sample in samples:
        labels = sample.gt_instance_labels
        sample.gt_instance_labels = InstanceData(
            **{
                name: labels[name][:, :8]
                for name in (
                    "keypoint_labels",
                    "keypoint_weights",
                    "keypoints_3d",
                    "keypoints_3d_weights",
                )
            }
        )
    losses = head.loss((random_map(),), samples)
    assert set(losses) == {
        "loss_kpt2d",
        "loss_kpt3d",
        "loss_jr_kpt2d",
        "loss_jr_kpt3d",
    }
    sum(losses.values()).backward()
    assert not unused(head)
    head.eval()
    assert isinstance(head((random_map(),))["final"], PointPrediction)
    (instance, _) = head.predict((random_map(),), samples)
    assert {name: v.shape for name, v in instance.items()} == dict(
        keypoints=(1, 8, 2), keypoint_scores=(1, 8), keypoints_3d=(1, 8, 3), cam=(1, 3)
    )
    with pytest.raises(ValueError, match=r"\['betas'\] do not apply"):
        build_head(
            output_model=dict(type="mamba_mm.DirectOutputModel", num_joints=8),
            losses=dict(betas=None),
        )
