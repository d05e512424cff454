from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import nn

pytest.importorskip("mmpose")

from mmpose.registry import MODELS as MMPOSE_MODELS
from mmpose.structures import PoseDataSample

from mamba_mm.models.body_models.camera import project_crop, project_pinhole
from mamba_mm.models.pose_estimators.topdown_hand_mesh import TopdownHandMeshEstimator
from mamba_mm.registry import KEYPOINT_CODECS, MODELS

INPUT_SIZE = (192, 256)
WIDTH, HEIGHT = 640, 480
CENTER = np.array([400.5, 180.25], dtype=np.float32)
SCALE = np.array([150.0, 200.0], dtype=np.float32)
CAM_K = np.array([[[600, 0, 310], [0, 600, 250], [0, 0, 1]]], dtype=np.float32)
TOLERANCE = 1e-3


class Identity(nn.Module):
    """A backbone that has nothing to learn."""

    def forward(self, inputs):
        return (inputs,)


class HeadOfOneHand(nn.Module):
    """A head that always predicts the same hand, like a head of hand meshes does."""

    def __init__(self, fields=None, cam_scale_min=0.1):
        super().__init__()
        self.output_model = SimpleNamespace(cam_scale_min=cam_scale_min)
        self.fields = hand() if fields is None else fields

    def predict(self, feats, samples, test_cfg=None):
        copies = [{name: value.copy() for name, value in self.fields.items()} for _ in samples]
        return [InstanceData(**copy) for copy in copies]


def hand(cam=(6.0, 0.02, -0.01), depth=0.08):
    """Predictions whose keypoints are the projected joints, by default of a thick hand."""
    generator = torch.Generator().manual_seed(0)
    joints = (torch.rand(1, 21, 3, generator=generator, dtype=torch.float64) - 0.5) * 0.15
    joints[..., 2] *= depth / 0.15
    cam = torch.tensor([cam], dtype=torch.float64)
    width, height = INPUT_SIZE
    keypoints = project_crop(joints, cam) * height + torch.tensor([width / 2, height / 2])
    fields = dict(
        keypoints=keypoints,
        keypoint_scores=torch.ones(1, 21),
        keypoints_3d=joints,
        vertices=joints,
        mano_rotations=torch.eye(3).expand(1, 16, 3, 3),
        mano_betas=torch.zeros(1, 10),
        cam=cam,
    )
    return {name: value.numpy().astype(np.float32) for name, value in fields.items()}


def annotations(**others):
    """What a data set says of a hand, as the pipeline hands it over."""
    generator = np.random.default_rng(1)
    fields = dict(
        bboxes=np.array([[340, 100, 460, 260]], dtype=np.float32),
        bbox_scores=np.ones(1, dtype=np.float32),
        keypoints=generator.uniform(0, 400, (1, 21, 2)).astype(np.float32),
        keypoints_visible=np.ones((1, 21), dtype=np.float32),
        keypoints_cam=generator.normal(size=(1, 21, 3)).astype(np.float32),
        vertices_cam=generator.normal(size=(1, 778, 3)).astype(np.float32),
        cam_K=CAM_K.copy(),
        has_cam=np.ones(1, dtype=np.float32),
        is_right=np.ones(1, dtype=np.float32),
    )
    return InstanceData(**{**fields, **others})


def sample(flipped=False, instances=None):
    metainfo = dict(
        ori_shape=(HEIGHT, WIDTH),
        input_center=CENTER,
        input_scale=SCALE,
        input_size=INPUT_SIZE,
        flipped=flipped,
    )
    result = PoseDataSample(metainfo=metainfo)
    result.gt_instances = annotations() if instances is None else instances
    return result


def estimator(fields=None, test_cfg=None, cam_scale_min=0.1):
    return TopdownHandMeshEstimator(
        backbone=dict(type=Identity),
        head=dict(type=HeadOfOneHand, fields=fields, cam_scale_min=cam_scale_min),
        test_cfg=test_cfg,
    )


def predict(model, *samples):
    return model(torch.zeros(len(samples), 3, 256, 192), list(samples), mode="predict")


def predicted_hand(flipped=False, fields=None, instances=None):
    return predict(estimator(fields), sample(flipped, instances))[0].pred_instances


