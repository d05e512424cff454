"""Pictures to look for hands in: image files, folders, videos, cameras, and arrays."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import mmcv
import numpy as np

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")

# Of cameras, and of files that do not say it.
_USUAL_FPS = 30.0
_HIGHEST_FPS = 1000.0

Input = str | Path | np.ndarray


@dataclass(frozen=True)
class Frame:
    """One picture.

    Attributes:
        image: ``(H, W, 3)``, uint8, blue green red, as OpenCV reads it.
        source: Where it comes from.
        index: Number in its source: of the frame of a video, 0 for an image.
        position: Number among all pictures of a call.
    """

    image: np.ndarray
    source: Source
    index: int
    position: int


class Source(ABC):
    """What pictures come from.

    Attributes:
        name: What to call it: the path of a file.
        identity: The same for the same file, and another one for every other input: arrays and
            cameras are new ones in every call, whatever they are called.
        is_sequence: Whether its pictures belong together, as the frames of a video do.
        is_live: Whether it has no end of its own.
        fps: Pictures a second of a sequence.
    """

    is_sequence: ClassVar[bool] = False
    is_live: ClassVar[bool] = False
    fps: float = _USUAL_FPS

    def __init__(self, name: str, identity: object | None = None) -> None:
        self.name = name
        self.identity = name if identity is None else identity

    @property
    def stem(self) -> str:
        """A name for files that are made of it."""
        return Path(self.name).stem

    @abstractmethod
    def images(self) -> Iterator[np.ndarray]:
        """Yield the pictures, ``(H, W, 3)``, uint8, blue green red."""


class ArraySource(Source):
    """A picture in memory.

    Args:
        image: ``(H, W, 3)``, uint8, blue green red.
        number: Its place among the inputs.

    Raises:
        ValueError: It is not such a picture.
    """

    def __init__(self, image: np.ndarray, number: int) -> None:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(
                f"input {number}: an image is an array (H, W, 3) of uint8, blue green red, got "
                f"{image.shape} of {image.dtype}"
            )
        super().__init__(f"image_{number:06d}", identity=object())
        self._image = image

    def images(self) -> Iterator[np.ndarray]:
        """Yield the picture."""
        yield self._image


class ImageFile(Source):
    """A picture in a file, turned upright as its EXIF entry says."""

    def images(self) -> Iterator[np.ndarray]:
        """Yield the picture.

        Raises:
            ValueError: The file cannot be read as an image.
        """
        image = mmcv.imread(self.name) if Path(self.name).stat().st_size else None
        if image is None:
            raise ValueError(f"{self.name} cannot be read as an image: damaged, or of another kind")
        yield image


class VideoFile(Source):
    """A video in a file.

    Raises:
        ValueError: The file cannot be read as a video.
    """

    is_sequence = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        capture = cv2.VideoCapture(name)
        readable = capture.isOpened() and capture.read()[0]
        self.fps = _fps(capture)
        capture.release()
        if not readable:
            raise ValueError(
                f"{name} cannot be read as a video: damaged, or in a format that OpenCV does not "
                "know; `ffmpeg -i FILE new.mp4` makes one that it knows"
            )

    def images(self) -> Iterator[np.ndarray]:
        """Yield the frames."""
        yield from _captured(cv2.VideoCapture(self.name))


class Webcam(Source):
    """A camera, which yields pictures until it is unplugged or the caller stops.

    Args:
        number: That the system has given it, from 0.
    """

    is_sequence = True
    is_live = True

    def __init__(self, number: int) -> None:
        super().__init__(f"webcam_{number}", identity=object())
        self.number = number

    def images(self) -> Iterator[np.ndarray]:
        """Yield the pictures.

        Raises:
            OSError: There is no such camera, or it is in use.
        """
        capture = cv2.VideoCapture(self.number)
        if not capture.isOpened():
            raise OSError(
                f"camera {self.number} is not available: not connected, in use by another "
                "program, or not permitted; 'webcam:1' is the second camera"
            )
        self.fps = _fps(capture)
        yield from _captured(capture)


def open_sources(inputs: Input | Sequence[Input]) -> list[Source]:
    """Find out what inputs are.

    Args:
        inputs: An image or video file, a folder, whose image files are taken in the order of
            their names, ``"webcam"`` or ``"webcam:N"``, an array, or a list of these.

    Returns:
        The sources. Files are there; whether an image can be read shows when its turn comes.

    Raises:
        FileNotFoundError: A file does not exist, or a folder has no images.
        ValueError: An input is of none of these kinds, or there is none.
    """
    if isinstance(inputs, str | Path | np.ndarray):
        inputs = [inputs]
    sources = [source for number, one in enumerate(inputs) for source in _sources_of(one, number)]
    if not sources:
        raise ValueError("there is no input: name an image, a folder, a video, or 'webcam'")
    return sources


def numbered_frames(sources: Sequence[Source], max_frames: int | None = None) -> Iterator[Frame]:
    """Yield the pictures of all sources, one after the other.

    Args:
        sources: Where they come from.
        max_frames: Most pictures of each source.
    """
    position = 0
    for source in sources:
        for index, image in enumerate(itertools.islice(source.images(), max_frames)):
            yield Frame(image, source, index, position)
            position += 1


def _sources_of(one: Input, number: int) -> list[Source]:
    if isinstance(one, np.ndarray):
        return [ArraySource(one, number)]
    if not isinstance(one, str | Path):
        raise ValueError(
            f"input {number}: expected a path, 'webcam' or an array, got {type(one).__name__}"
        )
    name, path = str(one), Path(one)
    if name.lower().split(":")[0] == "webcam" and not path.exists():
        return [Webcam(_camera_number(name))]
    if path.is_dir():
        return _images_of_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file or folder {name} (looked from {Path.cwd()})")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return [ImageFile(name)]
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return [VideoFile(name)]
    raise ValueError(
        f"{name}: neither an image ({', '.join(IMAGE_SUFFIXES)}) nor a video "
        f"({', '.join(VIDEO_SUFFIXES)}) by its name"
    )


def _images_of_folder(folder: Path) -> list[Source]:
    files = sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES
    )
    if not files:
        raise FileNotFoundError(
            f"the folder {folder} has no images ({', '.join(IMAGE_SUFFIXES)}); its folders are "
            "not searched"
        )
    return [ImageFile(str(path)) for path in files]


def _camera_number(name: str) -> int:
    _, colon, number = name.partition(":")
    if colon and not number.isdigit():
        raise ValueError(f"{name}: a camera is 'webcam' or 'webcam:N', N its number from 0")
    return int(number or 0)


def _fps(capture: cv2.VideoCapture) -> float:
    # Drivers and damaged headers say zero, nothing at all, or the ticks of a clock.
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps <= _HIGHEST_FPS else _USUAL_FPS


def _captured(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    try:
        while True:
            is_there, image = capture.read()
            if not is_there:
                return
            yield image
    finally:
        capture.release()
