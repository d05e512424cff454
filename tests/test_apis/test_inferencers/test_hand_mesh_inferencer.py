import copy
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hand_pictures import CONFIG, SIZE, Scene
from mmengine.config import Config
from mmengine.registry import DefaultScope

pytest.importorskip("mmpose")
from mmpose.apis import inference_topdown

import mamba_mm.apis
from mamba_mm.apis.inferencers import HandBox, HandBoxes, HandMeshInferencer, read_results
from mamba_mm.apis.inferencers import hand_mesh_inferencer as module
from mamba_mm.models.utils.checkpoint import UnsafeCheckpointError

TOLERANCE = 1e-4


class Detector(HandBoxes):
    """Knows the hands of a scene, as a network would; pictures without a hand are dark."""

    def __init__(self, scene):
        self.hands = [HandBox(*hand, 0.5) for hand in zip(scene.boxes, scene.sides, strict=True)]

    def __call__(self, frame):
        return self.hands if frame.image.any() else []


def samples(inferencer, inputs, **settings):
    return [
        sample
        for result in inferencer(inputs, return_datasamples=True, **settings)
        for sample in result["predictions"]
    ]


def hands_of(inferencer, scene, **settings):
    settings = dict(bboxes=scene.boxes, sides=scene.sides) | settings
    (sample,) = samples(inferencer, scene.image, **settings)
    return sample.pred_instances


def close(found, expected, atol=TOLERANCE):
    np.testing.assert_allclose(found, expected, atol=atol)


class TestPredictions:
    def test_those_of_mmpose_for_the_same_boxes(self, inferencer):
        scene = Scene(["right", "right", "right"])
        expected = inference_topdown(inferencer.model, scene.image, scene.boxes)
        found = hands_of(inferencer, scene)
        assert len(found) == 3
        for name, _ in expected[0].pred_instances.items():
            theirs = np.concatenate([sample.pred_instances[name] for sample in expected])
            np.testing.assert_allclose(found[name], theirs, rtol=1e-4, atol=1e-4, err_msg=name)
        # Random weights, but not blind: else nothing here would notice a mistake.
        assert np.abs(found.vertices[0] - found.vertices[1]).max() > 2e-3

    def test_a_left_hand_is_the_mirror_image_of_a_right_one(self, inferencer, scene):
        both = hands_of(inferencer, scene)
        mirrored = copy.copy(scene)
        mirrored.image = np.ascontiguousarray(scene.image[:, ::-1])
        last = scene.image.shape[1] - 1
        mirrored.boxes = scene.boxes.copy()
        mirrored.boxes[:, [0, 2]] = last - scene.boxes[:, [2, 0]]
        mirrored.sides = ["left", "right"]
        found = hands_of(inferencer, mirrored)
        assert found.is_right.tolist() == [0, 1]
        close(found.vertices, both.vertices * [-1, 1, 1])
        close(found.keypoints_3d, both.keypoints_3d * [-1, 1, 1])
        close(found.keypoints[..., 0], last - both.keypoints[..., 0], atol=1e-2)
        close(found.mano_rotations, both.mano_rotations)
        assert np.abs(found.vertices - both.vertices).max() > 0.01

    def test_hands_of_several_pictures_go_through_the_network_together(
        self, inferencer, scene, monkeypatch
    ):
        sizes = []
        forward = inferencer.model.test_step
        monkeypatch.setattr(
            inferencer.model,
            "test_step",
            lambda batch: sizes.append(len(batch["inputs"])) or forward(batch),
        )
        images = [scene.image, scene.image[::-1].copy(), scene.image]
        given = dict(bboxes=scene.boxes, sides=scene.sides)
        together = samples(inferencer, images, batch_size=4, **given)
        assert sizes == [4, 2]
        alone = samples(inferencer, images, batch_size=1, **given)
        assert sizes == [4, 2] + [1] * 6
        for one, other in zip(together, alone, strict=True):
            close(one.pred_instances.vertices, other.pred_instances.vertices)
            close(one.pred_instances.keypoints, other.pred_instances.keypoints, atol=1e-2)

    def test_a_file_is_what_is_in_it(self, inferencer, scene, tmp_path):
        path = scene.write(tmp_path / "a.png")
        (found,) = samples(inferencer, path, bboxes=scene.boxes, sides=scene.sides)
        close(found.pred_instances.vertices, hands_of(inferencer, scene).vertices)
        assert found.img_path == str(path)

    def test_all_hands_share_the_camera_of_the_picture(self, inferencer, scene):
        hands = hands_of(inferencer, scene)
        height, width = scene.image.shape[:2]
        close(hands.focal_length, [5000 / 256 * width] * 2)
        close(hands.principal_point, [[width / 2, height / 2]] * 2)

    def test_a_larger_crop(self, inferencer, checkpoint, scene):
        wide = HandMeshInferencer(CONFIG, checkpoint, "cpu", bbox_padding=2.5)
        # The config's own padding is 1.25.
        close(
            hands_of(wide, scene).crop_focal_length,
            2 * hands_of(inferencer, scene).crop_focal_length,
            atol=0.1,
        )
        close(hands_of(wide, scene).bboxes, scene.boxes)

    def test_the_default_scope_of_the_caller_stays(self, inferencer, checkpoint, scene):
        with DefaultScope.overwrite_default_scope("mmdet"):
            other = HandMeshInferencer(CONFIG, checkpoint, "cpu")
            hands_of(other, scene)
            assert DefaultScope.get_current_instance().scope_name == "mmdet"


