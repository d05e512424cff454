"""Hamba's head: a hand from a graph of joint tokens and state-space scans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..body_models.joint_orders import HAND_BONES
from .channel_reduction import ChannelReduction
from .gss_block import GSSBlock
from .joints_regressor import JointsRegressor
from .mesh_head import HandMeshHead, Prediction
from .ssm_settings import SSMSettings
from .token_sampler import TokenSampler

BRANCHES = ("gss", "joints2d", "global", "ts")
TOKEN_SOURCES = ("sampled", "learned", "mean")
STAGES = ("all", "regressor")


class HambaHead(HandMeshHead):
    """Hamba's decoder (Dong et al., NeurIPS 2024, arXiv 2407.09646, figure 2).

    ::

        map ── reduction ─┬─ joints regressor ── output model ── jr: joints_2d ─┐
                          ├─ token sampler at these joints ── joint tokens ─────┤
                          └─ mean ── global token ──────────────────────────────┤
                                                                                │
             final ── output model ── read-out ── fusion ── mean over GSS blocks┘

    The fusion concatenates up to four branches: the mean of the tokens after the GSS blocks
    (``"gss"``), the regressor's joints in the crop (``"joints2d"``, through which the final losses
    reach the regressor), the global token (``"global"``) and the mean of the sampled tokens
    (``"ts"``). What no branch needs is not built.

    Four biases that a batch norm follows, one in the reduction, one in the sampler and one in each
    block, have no effect and no gradient but rounding.

    Training in two stages begins with ``stage="regressor"``: the reduction and the joints regressor
    alone, whose prediction then is the final one. Nothing else is built, so every parameter has a
    gradient. What is there has the same names in both stages, so that the second one loads what the
    first one saved; ``mamba_mm.StrictLoadHook`` sees to it that it loads all of it.

    Where a token of the map lies in the image depends on the backbone: see ``token_offset`` of
    :class:`TokenSampler`, and set it for a ViT whose patches are padded.

    Args:
        in_channels: Channels of the backbone's map.
        embed_dims: Channels of the tokens.
        jr: Settings of :class:`JointsRegressor` that differ from its defaults.
        ts: Settings of :class:`TokenSampler` that differ from its defaults.
        gss: Settings of :class:`GSSBlock` that differ from its defaults, and ``num_blocks``, 2 by
            default.
        ssm: Settings of all state-space blocks that differ from those of :class:`SSMSettings`.
        fusion: The branches, any of the four; their order does not matter.
        tokens: Where the joint tokens come from. ``"sampled"``; or, for ablations, ``"learned"``
            ones or the ``"mean"`` of the map for every joint.
        edges: Pairs of joints that are neighbours; by default the bones of a hand.
        jr_loss_weight: Weight of the regressor's losses beside those of the final prediction.
        stage: ``"all"``, or ``"regressor"`` for the first stage of two. Settings of what that one
            does not have are not looked at.
        **settings: As in :class:`HandMeshHead`.

    Raises:
        ValueError: When a name or setting is unknown, or no branch is left.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        embed_dims: int = 512,
        jr: Mapping[str, Any] | None = None,
        ts: Mapping[str, Any] | None = None,
        gss: Mapping[str, Any] | None = None,
        ssm: Mapping[str, Any] | None = None,
        fusion: Sequence[str] = BRANCHES,
        tokens: str = "sampled",
        edges: Iterable[tuple[int, int]] = HAND_BONES,
        jr_loss_weight: float = 1.0,
        stage: str = "all",
        **settings: Any,
    ) -> None:
        super().__init__(in_channels, **settings)
        if stage not in STAGES:
            raise ValueError(f"HambaHead: unknown stage {stage!r}; known: {', '.join(STAGES)}")
        self.stage = stage
        self.fusion = _check_fusion(fusion, tokens)
        self.tokens = tokens
        num_joints = self.output_model.num_joints
        ssm = SSMSettings.of(ssm)

        self.reduction = ChannelReduction(in_channels, embed_dims)
        self.jr = JointsRegressor(
            embed_dims,
            self.output_model.sizes,
            **{
                "ssm": ssm,
                "hidden_dims": self.head_hidden_dims,
                "init_gain": self.readout_init_gain,
                **(jr or {}),
            },
        )
        self.ts = self.learned_tokens = self.gss = None
        if stage == "regressor":
            return
        self.outputs["jr"] = jr_loss_weight
        uses_gss, uses_ts = "gss" in self.fusion, "ts" in self.fusion
        if tokens == "sampled" and (uses_gss or uses_ts):
            self.ts = TokenSampler(embed_dims, self.input_size, **(ts or {}))
        if tokens == "learned" and uses_gss:
            self.learned_tokens = nn.Parameter(torch.empty(num_joints, embed_dims))
            nn.init.trunc_normal_(self.learned_tokens, std=0.02)
        if uses_gss:
            self.gss = _gss_stack(embed_dims, num_joints, tuple(edges), ssm, gss or {})
            self.gss_norm = nn.LayerNorm(embed_dims)

        sizes = {name: embed_dims for name in BRANCHES} | {"joints2d": 2 * num_joints}
        self.read_out = self.build_read_out(sum(sizes[name] for name in self.fusion))

    def forward(self, feats: Sequence[Tensor]) -> dict[str, Prediction]:
        """Predict from the backbone's maps.

        Args:
            feats: The maps; that of ``input_index`` is used.

        Returns:
            ``"final"``, and ``"jr"`` by the joints regressor alone; in its own stage only
            ``"final"``, which then is by it.
        """
        x = self.reduction(self.take_map(feats))
        first = self.output_model(self.jr(x))
        if self.stage == "regressor":
            return {"final": first}
        global_token = x.mean(dim=(2, 3))
        branches = {"joints2d": first.joints_2d.flatten(1), "global": global_token}
        if self.ts is not None:
            joint_tokens = self.ts(x, self.to_pixels(first.joints_2d))
            branches["ts"] = joint_tokens.mean(dim=1)
        elif self.learned_tokens is not None:
            joint_tokens = self.learned_tokens.expand(len(x), -1, -1)
        else:
            joint_tokens = global_token.unsqueeze(1).expand(-1, self.output_model.num_joints, -1)
        if self.gss is not None:
            both = torch.cat([joint_tokens, global_token.unsqueeze(1)], dim=1)
            branches["gss"] = self.gss_norm(self.gss(both)).mean(dim=1)
        fused = torch.cat([branches[name] for name in self.fusion], dim=1)
        return {"final": self.output_model(self.read_out(fused)), "jr": first}

    def to_pixels(self, points: Tensor) -> Tensor:
        """Map points (..., 2) in units of the crop's height from its centre to pixels."""
        width, height = self.input_size
        return points * height + points.new_tensor([width / 2, height / 2])


