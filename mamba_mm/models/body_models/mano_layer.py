"""Linear blend skinning of the MANO hand."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mamba_mm.registry import MODELS

from .joint_orders import MANO_TO_OPENPOSE, TIP_VERTICES
from .mano_file import resolve_mano
from .mano_model import NUM_BETAS, NUM_JOINTS, MANOModel
from .wrist_cap import close_wrist

JOINT_SOURCES = ("chain", "regressed")


class MANOOutput(NamedTuple):
    """Posed hands, metres.

    Attributes:
        vertices: (B, 778, 3).
        joints: In OpenPose order, with fingertips, (B, 21, 3).
        joints_mano: In MANO's order, without fingertips, (B, 16, 3).
    """

    vertices: Tensor
    joints: Tensor
    joints_mano: Tensor


@MODELS.register_module()
class MANOLayer(nn.Module):
    """The MANO hand as a differentiable layer (Romero et al., "Embodied Hands", 2017).

    The arrays of the model are licensed and must not be passed on: they are in no state dict, and
    what a state dict from elsewhere has for this layer is ignored with a message. They are
    float32, or float64 after ``.double()``; ``.half()`` leaves them. Inputs are cast to that
    type, and autocast is off inside.

    Args:
        mano_path: The file of the model, the word ``"toy"`` for our synthetic one, or ``None``
            for what the environment variable ``MAMBA_MM_MANO`` says; see
            :func:`~mamba_mm.models.body_models.resolve_mano`.
        tip_set: Which vertices are the fingertips, a key of
            :data:`~mamba_mm.models.body_models.TIP_VERTICES`.
        joint_source: Where joints come from. ``"chain"``: the posed kinematic chain, as in smplx
            and HaMeR. ``"regressed"``: the regressor applied to the posed vertices. They differ
            by some millimetres.

    Raises:
        FileNotFoundError: There is no model.
        ValueError: The file is no model, or a name is unknown.
    """

    def __init__(
        self,
        mano_path: str | Path | None = None,
        tip_set: str = "smplx",
        joint_source: str = "chain",
    ) -> None:
        super().__init__()
        self._set_up(resolve_mano(mano_path), tip_set, joint_source)

    @classmethod
    def from_model(
        cls, model: MANOModel, tip_set: str = "smplx", joint_source: str = "chain"
    ) -> MANOLayer:
        """Build the layer of a model at hand; arguments as above."""
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer._set_up(model, tip_set, joint_source)
        return layer

    def _set_up(self, model: MANOModel, tip_set: str, joint_source: str) -> None:
        if tip_set not in TIP_VERTICES:
            raise ValueError(
                f"MANOLayer: unknown tip_set {tip_set!r}; known: {', '.join(TIP_VERTICES)}"
            )
        if joint_source not in JOINT_SOURCES:
            raise ValueError(
                f"MANOLayer: unknown joint_source {joint_source!r}; known: "
                f"{', '.join(JOINT_SOURCES)}"
            )
        self.model = model
        self.tip_set = tip_set
        self.joint_source = joint_source
        # A Python tuple: a compiler can unroll the chain.
        self.parents: tuple[int, ...] = tuple(model.parents.tolist())
        for name in _buffers(model):
            self.register_buffer(name, None, persistent=False)
        self._fill(torch.device("cpu"), torch.float32)

    @property
    def faces(self) -> np.ndarray:
        """Triangles, (1538, 3), int64."""
        return self.model.faces

    @functools.cached_property
    def faces_closed(self) -> np.ndarray:
        """Triangles with a cap on the wrist, (1552, 3), int64."""
        return close_wrist(self.model.faces)

    def forward(self, global_orient: Tensor, hand_pose: Tensor, betas: Tensor) -> MANOOutput:
        """Pose hands.

        The wrist joint stays where it is at rest, which is not the origin and depends on
        ``betas``: compare points relative to the wrist.

        Args:
            global_orient: Rotation of the hand about its wrist, (B, 1, 3, 3).
            hand_pose: Absolute rotations of joints 1 to 15 in MANO's order, (B, 15, 3, 3); no
                mean pose is added.
            betas: Shape, (B, 10).

        Returns:
            Vertices and joints in the frame of the model.

        Raises:
            ValueError: When a shape is not the above.
        """
        _check_shapes(global_orient, hand_pose, betas)
        dtype = self.v_template.dtype
        with torch.autocast(betas.device.type, enabled=False):
            rotations = torch.cat((global_orient.to(dtype), hand_pose.to(dtype)), dim=1)
            shaped = self.v_template + torch.einsum("vck,bk->bvc", self.shapedirs, betas.to(dtype))
            rest_joints = torch.einsum("jv,bvc->bjc", self.joint_regressor, shaped)
            chain_rotations, chain_joints = self._chain(rotations, rest_joints)
            vertices = self._skin(
                self._correct_pose(shaped, rotations), rest_joints, chain_rotations, chain_joints
            )
            joints = chain_joints
            if self.joint_source == "regressed":
                joints = torch.einsum("jv,bvc->bjc", self.joint_regressor, vertices)
            tips = vertices[:, list(TIP_VERTICES[self.tip_set])]
            ordered = torch.cat((joints, tips), dim=1)[:, list(MANO_TO_OPENPOSE)]
        return MANOOutput(vertices, ordered, joints)

    def _correct_pose(self, shaped: Tensor, rotations: Tensor) -> Tensor:
        """Add the pose blend shapes, (B, 778, 3)."""
        eye = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
        feature = (rotations[:, 1:] - eye).flatten(1)
        return shaped + torch.einsum("vcp,bp->bvc", self.posedirs, feature)

    def _chain(self, rotations: Tensor, rest_joints: Tensor) -> tuple[Tensor, Tensor]:
        """Rotations (B, 16, 3, 3) and places (B, 16, 3) of the joints in the model's frame."""
        turned, placed = [rotations[:, 0]], [rest_joints[:, 0]]
        for joint, parent in enumerate(self.parents[1:], start=1):
            bone = rest_joints[:, joint] - rest_joints[:, parent]
            placed.append(placed[parent] + torch.einsum("bik,bk->bi", turned[parent], bone))
            turned.append(turned[parent] @ rotations[:, joint])
        return torch.stack(turned, dim=1), torch.stack(placed, dim=1)

    def _skin(
        self, corrected: Tensor, rest_joints: Tensor, rotations: Tensor, joints: Tensor
    ) -> Tensor:
        """Blend the joints' transforms and apply them, (B, 778, 3)."""
        shifts = joints - torch.einsum("bjik,bjk->bji", rotations, rest_joints)
        transforms = torch.cat((rotations, shifts[..., None]), dim=-1)
        blended = torch.einsum("vj,bjik->bvik", self.weights, transforms)
        turned = torch.einsum("bvik,bvk->bvi", blended[..., :3], corrected)
        return turned + blended[..., 3]

    def _fill(self, device: torch.device, dtype: torch.dtype) -> None:
        """Copy the model's arrays into the buffers."""
        for name, array in _buffers(self.model).items():
            setattr(self, name, torch.tensor(array, dtype=dtype, device=device))

    def _apply(self, fn: Any, recurse: bool = True) -> MANOLayer:
        """Move the layer, then copy the arrays anew.

        So ``.double()`` has their full precision, ``.half()`` does not coarsen them, and
        ``.to_empty()``, after which no checkpoint could fill them, does not lose them.
        """
        super()._apply(fn, recurse)
        dtype = torch.promote_types(self.v_template.dtype, torch.float32)
        self._fill(self.v_template.device, dtype)
        return self

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Ignore what other tools save for a hand model; this layer has no state."""
        foreign = {key: None for key in state_dict if key.startswith(prefix)}
        if foreign:
            named = ", ".join(list(foreign)[:8]) + (", ..." if len(foreign) > 8 else "")
            print_log(
                f"MANOLayer: ignored {len(foreign)} entries of the checkpoint, {named}: the hand "
                "model comes from its own file",
                logger="current",
            )
        own = {key: value for key, value in state_dict.items() if key not in foreign}
        super()._load_from_state_dict(own, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        """Say which hand this is."""
        kind = "synthetic, " if self.model.synthetic else ""
        return f"{kind}{self.model.side}, tips={self.tip_set}, joints={self.joint_source}"


def _buffers(model: MANOModel) -> dict[str, np.ndarray]:
    names = (
        "v_template",
        "shapedirs",
        "posedirs",
        "weights",
        "joint_regressor",
        "hands_mean",
        "hands_components",
    )
    return {name: getattr(model, name) for name in names}


def _check_shapes(global_orient: Tensor, hand_pose: Tensor, betas: Tensor) -> None:
    got = [tuple(x.shape) for x in (global_orient, hand_pose, betas)]
    wanted = [(1, 3, 3), (NUM_JOINTS - 1, 3, 3), (NUM_BETAS,)]
    # Sizes that stay open in an export can be compared, but not put into a set.
    if [s[1:] for s in got] != wanted or not got[0][0] == got[1][0] == got[2][0]:
        raise ValueError(
            "MANOLayer: expected global_orient (B, 1, 3, 3), hand_pose (B, 15, 3, 3), both "
            f"rotation matrices, and betas (B, 10); got {got[0]}, {got[1]} and {got[2]}"
        )
