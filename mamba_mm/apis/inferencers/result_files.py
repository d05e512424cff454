"""Files of results: never half-written, and never two inputs in one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from mamba_mm.datasets.hand_mesh.whole_file import whole_file
from mamba_mm.rendering.obj_file import write_obj
from mamba_mm.visualization.hand_obj import write_hand_objs
from mamba_mm.visualization.hand_scene import SceneHand

from .inputs import Source

_UPRIGHT = np.array([1.0, -1.0, -1.0])


class OutputNames:
    """Names for the files of inputs: their own, with a number where it is taken."""

    def __init__(self) -> None:
        self._owners: dict[tuple[Path, str], object] = {}

    def name_for(self, folder: Path, source: Source) -> str:
        """Return the name that a source has in a folder, always the same one.

        Args:
            folder: Where its files go.
            source: The input.
        """
        owner = source.identity
        name, number = source.stem, 0
        while self._owners.setdefault((folder, name), owner) != owner:
            number += 1
            name = f"{source.stem}_{number}"
        return name


def write_picture(path: Path, picture: np.ndarray) -> Path:
    """Write a picture; the file appears whole or not at all.

    Args:
        path: The file; its suffix says the format. Its folder is made.
        picture: ``(H, W, 3)``, uint8, red green blue.

    Returns:
        The file.
    """
    _, content = cv2.imencode(path.suffix, picture[..., ::-1])
    write_whole(path, content.tobytes())
    return path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(content)


class VideoFileWriter:
    """Writes pictures to a video, which appears under its name when it is complete.

    Args:
        path: The file, ``.mp4``; its folder is made with the first picture.
        fps: Pictures a second.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self.fps = fps
        self._unfinished = path.with_name(f"{path.stem}.part{path.suffix}")
        self._writer: cv2.VideoWriter | None = None

    def add(self, picture: np.ndarray) -> None:
        """Append a picture, ``(H, W, 3)``, uint8, red green blue; all must be of one size.

        Raises:
            OSError: OpenCV here cannot write such videos.
        """
        # Encoders want even sides.
        height, width = (side + side % 2 for side in picture.shape[:2])
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            codec = cv2.VideoWriter_fourcc(*"mp4v")
            # MPEG-4 knows numerators up to 65535 only: 240.037 a second are too many digits.
            fps = round(self.fps, 2 if self.fps < 600 else 0)
            self._writer = cv2.VideoWriter(str(self._unfinished), codec, fps, (width, height))
            if not self._writer.isOpened():
                raise OSError(
                    f"{self.path} cannot be written: OpenCV has no encoder for MP4 here, or the "
                    "folder is not writable"
                )
        missing = ((0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0))
        self._writer.write(np.ascontiguousarray(np.pad(picture, missing, mode="edge")[..., ::-1]))

    def finish(self) -> Path | None:
        """Complete the file; return it, or ``None`` if there was no picture."""
        if self._writer is None:
            return None
        self._writer.release()
        os.replace(self._unfinished, self.path)
        return self.path

    def discard(self) -> None:
        """Leave no file behind."""
        if self._writer is not None:
            self._writer.release()
        self._unfinished.unlink(missing_ok=True)


def write_scene_objs(
    folder: Path, scene: Sequence[SceneHand], faces_of: Callable[[bool], np.ndarray | None]
) -> list[Path]:
    """Write the meshes of a picture's hands.

    ``hand_0_right.obj`` is the first hand, with its wrist in the origin. Of several hands,
    ``scene.obj`` has all of them where they are in front of the camera of the picture (whose
    depths mean something only if its focal length is known). Metres, y up.

    Args:
        folder: Where the files go; files of these names that are there already are removed.
        scene: The hands.
        faces_of: Triangles ``(F, 3)`` of right hands (true) and left ones, ``None`` if unknown:
            then nothing is written.

    Returns:
        The files.
    """
    for old in (*folder.glob("hand_*_left.obj"), *folder.glob("hand_*_right.obj")):
        old.unlink()
    (folder / "scene.obj").unlink(missing_ok=True)
    written, vertices, faces = [], [], []
    for one in scene:
        side = "right" if one.hand.is_right else "left"
        path = folder / f"hand_{one.index}_{side}.obj"
        triangles = faces_of(one.hand.is_right)
        if not write_hand_objs(path, [one.hand], faces_of):
            continue
        written.append(path)
        faces.append(triangles + sum(map(len, vertices)))
        vertices.append(one.vertices_in_image * _UPRIGHT)
    if len(written) > 1:
        path = folder / "scene.obj"
        write_obj(path, np.concatenate(vertices), np.concatenate(faces), normals=True)
        written.append(path)
    return written
