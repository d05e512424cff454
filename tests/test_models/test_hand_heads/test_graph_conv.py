"""The graph convolution against its sum, written out."""

import pytest
import torch

from mamba_mm.models.body_models.joint_orders import HAND_BONES
from mamba_mm.models.heads import HandGraphConv

TREE = [(0, 1), (1, 2), (1, 3)]


def neighbours_of(node, edges):
    return [j for edge in edges for i, j in (edge, edge[::-1]) if i == node]


def by_definition(conv, x, edges):
    """Node by node and neighbour by neighbour."""
    logit = dict(zip(zip(*conv.edge_nodes.tolist(), strict=True), conv.edge_logits, strict=True))
    own, other = conv.weight.expand(2, conv.num_nodes, -1, -1)
    y = torch.empty(len(x), conv.num_nodes, own.shape[-1], dtype=x.dtype)
    for b in range(len(x)):
        for i in range(conv.num_nodes):
            neighbours = neighbours_of(i, edges)
            scale = sum(logit[i, j].exp() for j in neighbours)
            y[b, i] = x[b, i] @ own[i] + conv.bias
            for j in neighbours:
                y[b, i] += logit[i, j].exp() / scale * (x[b, j] @ other[j])
    return y


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("edges", [TREE, HAND_BONES], ids=["tree", "hand"])
def test_against_loops(edges, share):
    torch.manual_seed(0)
    conv = HandGraphConv(3, 5, len(edges) + 1, edges, share).double()
    torch.nn.init.normal_(conv.edge_logits)
    x = torch.randn(2, len(edges) + 1, 3, dtype=torch.float64)
    torch.testing.assert_close(conv(x), by_definition(conv, x, edges))


def test_neighbours_start_with_equal_parts():
    conv = HandGraphConv(2, 2, 4, TREE)
    third = 1 / 3
    torch.testing.assert_close(
        conv.mixing(),
        torch.tensor([[0, 1, 0, 0], [third, 0, third, third], [0, 1, 0, 0], [0, 1, 0, 0]]),
    )


def test_sharing_is_the_same_matrix_for_every_node():
    torch.manual_seed(0)
    shared, own = HandGraphConv(3, 3, 4, TREE, True), HandGraphConv(3, 3, 4, TREE)
    state = shared.state_dict()
    own.load_state_dict(state | {"weight": state["weight"].expand(2, 4, 3, 3)})
    x = torch.randn(2, 4, 3)
    torch.testing.assert_close(own(x), shared(x))


@pytest.mark.parametrize(("share", "size"), [(False, 11_011_624), (True, 525_864)])
def test_size_with_its_norm(share, size):
    with torch.device("meta"):
        conv, norm = HandGraphConv(512, 512, share_weights=share), torch.nn.BatchNorm1d(512)
    assert sum(p.numel() for m in (conv, norm) for p in m.parameters()) == size
    assert conv.edge_logits.numel() == 40


def test_initialisation():
    torch.manual_seed(0)
    conv = HandGraphConv(48, 80)
    bound = 1.414 * (6 / (48 + 80)) ** 0.5
    for matrix in conv.weight.flatten(0, 1):
        assert 0.95 * bound < matrix.abs().max() <= bound
    assert (conv.edge_logits == 1).all()
    assert 0.9 * 21**-0.5 < conv.bias.abs().max() <= 21**-0.5


def test_only_the_logits_of_ends_have_no_effect():
    torch.manual_seed(0)
    conv = HandGraphConv(4, 4).double()
    x = torch.randn(3, 21, 4, dtype=torch.float64)
    conv(x).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in conv.parameters())
    dead = conv.edge_nodes[0][conv.edge_logits.grad.abs() < 1e-12]
    assert dead.tolist() == [4, 8, 12, 16, 20]


@pytest.mark.parametrize(
    ("edges", "named"),
    [
        ([(0, 1), (1, 1)], r"edge \(1, 1\) must join two different nodes"),
        ([(0, 1), (1, 3)], r"edge \(1, 3\).*of the 3"),
        ([(0, 1), (1, 2), (2, 1)], "each pair of neighbours must be given once"),
        ([(0, 1)], r"nodes \[2\] of 3 have no neighbour"),
    ],
)
def test_bad_graphs_are_refused(edges, named):
    with pytest.raises(ValueError, match=named):
        HandGraphConv(2, 2, 3, edges)
