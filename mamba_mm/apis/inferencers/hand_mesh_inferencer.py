"""Hand meshes of any photograph, folder, video or camera."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from mmpose.apis.inference import dataset_meta_from_config
from mmpose.apis.inferencers.base_mmpose_inferencer import BaseMMPoseInferencer
from mmpose.structures import PoseDataSample
from torch import nn

from mamba_mm.datasets.transforms.rot_scale_test_time_aug import rot_scale_pipeline
from mamba_mm.models.body_models import MANOLayer
from mamba_mm.models.pose_estimators.hand_mesh_tta import HandMeshTTAModel
from mamba_mm.models.pose_estimators.topdown_hand_mesh import TopdownHandMeshEstimator
from mamba_mm.models.utils.checkpoint import read_checkpoint
from mamba_mm.models.utils.checkpoint.containers import open_container
from mamba_mm.visualization import HandSceneVisualizer
from mamba_mm.visualization.hand_scene_visualizer import PANELS

from .batching import in_batches
from .box_file import BoxFile
from .given_cameras import GivenCameras
from .hand_boxes import GivenBoxes, HandBox, HandBoxes, WholeImage
from .hand_detection import DetectedHands
from .inputs import Frame, Input, numbered_frames, open_sources
from .result_files import OutputNames
from .result_writer import ResultWriter
from .results_json import no_hands, picture_record
from .window import show_picture

Boxes = str | Path | Sequence | np.ndarray | HandBoxes


class HandMeshInferencer(BaseMMPoseInferencer):
    """Finds the mesh of every hand in pictures.

    Example::

        inferencer = HandMeshInferencer(
            "configs/mmpose/hamba/hamba_vit-h_2xb28-170k_freihand-256x192.py",
            "hamba.pth",
            detector=WholeBodyHands("wholebody"),
            bbox_padding=2.0,
        )
        for result in inferencer("photos", out_dir="results", write_obj=True):
            print(result["predictions"][0]["hands"])

    Which hand a box shows has to be known: a left one is mirrored for the network, which knows
    right hands only, and nothing in it tells whether that was right. So boxes come with sides:
    from a whole-body estimator, from a detector whose classes name them, from a file, or from the
    caller; ``side`` is for those that come without.

    Args:
        model: Config of a hand-mesh network: a path, or the config itself.
        weights: Its checkpoint; ``None`` leaves it random, with a warning.
        device: Where it runs; by default on a GPU, if there is one.
        detector: Where the hands are, for calls without ``bboxes``: a
            :class:`~mamba_mm.apis.inferencers.HandBoxes`, or what
            :class:`~mamba_mm.apis.inferencers.DetectedHands` takes as ``model``.
        detector_weights: Weights of a detector that is named.
        side: ``"right"`` or ``"left"``: which hand those boxes show that do not say it.
        score_thr: Of a detector that is named: weaker detections are left out.
        bbox_padding: How much larger than its box a hand's crop is, instead of what the config's
            test pipeline says. Networks trained on whole frames, as those of FreiHAND, want
            about 2 for the tight boxes of detectors.
        mano_path: MANO model of the network and the pictures, instead of the config's.
        tta: Test-time augmentation: ``True`` for the 95 crops of Hamba's paper, or a dict of
            ``scales`` and ``rotations`` of
            :class:`~mamba_mm.datasets.transforms.RotScaleTestTimeAug`. Results say it.
        panel_height: Smaller photographs are enlarged to that many pixels in pictures.

    Raises:
        FileNotFoundError: A file does not exist.
        UnsafeCheckpointError: The checkpoint holds code.
        ValueError: The config is not of a hand-mesh network, the weights are those of another
            one, or a setting is not usable.
    """

    def __init__(
        self,
        model: str | Path | Config,
        weights: str | Path | None = None,
        device: str | None = None,
        *,
        detector: str | Path | Config | HandBoxes | None = None,
        detector_weights: str | Path | None = None,
        side: str | None = None,
        score_thr: float = 0.3,
        bbox_padding: float | None = None,
        mano_path: str | Path | None = None,
        tta: bool | dict = False,
        panel_height: int = 384,
    ) -> None:
        config = _config_of(model)
        if weights is not None and "://" not in str(weights) and not Path(weights).is_file():
            raise FileNotFoundError(f"there is no checkpoint {weights}")
        if mano_path is not None:
            _set_mano(config, mano_path)
        self.side = side
        self._tta = {} if tta is True else tta
        self._bbox_padding = bbox_padding
        self._panel_height = panel_height
        self._names = OutputNames()
        file = model if isinstance(model, str | Path) else getattr(config, "filename", None)
        self._about = dict(
            model=None if file is None else str(file),
            weights=None if weights is None else str(weights),
        )
        with DefaultScope.overwrite_default_scope("mmpose"):
            super().__init__(
                config, None if weights is None else str(weights), device, scope="mmpose"
            )
        self._predictor = self.model if self._tta is False else HandMeshTTAModel(self.model)
        if detector is not None and not isinstance(detector, HandBoxes):
            detector = DetectedHands(
                detector, detector_weights, device, side=side, score_thr=score_thr
            )
        self.detector = detector

    def __call__(
        self,
        inputs: Input | Sequence[Input],
        return_datasamples: bool = False,
        batch_size: int = 16,
        *,
        bboxes: Boxes | None = None,
        sides: str | Sequence | None = None,
        cam_K: np.ndarray | Sequence | None = None,
        focal_length: float | None = None,
        max_frames: int | None = None,
        panels: Sequence[str] = PANELS,
        return_vis: bool = False,
        show: bool = False,
        wait_time: float = 0.0,
        out_dir: str | Path | None = None,
        write_pictures: bool = True,
        write_json: bool = True,
        write_obj: bool = False,
        with_vertices: bool = False,
    ) -> Iterator[dict]:
        """Find the hands of pictures, and their meshes.

        Everything is checked at once, but the work is done as the results are asked for, one by
        one. Breaking off leaves no half-written file.

        Args:
            inputs: An image or video file, a folder of images, ``"webcam"`` or ``"webcam:N"``, an
                array ``(H, W, 3)`` of uint8, blue green red, or a list of these.
            return_datasamples: Whether predictions are MMPose's samples instead of plain records.
            batch_size: Hands that go through the network at once, of several pictures; those of a
                camera do not wait for others.
            bboxes: The hands' boxes, instead of a detector: an array ``(N, 4)`` of left, top,
                right, bottom, a list of such for several pictures, a file in COCO's format
                (:class:`~mamba_mm.apis.inferencers.BoxFile`), or ``"whole_image"``.
            sides: Of these boxes: ``"right"`` or ``"left"``, or a list of them, nested as the
                boxes are. By default the inferencer's ``side``.
            cam_K: Intrinsics ``(3, 3)``, of all pictures or of each; they make depths metric.
            focal_length: Instead of them, in pixels; the camera looks at the middle.
            max_frames: Most pictures that are taken of a video or camera.
            panels: What pictures consist of: some of ``"joints"``, ``"mesh"``, ``"side"``.
            return_vis: Whether results have pictures.
            show: Whether to open a window; Escape or q ends.
            wait_time: Seconds that a picture is shown; 0: until a key is pressed, or, of a video
                or camera, until the next one.
            out_dir: Folder for files (see :class:`ResultWriter`); ``None``: none are written.
            write_pictures: Whether to write pictures and videos there.
            write_json: Whether to write JSON there.
            write_obj: Whether to write meshes there.
            with_vertices: Whether records, and so the JSON, have the vertices.

        Yields:
            For each picture ``predictions``, a list with what was found in it: a record (see
            :mod:`mamba_mm.apis.inferencers.results_json`) or a ``PoseDataSample`` with
            ``pred_instances``; ``visualization``, a list with its picture or nothing; and
            ``files``, that it is written to. Those of a video are there when it is over.

        Raises:
            FileNotFoundError: An input does not exist.
            ValueError: An input, a box or a setting is not usable.
        """
        for name, count in (("batch_size", batch_size), ("max_frames", max_frames)):
            if count is not None and count < 1:
                raise ValueError(f"{name} is 1 or more, got {count}")
        sources = open_sources(inputs)
        locate = self._boxes(bboxes, sides)
        cameras = GivenCameras(cam_K, focal_length)
        _check_panels(panels)
        writer = None
        if out_dir is not None:
            writer = ResultWriter(
                Path(out_dir),
                self._names,
                self.visualizer.faces_of,
                self._about | dict(test_time_augmentation=self.test_time_augmentation),
                pictures=write_pictures,
                json=write_json,
                objs=write_obj,
                with_vertices=with_vertices,
            )
        needs_picture = return_vis or show or (writer is not None and write_pictures)
        is_live = any(source.is_live for source in sources)

        def results() -> Iterator[dict]:
            frames = numbered_frames(sources, max_frames)
            for frame, sample in self._predict(frames, locate, cameras, batch_size, is_live):
                picture = None
                if needs_picture:
                    (picture,) = self.visualize([frame.image], [sample], panels=panels)
                files = [] if writer is None else writer.add(frame, sample, picture)
                yield self.postprocess(
                    [sample],
                    [picture] if return_vis else [],
                    return_datasamples,
                    with_vertices=with_vertices,
                    files=files,
                )
                if show and not show_picture("hands", picture, _pause(frame, wait_time)):
                    return

        return _writing(results(), writer)

    @property
    def test_time_augmentation(self) -> dict | None:
        """Scales and rotations of the crops, or ``None`` without test-time augmentation."""
        if self._tta is False:
            return None
        pairs = self.pipeline.transforms[-1].augmentations
        return dict(
            name="rot_scale_tta",
            scales=sorted({scale for scale, _ in pairs}),
            rotations=sorted({rotation for _, rotation in pairs}),
        )

    def preprocess_single(
        self, frame: Frame, box: HandBox, cam_K: np.ndarray | None = None
    ) -> dict:
        """Crop a hand, through the test pipeline of the config.

        Args:
            frame: The picture.
            box: The hand.
            cam_K: Intrinsics of the picture, ``(3, 3)``.

        Returns:
            What the model takes, not yet collated.
        """
        data = dict(
            img=frame.image,
            img_path=frame.source.name,
            img_id=frame.position,
            bbox=box.bbox[None],
            bbox_score=np.array([box.score], np.float32),
            is_right=np.array([box.is_right], np.float32),
            **self.model.dataset_meta,
        )
        if cam_K is not None:
            data |= dict(cam_K=cam_K[None], has_cam=np.ones(1, np.float32))
        return self.pipeline(data)

    @torch.no_grad()
    def forward(self, inputs: Sequence[dict]) -> list[PoseDataSample]:
        """Run the network on crops.

        Args:
            inputs: From :meth:`preprocess_single`, as many as are to go through at once.

        Returns:
            A sample with one hand for each.
        """
        return self._predictor.test_step(self.collate_fn(list(inputs)))

    def visualize(
        self,
        inputs: Sequence[np.ndarray],
        preds: Sequence[PoseDataSample],
        panels: Sequence[str] = PANELS,
    ) -> list[np.ndarray]:
        """Draw pictures.

        Args:
            inputs: Images, ``(H, W, 3)``, uint8, blue green red.
            preds: What was found in each.
            panels: What they consist of.

        Returns:
            Pictures, ``(H', W', 3)``, uint8, red green blue.
        """
        return [
            self.visualizer.draw(image[..., ::-1], sample, panels)
            for image, sample in zip(inputs, preds, strict=True)
        ]

    def postprocess(
        self,
        preds: Sequence[PoseDataSample],
        visualization: list[np.ndarray],
        return_datasamples: bool = False,
        *,
        with_vertices: bool = False,
        files: Sequence[Path] = (),
    ) -> dict:
        """Put together what a caller gets.

        Args:
            preds: What was found in pictures.
            visualization: The pictures.
            return_datasamples: Whether to return samples instead of records.
            with_vertices: Whether records have vertices.
            files: Written ones.
        """
        predictions = list(preds)
        if not return_datasamples:
            predictions = [picture_record(sample, with_vertices) for sample in preds]
        return dict(predictions=predictions, visualization=visualization, files=list(files))

    def _predict(
        self,
        frames: Iterable[Frame],
        locate: HandBoxes,
        cameras: GivenCameras,
        batch_size: int,
        is_live: bool,
    ) -> Iterator[tuple[Frame, PoseDataSample]]:
        """Yield each picture with the hands in it."""

        def cropped() -> Iterator[tuple[tuple[Frame, bool], list[dict]]]:
            for frame in frames:
                cam_K = cameras(frame)
                if cam_K is None:
                    cam_K = locate.camera(frame)
                crops = [self.preprocess_single(frame, box, cam_K) for box in locate(frame)]
                yield (frame, cam_K is None), crops

        most_waiting = 1 if is_live else batch_size
        for (frame, is_assumed), hands in in_batches(
            cropped(), batch_size, self.forward, most_waiting
        ):
            yield frame, _scene_sample(frame, hands, is_assumed)

    def _boxes(self, bboxes: Boxes | None, sides: str | Sequence | None) -> HandBoxes:
        """What says where the hands are."""
        if isinstance(bboxes, HandBoxes) or bboxes is None:
            if sides is not None:
                raise ValueError("sides belong to boxes that are given: arrays, or 'whole_image'")
            if bboxes is None and self.detector is None:
                raise ValueError(
                    "it has to be known where the hands are: give bboxes (an array, a file, or "
                    "'whole_image'), or a detector to the inferencer"
                )
            return bboxes or self.detector
        sides = self.side if sides is None else sides
        if isinstance(bboxes, str | Path):
            if not isinstance(sides, str | None):
                raise ValueError("a list of sides belongs to an array of boxes; give one side")
            if str(bboxes) != "whole_image":
                return BoxFile(bboxes, sides)
        if sides is None:
            raise ValueError(
                "it has to be known which hand a box shows, 'right' or 'left': give sides, or a "
                "side to the inferencer"
            )
        return WholeImage(sides) if isinstance(bboxes, str) else GivenBoxes(bboxes, sides)

    def _init_model(self, cfg: Config, weights: str | None, device: str = "cpu") -> nn.Module:
        # MMEngine would run code that it finds in the file; these weights are read below.
        self._weights = weights
        model = revert_sync_batchnorm(super()._init_model(cfg, None, device))
        if not isinstance(model, TopdownHandMeshEstimator):
            raise ValueError(
                f"the config is of a {type(model).__name__}; hand meshes come from a "
                "mamba_mm.TopdownHandMeshEstimator, as in configs/mmpose/hamba"
            )
        return model

    def _load_weights_to_model(
        self, model: nn.Module, checkpoint: dict | None, cfg: Config | None
    ) -> None:
        if self._weights is None:
            super()._load_weights_to_model(model, checkpoint, cfg)
            return
        content = read_checkpoint(self._weights).content
        state = open_container(content, where=self._weights).tensors
        _check_fit(model, state)
        model.load_state_dict(state, strict=False)
        model.dataset_meta = dataset_meta_from_config(cfg)

    def _init_pipeline(self, cfg: Config) -> Callable:
        loader = cfg.get("test_dataloader") or cfg.get("val_dataloader")
        if not loader:
            raise ValueError("the config has no test_dataloader, whose pipeline crops the hands")
        pipeline = copy.deepcopy(list(loader.dataset.pipeline))
        if self._bbox_padding is not None:
            _set_padding(pipeline, self._bbox_padding)
        if self._tta is not False:
            pipeline = rot_scale_pipeline(pipeline, **self._tta)
        return Compose(pipeline)

    def _init_collate(self, cfg: Config) -> Callable:
        return pseudo_collate

    def _init_visualizer(self, cfg: Config) -> HandSceneVisualizer:
        visualizer = HandSceneVisualizer("hand_scenes", panel_height=self._panel_height)
        for layer in self.model.modules():
            if isinstance(layer, MANOLayer):
                visualizer.use_mano(layer.model)
        return visualizer


def _config_of(model: str | Path | Config) -> Config:
    if not isinstance(model, str | Path):
        return copy.deepcopy(model)
    if not Path(model).is_file():
        raise FileNotFoundError(f"there is no config {model} (looked from {Path.cwd()})")
    return Config.fromfile(model)


def _set_mano(config: Config, mano_path: str | Path) -> None:
    head = config.model.get("head")
    if head is None:
        raise ValueError(
            f"mano_path is for the head of a hand-mesh network; the config is of a "
            f"{config.model.type}, which has none"
        )
    output_model = head.get("output_model") or {}
    mano = dict(output_model.get("mano") or {}, mano_path=str(mano_path))
    head.output_model = dict(output_model, mano=mano)


def _set_padding(pipeline: Sequence[dict], padding: float) -> None:
    if not padding > 0:
        raise ValueError(f"bbox_padding is a positive factor, got {padding}")
    boxes = [one for one in pipeline if str(one["type"]).endswith("GetBBoxCenterScale")]
    if not boxes:
        raise ValueError(
            "bbox_padding is an argument of GetBBoxCenterScale, which the test pipeline lacks"
        )
    for transform in boxes:
        transform["padding"] = padding


def _check_fit(model: nn.Module, state: dict) -> None:
    """Refuse weights of another network, which would leave a part of this one random."""
    expected = model.state_dict()
    missing = [name for name in expected if name not in state]
    other = [
        name for name in expected if name in state and state[name].shape != expected[name].shape
    ]
    if missing or other:
        raise ValueError(
            f"the checkpoint is not one of this config's network: {len(missing)} of its "
            f"{len(expected)} entries are missing and {len(other)} have another shape, such as "
            f"{(missing + other)[0]}"
        )


def _check_panels(panels: Sequence[str]) -> None:
    if isinstance(panels, str) or not panels or not set(panels) <= set(PANELS):
        raise ValueError(f"panels are a list of some of {', '.join(PANELS)}, got {panels!r}")


def _scene_sample(
    frame: Frame, hands: Sequence[PoseDataSample], camera_is_assumed: bool
) -> PoseDataSample:
    """Put the hands of a picture into one sample."""
    sample = PoseDataSample(
        metainfo=dict(
            img_path=frame.source.name,
            frame_index=frame.index,
            ori_shape=frame.image.shape[:2],
            camera_is_assumed=camera_is_assumed,
        )
    )
    sample.pred_instances = no_hands()
    if hands:
        sample.pred_instances = InstanceData.cat([hand.pred_instances for hand in hands])
        label = hands[0].get("test_time_augmentation")
        if label is not None:
            sample.set_metainfo(dict(test_time_augmentation=label))
    return sample


def _pause(frame: Frame, wait_time: float) -> float:
    """Seconds that a picture is shown: those of a video follow each other by themselves."""
    return wait_time or (1e-3 if frame.source.is_sequence else 0.0)


def _writing(results: Iterator[dict], writer: ResultWriter | None) -> Iterator[dict]:
    """Pass results on, and leave no unfinished file, however that ends."""
    if writer is None:
        yield from results
        return
    try:
        yield from results
    except BaseException:
        writer.break_off()
        raise
    writer.finish()
