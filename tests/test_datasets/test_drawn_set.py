"""What the commands that draw sets have in common."""

import pytest

from mamba_mm.datasets.drawn_set import report_progress, shows_share


def test_every_hundredth_image_and_the_last_are_reported():
    lines = []
    for drawn in range(1, 251):
        report_progress(lines.append, "val", drawn, 250)
    assert lines == [f"val: {drawn}/250 images drawn" for drawn in (100, 200, 250)]


@pytest.mark.parametrize(("share", "shown"), [(0.0, 0), (0.1, 1), (0.5, 5), (0.8, 8), (1.0, 10)])
def test_a_share_of_the_images_is_spread_evenly(share, shown):
    chosen = [shows_share(share, index) for index in range(100)]
    assert all(sum(chosen[start : start + 10]) == shown for start in range(0, 100, 10))
