"""The graph-guided block: its list of tokens, its walks, its switches, its size."""

import pytest
import torch
from mmengine.registry import DefaultScope

from mamba_mm.models.body_models.joint_orders import HAND_BONES
from mamba_mm.models.heads import GSSBlock
from mamba_mm.registry import MODELS

TREE = [(0, 1), (1, 2), (1, 3)]


def tree_block(channels=8, **options):
    torch.manual_seed(0)
    return GSSBlock(channels, 4, TREE, **options).eval()


def tokens(channels=8, number=5, seed=0):
    return torch.randn(2, number, channels, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bias", [False, True])
def test_walking_the_other_way_is_swapping_the_walks(bias):
    """Reversed tokens, reversed kernel, swapped directions: the same result, reversed."""
    block = tree_block(use_gcn=False, ssm=dict(d_state=2, conv_bias=bias))
    mirrored = tree_block(use_gcn=False, ssm=dict(d_state=2, conv_bias=bias))
    state = block.state_dict()
    for name, value in state.items():
        if name.endswith("conv2d.weight"):
            state[name] = value.flip(2)
        elif name.endswith(("x_proj_weight", "dt_projs_weight", "dt_projs_bias")):
            state[name] = value.flip(0)
        elif name.endswith(("A_logs", "Ds")):
            state[name] = value.unflatten(0, (2, -1)).flip(0).flatten(0, 1)
    mirrored.load_state_dict(state)
    x = tokens()
    torch.testing.assert_close(mirrored(x.flip(1)), block(x).flip(1))
    assert not torch.allclose(block(x.flip(1)), block(x).flip(1))


def test_four_walks_are_two_and_two():
    """With the same parameters for both of a way, all walks are counted twice before the norm."""
    two = tree_block(use_gcn=False).blocks[0].op
    four = tree_block(use_gcn=False, num_directions=4).blocks[0].op
    state = two.state_dict()
    for name in ("x_proj_weight", "dt_projs_weight", "dt_projs_bias", "A_logs", "Ds"):
        forwards, backwards = state[name].unflatten(0, (2, -1))
        state[name] = torch.stack([forwards, forwards, backwards, backwards]).flatten(0, 1)
    for name in ("x_proj_weight", "dt_projs_weight", "dt_projs_bias"):
        state[name] = state[name].reshape(4, *two.state_dict()[name].shape[1:])
    four.load_state_dict(state)
    x = torch.randn(2, 16, 5, 1, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(four.scan(x), 2 * two.scan(x))


@pytest.mark.parametrize("directions", [1, 2, 4])
def test_without_the_backward_walks_nothing_flows_back(directions):
    options = dict(use_gcn=False, ssm=dict(conv_size=1))
    forwards = tree_block(num_directions=directions, bidirectional=False, **options)
    both = tree_block(num_directions=directions, **options)
    assert forwards.blocks[0].op.routes.num_groups == max(1, directions // 2)
    x, changed = tokens(), tokens()
    changed[:, 3, 0] += 1
    assert torch.equal(forwards(x)[:, :3], forwards(changed)[:, :3])
    assert not torch.equal(forwards(x)[:, 4], forwards(changed)[:, 4])
    assert torch.equal(both(x)[:, :3], both(changed)[:, :3]) == (directions == 1)


def test_the_convolution_runs_along_the_list():
    assert tree_block().blocks[0].op.conv2d.kernel_size == (3, 1)
    assert tree_block(ssm=dict(conv_size=5)).blocks[0].op.conv2d.kernel_size == (5, 1)
    assert tree_block(ssm=dict(conv_size=(3, 3))).blocks[0].op.conv2d.kernel_size == (3, 3)


def test_outer_columns_of_a_square_kernel_are_dead():
    block = tree_block(ssm=dict(conv_size=(3, 3)))
    block(tokens()).square().sum().backward()
    gradient = block.blocks[0].op.conv2d.weight.grad
    assert (gradient[..., [0, 2]] == 0).all()
    assert (gradient[..., 1] != 0).any()


def test_the_graph_convolution_leaves_the_global_token_alone():
    block = tree_block(use_ssm=False)
    x = tokens()
    y = block(x)
    assert torch.equal(y[:, 4], x[:, 4])
    expected = block.graph_norm(block.graph_conv(x[:, :4]).transpose(1, 2)).transpose(1, 2).relu()
    torch.testing.assert_close(y[:, :4], expected)
    changed = x.clone()
    changed[:, 4] += 1
    assert torch.equal(block(changed)[:, :4], y[:, :4])


def test_steps_of_the_block():
    """Graph convolution without residual, then pre-norm residual branches, each ssm_depth times."""
    block = tree_block(ssm_depth=2)
    x = tree_block_graph = block._over_skeleton(tokens())
    x = x.transpose(1, 2).unsqueeze(3)
    for b in block.blocks:
        x = x + b.op(b.norm(x))
        x = x + b.mlp(b.norm2(x))
    assert len(block.blocks) == 2
    torch.testing.assert_close(block(tokens()), x.squeeze(3).transpose(1, 2))
    assert tree_block_graph.shape == (2, 5, 8)


# Parameters of the parts with a square kernel, as the specification counts them.
SS2D = {2: 1_201_152, 4: 1_342_464}
FFN, NORMS, GRAPH = 2_099_712, 2 * 2 * 512, {False: 11_011_624, True: 525_864}


@pytest.mark.parametrize("directions", [2, 4])
@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("depth", [1, 2])
def test_sizes(directions, share, depth):
    options = dict(num_directions=directions, share_weights=share, ssm_depth=depth)
    with torch.device("meta"):
        square = GSSBlock(512, 21, HAND_BONES, ssm=dict(conv_size=(3, 3)), **options)
        line = GSSBlock(512, 21, HAND_BONES, **options)
    size = GRAPH[share] + depth * (SS2D[directions] + FFN + NORMS)
    assert sum(p.numel() for p in square.parameters()) == size
    # six of the nine taps of 1024 channels are not needed
    assert sum(p.numel() for p in line.parameters()) == size - depth * 6 * 1024


def test_linear_layers_start_small():
    block = tree_block(64)
    for layer in (block.blocks[0].op.in_proj, block.blocks[0].mlp.fc1):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert (block.blocks[0].mlp.fc1.bias == 0).all()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (dict(use_gcn=False, use_ssm=False), "there is no block"),
        (dict(num_directions=3), "1, 2 or 4, got 3"),
        (dict(ssm_depth=0), "at least 1"),
        (dict(ssm=dict(d_conv=3)), r"unknown settings \['d_conv'\]; known: d_state"),
    ],
)
def test_bad_options_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        tree_block(**options)


def test_the_number_of_tokens_is_checked():
    with pytest.raises(ValueError, match="expected 4 joint tokens and a global one, got 4 tokens"):
        tree_block()(tokens(number=4))


def test_it_is_built_by_a_config_of_any_toolbox():
    with DefaultScope.overwrite_default_scope("mmpose"):
        block = MODELS.build(dict(type="mamba_mm.GSSBlock", channels=8, num_joints=4, edges=TREE))
    assert isinstance(block, GSSBlock)
