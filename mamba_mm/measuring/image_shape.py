"""Sizes of images as a command line gives them."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class ImageShape:
    """A batch of images of one size."""

    height: int
    width: int
    batch: int

    @classmethod
    def parse(cls, text: str) -> ImageShape:
        """Read ``SIZE``, ``HEIGHTxWIDTH``, and either with ``@BATCH``.

        Raises:
            ValueError: The text is of another form, or a number is 0.
        """
        match = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?(?:@([1-9]\d*))?", text)
        if match is None:
            raise ValueError(
                f"shape {text!r} is not of the form SIZE or HEIGHTxWIDTH, "
                "with @BATCH behind it for a batch other than 1; write 224@8 or 800x1280"
            )
        height, width, batch = match.groups()
        return cls(int(height), int(width or height), int(batch or 1))

    @property
    def pixels(self) -> int:
        """Pixels of one image."""
        return self.height * self.width

    def __str__(self) -> str:
        return f"{self.height}x{self.width}@{self.batch}"


def shape_argument(text: str) -> ImageShape:
    """Read a shape for :mod:`argparse`, which prints what is wrong.

    Raises:
        argparse.ArgumentTypeError: As :meth:`ImageShape.parse`.
    """
    try:
        return ImageShape.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
