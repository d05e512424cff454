import json
from types import SimpleNamespace

import numpy as np
import pytest

from mamba_mm.apis.inferencers import BoxFile, GivenBoxes, HandBox, WholeImage

BOX, OTHER = [10, 20, 50, 80], [30, 0, 40, 9]


def frame(position=0, name="folder/a.jpg"):
    image = np.zeros((120, 160, 3), np.uint8)
    return SimpleNamespace(image=image, source=SimpleNamespace(name=name), position=position)


def listed(hands):
    return [(hand.bbox.tolist(), hand.side) for hand in hands]


@pytest.mark.parametrize(
    ("box", "side", "message"),
    [
        ([1, 2, 3], "right", "a box is four numbers"),
        ([1, 2, 3, np.nan], "right", "a box is four numbers"),
        ([10, 20, 10, 40], "right", r"not \(left, top, width, height\)"),
        (BOX, "Right", "'right' or 'left', got 'Right'"),
    ],
)
def test_boxes_that_are_none(box, side, message):
    with pytest.raises(ValueError, match=message):
        HandBox(box, side)


def test_the_whole_image_with_a_side():
    assert listed(WholeImage("left")(frame())) == [([0, 0, 160, 120], "left")]
    with pytest.raises(ValueError, match="got 'both'"):
        WholeImage("both")


class TestGivenBoxes:
    def test_one_array_holds_for_all_pictures(self):
        boxes = GivenBoxes(np.array([BOX, OTHER]), ["left", "right"])
        assert listed(boxes(frame(5))) == [(BOX, "left"), (OTHER, "right")]

    def test_a_list_has_those_of_each_picture_and_pictures_without_a_hand(self):
        boxes = GivenBoxes([[BOX], [], [OTHER, BOX]], "right")
        assert listed(boxes(frame(0))) == [(BOX, "right")]
        assert listed(boxes(frame(1))) == []
        assert listed(boxes(frame(2))) == [(OTHER, "right"), (BOX, "right")]

    def test_an_empty_array_is_no_hand_in_any_picture(self):
        assert GivenBoxes(np.zeros((0, 4)), "right")(frame(5)) == []

    def test_a_single_box_without_a_list_around_it(self):
        with pytest.raises(ValueError, match=r"one box is \[\[left, top, right, bottom\]\], got"):
            GivenBoxes(BOX, "left")

    def test_sides_of_each_picture(self):
        boxes = GivenBoxes([[BOX], [OTHER]], [["right"], ["left"]])
        assert listed(boxes(frame(1))) == [(OTHER, "left")]

    @pytest.mark.parametrize(
        ("bboxes", "sides", "message"),
        [
            ([BOX, OTHER], ["left"], "picture 0 has 2 boxes, but 1 sides"),
            ([[BOX], [OTHER]], [["left"]], "boxes of 2 pictures, but sides of 1"),
            ([[BOX], [[1, 2, 3]]], "left", "picture 1: a box is four numbers"),
        ],
    )
    def test_mistakes(self, bboxes, sides, message):
        with pytest.raises(ValueError, match=message):
            GivenBoxes(bboxes, sides)

    def test_more_pictures_than_boxes(self):
        with pytest.raises(ValueError, match=r"a\.jpg is picture 1, .* entries for 1"):
            GivenBoxes([[BOX]], "left")(frame(1))


class TestBoxFile:
    @pytest.fixture
    def write(self, tmp_path):
        def write(annotations, images=None):
            images = images or [dict(id=3, file_name="a.jpg"), dict(id=4, file_name="b/c.jpg")]
            content = dict(images=images, annotations=annotations)
            (tmp_path / "boxes.json").write_text(json.dumps(content))
            return tmp_path / "boxes.json"

        return write

    def test_hands_with_sides_and_scores(self, write):
        annotations = [
            dict(image_id=4, bbox=[10, 20, 40, 60], hand_type="left", score=0.5),
            dict(image_id=3, bbox=[30, 0, 10, 9], hand_type="right"),
        ]
        boxes = BoxFile(write(annotations))
        (hand,) = boxes(frame(name="/data/b/c.jpg"))
        assert listed([hand]) == [(BOX, "left")]
        assert hand.score == 0.5
        assert listed(boxes(frame())) == [(OTHER, "right")]

    def test_hands_of_whole_bodies_that_are_valid(self, write):
        person = dict(
            image_id=3,
            bbox=[0, 0, 160, 120],
            lefthand_box=[10, 20, 40, 60],
            lefthand_valid=True,
            righthand_box=[0, 0, 0, 0],
            righthand_valid=False,
        )
        assert listed(BoxFile(write([person]))(frame())) == [(BOX, "left")]

    def test_a_picture_without_a_hand(self, write):
        assert BoxFile(write([]))(frame()) == []

    def test_a_picture_that_is_not_listed(self, write):
        with pytest.raises(ValueError, match=r"has no image x/c\.jpg; it lists 2, such as a\.jpg"):
            BoxFile(write([]))(frame(name="x/c.jpg"))

    def test_one_side_for_hands_that_do_not_say_it(self, write):
        path = write([dict(image_id=3, bbox=[10, 20, 40, 60])])
        assert listed(BoxFile(path, "left")(frame())) == [(BOX, "left")]
        with pytest.raises(ValueError, match="annotation 0 does not say which hand it is"):
            BoxFile(path)

    def test_cameras_of_images_and_of_annotations(self, write):
        camera = dict(focal=[500, 510], princpt=[80, 60])
        images = [dict(id=3, file_name="a.jpg"), dict(id=4, file_name="b.jpg", cam_param=camera)]
        hand = dict(image_id=3, bbox=[10, 20, 40, 60], hand_type="left")
        boxes = BoxFile(write([hand | dict(cam_param=camera)], images))
        expected = [[500, 0, 80], [0, 510, 60], [0, 0, 1]]
        for name in ("a.jpg", "b.jpg"):
            np.testing.assert_array_equal(boxes.camera(frame(name=name)), expected)
        assert BoxFile(write([hand])).camera(frame()) is None

    @pytest.mark.parametrize(
        ("annotation", "message"),
        [
            (dict(image_id=9), "annotation 0 is of image 9, which the file does not list"),
            (dict(image_id=3, hand_type="left"), "four numbers .*width, height"),
            (dict(image_id=3, hand_type="both", bbox=[1, 2, 3, 4]), "got 'both'"),
            (dict(image_id=3, hand_type="left", bbox=[1, 2, 0, 4]), "is empty"),
            (
                dict(image_id=3, hand_type="left", bbox=[1, 2, 3, 4], cam_param=dict(focal=1)),
                r"expected focal \[fx, fy\] and princpt",
            ),
            (
                dict(
                    image_id=3,
                    hand_type="left",
                    bbox=[1, 2, 3, 4],
                    cam_param=dict(focal=500, princpt=[80, 60]),
                ),
                r"expected focal \[fx, fy\] and princpt",
            ),
        ],
    )
    def test_bad_annotations(self, write, annotation, message):
        with pytest.raises(ValueError, match=message):
            BoxFile(write([annotation]))

    def test_bad_files(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no file of boxes"):
            BoxFile(tmp_path / "none.json")
        for content, message in (
            ("{", "not a JSON file"),
            ("[]", "not in COCO's format"),
            ('{"images": [{"id": 3}], "annotations": []}', "image 0 has .* 'file_name'"),
        ):
            (tmp_path / "boxes.json").write_text(content)
            with pytest.raises(ValueError, match=message):
                BoxFile(tmp_path / "boxes.json")