class TestCameras:
    K = np.array([[400.0, 0, 90], [0, 400, 40], [0, 0, 1]])

    def test_a_known_camera_makes_depths_metric(self, inferencer, scene):
        known = hands_of(inferencer, scene, cam_K=self.K)
        assumed = hands_of(inferencer, scene)
        close(known.focal_length, [400, 400])
        close(known.principal_point, [[90, 40], [90, 40]])
        ratio = 400 / assumed.focal_length
        close(known.cam_translation[:, 2], assumed.cam_translation[:, 2] * ratio)
        # The origin of the hand is where it was, seen by either camera.
        close(self.origins(known), self.origins(assumed), atol=0.02)

    def origins(self, hands):
        x, y, z = hands.cam_translation.T
        return np.stack([x, y]) / z * hands.focal_length + hands.principal_point.T

    def test_a_focal_length(self, inferencer, scene):
        hands = hands_of(inferencer, scene, focal_length=300)
        close(hands.focal_length, [300, 300])
        close(hands.principal_point, [[SIZE, SIZE / 2]] * 2)

    def test_records_say_whether_it_is_assumed(self, inferencer, scene):
        given = dict(bboxes=scene.boxes, sides=scene.sides)
        for settings, is_assumed in ((dict(cam_K=self.K), False), ({}, True)):
            (result,) = inferencer(scene.image, **given, **settings)
            (picture,) = result["predictions"]
            assert [hand["camera"]["is_assumed"] for hand in picture["hands"]] == [is_assumed] * 2

    def test_that_of_a_file_of_boxes_unless_the_caller_says_another(
        self, inferencer, scene, tmp_path
    ):
        path = scene.write(tmp_path / "a.png")
        camera = dict(focal=[500, 500], princpt=[90, 40])
        box = [10, 10, 60, 60]
        content = dict(
            images=[dict(id=1, file_name="a.png", cam_param=camera)],
            annotations=[dict(image_id=1, bbox=box, hand_type="left")],
        )
        (tmp_path / "boxes.json").write_text(json.dumps(content))
        bboxes = tmp_path / "boxes.json"
        (of_file,) = samples(inferencer, path, bboxes=bboxes)
        assert of_file.pred_instances.focal_length == pytest.approx([500])
        assert of_file.pred_instances.is_right.tolist() == [0]
        (of_caller,) = samples(inferencer, path, bboxes=bboxes, cam_K=self.K)
        assert of_caller.pred_instances.focal_length == pytest.approx([400])


