import pytest
import torch

from mamba_mm.layers import NUM_ROUTES, cross_merge, cross_scan

ROUTES_2X3 = [
    [0, 1, 2, 3, 4, 5],
    [0, 3, 1, 4, 2, 5],
    [5, 4, 3, 2, 1, 0],
    [5, 2, 4, 1, 3, 0],
]


def test_routes_of_a_2x3_grid():
    grid = torch.arange(6).view(1, 1, 1, 2, 3).expand(-1, NUM_ROUTES, -1, -1, -1)
    assert cross_scan(grid)[0, :, 0].tolist() == ROUTES_2X3


def test_each_route_reads_its_own_map():
    maps = torch.randn(2, NUM_ROUTES, 3, 4, 5)
    sequences = cross_scan(maps)
    for route in range(NUM_ROUTES):
        alone = torch.zeros_like(maps)
        alone[:, route] = maps[:, route]
        torch.testing.assert_close(cross_scan(alone)[:, route], sequences[:, route])


@pytest.mark.parametrize("size", [(2, 3), (1, 7), (7, 1), (1, 1), (5, 4)])
def test_merging_a_walk_gives_four_times_the_map(size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    sequences = cross_scan(x[:, None].expand(-1, NUM_ROUTES, -1, -1, -1))
    torch.testing.assert_close(cross_merge(sequences, *size), 4 * x)


def test_merge_is_the_adjoint_of_the_walk():
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    y = torch.randn(2, NUM_ROUTES, 3, 20, dtype=torch.float64)
    walked = cross_scan(x[:, None].expand(-1, NUM_ROUTES, -1, -1, -1))
    torch.testing.assert_close((walked * y).sum(), (x * cross_merge(y, 5, 4)).sum())
