"""The files of a call: pictures or videos, JSON, and meshes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmpose.structures import PoseDataSample

from mamba_mm.visualization.hand_scene import predicted_scene

from .inputs import Frame, Source
from .result_files import OutputNames, VideoFileWriter, write_picture, write_scene_objs
from .results_json import ResultsFile, picture_record, write_results


@dataclass
class _Sequence:
    """The unfinished files of a video; those that are not wanted are ``None``."""

    source: Source
    video: VideoFileWriter | None
    json: ResultsFile | None

    @property
    def files(self) -> list[VideoFileWriter | ResultsFile]:
        return [file for file in (self.video, self.json) if file is not None]


class ResultWriter:
    """Writes what was found in pictures.

    ::

        FOLDER/
          visualizations/NAME.jpg     or NAME.mp4 of a video
          predictions/NAME.json       one file an input; of a video, of all its frames
          meshes/NAME/hand_0_right.obj ...  scene.obj
          meshes/NAME/frame_000000/...      of a video

    Files of images are written at once, those of a video when it is over. NAME is that of the
    input, with a number if another input has it already.

    Args:
        folder: Where the files go.
        names: Of the inferencer, so that several calls do not overwrite each other's files.
        faces_of: Triangles of right hands (true) and left ones.
        about: Written into the JSON files.
        pictures: Whether to write pictures.
        json: Whether to write JSON.
        objs: Whether to write meshes.
        with_vertices: Whether the JSON files have the vertices.
    """

    def __init__(
        self,
        folder: Path,
        names: OutputNames,
        faces_of: Callable[[bool], np.ndarray | None],
        about: dict,
        *,
        pictures: bool,
        json: bool,
        objs: bool,
        with_vertices: bool,
    ) -> None:
        self.folder = folder
        self.pictures = pictures
        self._names = names
        self._faces_of = faces_of
        self._about = about
        self._json = json
        self._objs = objs
        self._with_vertices = with_vertices
        self._sequence: _Sequence | None = None

    def add(self, frame: Frame, sample: PoseDataSample, picture: np.ndarray | None) -> list[Path]:
        """Write what belongs to a picture.

        Args:
            frame: The picture.
            sample: What was found in it.
            picture: The drawing, red green blue; needed where pictures are written.

        Returns:
            The files that it is in; those of a video are there when it is over.
        """
        if self._sequence is not None and self._sequence.source is not frame.source:
            self.finish()
        name = self._names.name_for(self.folder, frame.source)
        if frame.source.is_sequence:
            return self._add_to_sequence(name, frame, sample, picture)
        files = []
        if self.pictures:
            path = self.folder / "visualizations" / f"{name}.jpg"
            files.append(write_picture(path, picture))
        if self._json:
            record = picture_record(sample, self._with_vertices)
            files.append(write_results(self._json_path(name), [record], self._about))
        return files + self._write_objs(self.folder / "meshes" / name, sample)

    def finish(self) -> None:
        """Complete the files of the video that is being written, if there is one."""
        sequence, self._sequence = self._sequence, None
        for file in () if sequence is None else sequence.files:
            file.finish()

    def break_off(self) -> None:
        """Leave nothing of a video that is not over, but for meshes of its frames.

        A camera's is kept: it has no end but this one.
        """
        if self._sequence is not None and self._sequence.source.is_live:
            self.finish()
        elif self._sequence is not None:
            for file in self._sequence.files:
                file.discard()
            self._sequence = None

    def _add_to_sequence(
        self, name: str, frame: Frame, sample: PoseDataSample, picture: np.ndarray | None
    ) -> list[Path]:
        if self._sequence is None:
            self._sequence = self._begin_sequence(name, frame.source)
        if self._sequence.video is not None:
            self._sequence.video.add(picture)
        if self._sequence.json is not None:
            self._sequence.json.add(picture_record(sample, self._with_vertices))
        files = [file.path for file in self._sequence.files]
        folder = self.folder / "meshes" / name / f"frame_{frame.index:06d}"
        return files + self._write_objs(folder, sample)

    def _begin_sequence(self, name: str, source: Source) -> _Sequence:
        video = json = None
        if self.pictures:
            video = VideoFileWriter(self.folder / "visualizations" / f"{name}.mp4", source.fps)
        if self._json:
            json = ResultsFile(self._json_path(name), dict(**self._about, fps=source.fps))
        return _Sequence(source, video, json)

    def _write_objs(self, folder: Path, sample: PoseDataSample) -> list[Path]:
        if not self._objs:
            return []
        return write_scene_objs(folder, predicted_scene(sample.pred_instances), self._faces_of)

    def _json_path(self, name: str) -> Path:
        return self.folder / "predictions" / f"{name}.json"