class TestBoxes:
    def test_a_detector(self, checkpoint, scene):
        inferencer = HandMeshInferencer(CONFIG, checkpoint, "cpu", detector=Detector(scene))
        found, none = samples(inferencer, [scene.image, np.zeros_like(scene.image)])
        close(found.pred_instances.bboxes, scene.boxes)
        assert found.pred_instances.bbox_scores.tolist() == [0.5, 0.5]
        assert len(none.pred_instances) == 0
        assert none.pred_instances.keypoints.shape == (0, 21, 2)

    def test_a_detector_by_its_config(self, checkpoint, monkeypatch):
        asked = []

        class Stub(HandBoxes):
            def __init__(self, *arguments, **settings):
                asked.append((arguments, settings))

            def __call__(self, frame):
                return []

        monkeypatch.setattr(module, "DetectedHands", Stub)
        inferencer = HandMeshInferencer(
            CONFIG,
            checkpoint,
            "cpu",
            detector="hand",
            detector_weights="hand.pth",
            side="left",
            score_thr=0.6,
        )
        assert isinstance(inferencer.detector, Stub)
        assert asked == [(("hand", "hand.pth", "cpu"), dict(side="left", score_thr=0.6))]

    def test_the_whole_image_and_the_side_of_the_inferencer(self, checkpoint, scene):
        inferencer = HandMeshInferencer(CONFIG, checkpoint, "cpu", side="left")
        (found,) = samples(inferencer, scene.image, bboxes="whole_image")
        close(found.pred_instances.bboxes, [[0, 0, 2 * SIZE, SIZE]])
        assert found.pred_instances.is_right.tolist() == [0]
        (found,) = samples(inferencer, scene.image, bboxes="whole_image", sides="right")
        assert found.pred_instances.is_right.tolist() == [1]

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({}, "known where the hands are"),
            (dict(sides="left"), "sides belong to boxes"),
            (dict(bboxes=[[1, 2, 30, 40]]), "known which hand a box shows"),
            (dict(bboxes="whole_image"), "known which hand a box shows"),
            (dict(bboxes="whole_image", sides=["left"]), "a list of sides belongs to an array"),
            (dict(bboxes="whole_image", sides="left", batch_size=0), "batch_size is 1 or more"),
            (dict(bboxes="whole_image", sides="left", max_frames=0), "max_frames is 1 or more"),
            (dict(bboxes="whole_image", sides="left", panels=["mash"]), "panels are a list of"),
            (dict(bboxes="whole_image", sides="left", panels="mesh"), "panels are a list of"),
            (dict(bboxes="whole_image", sides="left", focal_length=-1), "positive number"),
        ],
    )
    def test_mistakes_show_before_anything_is_done(self, inferencer, scene, settings, message):
        with pytest.raises(ValueError, match=message):
            inferencer(scene.image, **settings)


def names_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


