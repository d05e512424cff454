"""Pictures of predicted hand meshes while a network is validated or tested."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from mmengine import fileio
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from mmpose.structures import PoseDataSample

from mamba_mm.models.body_models import MANOLayer
from mamba_mm.visualization import HandMeshLocalVisualizer
from mamba_mm.visualization.hand_obj import write_hand_objs
from mamba_mm.visualization.hand_scene import labelled_hands, predicted_hands


class MeshVisualizationHook(Hook):
    """Draws every n-th sample of validation and test, ground truth above prediction.

    What MMPose's ``PoseVisualizationHook`` does for keypoints, with the same arguments; but one
    rule, ``interval``, holds in both loops, and files are written in both. With several processes
    the first one draws its own samples.

    The visualizer is the runner's, ``dict(type="mamba_mm.HandMeshLocalVisualizer")``. It gets the
    hand model of the network.

    Args:
        enable: Whether to draw at all.
        interval: Draw one of so many samples, the first included.
        kpt_thr: Joints less visible than that are not drawn.
        show: Whether to open a window; then nothing is stored.
        wait_time: Seconds that a picture is shown.
        out_dir: Folder for the pictures, in ``work_dir/timestamp`` if it is relative. ``None``:
            the visualizer's backends get them.
        backend_args: For reading the images, as in MMEngine.
        draw_gt: Whether to draw the ground truth, too.
        write_obj: Whether to write the meshes into ``out_dir``, too: ``NAME.obj`` and, of the
            ground truth, ``NAME_gt.obj``; upright, with the wrist in the origin, in metres.

    Raises:
        TypeError: The visualizer cannot draw meshes.
        ValueError: ``interval`` is not positive, or ``write_obj`` has no ``out_dir``.
    """

    def __init__(
        self,
        enable: bool = False,
        interval: int = 50,
        kpt_thr: float = 0.3,
        show: bool = False,
        wait_time: float = 0.0,
        out_dir: str | None = None,
        backend_args: dict | None = None,
        draw_gt: bool = True,
        write_obj: bool = False,
    ) -> None:
        if interval < 1:
            raise ValueError(f"MeshVisualizationHook: interval is 1 or more, got {interval}")
        if write_obj and out_dir is None:
            raise ValueError("MeshVisualizationHook: write_obj=True needs out_dir")
        self.enable = enable
        self.interval = interval
        self.kpt_thr = kpt_thr
        self.show = show
        self.wait_time = wait_time
        self.out_dir = out_dir
        self.backend_args = backend_args
        self.draw_gt = draw_gt
        self.write_obj = write_obj
        self._seen = 0
        if enable:
            self._visualizer = _mesh_visualizer()

    def before_val_epoch(self, runner: Runner) -> None:
        """Start to count samples."""
        self._start(runner, "val")

    def before_test_epoch(self, runner: Runner) -> None:
        """Start to count samples."""
        self._start(runner, "test")

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[PoseDataSample] | None = None,
    ) -> None:
        """Draw the samples of a batch whose turn it is.

        Args:
            runner: Of the validation.
            batch_idx: Not used.
            data_batch: Not used.
            outputs: Samples with predictions.
        """
        self._draw_some(runner, outputs, "val")

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[PoseDataSample] | None = None,
    ) -> None:
        """Draw the samples of a batch whose turn it is.

        Args:
            runner: Of the test.
            batch_idx: Not used.
            data_batch: Not used.
            outputs: Samples with predictions.
        """
        self._draw_some(runner, outputs, "test")

    def _start(self, runner: Runner, phase: str) -> None:
        self._seen = 0
        if not self.enable:
            return
        evaluator = runner.val_evaluator if phase == "val" else runner.test_evaluator
        self._visualizer.set_dataset_meta(evaluator.dataset_meta)
        layers = [layer for layer in runner.model.modules() if isinstance(layer, MANOLayer)]
        if layers:
            self._visualizer.use_mano(layers[0].model)

    def _draw_some(self, runner: Runner, samples: Sequence[PoseDataSample], phase: str) -> None:
        if not (self.enable and is_main_process()):
            return
        for sample in samples:
            if self._seen % self.interval == 0:
                self._draw(runner, sample, phase)
            self._seen += 1

    def _draw(self, runner: Runner, sample: PoseDataSample, phase: str) -> None:
        stem = f"{phase}_{self._seen:06d}_{Path(sample.img_path).stem}"
        folder = self._folder(runner, phase)
        self._visualizer.add_datasample(
            stem if self.show else f"{phase}_{self._seen:06d}",
            self._image(sample.img_path),
            sample,
            draw_gt=self.draw_gt,
            show=self.show,
            wait_time=self.wait_time,
            out_file=None if folder is None else str(folder / f"{stem}.jpg"),
            kpt_thr=self.kpt_thr,
            step=runner.iter,
        )
        if self.write_obj:
            self._write_meshes(sample, folder / stem)

    def _write_meshes(self, sample: PoseDataSample, stem: Path) -> None:
        hands = {"": predicted_hands(sample.pred_instances)}
        if self.draw_gt:
            hands["_gt"] = labelled_hands(sample.gt_instances)
        for suffix, hands_of_side in hands.items():
            path = stem.with_name(f"{stem.name}{suffix}.obj")
            write_hand_objs(path, hands_of_side, self._visualizer.faces_of)

    def _folder(self, runner: Runner, phase: str) -> Path | None:
        """Where files go; that of a validation has the iteration in its name."""
        if self.out_dir is None:
            return None
        folder = Path(runner.work_dir) / runner.timestamp / self.out_dir
        return folder / f"iter_{runner.iter}" if phase == "val" else folder

    def _image(self, path: str) -> np.ndarray:
        content = fileio.get(path, backend_args=self.backend_args)
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(f"MeshVisualizationHook: {path} is not an image")
        return image[..., ::-1]


def _mesh_visualizer() -> HandMeshLocalVisualizer:
    visualizer = Visualizer.get_current_instance()
    if not isinstance(visualizer, HandMeshLocalVisualizer):
        raise TypeError(
            f"MeshVisualizationHook: the runner's visualizer is a {type(visualizer).__name__}, "
            "which does not draw meshes; set visualizer=dict(type='mamba_mm."
            "HandMeshLocalVisualizer', ...)"
        )
    return visualizer
