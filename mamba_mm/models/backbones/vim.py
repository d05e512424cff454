"""Vim: Vision Mamba (Zhu et al., ICML 2024, arXiv 2401.09417).

The parameters are named as in the official repository, without its ``head``; so its state
dicts fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mamba_mm.layers import (
    POS_EMBED_RESIZES,
    RMSNorm,
    SSMixer1D,
    VimBlock,
    insert_class_token,
    patch_grid,
    remove_class_token,
    resize_pos_embed,
)
from mamba_mm.models.strict_init import StrictInit
from mamba_mm.registry import MODELS

OUT_TYPES = ("featmap", "cls_token", "avg_featmap", "raw")
TAPS = ("add", "mixer")
INITS = ("official", "symmetric")


@dataclass(frozen=True)
class VimArch:
    """What tells one Vim from another.

    Attributes:
        embed_dims: Channels D of the tokens.
        depth: Number of blocks.
        patch_size: Side of a patch in pixels.
        stride: Distance between patches in pixels; less than ``patch_size`` in the "+" models.
        d_state: States per channel and direction.
        ssm_ratio: Inner channels of the mixer over D.
        dt_rank: Rank of the step-size projection; ``None`` means ``ceil(D / 16)``.
        conv_size: Taps of the mixer's causal convolution.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0. The
            presets hold the value of the official ImageNet recipe.

    Raises:
        ValueError: When a value is out of range.
    """

    embed_dims: int
    depth: int = 24
    patch_size: int = 16
    stride: int = 16
    d_state: int = 16
    ssm_ratio: float = 2.0
    dt_rank: int | None = None
    conv_size: int = 4
    drop_path_rate: float = 0.0

    def __post_init__(self) -> None:
        sizes = ("embed_dims", "depth", "patch_size", "stride", "d_state", "conv_size")
        wrong = [f"{name}={getattr(self, name)}" for name in sizes if getattr(self, name) < 1]
        if self.ssm_ratio <= 0 or (self.dt_rank is not None and self.dt_rank < 1):
            wrong.append(f"ssm_ratio={self.ssm_ratio}, dt_rank={self.dt_rank}")
        if wrong:
            raise ValueError(f"VimArch: sizes must be positive, got {', '.join(wrong)}")
        if self.stride > self.patch_size:
            raise ValueError(
                f"VimArch: stride {self.stride} leaves pixels between patches of "
                f"{self.patch_size}; it must not be larger"
            )
        if not 0 <= self.drop_path_rate < 1:
            raise ValueError(
                f"VimArch: drop_path_rate must lie in [0, 1), got {self.drop_path_rate}"
            )

    @property
    def rank(self) -> int:
        """Rank of the step-size projection."""
        return math.ceil(self.embed_dims / 16) if self.dt_rank is None else self.dt_rank


VIM_ARCHS: dict[str, VimArch] = {
    "tiny": VimArch(192),
    "tiny_plus": VimArch(192, stride=8),
    "small": VimArch(384, drop_path_rate=0.05),
    "small_plus": VimArch(384, stride=8),
    "base": VimArch(768, drop_path_rate=0.05),
    "nano": VimArch(64, depth=4, d_state=8),
}
"""The five released models ("plus": patches overlap by half), and ``nano``, our own, for tests
and demos on a CPU. The recipe of ``base`` is not known to us: its drop path is ``small``'s."""


