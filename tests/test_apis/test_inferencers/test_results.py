"""JSON and files of results, of predictions made up here."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmengine.structures import InstanceData

pytest.importorskip("mmpose")
from mmpose.structures import PoseDataSample

from mamba_mm.apis.inferencers import read_results
from mamba_mm.apis.inferencers.inputs import open_sources
from mamba_mm.apis.inferencers.result_files import (
    OutputNames,
    VideoFileWriter,
    write_picture,
    write_scene_objs,
)
from mamba_mm.apis.inferencers.results_json import (
    UNITS,
    ResultsFile,
    no_hands,
    picture_record,
    write_results,
)
from mamba_mm.models.body_models import MANOLayer
from mamba_mm.visualization.hand_scene import predicted_scene

LAYER = MANOLayer("toy")
FACES = LAYER.faces_closed


def made_up(count, **others):
    rng = np.random.default_rng(0)
    shapes = dict(
        keypoints=(21, 2),
        keypoint_scores=(21,),
        keypoints_3d=(21, 3),
        vertices=(778, 3),
        bboxes=(4,),
        bbox_scores=(),
        cam_translation=(3,),
        focal_length=(),
        principal_point=(2,),
        crop_camera_translation=(3,),
        crop_focal_length=(),
        crop_principal_point=(2,),
        mano_rotations=(16, 3, 3),
        mano_betas=(10,),
    )
    fields = {name: rng.normal(size=(count, *shape)) for name, shape in shapes.items()}
    fields = {name: np.float32(values) for name, values in fields.items()}
    fields["is_right"] = np.float32([number % 2 for number in range(count)])
    return InstanceData(**{**fields, **others})


def sample(instances, assumed=True):
    metainfo = dict(
        img_path="folder/a.jpg", frame_index=3, ori_shape=(120, 160), camera_is_assumed=assumed
    )
    result = PoseDataSample(metainfo=metainfo)
    result.pred_instances = instances
    return result


def source(name, stem):
    return SimpleNamespace(name=name, stem=stem, identity=name)


class TestJSON:
    def test_what_is_written_is_read_to_the_last_bit(self, tmp_path):
        path = tmp_path / "new" / "a.json"
        pictures = [sample(made_up(3)), sample(no_hands(), assumed=False)]
        records = [picture_record(picture, with_vertices=True) for picture in pictures]
        assert write_results(path, records, dict(model="some.py")) == path
        (read, empty), about = read_results(path)
        assert about["model"] == "some.py"
        for name, values in made_up(3).items():
            np.testing.assert_array_equal(read.pred_instances[name], values, err_msg=name)
        assert set(read.pred_instances.keys()) == set(made_up(3).keys())
        for key in ("img_path", "frame_index", "ori_shape", "camera_is_assumed"):
            assert read.get(key) == pictures[0].get(key), key
        assert len(empty.pred_instances) == 0
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.json"]

    def test_its_form(self):
        record = picture_record(sample(made_up(2), assumed=False))
        assert (record["image"], record["index"]) == ("folder/a.jpg", 3)
        assert (record["width"], record["height"]) == (160, 120)
        left, right = record["hands"]
        assert (left["side"], right["side"]) == ("left", "right")
        assert left.keys() == {"side", *UNITS} - {"vertices"}
        assert left["camera"]["is_assumed"] is False
        hand = made_up(2)
        assert np.float32(right["mano"]["global_orient"]).tolist() == (
            hand.mano_rotations[1, 0].tolist()
        )
        assert np.shape(right["mano"]["hand_pose"]) == (15, 3, 3)
        assert np.float32(right["bbox"]).tolist() == hand.bboxes[1].tolist()

    def test_numbers_that_json_has_not(self, tmp_path):
        hand = made_up(1)
        hand.keypoints[0, 4, 1] = np.inf
        record = picture_record(sample(hand))
        write_results(tmp_path / "a.json", [record], {})
        assert record["hands"][0]["keypoints"][4][1] is None
        (read,), _ = read_results(tmp_path / "a.json")
        assert np.isnan(read.pred_instances.keypoints[0, 4, 1])
        assert np.isfinite(read.pred_instances.keypoints).sum() == 41

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda content: content.update(format="other"), "not a file of hand meshes"),
            (lambda content: content.update(version=9), "version 9 of the format"),
            (lambda content: content.pop("pictures"), "pictures"),
            (lambda content: content["pictures"][0].pop("width"), "record of a picture.*width"),
            (lambda content: content["pictures"][0]["hands"][0].pop("bbox"), "bbox"),
            (lambda content: content["pictures"][0]["hands"][0].update(side="x"), "got 'x'"),
        ],
    )
    def test_other_files(self, tmp_path, change, message):
        path = write_results(tmp_path / "a.json", [picture_record(sample(made_up(1)))], {})
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            read_results(path)

    def test_no_json(self, tmp_path):
        (tmp_path / "a.json").write_text("{")
        with pytest.raises(ValueError, match="not a JSON file"):
            read_results(tmp_path / "a.json")


class TestResultsFile:
    def test_records_go_to_the_disk_and_the_file_appears_when_it_is_complete(self, tmp_path):
        path = tmp_path / "new" / "v.json"
        file = ResultsFile(path, dict(fps=12.5))
        records = [picture_record(sample(made_up(20)), with_vertices=True) for _ in range(2)]
        for record in records:
            file.add(record)
        (unfinished,) = path.parent.iterdir()
        assert unfinished.name == "v.json.part"
        # All but what the system's buffer holds: nothing is kept to the end.
        assert unfinished.stat().st_size > 0.9 * len(json.dumps(records))
        assert file.finish() == path
        assert [entry.name for entry in path.parent.iterdir()] == ["v.json"]
        read, about = read_results(path)
        assert about["fps"] == 12.5
        assert len(read) == 2

    def test_discarded(self, tmp_path):
        file = ResultsFile(tmp_path / "v.json", {})
        file.discard()
        assert list(tmp_path.iterdir()) == []

    def test_what_cannot_be_written_leaves_no_file(self, tmp_path):
        with pytest.raises(ValueError, match="JSON"):
            write_results(tmp_path / "a.json", [dict(index=float("nan"))], {})
        assert list(tmp_path.iterdir()) == []

    def test_no_pictures(self, tmp_path):
        assert read_results(write_results(tmp_path / "a.json", [], {}))[0] == []


def test_arrays_and_cameras_of_several_calls_are_several_inputs(tmp_path):
    names, image = OutputNames(), np.zeros((4, 4, 3), np.uint8)
    for expected in ("image_000000", "image_000000_1"):
        assert names.name_for(tmp_path, *open_sources(image)) == expected
    for expected in ("webcam_0", "webcam_0_1"):
        assert names.name_for(tmp_path, *open_sources("webcam")) == expected


def test_names_of_inputs_never_collide(tmp_path):
    names = OutputNames()
    inputs = [
        source("x/a.jpg", "a"),
        source("y/a.jpg", "a"),
        source("a_1.jpg", "a_1"),
        source("x/a.png", "a"),
    ]
    found = [names.name_for(tmp_path, one) for one in inputs]
    assert found == ["a", "a_1", "a_1_1", "a_2"]
    assert [names.name_for(tmp_path, one) for one in inputs] == found
    assert names.name_for(tmp_path / "other", inputs[1]) == "a"


def test_a_picture_is_red_green_blue(tmp_path):
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[..., 0] = 250
    write_picture(tmp_path / "new" / "p.png", picture)
    assert cv2.imread(str(tmp_path / "new" / "p.png"))[0, 0].tolist() == [0, 0, 250]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["p.png"]


class TestVideo:
    PICTURES = tuple(np.full((33, 47, 3), (value, 0, 0), np.uint8) for value in (60, 200))

    def test_it_is_there_when_it_is_complete(self, tmp_path):
        writer = VideoFileWriter(tmp_path / "new" / "v.mp4", 12.0)
        for picture in self.PICTURES:
            writer.add(picture)
        assert not (tmp_path / "new" / "v.mp4").exists()
        assert writer.finish() == tmp_path / "new" / "v.mp4"
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["v.mp4"]
        video = cv2.VideoCapture(str(tmp_path / "new" / "v.mp4"))
        assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(12)
        frames = [video.read()[1] for _ in self.PICTURES]
        # Odd sides are filled up.
        assert frames[0].shape == (34, 48, 3)
        reds = [frame[..., 2].mean() for frame in frames]
        assert reds == pytest.approx([60, 200], abs=12)
        assert not video.read()[0]

    @pytest.mark.parametrize(("fps", "written"), [(240.037, 240.04), (959.97, 960)])
    def test_frame_rates_that_mpeg_4_does_not_know(self, tmp_path, fps, written):
        writer = VideoFileWriter(tmp_path / "v.mp4", fps)
        writer.add(self.PICTURES[0])
        writer.finish()
        video = cv2.VideoCapture(str(tmp_path / "v.mp4"))
        assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(written, abs=1e-3)

    def test_discarded(self, tmp_path):
        writer = VideoFileWriter(tmp_path / "v.mp4", 12.0)
        writer.add(self.PICTURES[0])
        writer.discard()
        assert list(tmp_path.iterdir()) == []

    def test_without_a_picture(self, tmp_path):
        writer = VideoFileWriter(tmp_path / "v.mp4", 12.0)
        assert writer.finish() is None
        writer.discard()
        assert list(tmp_path.iterdir()) == []


class TestMeshes:
    def vertices(self, path):
        lines = path.read_text().splitlines()
        return np.array([line.split()[1:] for line in lines if line.startswith("v ")], float)

    def faces_of(self, is_right):
        return FACES if is_right else FACES[:, ::-1]

    def test_a_file_for_each_hand_and_one_for_all(self, tmp_path):
        hands = made_up(2)
        files = write_scene_objs(tmp_path, predicted_scene(hands), self.faces_of)
        names = ["hand_0_left.obj", "hand_1_right.obj", "scene.obj"]
        assert [path.name for path in files] == names
        assert sorted(path.name for path in tmp_path.iterdir()) == names
        upright = [1, -1, -1]
        wrist_first = (hands.vertices[1] - hands.keypoints_3d[1, 0]) * upright
        np.testing.assert_allclose(self.vertices(files[1]), wrist_first, atol=1e-6)
        together = np.concatenate([hands.vertices[i] + hands.cam_translation[i] for i in range(2)])
        np.testing.assert_allclose(self.vertices(files[2]), together * upright, atol=1e-6)
        assert files[2].read_text().count("\nf ") == 2 * len(FACES)
        # The second hand's triangles name its own vertices, and the left hand's are turned over.
        faces = [line.split()[1:] for line in files[2].read_text().splitlines() if line[0] == "f"]
        faces = np.array([[int(corner.split("/")[0]) - 1 for corner in face] for face in faces])
        np.testing.assert_array_equal(faces[: len(FACES)], FACES[:, ::-1])
        np.testing.assert_array_equal(faces[len(FACES) :], FACES + 778)

    def test_files_of_an_earlier_run_are_removed_and_others_are_not(self, tmp_path):
        write_scene_objs(tmp_path, predicted_scene(made_up(2)), self.faces_of)
        (tmp_path / "mine.obj").write_text("")
        files = write_scene_objs(tmp_path, predicted_scene(made_up(1)), self.faces_of)
        assert [path.name for path in files] == ["hand_0_left.obj"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["hand_0_left.obj", "mine.obj"]

    def test_hands_that_are_not_finite_keep_the_others_numbers(self, tmp_path):
        hands = made_up(3)
        hands.vertices[0, 5] = np.nan
        files = write_scene_objs(tmp_path, predicted_scene(hands), self.faces_of)
        assert [path.name for path in files] == [
            "hand_1_right.obj",
            "hand_2_left.obj",
            "scene.obj",
        ]

    def test_unknown_triangles(self, tmp_path):
        assert write_scene_objs(tmp_path, predicted_scene(made_up(2)), lambda side: None) == []
