"""A graph convolution with a matrix for every node."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mamba_mm.registry import MODELS

from ..body_models.joint_orders import HAND_BONES

SELF, NEIGHBOUR = 0, 1  # the two banks of matrices


@MODELS.register_module()
class HandGraphConv(nn.Module):
    r"""Graph convolution over a skeleton (Hamba, arXiv 2407.09646, figure 3, "PGraphConv").

    .. math::
        y_i = x_i W^{self}_i + \sum_j softmax_j(e_{ij}) \, x_j W^{neighbour}_j + b

    over the neighbours j of node i. Every node has its own two matrices, and every directed edge
    a logit e that starts at 1, so that a node starts with the plain mean of its neighbours. The
    logit of an end of the skeleton, which has one neighbour, has no effect and gets no gradient
    but zero: five of the hand's forty.

    Args:
        in_channels: Channels of a node's input.
        out_channels: Channels of a node's output.
        num_nodes: Number of nodes N.
        edges: Pairs of neighbours, each pair once; by default the hand's bones.
        share_weights: Whether all nodes share one matrix a bank.

    Raises:
        ValueError: When an edge names a node twice or one that is not there, an edge occurs
            twice, or a node has no neighbour.

    Example:
        >>> import torch
        >>> HandGraphConv(4, 8, num_nodes=3, edges=[(0, 1), (1, 2)])(torch.zeros(2, 3, 4)).shape
        torch.Size([2, 3, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_nodes: int = 21,
        edges: Iterable[tuple[int, int]] = HAND_BONES,
        share_weights: bool = False,
    ) -> None:
        super().__init__()
        edges = _check_edges(edges, num_nodes)
        directed = sorted(edges + [(j, i) for i, j in edges])
        self.num_nodes = num_nodes
        matrices = 1 if share_weights else num_nodes
        self.weight = nn.Parameter(torch.empty(2, matrices, in_channels, out_channels))
        self.edge_logits = nn.Parameter(torch.empty(len(directed)))
        self.bias = nn.Parameter(torch.empty(out_channels))
        # Which node each logit is of, and which of its neighbours.
        self.register_buffer("edge_nodes", torch.tensor(directed).T.contiguous(), persistent=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise: every matrix Xavier-uniform with gain 1.414, equal weights of neighbours."""
        for matrix in self.weight.flatten(0, 1):
            nn.init.xavier_uniform_(matrix, gain=1.414)
        nn.init.ones_(self.edge_logits)
        bound = self.num_nodes**-0.5
        nn.init.uniform_(self.bias, -bound, bound)

    def mixing(self) -> Tensor:
        """Return what share of neighbour j node i takes, (N, N): rows sum to 1, zero off edges."""
        logits = self.edge_logits.new_full((self.num_nodes, self.num_nodes), float("-inf"))
        logits = logits.index_put(tuple(self.edge_nodes), self.edge_logits)
        return logits.softmax(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map nodes (B, N, in_channels) to (B, N, out_channels)."""
        by_node = x.transpose(0, 1)
        own = torch.matmul(by_node, self.weight[SELF]).transpose(0, 1)
        of_neighbours = torch.matmul(by_node, self.weight[NEIGHBOUR]).transpose(0, 1)
        return own + torch.matmul(self.mixing(), of_neighbours) + self.bias


def _check_edges(edges: Iterable[tuple[int, int]], num_nodes: int) -> list[tuple[int, int]]:
    edges = [(int(i), int(j)) for i, j in edges]
    for i, j in edges:
        if i == j or not (0 <= i < num_nodes and 0 <= j < num_nodes):
            raise ValueError(
                f"HandGraphConv: edge ({i}, {j}) must join two different nodes of the {num_nodes}, "
                f"0 to {num_nodes - 1}"
            )
    if len({frozenset(edge) for edge in edges}) < len(edges):
        raise ValueError(f"HandGraphConv: each pair of neighbours must be given once, got {edges}")
    lonely = sorted(set(range(num_nodes)) - {node for edge in edges for node in edge})
    if lonely:
        raise ValueError(
            f"HandGraphConv: nodes {lonely} of {num_nodes} have no neighbour; give edges for them"
        )
    return edges