class TestFiles:
    @pytest.fixture
    def given(self, scene):
        return dict(bboxes=scene.boxes, sides=scene.sides)

    def test_of_a_picture(self, inferencer, scene, given, tmp_path):
        path = scene.write(tmp_path / "in" / "a.png")
        out = tmp_path / "out"
        (result,) = inferencer(path, **given, out_dir=out, write_obj=True, with_vertices=True)
        names = [
            "meshes/a/hand_0_right.obj",
            "meshes/a/hand_1_left.obj",
            "meshes/a/scene.obj",
            "predictions/a.json",
            "visualizations/a.jpg",
        ]
        assert names_in(out) == names
        assert sorted(str(file.relative_to(out)) for file in result["files"]) == names
        (read,), about = read_results(out / "predictions" / "a.json")
        expected = hands_of(inferencer, scene)
        for name in ("vertices", "keypoints", "mano_rotations", "is_right", "cam_translation"):
            close(read.pred_instances[name], expected[name], atol=1e-3)
        assert about["test_time_augmentation"] is None
        assert about["model"] == str(CONFIG)

    def test_only_those_that_are_asked_for(self, inferencer, scene, given, tmp_path):
        (result,) = inferencer(
            scene.image, **given, out_dir=tmp_path, write_pictures=False, write_obj=True
        )
        assert {file.parts[-2 if file.suffix == ".json" else -3] for file in result["files"]} == {
            "predictions",
            "meshes",
        }
        assert result["visualization"] == []
        (picture,) = result["predictions"]
        assert "vertices" not in picture["hands"][0]

    def test_inputs_of_one_name_and_calls_of_one_inferencer(
        self, checkpoint, scene, given, tmp_path
    ):
        inferencer = HandMeshInferencer(CONFIG, checkpoint, "cpu")
        settings = dict(given, out_dir=tmp_path / "out", write_pictures=False)
        for folder in ("x", "y"):
            list(inferencer(scene.write(tmp_path / folder / "a.png"), **settings))
        list(inferencer(tmp_path / "x", **settings))
        written = sorted((tmp_path / "out" / "predictions").iterdir())
        assert [path.name for path in written] == ["a.json", "a_1.json"]
        images = [json.loads(path.read_text())["pictures"][0]["image"] for path in written]
        assert images == [str(tmp_path / folder / "a.png") for folder in "xy"]

    def test_of_a_video(self, inferencer, scene, given, tmp_path, write_video):
        frames = [scene.image, np.zeros_like(scene.image), scene.image]
        video = write_video(tmp_path / "v.mp4", frames, fps=12)
        out = tmp_path / "out"
        detector = Detector(scene)
        results = list(inferencer(video, bboxes=detector, out_dir=out, panels=["mesh", "side"]))
        assert [len(result["predictions"][0]["hands"]) for result in results] == [2, 0, 2]
        assert names_in(out) == ["predictions/v.json", "visualizations/v.mp4"]
        read, about = read_results(out / "predictions" / "v.json")
        assert about["fps"] == pytest.approx(12)
        assert [sample.frame_index for sample in read] == [0, 1, 2]
        capture = cv2.VideoCapture(str(out / "visualizations" / "v.mp4"))
        assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 3
        assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(12)
        assert capture.read()[1].shape == (SIZE, 3 * SIZE + 4, 3)

    def test_a_video_that_is_broken_off_leaves_nothing(
        self, inferencer, scene, given, tmp_path, write_video
    ):
        video = write_video(tmp_path / "v.mp4", [scene.image] * 3)
        results = inferencer(video, **given, batch_size=2, out_dir=tmp_path / "out")
        next(results)
        results.close()
        assert names_in(tmp_path / "out") == []

    def test_a_picture_after_a_video_completes_it(
        self, inferencer, scene, given, tmp_path, write_video
    ):
        video = write_video(tmp_path / "v.mp4", [scene.image] * 2)
        results = inferencer([video, scene.image], **given, out_dir=tmp_path / "out")
        for _ in range(3):
            next(results)
        assert "visualizations/v.mp4" in names_in(tmp_path / "out")
        results.close()
        assert len(names_in(tmp_path / "out")) == 4

    def test_what_a_camera_has_recorded_is_kept(self, inferencer, given, tmp_path, camera):
        results = inferencer("webcam", **given, out_dir=tmp_path, write_pictures=False)
        for _ in range(3):
            next(results)
        results.close()
        read, _ = read_results(tmp_path / "predictions" / "webcam_0.json")
        # Each was handed out before the next one was taken.
        assert len(read) == 3
        assert len(camera.left) == 1

    def test_a_video_beside_a_camera_is_not_kept_unfinished(
        self, inferencer, scene, given, tmp_path, write_video
    ):
        video = write_video(tmp_path / "v.mp4", [scene.image] * 3)
        results = inferencer([video, "webcam"], **given, out_dir=tmp_path / "out")
        next(results)
        results.close()
        assert names_in(tmp_path / "out") == []

    def test_pictures_that_are_asked_for(self, inferencer, scene, given):
        (result,) = inferencer(scene.image, **given, return_vis=True, panels=["joints", "side"])
        (picture,) = result["visualization"]
        assert picture.shape == (SIZE, 3 * SIZE + 4, 3)
        assert result["files"] == []


class TestWindow:
    def test_escape_ends(self, inferencer, scene, monkeypatch, tmp_path):
        shown, waited = [], []
        monkeypatch.setattr(cv2, "imshow", lambda title, picture: shown.append(picture))
        keys = iter([-1, 27])
        monkeypatch.setattr(cv2, "waitKey", lambda wait: waited.append(wait) or next(keys))
        given = dict(bboxes="whole_image", sides="left")
        results = list(inferencer([scene.image] * 3, **given, show=True, wait_time=0.5))
        assert len(results) == len(shown) == 2
        assert waited == [500, 500]

    def test_without_a_screen(self, inferencer, scene, monkeypatch):
        def refuse(*arguments):
            raise cv2.error("no display")

        monkeypatch.setattr(cv2, "imshow", refuse)
        results = inferencer(scene.image, bboxes="whole_image", sides="left", show=True)
        next(results)
        with pytest.raises(OSError, match="no window can be opened here"):
            next(results)


