from types import SimpleNamespace

import numpy as np
import pytest

from mamba_mm.apis.inferencers.given_cameras import GivenCameras

K = np.array([[500, 0, 80], [0, 510, 60], [0, 0, 1]], np.float32)


def frame(position=0):
    image = np.zeros((120, 160, 3), np.uint8)
    return SimpleNamespace(image=image, source=SimpleNamespace(name="a.jpg"), position=position)


def test_one_for_all_or_one_for_each():
    np.testing.assert_array_equal(GivenCameras(K.tolist())(frame(7)), K)
    each = GivenCameras([K, 2 * K])
    np.testing.assert_array_equal(each(frame(1)), 2 * K)
    with pytest.raises(ValueError, match=r"picture 2, .* has 2 matrices"):
        each(frame(2))


def test_a_focal_length_looks_at_the_middle():
    np.testing.assert_array_equal(
        GivenCameras(focal_length=300)(frame()), [[300, 0, 80], [0, 300, 60], [0, 0, 1]]
    )


def test_nothing_is_known():
    assert GivenCameras()(frame()) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(cam_K=K, focal_length=300), "not both"),
        (dict(focal_length=0), "positive number of pixels, got 0"),
        (dict(cam_K=K[:2]), r"cam_K is \(3, 3\) or \(N, 3, 3\), got \(2, 3\)"),
        (dict(cam_K=-K), "positive focal lengths"),
        (dict(cam_K=K * np.nan), "positive focal lengths"),
    ],
)
def test_mistakes(settings, message):
    with pytest.raises(ValueError, match=message):
        GivenCameras(**settings)
