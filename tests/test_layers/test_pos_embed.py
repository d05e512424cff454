import pytest
import torch
import torch.nn.functional as F

from mamba_mm.layers import (
    class_token_index,
    insert_class_token,
    patch_grid,
    remove_class_token,
    resize_pos_embed,
)


def rows(*values):
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1)


def numbered(patches):
    return rows(*range(patches + 1))


def as_map(patches, grid):
    return patches.view(1, 1, *grid)


@pytest.mark.parametrize(
    ("size", "stride", "grid"),
    [
        ((224, 224), 16, (14, 14)),
        ((224, 224), 8, (27, 27)),
        ((64, 96), 16, (4, 6)),
        ((65, 96), 16, (5, 6)),
        ((1, 17), 16, (1, 2)),
        ((16, 16), 8, (1, 1)),
        ((17, 24), 8, (2, 2)),
    ],
)
def test_patch_grid(size, stride, grid):
    assert patch_grid(size, 16, stride) == grid


@pytest.mark.parametrize(("grid", "index"), [((14, 14), 98), ((27, 27), 364), ((2, 2), 2)])
def test_class_token_stands_in_the_middle(grid, index):
    assert class_token_index(grid) == index
    patches = torch.randn(2, grid[0] * grid[1], 3)
    token = torch.randn(1, 1, 3)
    tokens = insert_class_token(patches, token, grid)
    assert torch.equal(tokens[:, index], token[0].expand(2, 3))
    back, alone = remove_class_token(tokens, grid)
    assert torch.equal(back, patches)
    assert torch.equal(alone, token[0].expand(2, 3))


def test_patches_of_a_2x2_grid_are_rows_0_1_3_4():
    patches = resize_pos_embed(numbered(4), (2, 2), (2, 2), keep_class=False)
    assert torch.equal(patches, rows(0, 1, 3, 4))


def test_the_official_way_mixes_the_class_row_in():
    official = {"mode": "official"}
    patches = resize_pos_embed(numbered(4), (2, 2), (2, 2), keep_class=False, **official)
    assert torch.equal(patches, rows(1, 2, 3, 4))
    resized = resize_pos_embed(numbered(4), (2, 2), (4, 4), **official)
    assert resized[0, 0] == 0
    expected = F.interpolate(as_map(rows(1, 2, 3, 4), (2, 2)), (4, 4), mode="bicubic")
    torch.testing.assert_close(as_map(resized[:, 1:], (4, 4)), expected)


@pytest.mark.parametrize("new", [(4, 4), (3, 5), (1, 7), (2, 2)])
@pytest.mark.parametrize("keep_class", [True, False])
def test_resize_around_the_class_row(new, keep_class):
    old, middle = (4, 3), 6
    pos_embed = torch.randn(1, 13, 1, dtype=torch.float64)
    resized = resize_pos_embed(pos_embed, old, new, keep_class=keep_class)
    patches = resized
    if keep_class:
        patches, alone = remove_class_token(resized, new)
        assert torch.equal(alone[0], pos_embed[0, middle])
    of_old = torch.cat((pos_embed[:, :middle], pos_embed[:, middle + 1 :]), dim=1)
    expected = F.interpolate(as_map(of_old, old), new, mode="bicubic", align_corners=False)
    torch.testing.assert_close(as_map(patches, new), expected)


@pytest.mark.parametrize("mode", ["middle", "official"])
def test_nothing_changes_where_nothing_has_to(mode):
    pos_embed = torch.randn(1, 13, 2)
    assert resize_pos_embed(pos_embed, (4, 3), (4, 3), mode=mode) is pos_embed
    without = pos_embed[:, :12]
    same = {"has_class": False, "keep_class": False, "mode": mode}
    assert resize_pos_embed(without, (4, 3), (4, 3), **same) is without


def test_gradients_reach_every_row():
    pos_embed = torch.randn(1, 13, 2, requires_grad=True)
    resize_pos_embed(pos_embed, (4, 3), (7, 5)).square().sum().backward()
    assert (pos_embed.grad.abs().sum(-1) > 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "left"}, "unknown mode 'left'; known: middle, official"),
        ({"old": (3, 3)}, r"3 x 3 patches with a class token takes \(1, 10, D\), got \(1, 13, 2\)"),
        ({"has_class": False}, r"without a class token takes \(1, 12, D\)"),
        ({"old": (1, 13), "has_class": False}, "no class row to keep"),
    ],
)
def test_mistakes_are_explained(options, message):
    arguments = {"old": (4, 3), "new": (2, 2)} | options
    with pytest.raises(ValueError, match=message):
        resize_pos_embed(torch.randn(1, 13, 2), **arguments)