class TestTestTimeAugmentation:
    def test_many_crops_of_each_hand(self, inferencer, checkpoint, scene, tmp_path):
        settings = dict(scales=(0.9, 1.0), rotations=(-20, 0, 20))
        augmented = HandMeshInferencer(CONFIG, checkpoint, "cpu", tta=settings)
        given = dict(bboxes=scene.boxes, sides=scene.sides)
        (result,) = augmented(scene.image, True, **given, out_dir=tmp_path, write_pictures=False)
        (sample,) = result["predictions"]
        assert sample.test_time_augmentation == "rot_scale_tta of 6 crops"
        _, about = read_results(result["files"][0])
        assert about["test_time_augmentation"] == dict(
            name="rot_scale_tta", scales=[0.9, 1.0], rotations=[-20, 0, 20]
        )
        plain, found = hands_of(inferencer, scene), sample.pred_instances
        difference = np.linalg.norm(found.vertices - plain.vertices, axis=-1)
        assert 1e-4 < difference.max() < 0.03
        for name in ("cam_translation", "crop_camera_translation", "is_right", "bboxes"):
            close(found[name], plain[name])

    def test_all_crops_of_the_paper(self, checkpoint):
        augmented = HandMeshInferencer(CONFIG, checkpoint, "cpu", tta=True)
        assert augmented.test_time_augmentation["scales"] == [0.7, 0.8, 0.9, 1.0, 1.1]
        assert augmented.test_time_augmentation["rotations"] == list(range(-90, 91, 10))


class TestSettings:
    def test_missing_files(self, checkpoint, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no config .*none\.py"):
            HandMeshInferencer(tmp_path / "none.py", checkpoint)
        with pytest.raises(FileNotFoundError, match=r"no checkpoint .*none\.pth"):
            HandMeshInferencer(CONFIG, tmp_path / "none.pth")

    def test_weights_of_another_network(self, checkpoint, tmp_path):
        state = torch.load(checkpoint)["state_dict"]
        names = [name for name in state if name.startswith("head.")]
        for name in names[1:]:
            del state[name]
        state[names[0]] = torch.zeros(5)
        torch.save(dict(state_dict=state), tmp_path / "other.pth")
        with pytest.raises(ValueError, match=f"{len(names) - 1} of its .* 1 have another shape"):
            HandMeshInferencer(CONFIG, tmp_path / "other.pth", "cpu")

    def test_weights_with_more_in_them(self, checkpoint, tmp_path):
        state = torch.load(checkpoint)["state_dict"]
        torch.save(dict(state_dict=state | {"more": torch.zeros(1)}), tmp_path / "more.pth")
        HandMeshInferencer(CONFIG, tmp_path / "more.pth", "cpu")

    def test_code_in_a_checkpoint_is_not_run(self, checkpoint, tmp_path):
        content = torch.load(checkpoint) | dict(meta=Path(tmp_path))
        torch.save(content, tmp_path / "code.pth")
        with pytest.raises(UnsafeCheckpointError, match="pathlib"):
            HandMeshInferencer(CONFIG, tmp_path / "code.pth", "cpu")

    def test_another_kind_of_network(self):
        config = Config.fromfile(CONFIG)
        config.model.type = "TopdownPoseEstimator"
        with pytest.raises(ValueError, match="config is of a TopdownPoseEstimator"):
            HandMeshInferencer(config, device="cpu")

    def test_another_hand_model(self, checkpoint, monkeypatch):
        monkeypatch.delenv("MAMBA_MM_MANO", raising=False)
        config = Config.fromfile(CONFIG)
        config.model.head.pop("output_model")
        with pytest.raises(FileNotFoundError, match="MANO"):
            HandMeshInferencer(config, checkpoint, "cpu")
        inferencer = HandMeshInferencer(config, checkpoint, "cpu", mano_path="toy")
        assert inferencer.visualizer.has_faces
        assert "output_model" not in config.model.head

    def test_results_name_the_file_of_a_config_that_is_read_already(
        self, checkpoint, scene, tmp_path
    ):
        inferencer = HandMeshInferencer(Config.fromfile(CONFIG), checkpoint, "cpu")
        given = dict(bboxes="whole_image", sides="left", write_pictures=False)
        (result,) = inferencer(scene.image, **given, out_dir=tmp_path)
        assert read_results(result["files"][0])[1]["model"] == str(CONFIG)

    def test_a_mano_model_for_a_network_without_a_head(self, checkpoint):
        config = Config(dict(model=dict(type="HandObjectEstimator")))
        with pytest.raises(ValueError, match="config is of a HandObjectEstimator, which has none"):
            HandMeshInferencer(config, checkpoint, "cpu", mano_path="toy")

    def test_padding_that_makes_no_sense(self, checkpoint):
        with pytest.raises(ValueError, match="bbox_padding is a positive factor"):
            HandMeshInferencer(CONFIG, checkpoint, "cpu", bbox_padding=0)

    def test_names_in_the_package(self):
        assert mamba_mm.apis.HandMeshInferencer is HandMeshInferencer
        with pytest.raises(AttributeError, match="no attribute 'HandInferencer'"):
            _ = mamba_mm.apis.HandInferencer
