"""The layer against the equations, vertex by vertex, and the promises it makes."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from mamba_mm.models.body_models import (
    HAND_BONES,
    MANO_PARENTS,
    MANO_TO_OPENPOSE,
    OPENPOSE_NAMES,
    OPENPOSE_TO_MANO,
    TIP_VERTICES,
    MANOLayer,
    axis_angle_to_matrix,
    build_toy_mano,
    mano_layer,
    mirror_axis_angle,
    mirror_rotations,
)
from mamba_mm.registry import MODELS

FLOATS = (
    "v_template",
    "shapedirs",
    "posedirs",
    "weights",
    "joint_regressor",
    "hands_components",
    "hands_mean",
)


@pytest.fixture(scope="module")
def layer():
    return MANOLayer("toy")


@pytest.fixture(scope="module")
def stiff():
    """A layer whose joints move nothing but what hangs on them."""
    model = dataclasses.replace(build_toy_mano(), posedirs=np.zeros((778, 3, 135)))
    return MANOLayer.from_model(model)


def random_pose(batch=2, scale=0.5, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    axis_angle = scale * torch.randn(batch, 16, 3, generator=generator, dtype=torch.double)
    rotations = axis_angle_to_matrix(axis_angle).to(dtype)
    betas = torch.randn(batch, 10, generator=generator, dtype=torch.double).to(dtype)
    return rotations[:, :1], rotations[:, 1:], betas


def at_rest(batch=1):
    eye = torch.eye(3).expand(batch, 16, 3, 3)
    return eye[:, :1], eye[:, 1:], torch.zeros(batch, 10)


def with_one_joint_turned(joint, axis_angle=(0.3, -0.4, 0.7)):
    pose = torch.zeros(1, 16, 3)
    pose[0, joint] = torch.tensor(axis_angle)
    rotations = axis_angle_to_matrix(pose)
    return rotations[:, :1], rotations[:, 1:], torch.zeros(1, 10)


def derive(model, rotations, betas):
    """Vertices and joints of one hand from the published equations, one vertex after another.

    Written independently of the layer: with homogeneous matrices and the inverse of the pose at
    rest.
    """
    shaped = np.empty((778, 3))
    for i in range(778):
        shaped[i] = model.v_template[i]
        for b in range(10):
            shaped[i] += betas[b] * model.shapedirs[i, :, b]
    joints = np.array(
        [sum(model.joint_regressor[j, i] * shaped[i] for i in range(778)) for j in range(16)]
    )

    def world(turns):
        matrices = []
        for j, parent in enumerate(model.parents):
            local = np.eye(4)
            local[:3, :3] = turns[j]
            local[:3, 3] = joints[j] if parent < 0 else joints[j] - joints[parent]
            matrices.append(local if parent < 0 else matrices[parent] @ local)
        return matrices

    posed, rest = world(rotations), world([np.eye(3)] * 16)
    relative = [a @ np.linalg.inv(b) for a, b in zip(posed, rest, strict=True)]
    vertices = np.empty((778, 3))
    for i in range(778):
        point = shaped[i].copy()
        for j in range(1, 16):
            for row in range(3):
                for column in range(3):
                    entry = rotations[j][row, column] - (row == column)
                    point += entry * model.posedirs[i, :, 9 * (j - 1) + 3 * row + column]
        blended = sum(w * a for w, a in zip(model.weights[i], relative, strict=True))
        vertices[i] = (blended @ np.append(point, 1))[:3]
    return vertices, np.array([matrix[:3, 3] for matrix in posed])


def test_joint_orders():
    assert sorted(MANO_TO_OPENPOSE) == list(range(21))
    assert [MANO_TO_OPENPOSE[i] for i in OPENPOSE_TO_MANO] == list(range(21))
    assert MANO_PARENTS == (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)
    assert MANO_TO_OPENPOSE[:5] == (0, 13, 14, 15, 16)
    assert MANO_TO_OPENPOSE[13:] == (10, 11, 12, 19, 7, 8, 9, 20)
    assert OPENPOSE_TO_MANO[7:13] == (17, 18, 19, 13, 14, 15)


def test_names_and_bones():
    assert len(OPENPOSE_NAMES) == 21
    assert OPENPOSE_NAMES[:6] == ("wrist", "thumb1", "thumb2", "thumb3", "thumb4", "index1")
    assert OPENPOSE_NAMES[16] == "ring4"
    assert OPENPOSE_NAMES[20] == "pinky4"
    assert len(HAND_BONES) == 20
    assert [parent for parent, child in HAND_BONES if child % 4 == 1] == [0] * 5
    # In MANO's order the same bones are its tree, where a tip hangs on the last joint.
    for parent, child in HAND_BONES:
        if MANO_TO_OPENPOSE[child] < 16:
            assert MANO_PARENTS[MANO_TO_OPENPOSE[child]] == MANO_TO_OPENPOSE[parent]


def test_at_rest_it_is_the_template(layer):
    out = layer(*at_rest(2))
    model = build_toy_mano()
    joints = model.joint_regressor @ model.v_template
    assert np.abs(out.vertices.numpy() - model.v_template).max() < 1e-7
    assert np.abs(out.joints_mano.numpy() - joints).max() < 1e-7
    assert out.joints.shape == (2, 21, 3)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_equations(dtype, tolerance):
    layer = MANOLayer("toy").to(dtype)
    pose = random_pose(dtype=dtype, scale=0.8)
    out = layer(*pose)
    assert out.vertices.dtype == dtype
    orient, hand, betas = (x.double().numpy() for x in pose)
    vertices, joints = derive(build_toy_mano(), np.concatenate((orient, hand), 1)[1], betas[1])
    assert np.abs(out.vertices[1].numpy() - vertices).max() < tolerance
    assert np.abs(out.joints_mano[1].numpy() - joints).max() < tolerance


def test_global_rotation_turns_about_the_wrist(layer):
    _, hand, betas = random_pose()
    eye = torch.eye(3).expand(2, 1, 3, 3)
    turn = axis_angle_to_matrix(torch.tensor([0.4, -1.2, 0.8]))
    before, after = layer(eye, hand, betas), layer(turn.expand(2, 1, 3, 3), hand, betas)
    wrist = before.joints_mano[:, :1]
    expected = (before.vertices - wrist) @ turn.T + wrist
    assert (after.vertices - expected).abs().max() < 1e-6
    assert (after.joints[:, 0] - before.joints[:, 0]).abs().max() == 0
    # The wrist is not the origin, and where it is depends on the shape.
    assert wrist.norm(dim=-1).min() > 0.05
    assert (wrist[0] - wrist[1]).abs().max() > 1e-4


@pytest.mark.parametrize("joint", range(1, 16))
def test_a_joint_moves_its_descendants_only(stiff, joint):
    descendants = {joint}
    for child, parent in enumerate(MANO_PARENTS):
        if parent in descendants:
            descendants.add(child)
    moved = (stiff(*with_one_joint_turned(joint)).vertices - stiff(*at_rest()).vertices)[0]
    hanging = build_toy_mano().weights[:, sorted(descendants)].sum(1) > 0
    assert moved[~hanging].abs().max() < 1e-7
    assert moved[hanging].norm(dim=-1).max() > 5e-3


@pytest.mark.parametrize(
    ("name", "first"), [("index", 1), ("middle", 4), ("pinky", 7), ("ring", 10), ("thumb", 13)]
)
def test_a_finger_of_mano_is_the_finger_of_openpose(layer, name, first):
    """Thereby the ring finger is not taken for the little one, which comes first in MANO."""
    rest = layer(*at_rest()).joints[0]
    base = OPENPOSE_NAMES.index(f"{name}1")
    for number in range(3):
        moved = (layer(*with_one_joint_turned(first + number)).joints[0] - rest).norm(dim=-1)
        assert set(torch.nonzero(moved > 1e-3).flatten().tolist()) == set(
            range(base + number + 1, base + 4)
        )


@pytest.mark.parametrize("tip_set", TIP_VERTICES)
def test_tips_are_vertices_of_the_posed_mesh(tip_set):
    out = MANOLayer("toy", tip_set=tip_set)(*random_pose())
    tips = out.joints[:, [4, 8, 12, 16, 20]]
    assert torch.equal(tips, out.vertices[:, list(TIP_VERTICES[tip_set])])


def test_tip_sets_are_what_the_toolboxes_use():
    assert TIP_VERTICES == {
        "smplx": (744, 320, 443, 554, 671),
        "freihand": (744, 320, 443, 555, 672),
        "manopth": (745, 317, 444, 556, 673),
    }
    assert MANOLayer("toy").tip_set == "smplx"


def test_joints_of_the_chain_or_regressed():
    pose = random_pose()
    chain, regressed = MANOLayer("toy")(*pose), MANOLayer("toy", joint_source="regressed")(*pose)
    assert torch.equal(chain.vertices, regressed.vertices)
    regressor = torch.tensor(build_toy_mano().joint_regressor, dtype=torch.float32)
    assert (regressed.joints_mano - regressor @ chain.vertices).abs().max() < 1e-6
    for out in (chain, regressed):
        tips = out.joints[:, [4, 8, 12, 16, 20]]
        both = torch.cat((out.joints_mano, tips), 1)
        assert torch.equal(out.joints, both[:, list(MANO_TO_OPENPOSE)])
    assert (chain.joints_mano - regressed.joints_mano).norm(dim=-1).max() > 1e-4


def test_mirrored_pose_on_the_mirrored_model(layer):
    orient, hand, betas = random_pose()
    mirrored = MANOLayer.from_model(build_toy_mano().mirrored())
    out, image = (
        layer(orient, hand, betas),
        mirrored(mirror_rotations(orient), mirror_rotations(hand), betas),
    )
    flip = torch.tensor([-1.0, 1, 1])
    assert mirrored.model.side == "left"
    assert (image.vertices - flip * out.vertices).abs().max() < 1e-6
    assert (image.joints - flip * out.joints).abs().max() < 1e-6
    assert (mirrored.hands_mean - mirror_axis_angle(layer.hands_mean)).abs().max() == 0
    again = mirrored.model.mirrored()
    for name in (*FLOATS, "faces"):
        assert np.array_equal(getattr(again, name), getattr(build_toy_mano(), name))


def test_gradients():
    layer = MANOLayer("toy").double()
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(799, 3, generator=generator, dtype=torch.double)

    def outcome(axis_angle, betas):
        rotations = axis_angle_to_matrix(axis_angle)
        out = layer(rotations[:, :1], rotations[:, 1:], betas)
        return (torch.cat((out.vertices, out.joints), 1) * weights).sum((1, 2))

    axis_angle = 0.4 * torch.randn(1, 16, 3, generator=generator, dtype=torch.double)
    axis_angle[0, 5] = 0
    betas = torch.randn(1, 10, generator=generator, dtype=torch.double)
    assert torch.autograd.gradcheck(outcome, (axis_angle.requires_grad_(), betas.requires_grad_()))


def test_autocast_changes_nothing(layer):
    pose = random_pose()
    outside = layer(*pose)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = layer(*pose)
    for a, b in zip(outside, inside, strict=True):
        assert b.dtype == torch.float32
        assert torch.equal(a, b)


def test_half_inputs_are_cast(layer):
    pose = [x.half() for x in random_pose()]
    out = layer(*pose)
    assert out.vertices.dtype == torch.float32
    assert torch.equal(out.vertices, layer(*[x.float() for x in pose]).vertices)


@pytest.mark.parametrize("convert", [nn.Module.half, nn.Module.bfloat16])
def test_half_models_keep_the_hand_exact(layer, convert):
    owner = convert(nn.ModuleDict({"mano": copy.deepcopy(layer), "fc": nn.Linear(2, 2)}))
    assert owner["fc"].weight.dtype != torch.float32
    assert torch.equal(owner["mano"].v_template, layer.v_template)
    assert torch.equal(owner["mano"](*random_pose()).vertices, layer(*random_pose()).vertices)


def test_a_layer_survives_being_emptied(layer):
    moved = copy.deepcopy(layer).to("meta")
    assert moved.v_template.is_meta
    back = moved.to_empty(device="cpu")
    assert torch.equal(back(*random_pose()).vertices, layer(*random_pose()).vertices)


def test_no_hands(layer):
    out = layer(*[x[:0] for x in random_pose()])
    assert [tuple(x.shape) for x in out] == [(0, 778, 3), (0, 21, 3), (0, 16, 3)]


def test_no_array_of_the_model_is_saved(layer):
    owner = nn.ModuleDict({"mano": layer, "fc": nn.Linear(2, 2)})
    assert list(owner.state_dict()) == ["fc.weight", "fc.bias"]
    assert not list(layer.parameters())


@pytest.mark.parametrize("loader", ["torch", "mmengine"])
def test_hand_models_in_checkpoints_are_ignored(layer, loader, monkeypatch):
    messages = []
    monkeypatch.setattr(mano_layer, "print_log", lambda message, **_: messages.append(message))
    owner = nn.ModuleDict({"mano": copy.deepcopy(layer), "fc": nn.Linear(2, 2)})
    state = {
        "fc.weight": torch.ones(2, 2),
        "fc.bias": torch.ones(2),
        "mano.v_template": torch.zeros(778, 3),
        "mano.lbs_weights": torch.zeros(778, 16),
    }
    if loader == "torch":
        owner.load_state_dict(state, strict=True)
    else:
        load_state_dict(owner, state, strict=True)
    assert owner["fc"].bias.tolist() == [1, 1]
    assert torch.equal(owner["mano"].v_template, layer.v_template)
    assert len(messages) == 1
    assert "mano.v_template, mano.lbs_weights" in messages[0]
    owner.load_state_dict({k: v for k, v in state.items() if k.startswith("fc")}, strict=True)
    assert len(messages) == 1


def test_foreign_entries_of_others_are_still_reported(layer):
    owner = nn.ModuleDict({"mano": layer, "fc": nn.Linear(2, 2)})
    state = {**owner.state_dict(), "manor.weight": torch.zeros(1)}
    with pytest.raises(RuntimeError, match=r"manor\.weight"):
        owner.load_state_dict(state, strict=True)


def test_compiles_as_one_graph_and_exports(layer):
    pose = random_pose(batch=4)
    expected = layer(*pose)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")(*pose)
    assert torch.equal(compiled.vertices, expected.vertices)
    batch = torch.export.Dim("batch")
    exported = torch.export.export(layer, pose, dynamic_shapes=({0: batch},) * 3).module()
    fewer = exported(*[x[:3] for x in pose])
    assert (fewer.joints - expected.joints[:3]).abs().max() < 1e-6


def test_properties(layer):
    model = build_toy_mano()
    assert layer.faces.shape == (1538, 3)
    assert layer.faces.dtype == np.int64
    assert layer.faces_closed.shape == (1552, 3)
    assert np.array_equal(layer.faces_closed[:1538], layer.faces)
    assert layer.parents == MANO_PARENTS
    assert layer.model is model
    assert torch.equal(layer.hands_mean, torch.tensor(model.hands_mean, dtype=torch.float32))
    assert "synthetic, right" in repr(layer)


def test_built_by_name():
    layer = MODELS.build({"type": "mamba_mm.MANOLayer", "mano_path": "toy", "tip_set": "manopth"})
    assert layer.tip_set == "manopth"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tip_set": "mano"}, "unknown tip_set 'mano'; known: smplx, freihand, manopth"),
        ({"joint_source": "j"}, "unknown joint_source 'j'; known: chain, regressed"),
    ],
)
def test_unknown_names(settings, message):
    with pytest.raises(ValueError, match=message):
        MANOLayer("toy", **settings)


def test_wrong_shapes_are_named(layer):
    orient, hand, betas = random_pose()
    for wrong in ((orient, hand[:, :14], betas), (orient[:1], hand, betas), (hand, orient, betas)):
        with pytest.raises(ValueError, match=r"expected global_orient \(B, 1, 3, 3\)"):
            layer(*wrong)
    with pytest.raises(ValueError, match=r"and \(2, 16\)"):
        layer(orient, hand, torch.zeros(2, 16))
