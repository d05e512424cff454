import cv2
import numpy as np
import pytest
from PIL import Image

from mamba_mm.apis.inferencers.inputs import numbered_frames, open_sources

GREY = np.full((6, 8, 3), 99, np.uint8)


def write(path, value=99):
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.full((6, 8, 3), value, np.uint8))
    return path


def frames_of(inputs, **settings):
    return list(numbered_frames(open_sources(inputs), **settings))


def test_an_image_file(tmp_path):
    (frame,) = frames_of(write(tmp_path / "a.png"))
    np.testing.assert_array_equal(frame.image, GREY)
    assert frame.source.name == str(tmp_path / "a.png")
    assert (frame.index, frame.position) == (0, 0)
    assert not frame.source.is_sequence


@pytest.mark.parametrize(
    "pixel", [(99,), (99, 99, 99, 7), (99, 99, 99)], ids=["grey", "transparent", "of 16 bits"]
)
def test_images_of_other_kinds_become_three_channels_of_eight_bits(tmp_path, pixel):
    image = np.tile(np.uint8(pixel), (6, 8, 1))
    if len(pixel) == 3:
        image = image.astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "a.png"), image)
    (frame,) = frames_of(tmp_path / "a.png")
    assert frame.image.dtype == np.uint8
    np.testing.assert_array_equal(frame.image, GREY)


def test_a_photograph_is_turned_upright(tmp_path):
    picture = Image.fromarray(np.zeros((6, 8, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held a quarter of a turn to the right
    picture.save(tmp_path / "a.jpg", exif=exif)
    (frame,) = frames_of(tmp_path / "a.jpg")
    assert frame.image.shape == (8, 6, 3)


def test_a_folder_in_the_order_of_names_without_other_files(tmp_path):
    for name in ("b.jpg", "a.PNG", "c.webp"):
        write(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    write(tmp_path / "deeper" / "d.png")
    names = [frame.source.stem for frame in frames_of(str(tmp_path))]
    assert names == ["a", "b", "c"]


def test_a_list_mixes_kinds_and_numbers_go_on(tmp_path, write_video):
    write_video(tmp_path / "v.mp4", [GREY.repeat(8, 0).repeat(8, 1)] * 3)
    frames = frames_of([GREY, tmp_path / "v.mp4", write(tmp_path / "a.png")])
    assert [frame.position for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.index for frame in frames] == [0, 0, 1, 2, 0]
    assert [frame.source.stem for frame in frames] == ["image_000000", "v", "v", "v", "a"]


def test_a_video_in_its_speed_up_to_a_number_of_frames(tmp_path, write_video):
    images = [np.full((48, 64, 3), value, np.uint8) for value in (20, 120, 220)]
    path = write_video(tmp_path / "v.mp4", images, fps=12)
    frames = frames_of(path)
    assert [round(frame.image.mean(), -1) for frame in frames] == [20, 120, 220]
    assert frames[0].source.fps == pytest.approx(12)
    assert frames[0].source.is_sequence
    assert not frames[0].source.is_live
    assert len(frames_of(path, max_frames=2)) == 2


def test_a_camera_is_released_when_the_caller_stops(camera):
    frames = numbered_frames(open_sources("webcam"))
    first = next(frames)
    assert first.source.is_live
    assert first.source.fps == 30
    frames.close()
    assert camera.released == 1


@pytest.mark.parametrize(
    ("said", "expected"), [(25.0, 25), (np.nan, 30), (-1.0, 30), (90000.0, 30)]
)
def test_what_a_driver_says_about_its_speed_is_not_believed_blindly(camera, said, expected):
    camera.fps = said
    frame = next(numbered_frames(open_sources("webcam")))
    assert frame.source.fps == expected


def test_a_camera_that_is_not_there(camera):
    with pytest.raises(OSError, match="camera 3 is not available"):
        frames_of("webcam:3")


@pytest.mark.parametrize("name", ["webcam:", "webcam:front"])
def test_a_camera_has_a_number(name):
    with pytest.raises(ValueError, match="'webcam:N', N its number"):
        open_sources(name)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*none\.jpg"):
        open_sources([write(tmp_path / "a.png"), tmp_path / "none.jpg"])


def test_a_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(FileNotFoundError, match="has no images"):
        open_sources(tmp_path)


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ValueError, match=r"neither an image .* nor a video"):
        open_sources(tmp_path / "notes.txt")


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_a_damaged_image(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.jpg cannot be read as an image"):
        frames_of(tmp_path / "a.jpg")


def test_a_damaged_video_is_noticed_before_anything_is_done(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"not a video")
    with pytest.raises(ValueError, match="cannot be read as a video"):
        open_sources([GREY, tmp_path / "v.mp4"])


@pytest.mark.parametrize("image", [GREY[..., 0], GREY.astype(np.float32), GREY[:0]])
def test_arrays_that_are_no_images(image):
    with pytest.raises(ValueError, match=r"input 1: an image is an array \(H, W, 3\) of uint8"):
        open_sources([GREY, image])


def test_nothing_and_something_else():
    with pytest.raises(ValueError, match="there is no input"):
        open_sources([])
    with pytest.raises(ValueError, match=r"input 0: .*got int"):
        open_sources([7])
