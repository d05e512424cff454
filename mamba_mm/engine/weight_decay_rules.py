"""Which parameters the recipes spare weight decay, as data.

Weight decay pulls towards zero. That regularises the weights of linear layers and convolutions;
of a recurrence it changes what is computed: ``A = -exp(A_log)`` is pulled towards -1, and the
step sizes towards ``softplus(0)``, 0.69.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

NORM_LAYERS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
"""Norm layers of PyTorch. Those of this package and of the toolboxes derive from them."""

RECURRENCE = ("A_log", "A_logs", "A_b_log", "D", "Ds", "D_b", "dt_projs_bias")
"""Own names of the scan's parameters that are no projections: decay rates, skips and step-size
biases, of VMamba and of Vim. (Vim's step-size biases are called ``bias``.)"""

POSITIONS = (
    "pos_embed",
    "absolute_pos_embed",
    "relative_position_bias_table",
    "rel_pos_h",
    "rel_pos_w",
    "cls_token",
    "dist_token",
)
"""Own names of position embeddings and of extra tokens, here and in the toolboxes' backbones."""


@dataclass(frozen=True)
class WeightDecayRule:
    """Which parameters a recipe spares: those for which anything below holds.

    Attributes:
        norms: It belongs to a norm layer, whatever its shape.
        flat: It has at most one dimension.
        biases: It is called ``bias``.
        names: It is called one of these. Only the last part of its name counts.
        substrings: Its full name contains one of these.
    """

    norms: bool = False
    flat: bool = False
    biases: bool = False
    names: tuple[str, ...] = ()
    substrings: tuple[str, ...] = ()

    def spares(self, name: str, parameter: Tensor, owner: nn.Module) -> bool:
        """Tell whether a parameter is spared.

        Args:
            name: Its full name, such as ``"backbone.norm_f.weight"``.
            parameter: The parameter.
            owner: The module that holds it.
        """
        own_name = name.rpartition(".")[2]
        return (
            (self.norms and isinstance(owner, NORM_LAYERS))
            or (self.flat and parameter.dim() <= 1)
            or (self.biases and own_name == "bias")
            or own_name in self.names
            or any(part in name for part in self.substrings)
        )


WEIGHT_DECAY_RULES: dict[str, WeightDecayRule] = {
    # What the recipes mean.
    "principled": WeightDecayRule(
        norms=True, flat=True, biases=True, names=(*RECURRENCE, *POSITIONS)
    ),
    # A_logs and dt_projs_bias are stored as matrices: they decay.
    "vmamba_classification": WeightDecayRule(flat=True, biases=True),
    # Swin's keys. "norm" finds the norms of the blocks, of the mixers and of the outputs. The
    # norms patch_embed.2, patch_embed.7 and downsample.3 decay, and so do all other biases, A_logs,
    # Ds and dt_projs_bias.
    "vmamba_dense": WeightDecayRule(
        substrings=("absolute_pos_embed", "relative_position_bias_table", "norm")
    ),
    # A_log and A_b_log are matrices: they decay.
    "vim_classification": WeightDecayRule(
        flat=True, biases=True, names=("pos_embed", "cls_token", "dist_token")
    ),
    # The list of spared names is compared with names that begin with "backbone.": the position
    # embedding and the class token decay, too.
    "vim_dense": WeightDecayRule(flat=True, biases=True),
}
"""``principled``, and what the official recipes of VMamba and Vim really do, slips included."""
