"""Sizes of images as a command line gives them."""

import argparse

import pytest

from mamba_mm.measuring.image_shape import ImageShape, shape_argument


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("224", (224, 224, 1)),
        ("224@8", (224, 224, 8)),
        ("800x1280", (800, 1280, 1)),
        ("800x1280@16", (800, 1280, 16)),
    ],
)
def test_shapes_are_read(text, expected):
    shape = ImageShape.parse(text)
    assert (shape.height, shape.width, shape.batch) == expected
    assert ImageShape.parse(str(shape)) == shape


@pytest.mark.parametrize("text", ["", "0x32", "224@", "224x", "x224", "224@0", "-224", "2.5"])
def test_other_forms_are_explained(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"write 224@8 or 800x1280"):
        shape_argument(text)