def project(pred, points, camera):
    """Pixels of points by one of the cameras in a prediction."""
    translation, focal_length, principal_point = (
        torch.from_numpy(pred[f"{camera}{name}"])
        for name in ("translation", "focal_length", "principal_point")
    )
    points = torch.from_numpy(points).double()
    return project_pinhole(points, translation, focal_length, principal_point).numpy()


def through_crop(pred, points):
    renamed = {
        "translation": pred.crop_camera_translation,
        "focal_length": pred.crop_focal_length,
        "principal_point": pred.crop_principal_point,
    }
    return project(renamed, points, "")


def through_image(pred, points):
    renamed = {
        "translation": pred.cam_translation,
        "focal_length": pred.focal_length,
        "principal_point": pred.principal_point,
    }
    return project(renamed, points, "")


def seen_in_image(fields):
    """Pixels of the crop's keypoints in the (mirrored) image, by the crop's geometry alone."""
    return (fields["keypoints"] / INPUT_SIZE - 0.5) * SCALE + CENTER


class TestRightHand:
    def test_keypoints_move_to_the_image(self):
        fields = hand()
        pred = predicted_hand(fields=fields)
        np.testing.assert_allclose(pred.keypoints, seen_in_image(fields), atol=TOLERANCE)

    def test_the_hand_in_space_stays_as_it_was(self):
        fields = hand()
        pred = predicted_hand(fields=fields)
        for name in ("keypoints_3d", "vertices", "cam", "mano_rotations", "mano_betas"):
            np.testing.assert_array_equal(pred[name], fields[name])
        assert pred.is_right.tolist() == [1]

    def test_annotations_stay_as_they_were(self):
        result = predict(estimator(), sample())[0]
        for name, value in annotations().items():
            np.testing.assert_array_equal(result.gt_instances[name], value)
        np.testing.assert_array_equal(result.pred_instances.bboxes, annotations().bboxes)