def _gss_stack(
    channels: int,
    num_joints: int,
    edges: Sequence[tuple[int, int]],
    ssm: SSMSettings,
    gss: Mapping[str, Any],
) -> nn.Sequential:
    """Build the GSS blocks."""
    gss = {"num_blocks": 2, "ssm": ssm, **gss}
    num_blocks = gss.pop("num_blocks")
    if num_blocks < 1:
        raise ValueError(
            f"HambaHead: gss needs num_blocks of 1 or more, got {num_blocks}; leave 'gss' out of "
            "fusion for none"
        )
    return nn.Sequential(*(GSSBlock(channels, num_joints, edges, **gss) for _ in range(num_blocks)))


def _check_fusion(fusion: Sequence[str], tokens: str) -> tuple[str, ...]:
    """Return the branches in their order, checked."""
    if tokens not in TOKEN_SOURCES:
        raise ValueError(f"HambaHead: unknown tokens {tokens!r}; known: {', '.join(TOKEN_SOURCES)}")
    unknown = sorted(set(fusion) - set(BRANCHES))
    if unknown or not fusion:
        raise ValueError(
            f"HambaHead: fusion must be one or more of {', '.join(BRANCHES)}, got {tuple(fusion)}"
        )
    if "ts" in fusion and tokens != "sampled":
        raise ValueError(
            f"HambaHead: with tokens={tokens!r} nothing is sampled; leave 'ts' out of fusion"
        )
    return tuple(name for name in BRANCHES if name in fusion)
