"""Where Hamba samples tokens and how its graph mixes joints, recorded and drawn."""

import numpy as np
import pytest
import torch

pytest.importorskip("mmpose")
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from mamba_mm.models.heads.token_sampler import TokenSampler
from mamba_mm.registry import MODELS
from mamba_mm.visualization.hamba_plots import (
    half_edges,
    write_adjacency,
    write_sampled_tokens,
)
from mamba_mm.visualization.hamba_recording import (
    learnt_mixings,
    recorded_tokens,
    token_centres,
)


@pytest.fixture(scope="module")
def head():
    torch.manual_seed(0)
    config = dict(
        type="mamba_mm.HambaHead",
        in_channels=8,
        embed_dims=16,
        input_size=(48, 64),
        jr=dict(depth=1),
        ts=dict(token_offset=6.0),
        output_model=dict(mano=dict(mano_path="toy")),
    )
    return MODELS.build(config).eval()


@pytest.fixture
def figures(monkeypatch):
    kept = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: kept.append(figure))
    return kept


def test_recorded_are_the_joints_of_the_regressor(head):
    features = torch.randn(2, 8, 4, 3)
    with recorded_tokens(head.ts) as record, torch.no_grad():
        first = head((features,))["jr"]
        head((features,))
    assert len(record.points) == 2
    assert record.map_sizes == [(4, 3), (4, 3)]
    np.testing.assert_allclose(record.points[0], head.to_pixels(first.joints_2d), rtol=1e-6)
    with torch.no_grad():
        head((features,))
    assert len(record.points) == 2  # nothing is recorded any more


@pytest.mark.parametrize("offset", [None, 6.0, (0.0, 3.0)])
def test_a_token_is_read_alone_at_its_centre(offset):
    """The sampler itself, on maps with one token each, at the centres that are drawn."""
    sampler = TokenSampler(1, (48, 64), token_offset=offset, mlp=False)
    columns, rows = token_centres(sampler, (4, 3))
    points = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(1, 12, 2)
    maps = torch.eye(12).reshape(12, 1, 4, 3)
    read = sampler(maps, torch.tensor(points, dtype=torch.float32).expand(12, -1, -1))
    np.testing.assert_allclose(read[..., 0], np.eye(12), atol=1e-5)


def test_mixings_are_those_of_the_blocks(head):
    torch.nn.init.normal_(head.gss[1].graph_conv.edge_logits)
    mixings = learnt_mixings(head)
    assert len(mixings) == 2
    np.testing.assert_allclose(mixings[0][0, [1, 5, 9, 13, 17]], 0.2, rtol=1e-6)
    np.testing.assert_array_equal(mixings[1], head.gss[1].graph_conv.mixing().detach())
    assert np.ptp(mixings[1][0, [1, 5, 9, 13, 17]]) > 0.01


def test_half_edges():
    points = np.array([[0.0, 0], [10, 0], [10, 20]])
    mixing = np.array([[0, 1.0, 0], [0.7, 0, 0.3], [0, 1.0, 0]])
    lines, shares, above = half_edges(points, mixing)
    assert shares.tolist() == [1, 0.7, 0.3, 1]
    np.testing.assert_allclose(above, [0, 0.2, -0.2, 0])
    expected = [[[0, 0], [5, 0]], [[10, 0], [5, 0]], [[10, 0], [10, 10]], [[10, 20], [10, 10]]]
    np.testing.assert_array_equal(lines, expected)


def test_points_are_drawn_where_they_are_read(figures, tmp_path):
    crop = np.full((64, 48, 3), 90, np.uint8)
    points = np.random.default_rng(0).uniform(1, 46, (21, 2))
    points[3] = (-20, 10)
    columns, rows = np.array([8.0, 24, 40]), np.array([8.0, 24, 40, 56])
    path = tmp_path / "new" / "t.png"
    write_sampled_tokens(path, crop, points, columns, rows, [(0, 1)], "tokens")
    (axes,) = figures[0].axes
    inside, outside = (np.asarray(c.get_offsets()) for c in axes.collections)
    np.testing.assert_allclose(inside, np.delete(points, 3, axis=0))
    np.testing.assert_allclose(outside, [[0, 10]])
    crosses = next(line for line in axes.lines if line.get_marker() == "+")
    np.testing.assert_array_equal(np.unique(crosses.get_xdata()), columns)
    np.testing.assert_array_equal(np.unique(crosses.get_ydata()), rows)
    (bone,) = [line for line in axes.lines if len(line.get_xdata()) == 2 and
               line.get_color() not in ("white",)]  # fmt: skip
    np.testing.assert_allclose(np.array(bone.get_data()).T, points[[0, 1]])


def test_adjacency_over_the_crop_and_as_a_matrix(figures, tmp_path):
    crop = np.zeros((64, 48, 3), np.uint8)
    points = np.array([[10.0, 10], [20, 20], [30, 50]])
    plain = np.array([[0, 1.0, 0], [0.5, 0, 0.5], [0, 1.0, 0]])
    learnt = np.array([[0, 1.0, 0], [0.9, 0, 0.1], [0, 1.0, 0]])
    write_adjacency(tmp_path / "a.png", crop, points, [plain, learnt], "adjacency")
    first, second, matrix, other, *bars = figures[0].axes
    assert [first.get_title(), second.get_title()] == ["GSS block 1", "GSS block 2"]
    assert len(bars) == 2
    for axes, mixing in ((matrix, plain), (other, learnt)):
        np.testing.assert_allclose(axes.images[0].get_array().filled(0), mixing)
    *_, coloured = (c for c in second.collections if isinstance(c, LineCollection))
    widths, colours = coloured.get_linewidths(), coloured.get_colors()
    np.testing.assert_allclose(np.divide(widths, widths[0]), [1, 0.9, 0.1, 1])
    assert colours[1][0] > colours[1][2]  # more than the mean: red
    assert colours[2][2] > colours[2][0]
    *_, equal = (c for c in first.collections if isinstance(c, LineCollection))
    assert np.ptp(equal.get_colors(), axis=0).max() == 0