class TestLeftHand:
    def test_keypoints_are_mirrored_back(self):
        fields = hand()
        mirrored = seen_in_image(fields)
        pred = predicted_hand(flipped=True, fields=fields)
        np.testing.assert_allclose(
            pred.keypoints[..., 0], WIDTH - 1 - mirrored[..., 0], atol=TOLERANCE
        )
        np.testing.assert_allclose(pred.keypoints[..., 1], mirrored[..., 1], atol=TOLERANCE)

    @pytest.mark.parametrize("name", ["keypoints_3d", "vertices"])
    def test_points_in_space_are_mirrored_back(self, name):
        fields = hand()
        pred = predicted_hand(flipped=True, fields=fields)
        np.testing.assert_array_equal(pred[name], fields[name] * np.float32([-1, 1, 1]))

    def test_crop_camera_is_mirrored_back(self):
        assert predicted_hand(flipped=True).cam[0] == pytest.approx([6.0, -0.02, -0.01])

    def test_parameters_stay_those_of_a_right_hand(self):
        fields = hand()
        fields["mano_rotations"][0, 0, 0] = [0.6, 0.8, 0.0]
        pred = predicted_hand(flipped=True, fields=fields)
        np.testing.assert_array_equal(pred.mano_rotations, fields["mano_rotations"])

    def test_is_said_to_be_left(self):
        pred = predicted_hand(flipped=True)
        assert pred.is_right.tolist() == [0]
        assert pred.is_right.dtype == np.float32

    def test_annotations_are_mirrored_back(self):
        before = annotations()
        after = predict(estimator(), sample(flipped=True))[0].gt_instances
        opposite = np.float32([-1, 1, 1])
        np.testing.assert_array_equal(after.keypoints[..., 0], WIDTH - 1 - before.keypoints[..., 0])
        np.testing.assert_array_equal(after.keypoints[..., 1], before.keypoints[..., 1])
        np.testing.assert_array_equal(after.keypoints_cam, before.keypoints_cam * opposite)
        np.testing.assert_array_equal(after.vertices_cam, before.vertices_cam * opposite)
        np.testing.assert_array_equal(
            after.cam_K[0], [[600, 0, WIDTH - 1 - 310], [0, 600, 250], [0, 0, 1]]
        )
        np.testing.assert_array_equal(after.bboxes, [[639 - 460, 100, 639 - 340, 260]])
        assert after.is_right.tolist() == [0]

    def test_annotations_are_those_before_the_flip_of_the_pipeline(self):
        """Exactly the inverse, invisible keypoints and skew included."""
        from mamba_mm.datasets.transforms import HandMeshRandomFlip

        visible = np.ones((1, 21), dtype=np.float32)
        visible[0, 5] = 0
        cam_K = CAM_K.copy()
        cam_K[0, 0, 1] = 2
        before = annotations(keypoints_visible=visible, cam_K=cam_K, is_right=np.float32([0]))
        results = {name: value.copy() for name, value in before.items()}
        results["img"] = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
        results["bbox"] = results.pop("bboxes")
        flipped = HandMeshRandomFlip().transform(results)
        assert flipped.pop("flipped")
        flipped["bboxes"] = flipped.pop("bbox")
        del flipped["img"]
        after = predict(estimator(), sample(True, InstanceData(**flipped)))[0].gt_instances
        assert not np.array_equal(before.keypoints, flipped["keypoints"])
        for name, value in before.items():
            np.testing.assert_allclose(after[name], value, atol=1e-4, err_msg=name)
            assert after[name].dtype == value.dtype

    def test_mirrored_annotations_of_a_camera_still_agree(self):
        """The reprojected joints fall on the keypoints, before and after."""
        joints = annotations().keypoints_cam + np.float32([0, 0, 10])
        instances = annotations(keypoints_cam=joints)
        after = predict(estimator(), sample(True, instances))[0].gt_instances

        def pixels(truth):
            homogeneous = truth.keypoints_cam[0] @ truth.cam_K[0].T
            return homogeneous[:, :2] / homogeneous[:, 2:]

        np.testing.assert_allclose(
            pixels(after)[:, 0], WIDTH - 1 - pixels(instances)[:, 0], atol=TOLERANCE
        )
        np.testing.assert_allclose(pixels(after)[:, 1], pixels(instances)[:, 1], atol=TOLERANCE)

    def test_boxes_of_the_prediction_are_the_mirrored_ones(self):
        result = predict(estimator(), sample(flipped=True))[0]
        np.testing.assert_array_equal(result.pred_instances.bboxes, result.gt_instances.bboxes)

    def test_arrays_of_the_data_set_are_not_written_to(self):
        instances = annotations()
        predict(estimator(), sample(True, instances))
        for name, value in annotations().items():
            np.testing.assert_array_equal(instances[name], value)

    def test_predicting_twice_mirrors_once(self):
        model, batch = estimator(), sample(flipped=True)
        once = predict(model, batch)[0].clone()
        twice = predict(model, batch)[0]
        np.testing.assert_array_equal(once.gt_instances.keypoints, twice.gt_instances.keypoints)
        for name, value in once.pred_instances.items():
            np.testing.assert_array_equal(twice.pred_instances[name], value)

    def test_annotations_may_be_few(self):
        instances = InstanceData(bboxes=np.zeros((1, 4)), bbox_scores=np.ones(1))
        pred = predicted_hand(flipped=True, instances=instances)
        assert pred.is_right.tolist() == [0]


