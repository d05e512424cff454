import pytest
import torch
import torch.nn.functional as F

from mamba_mm.layers import PatchExpand2d


@pytest.mark.parametrize(("factor", "norm"), [(2, "ln"), (4, "ln"), (2, "bn")])
def test_shape(factor, norm):
    layer = PatchExpand2d(12, 6, factor, norm)
    assert layer.expand.weight.shape == (factor**2 * 6, 12)
    assert layer.expand.bias is None
    assert layer(torch.randn(2, 12, 3, 5)).shape == (2, 6, 3 * factor, 5 * factor)


@pytest.mark.parametrize("factor", [2, 4])
def test_every_position_becomes_a_square_whose_rows_come_first(factor):
    torch.manual_seed(0)
    layer = PatchExpand2d(8, 3, factor)
    x = torch.randn(2, 8, 3, 5)
    result = layer(x)
    for row, column, down, right in ((0, 0, 0, 1), (2, 3, 1, 0), (1, 4, 1, 1)):
        first = (down * factor + right) * 3
        vector = layer.expand.weight[first : first + 3] @ x[0, :, row, column]
        expected = F.layer_norm(vector, (3,))
        torch.testing.assert_close(
            result[0, :, row * factor + down, column * factor + right], expected
        )


def test_it_is_not_pixel_shuffle():
    layer = PatchExpand2d(8, 4)
    x = torch.randn(1, 8, 2, 3)
    other = layer.norm(F.pixel_shuffle(layer.expand(x), 2))
    assert not torch.allclose(layer(x), other, atol=1e-2)
