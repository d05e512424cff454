"""Crops with depth become batches whose colours are those of MMPose's preprocessor."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

pytest.importorskip("mmpose")

import mmpose.models  # noqa: F401 - fills the registry
from mmpose.structures import PoseDataSample

SETTINGS = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)


def built(kind, **options):
    with DefaultScope.overwrite_default_scope("mmpose"):
        return MODELS.build(dict(type=kind, **SETTINGS, **options))


def crops(*sizes, channels=4):
    torch.manual_seed(0)
    images = [torch.randint(0, 256, (channels, h, w)).float() for h, w in sizes]
    for image in images:
        image[3:] = torch.randn(image[3:].shape)
    return images, [PoseDataSample() for _ in sizes]


def batch_of(preprocessor, images, samples):
    return preprocessor(dict(inputs=list(images), data_samples=samples), training=True)


def test_colours_are_normalised_and_depth_passes():
    images, samples = crops((8, 6), (8, 6))
    found = batch_of(built("mamba_mm.RGBDPoseDataPreprocessor"), images, samples)
    # As the pipeline without depth gives it: whole numbers.
    colours = [image[:3].to(torch.uint8) for image in images]
    expected = batch_of(built("PoseDataPreprocessor"), colours, samples)["inputs"]
    assert torch.equal(found["inputs"][:, :3], expected)
    assert torch.equal(found["inputs"][:, 3], torch.stack(images)[:, 3])
    assert [sample.batch_input_shape for sample in found["data_samples"]] == [(8, 6)] * 2
    assert found["inputs"].is_contiguous()


def test_smaller_crops_are_padded_with_unknown_depth():
    images, samples = crops((8, 6), (5, 7))
    preprocessor = built(
        "mamba_mm.RGBDPoseDataPreprocessor", pad_size_divisor=4, pad_value=9, depth_channels=2
    )
    images = [torch.cat([image, image[3:] + 1]) for image in images]
    found = batch_of(preprocessor, images, samples)["inputs"]
    assert found.shape == (2, 5, 8, 8)
    assert (found[0, :3, :, 6:] == 9).all()
    assert not found[0, 3:, :, 6:].any()
    assert torch.equal(found[1, 3:, :5, :7], images[1][3:])
    assert not found[1, 3:, 5:].any()


def test_a_batch_in_one_tensor_is_the_same():
    images, samples = crops((8, 6), (8, 6))
    preprocessor = built("mamba_mm.RGBDPoseDataPreprocessor")
    expected = batch_of(preprocessor, images, samples)["inputs"]
    found = preprocessor(dict(inputs=torch.stack(images), data_samples=samples))["inputs"]
    assert torch.equal(found, expected)


def test_crops_without_depth_are_refused():
    images, samples = crops((8, 6), channels=3)
    with pytest.raises(ValueError, match=r"crops of 4 channels, got the shape \(3, 8, 6\); the"):
        batch_of(built("mamba_mm.RGBDPoseDataPreprocessor"), images, samples)