@pytest.mark.parametrize("flipped", [False, True])
class TestCameras:
    def test_crop_camera_sees_every_point_where_the_network_did(self, flipped):
        pred = predicted_hand(flipped)
        np.testing.assert_allclose(
            through_crop(pred, pred.vertices), pred.keypoints, atol=TOLERANCE
        )

    def test_crop_camera(self, flipped):
        pred = predicted_hand(flipped)
        center_x = WIDTH - 1 - CENTER[0] if flipped else CENTER[0]
        tx = -0.02 if flipped else 0.02
        assert pred.crop_focal_length == pytest.approx([5000 / 256 * 200])
        assert pred.crop_principal_point[0] == pytest.approx([center_x, CENTER[1]])
        assert pred.crop_camera_translation[0] == pytest.approx([tx, -0.01, 2 * 5000 / 256 / 6])

    @pytest.mark.parametrize("has_cam", [0, 1])
    def test_image_camera_sees_the_plane_of_the_hand_where_the_network_did(self, flipped, has_cam):
        flat = hand(depth=0.0)
        instances = annotations(has_cam=np.float32([has_cam]))
        pred = predicted_hand(flipped, flat, instances)
        np.testing.assert_allclose(
            through_image(pred, pred.keypoints_3d), pred.keypoints, atol=TOLERANCE
        )

    def test_known_camera(self, flipped):
        pred = predicted_hand(flipped)
        assert pred.focal_length == pytest.approx([600])
        principal_x = WIDTH - 1 - 310 if flipped else 310
        assert pred.principal_point[0] == pytest.approx([principal_x, 250])
        assert pred.cam_translation[0, 2] == pytest.approx(2 * 600 / (200 * 6))

    def test_unknown_camera_is_assumed(self, flipped):
        pred = predicted_hand(flipped, instances=annotations(has_cam=np.float32([0])))
        assert pred.focal_length == pytest.approx([5000 / 256 * WIDTH])
        assert pred.principal_point[0] == pytest.approx([WIDTH / 2, HEIGHT / 2])

    def test_camera_without_a_flag_is_assumed(self, flipped):
        instances = annotations()
        instances.pop("has_cam")
        pred = predicted_hand(flipped, instances=instances)
        assert pred.focal_length == pytest.approx([5000 / 256 * WIDTH])

    def test_no_annotated_camera_is_assumed(self, flipped):
        instances = annotations()
        instances.pop("cam_K")
        pred = predicted_hand(flipped, instances=instances)
        assert pred.focal_length == pytest.approx([5000 / 256 * WIDTH])

    def test_fields_have_one_entry_a_hand(self, flipped):
        pred = predicted_hand(flipped)
        shapes = dict(
            cam_translation=(1, 3),
            focal_length=(1,),
            principal_point=(1, 2),
            crop_camera_translation=(1, 3),
            crop_focal_length=(1,),
            crop_principal_point=(1, 2),
            is_right=(1,),
        )
        for name, shape in shapes.items():
            assert pred[name].shape == shape
            assert pred[name].dtype == np.float32


def test_camera_with_two_focal_lengths_gets_their_mean():
    cam_K = CAM_K.copy()
    cam_K[0, 1, 1] = 620
    assert predicted_hand(instances=annotations(cam_K=cam_K)).focal_length == pytest.approx([610])


def test_scale_is_floored_as_in_the_head():
    fields = hand(cam=(-1.0, 0.0, 0.0))
    pred = predict(estimator(fields, cam_scale_min=0.5), sample())[0].pred_instances
    assert pred.crop_camera_translation[0, 2] == pytest.approx(2 * 5000 / 256 / 0.5)
    assert pred.cam_translation[0, 2] == pytest.approx(2 * 600 / (200 * 0.5))


def test_left_and_right_hands_mix_in_a_batch():
    fields = hand()
    right, left = predict(estimator(fields), sample(), sample(flipped=True))
    np.testing.assert_array_equal(right.pred_instances.vertices, fields["vertices"])
    np.testing.assert_array_equal(
        left.pred_instances.vertices, fields["vertices"] * np.float32([-1, 1, 1])
    )


@pytest.mark.parametrize("flipped", [False, True])
def test_output_keypoint_indices_select_keypoints(flipped):
    indices = [4, 8, 12]
    every = predicted_hand(flipped)
    some = predict(estimator(test_cfg=dict(output_keypoint_indices=indices)), sample(flipped))
    pred = some[0].pred_instances
    for name in ("keypoints", "keypoint_scores", "keypoints_3d"):
        np.testing.assert_array_equal(pred[name], every[name][:, indices])
    np.testing.assert_array_equal(pred.vertices, every.vertices)


def test_flip_test_is_refused():
    with pytest.raises(ValueError, match=r"flip_test.*right hand is a left hand"):
        estimator(test_cfg=dict(flip_test=True))
    estimator(test_cfg=dict(flip_test=False))


@pytest.mark.parametrize("name", ["cam", "keypoints_3d"])
def test_head_without_a_hand_in_space_is_refused(name):
    fields = hand()
    del fields[name]
    with pytest.raises(ValueError, match=f"HeadOfOneHand does not predict {name}"):
        predict(estimator(fields), sample())


@pytest.mark.parametrize("flipped", [False, True])
def test_head_may_predict_points_without_a_mesh(flipped):
    fields = hand()
    del fields["vertices"]
    pred = predict(estimator(fields), sample(flipped))[0].pred_instances
    np.testing.assert_allclose(
        through_crop(pred, pred.keypoints_3d), pred.keypoints, atol=TOLERANCE
    )