@MODELS.register_module()
class VisionMamba(StrictInit, BaseModule):
    """Vim as a backbone of any OpenMMLab toolbox.

    ::

        image ── patches ── class token into the middle ── + position ── blocks ── norm_f
                                                                           └─ taps: outnorm{i}

    Images may have any size. Zeros are appended at the bottom and the right where patches would
    not reach the end (the official code takes one size alone, where nothing is appended). The
    position embedding belongs to the grid of ``img_size`` and is interpolated to that of the
    image; so it is too when a state dict of another size is loaded.

    Blocks deeper than ``max(out_indices)`` are built, so that every checkpoint of the
    architecture fits strictly, but they neither run nor train.

    Args:
        arch: Name of a preset of :data:`VIM_ARCHS`, or a dict of the fields of
            :class:`VimArch`. The dict may name a preset as ``base`` and override some of its
            fields: ``dict(base='tiny', depth=12)``.
        img_size: Side, or height and width, of the image whose grid of patches the position
            embedding has.
        in_channels: Channels of the image.
        out_indices: Blocks whose features are returned, ascending; negative numbers count from
            the last.
        out_type: ``"featmap"``, a map (B, D, h, w) a tap, for dense tasks; ``"cls_token"``, the
            class token (B, D), as released for classification; ``"avg_featmap"``, the mean of
            the patches (B, D); or ``"raw"``, all tokens in order, (B, L, D).
        with_cls_token: Whether there is a class token, before patch M // 2 of M. Without one,
            loaded weights lose theirs and its row of the position embedding.
        tap: What a tap returns: ``"add"``, the residual stream after the block, or ``"mixer"``,
            the output of the block's mixer alone, as the official segmentation of Vim-Ti.
        tap_norm: Whether taps are normed: the last block's by ``norm_f``, the released final
            norm, others by an ``outnorm{i}`` of their own, which no release has.
        pos_embed_resize: ``"middle"``, or ``"official"`` for the official treatment of the
            class row, a defect (:func:`mamba_mm.layers.resize_pos_embed`).
        init: ``"official"``: the step-size bias of the backward scans starts at 0, because the
            official code forgets to spare it; step sizes start near 0.69 there, and in
            [1e-3, 1e-1] forward. ``"symmetric"``: both directions start as the forward one,
            as Mamba means it. It makes no difference once weights are loaded.
        frozen_stages: -1 trains everything, 0 freezes patch embedding, position embedding and
            class token, n also the first n blocks with their output norms. Frozen parts stay
            in eval mode.
        with_cp: Whether the activations of each block are recomputed in the backward pass,
            which costs time and saves memory. Results and gradients are the same.
        drop_path_rate: Stochastic depth of the last block, growing linearly from 0 at the
            first. ``None`` takes that of ``arch``.
        init_cfg: As in MMEngine. ``Pretrained`` goes through the strict loader of this package
            and accepts ``checkpoint``, ``prefix``, ``img_size`` (that of the file, where its
            position embedding does not tell its grid) and ``across_strides`` (whether the
            position embedding may come from the variant with the other stride, to fine-tune
            it).

    Raises:
        ValueError: When a name or field is unknown, or an index or a size out of range.

    Example:
        >>> import torch
        >>> maps = VisionMamba("nano", out_indices=(1, 3))(torch.zeros(1, 3, 64, 96))
        >>> [tuple(m.shape) for m in maps]
        [(1, 64, 4, 6), (1, 64, 4, 6)]
    """

    pretrained_fields = ("prefix", "img_size", "across_strides")

    def __init__(
        self,
        arch: str | Mapping = "tiny",
        img_size: int | Sequence[int] = 224,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        out_type: str = "featmap",
        with_cls_token: bool = True,
        tap: str = "add",
        tap_norm: bool = True,
        pos_embed_resize: str = "middle",
        init: str = "official",
        frozen_stages: int = -1,
        with_cp: bool = False,
        drop_path_rate: float | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        _check_names(out_type=out_type, tap=tap, pos_embed_resize=pos_embed_resize, init=init)
        if out_type == "cls_token" and not with_cls_token:
            raise ValueError("VisionMamba: out_type='cls_token' needs with_cls_token=True")
        self.arch_settings = arch = _resolve_arch(arch, drop_path_rate)
        self.img_size = check_img_size(img_size)
        self.in_channels = in_channels
        self.out_indices = _check_out_indices(out_indices, arch.depth)
        self.out_type = out_type
        self.with_cls_token = with_cls_token
        self.tap = tap
        self.tap_norm = tap_norm
        self.pos_embed_resize = pos_embed_resize
        self.frozen_stages = _check_frozen_stages(frozen_stages, arch.depth)
        self.with_cp = with_cp

        dims, patch = arch.embed_dims, arch.patch_size
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(in_channels, dims, patch, stride=arch.stride)}
        )
        rows = math.prod(self.grid) + with_cls_token
        self.cls_token = nn.Parameter(torch.empty(1, 1, dims)) if with_cls_token else None
        self.pos_embed = nn.Parameter(torch.empty(1, rows, dims))
        self.layers = nn.ModuleList(self._build_block(rate) for rate in _drop_path_rates(arch))
        self.norm_f = RMSNorm(dims)
        for i in self.out_indices if tap_norm else ():
            if i != arch.depth - 1:
                self.add_module(f"outnorm{i}", RMSNorm(dims))
        self._init_layers(init)
        self._freeze()

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches that the position embedding is for."""
        return self._grid_of(self.img_size)

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of what is returned: what a neck takes as ``in_channels``."""
        return (self.arch_settings.embed_dims,) * len(self.out_indices)

    def _grid_of(self, size: tuple[int, int]) -> tuple[int, int]:
        return patch_grid(size, self.arch_settings.patch_size, self.arch_settings.stride)

    def _build_block(self, drop_path: float) -> VimBlock:
        arch = self.arch_settings
        mixer = SSMixer1D(
            arch.embed_dims,
            d_state=arch.d_state,
            ssm_ratio=arch.ssm_ratio,
            dt_rank=arch.rank,
            conv_size=arch.conv_size,
            bidirectional=True,
            merge="mean",
        )
        return VimBlock(mixer, arch.embed_dims, drop_path=drop_path, with_cp=self.with_cp)

    @torch.no_grad()
    def _init_layers(self, init: str) -> None:
        """Official initialisation of what the layers themselves start differently."""
        proj = self.patch_embed["proj"]
        _lecun_normal(proj.weight)
        nn.init.zeros_(proj.bias)
        for token in (self.pos_embed, self.cls_token):
            if token is not None:
                nn.init.trunc_normal_(token, std=0.02)
        for block in self.layers:
            # So that the stream does not grow with the number of branches added to it.
            block.mixer.out_proj.weight /= math.sqrt(len(self.layers))
            if init == "official":
                nn.init.zeros_(block.mixer.dt_proj_b.bias)

    def load_pretrained(
        self,
        checkpoint: str,
        prefix: str | None = None,
        img_size: int | Sequence[int] | None = None,
        across_strides: bool = False,
    ) -> None:
        """Fill the backbone from a checkpoint, completely or not at all.

        Args:
            checkpoint: Path or ``http(s)`` URL.
            prefix: Where in the file the backbone lies.
            img_size: Image size whose grid the file's position embedding has.
            across_strides: Whether it may be of the other stride.
        """
        from mamba_mm.models.utils.checkpoint import load_pretrained_vim

        size = None if img_size is None else check_img_size(img_size)
        load_pretrained_vim(self, checkpoint, prefix, img_size=size, across_strides=across_strides)

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        """Resize a position embedding of another grid, as every toolbox's ViT does."""
        key = prefix + "pos_embed"
        saved = state_dict.get(key)
        has_class = prefix + "cls_token" in state_dict
        same_class = saved is not None and has_class == self.with_cls_token
        if same_class and saved.shape != self.pos_embed.shape:
            from mamba_mm.models.utils.checkpoint import fit_pos_embed

            fitted = fit_pos_embed(saved, self, where="The state dict", has_class=has_class)
            state_dict[key] = fitted.tensor
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the features of the blocks in ``out_indices``.

        Args:
            x: Images of shape (B, in_channels, H, W).

        Returns:
            One tensor for each, shaped as ``out_type`` says; maps are (B, D, h, w), contiguous,
            with h = max(ceil((H - patch_size) / stride), 0) + 1 and w likewise.

        Raises:
            ValueError: When the shape is another.
        """
        if x.dim() != 4 or x.shape[1] != self.in_channels or not x.shape[2] * x.shape[3]:
            raise ValueError(
                f"VisionMamba: expected images of shape (B, {self.in_channels}, H, W), "
                f"got {tuple(x.shape)}; check in_channels"
            )
        grid = self._grid_of((x.shape[2], x.shape[3]))
        stream = self._embed(x, grid)
        features = []
        for i, block in enumerate(self.layers[: self.out_indices[-1] + 1]):
            stream, mixed = block(stream)
            if i in self.out_indices:
                features.append(self._feature(i, stream if self.tap == "add" else mixed, grid))
        return tuple(features)

    def _embed(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Turn images into the residual stream before the first block, (B, L, D)."""
        patch, stride = self.arch_settings.patch_size, self.arch_settings.stride
        height, width = ((n - 1) * stride + patch for n in grid)
        x = F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2]))
        tokens = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        if self.with_cls_token:
            tokens = insert_class_token(tokens, self.cls_token, grid)
        position = resize_pos_embed(
            self.pos_embed,
            self.grid,
            grid,
            has_class=self.with_cls_token,
            keep_class=self.with_cls_token,
            mode=self.pos_embed_resize,
        )
        # The residual stream is never 16-bit: it sums as many terms as there are blocks.
        return (tokens + position).to(torch.promote_types(tokens.dtype, torch.float32))

    def _feature(self, i: int, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        if self.tap_norm:
            norm = self.norm_f if i == len(self.layers) - 1 else getattr(self, f"outnorm{i}")
            tokens = norm(tokens)
        if self.out_type == "raw":
            return tokens
        patches, cls_token = tokens, None
        if self.with_cls_token:
            patches, cls_token = remove_class_token(tokens, grid)
        if self.out_type == "cls_token":
            return cls_token
        if self.out_type == "avg_featmap":
            return patches.mean(dim=1)
        return patches.transpose(1, 2).unflatten(2, grid).contiguous()

    def train(self, mode: bool = True) -> VisionMamba:
        """Switch between training and evaluation; what is frozen stays in evaluation."""
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        for module in (*self._frozen_modules(), *self._unused_modules()):
            module.eval()
            module.requires_grad_(False)
        if self.frozen_stages >= 0:
            self.pos_embed.requires_grad_(False)
            if self.cls_token is not None:
                self.cls_token.requires_grad_(False)

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        frozen = [self.patch_embed, *self.layers[: self.frozen_stages]]
        names = (f"outnorm{i}" for i in self.out_indices if i < self.frozen_stages)
        frozen += [getattr(self, name) for name in names if hasattr(self, name)]
        return [*frozen, self.norm_f] if self.frozen_stages == len(self.layers) else frozen

    def _unused_modules(self) -> list[nn.Module]:
        last = self.out_indices[-1]
        unused = list(self.layers[last + 1 :])
        if unused or not self.tap_norm:
            unused.append(self.norm_f)
        return unused

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Tell how deep a parameter lies, for layer-wise learning-rate decay.

        MMPretrain's convention: 0 is the patch embedding with position embedding and class
        token, block i is i + 1, and everything after shares the last depth.

        Args:
            param_name: Name of the parameter.
            prefix: What stands before the backbone's own names, e.g. ``"backbone."``.

        Returns:
            The depth and the number of depths.
        """
        num_layers = self.arch_settings.depth + 2
        last = num_layers - 1
        if not param_name.startswith(prefix):
            return last, num_layers
        kind, *rest = param_name.removeprefix(prefix).split(".")
        if kind in ("patch_embed", "pos_embed", "cls_token"):
            return 0, num_layers
        return (int(rest[0]) + 1 if kind == "layers" else last), num_layers


def check_img_size(img_size: int | Sequence[int]) -> tuple[int, int]:
    """Return an image size as (height, width).

    Args:
        img_size: Side of a square, or height and width, in pixels.

    Raises:
        ValueError: When it is neither.
    """
    size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
    if len(size) != 2 or not all(isinstance(n, int) and n > 0 for n in size):
        raise ValueError(
            f"VisionMamba: img_size is a side or (height, width) in pixels, got {img_size!r}"
        )
    return size


def _resolve_arch(arch: str | Mapping, drop_path_rate: float | None) -> VimArch:
    settings = dict(arch) if isinstance(arch, Mapping) else {"base": arch}
    if "base" in settings:
        name = settings.pop("base")
        if name not in VIM_ARCHS:
            raise ValueError(f"VisionMamba: unknown arch {name!r}; known: {', '.join(VIM_ARCHS)}")
        settings = vars(VIM_ARCHS[name]) | settings
    known = [field.name for field in fields(VimArch)]
    unknown = [key for key in settings if key not in known]
    if unknown:
        raise ValueError(
            f"VisionMamba: unknown arch field(s) {', '.join(map(str, unknown))}; "
            f"known: base, {', '.join(known)}"
        )
    if "embed_dims" not in settings:
        raise ValueError(
            "VisionMamba: an arch dict needs embed_dims, or base, the name of a preset"
        )
    if drop_path_rate is not None:
        settings["drop_path_rate"] = drop_path_rate
    return VimArch(**settings)


def _check_names(**values: str) -> None:
    choices = {
        "out_type": OUT_TYPES,
        "tap": TAPS,
        "pos_embed_resize": POS_EMBED_RESIZES,
        "init": INITS,
    }
    for name, value in values.items():
        if value not in choices[name]:
            raise ValueError(
                f"VisionMamba: unknown {name} {value!r}; known: {', '.join(choices[name])}"
            )


def _check_out_indices(out_indices: int | Sequence[int], depth: int) -> tuple[int, ...]:
    given = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
    in_range = all(isinstance(i, int) and -depth <= i < depth for i in given)
    indices = tuple(i % depth for i in given) if in_range else ()
    if not indices or list(indices) != sorted(set(indices)):
        raise ValueError(
            "VisionMamba: out_indices must be ascending block numbers, each once, "
            f"from 0 to {depth - 1} or counted from the last as -1, got {out_indices}"
        )
    return indices


def _check_frozen_stages(frozen_stages: int, depth: int) -> int:
    if not -1 <= frozen_stages <= depth:
        raise ValueError(
            f"VisionMamba: frozen_stages must be from -1 (none) to {depth} (embeddings and all "
            f"blocks), got {frozen_stages}"
        )
    return frozen_stages


def _drop_path_rates(arch: VimArch) -> list[float]:
    """Linear from 0 at the first block to the full rate at the last."""
    last = max(arch.depth - 1, 1)
    return [arch.drop_path_rate * i / last for i in range(arch.depth)]


def _lecun_normal(weight: Tensor) -> None:
    """Normal with variance 1 / fan_in, after truncation at two standard deviations."""
    # 0.8796...: standard deviation of the standard normal truncated to [-2, 2].
    std = math.sqrt(1 / weight[0].numel()) / 0.87962566103423978
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
