"""Rules by which the outputs of walks become one map."""

import statistics

import pytest
import torch

from mamba_mm.ops.routes import (
    RouteSet,
    gated_merge,
    merge_branches,
    merge_sequences,
    per_route_gated_merge,
    route_restore,
    route_set,
)


def randn(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_equal_maps_are_gated_to_zero():
    same = randn(2, 1, 3, 6).expand(2, 4, 3, 6).contiguous().requires_grad_()
    for threshold in (0.0, 0.5):
        merged = gated_merge(same, threshold)
        assert torch.equal(merged, torch.zeros(2, 3, 6, dtype=torch.float64))
        (gradient,) = torch.autograd.grad(merged.sum(), same)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("threshold", [0.0, 0.4, 1.5])
def test_gate_by_hand(threshold):
    maps = randn(1, 4, 2, 3)
    merged = gated_merge(maps, threshold)
    for channel in range(2):
        for token in range(3):
            values = maps[0, :, channel, token].tolist()
            above = statistics.mean(value - min(values) for value in values)
            variation = statistics.stdev(values) / (above + 1e-5)  # stdev divides by n - 1
            expected = sum(values) * max(variation - threshold, 0)
            assert merged[0, channel, token].item() == pytest.approx(expected, abs=1e-12)
    assert threshold < 1.5 or (merged == 0).any()


def test_one_map_cannot_be_gated():
    with pytest.raises(ValueError, match="at least two maps"):
        gated_merge(randn(1, 1, 2, 3))


def test_each_map_has_its_own_gate():
    maps, gates = randn(2, 3, 4, 5), randn(2, 3, 4, 1, seed=1)
    expected = sum(maps[:, k] * gates[:, k] for k in range(3))
    torch.testing.assert_close(per_route_gated_merge(maps, gates), expected)
    by_function = per_route_gated_merge(maps, lambda y: y.mean(-1, keepdim=True))
    expected = sum(maps[:, k] * maps[:, k].mean(-1, keepdim=True) for k in range(3))
    torch.testing.assert_close(by_function, expected)


def test_the_set_names_the_rule():
    cross = route_set("cross")
    tables = cross.tables(2, 3)
    y, gates = randn(2, 4, 3, 6), randn(2, 4, 3, 1, seed=1)
    maps = route_restore(y, tables)

    def merged(rule, **options):
        return merge_sequences(y, tables, RouteSet(cross.routes, merge=rule), **options)

    torch.testing.assert_close(merged("sum"), maps.sum(1))
    torch.testing.assert_close(merged("mean"), maps.sum(1) / 4)
    torch.testing.assert_close(merged("per_route_gated", gates=gates), (maps * gates).sum(1))
    gated = RouteSet(cross.routes, merge="gated", threshold=0.3)
    torch.testing.assert_close(merge_sequences(y, tables, gated), gated_merge(maps, 0.3))
    with pytest.raises(ValueError, match="merge='per_route_gated' needs gates"):
        merged("per_route_gated")
    with pytest.raises(ValueError, match="merge='sum' takes no gates"):
        merged("sum", gates=gates)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_merged_in_float32(dtype):
    maps, gates = randn(2, 4, 3, 6).to(dtype), randn(2, 4, 3, 1, seed=1).to(dtype)
    half, full = gated_merge(maps, 0.1), gated_merge(maps.float(), 0.1)
    assert torch.equal(half, full.to(dtype))
    made = per_route_gated_merge(maps, gates)
    assert torch.equal(made, per_route_gated_merge(maps.float(), gates.float()).to(dtype))
    branches = merge_branches(maps[:, 0, :, None], maps[:, 1, :, None, ::2], "nearest")
    assert branches.dtype == dtype


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 1)])
def test_the_smaller_branch_is_enlarged(size):
    height, width = size
    full = randn(2, 3, height, width)
    lower = randn(2, 3, -(-height // 2), -(-width // 2), seed=1)
    nearest = merge_branches(full, lower, "nearest") - full
    for r in range(height):
        for c in range(width):
            row, column = r * lower.shape[2] // height, c * lower.shape[3] // width
            torch.testing.assert_close(nearest[..., r, c], lower[..., row, column])
    bilinear = merge_branches(full, lower, "bilinear") - full
    for r in range(height):
        for c in range(width):
            torch.testing.assert_close(bilinear[..., r, c], bilinear_at(lower, r, c, size))


def bilinear_at(lower, r, c, size):
    """Interpolate between pixel centres, those at the border repeated."""
    value = 0
    places = []
    for place, small, large in ((r, lower.shape[2], size[0]), (c, lower.shape[3], size[1])):
        at = max((place + 0.5) * small / large - 0.5, 0)
        low = min(int(at), small - 1)
        places.append([(low, 1 - at + low), (min(low + 1, small - 1), at - low)])
    for row, row_weight in places[0]:
        for column, column_weight in places[1]:
            value = value + row_weight * column_weight * lower[..., row, column]
    return value


def test_unknown_interpolation_is_refused():
    with pytest.raises(ValueError, match="upsample is None, expected bilinear or nearest"):
        merge_branches(randn(1, 1, 2, 2), randn(1, 1, 1, 1), None)