def test_registered_name_builds_the_class():
    config = dict(
        type="mamba_mm.TopdownHandMeshEstimator",
        backbone=dict(type=Identity),
        head=dict(type=HeadOfOneHand),
    )
    assert isinstance(MODELS.build(config), TopdownHandMeshEstimator)


class TestEndToEnd:
    """With a real backbone, head and codec."""

    INPUT_SIZE = (48, 64)

    @pytest.fixture(scope="class")
    def model(self):
        torch.manual_seed(0)
        config = dict(
            type="mamba_mm.TopdownHandMeshEstimator",
            data_preprocessor=dict(type="PoseDataPreprocessor", mean=[100.0] * 3, std=[50.0] * 3),
            backbone=dict(type="mamba_mm.VMamba", arch="nano", out_indices=(3,)),
            head=dict(
                type="mamba_mm.MANOHead",
                in_channels=256,
                input_size=self.INPUT_SIZE,
                output_model=dict(mano=dict(mano_path="toy")),
                decoder=dict(type="mamba_mm.MANOLabel", input_size=self.INPUT_SIZE),
            ),
        )
        with DefaultScope.overwrite_default_scope("mmpose"):
            return MMPOSE_MODELS.build(config).eval()

    def batch(self):
        samples = [sample(), sample(flipped=True)]
        generator = np.random.default_rng(0)
        codec = KEYPOINT_CODECS.build(dict(type="mamba_mm.MANOLabel", input_size=self.INPUT_SIZE))
        one = np.ones(1, dtype=np.float32)
        for one_sample in samples:
            labels = codec.encode(
                generator.uniform(0, 48, (1, 21, 2)),
                keypoints_cam=generator.normal(size=(1, 21, 3)),
                keypoints_cam_valid=np.ones((1, 21)),
                mano_pose=generator.normal(size=(1, 48)),
                mano_betas=generator.normal(size=(1, 10)),
                has_3d=one,
                has_mano=one,
            )
            one_sample.gt_instance_labels = InstanceData(**labels).to_tensor()
            one_sample.set_metainfo(dict(input_size=self.INPUT_SIZE))
        return dict(inputs=[torch.zeros(3, 64, 48, dtype=torch.uint8)] * 2, data_samples=samples)

    def test_loss(self, model):
        data = model.data_preprocessor(self.batch())
        losses = model(**data, mode="loss")
        assert set(losses) == {
            f"loss_{name}" for name in ("kpt2d", "kpt3d", "global_orient", "hand_pose", "betas")
        }
        sum(losses.values()).backward()
        assert all(p.grad is not None for p in model.parameters())
        model.zero_grad(set_to_none=True)

    def test_predict(self, model):
        results = model.test_step(self.batch())
        assert [r.pred_instances.is_right.item() for r in results] == [1, 0]
        for result in results:
            pred = result.pred_instances
            assert pred.vertices.shape == (1, 778, 3)
            np.testing.assert_allclose(
                through_crop(pred, pred.keypoints_3d), pred.keypoints, atol=TOLERANCE
            )

    def test_the_same_crop_of_a_left_hand_is_the_mirror_image(self, model):
        right, left = (r.pred_instances for r in model.test_step(self.batch()))
        np.testing.assert_allclose(
            left.keypoints[..., 0], WIDTH - 1 - right.keypoints[..., 0], atol=1e-2
        )
        np.testing.assert_allclose(left.vertices, right.vertices * [-1, 1, 1], atol=1e-5)

    def test_tensor(self, model):
        out = model(torch.zeros(2, 3, 64, 48), None, mode="tensor")
        assert out["final"].vertices.shape == (2, 778, 3)

    def test_checkpoint_needs_no_hand_model_and_loads_strictly(self, model):
        state = dict(model.state_dict())
        assert not any("mano" in key for key in state)
        other = copy.deepcopy(model)
        for parameter in other.parameters():
            parameter.data.zero_()
        # A plain dict has no version, so MMPose takes it for one of its old checkpoints.
        other.load_state_dict(state, strict=True)
        for key, value in other.state_dict().items():
            assert torch.equal(value, state[key])
