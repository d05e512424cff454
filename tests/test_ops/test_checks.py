"""Every mistake in the arguments is named, with what was expected."""

import pytest
import torch
from scan_cases import Case

from mamba_mm.ops import selective_scan


def arguments(**changes):
    return {**Case(batch=2, dim=6, length=10, states=3, groups=2).arguments, **changes}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"u": torch.ones(6, 10)}, ValueError, r"u has shape \(6, 10\), expected \(B, D, L\)"),
        ({"delta": torch.ones(2, 3, 10)}, ValueError, r"delta has shape .* expected \(2, 6, 10\)"),
        ({"z": torch.ones(2, 6, 9)}, ValueError, r"z has shape .* expected \(2, 6, 10\)"),
        ({"A": torch.ones(6)}, ValueError, r"A has shape \(6,\), expected \(D, N\) with D = 6"),
        ({"A": torch.ones(5, 3)}, ValueError, r"A has shape \(5, 3\), expected \(D, N\)"),
        ({"B": torch.ones(2, 2, 4, 10)}, ValueError, "B has shape .* with N = 3 as in A"),
        ({"C": torch.ones(2, 2, 3, 11)}, ValueError, "C has shape"),
        ({"C": torch.ones(6, 4)}, ValueError, r"C has shape \(6, 4\), expected"),
        ({"C": torch.ones(3)}, ValueError, r"C has shape \(3,\), expected"),
        ({"B": torch.ones(2, 4, 3, 10)}, ValueError, "B has 4 groups, expected a divisor of D = 6"),
        ({"B": torch.ones(2, 3, 3, 10)}, ValueError, "B has 3 groups and C has 2"),
        ({"D": torch.ones(7)}, ValueError, r"D has shape \(7,\), expected \(6,\)"),
        ({"delta_bias": torch.ones(1, 6)}, ValueError, r"delta_bias has shape .* expected \(6,\)"),
        ({"A": torch.ones(6, 3, dtype=torch.complex64)}, TypeError, "A is torch.complex64.*real"),
        ({"u": torch.ones(2, 6, 10, dtype=torch.int64)}, TypeError, "u is torch.int64, expected"),
        ({"D": [1.0] * 6}, TypeError, "D is list, expected a tensor"),
        ({"B": torch.ones(2, 2, 3, 10, device="meta")}, ValueError, "B is on meta, expected cpu"),
    ],
)
def test_the_offending_argument_is_named(changes, error, message):
    with pytest.raises(error, match=message) as caught:
        selective_scan(**arguments(**changes))
    assert "\n" not in str(caught.value)


def test_good_arguments_pass():
    assert selective_scan(**arguments()).shape == (2, 6, 10)
