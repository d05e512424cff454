"""VMamba: Visual State Space Model (Liu et al., NeurIPS 2024, arXiv 2401.10166).

The parameters are named as in the official repository's classification code, without its
``classifier``; so its state dicts fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from mmengine.model import BaseModule
from torch import Tensor, nn

from mamba_mm.layers import (
    ACTIVATIONS,
    DOWNSAMPLES,
    NORMS,
    PATCH_EMBEDS,
    Linear2d,
    SSMixer2D,
    VSSBlock,
    memory_format_of,
)
from mamba_mm.models.strict_init import StrictInit
from mamba_mm.ops.routes import RouteSet, route_sets
from mamba_mm.registry import MODELS

PATCH_SIZE = 4


@dataclass(frozen=True)
class VMambaArch:
    """What tells one VMamba from another.

    Attributes:
        dims: Channels of each stage; a single number d means d, 2d, 4d, ...
        depths: Blocks of each stage.
        ssm_ratio: Inner channels of the mixer over those of the stage.
        d_state: States per channel and route.
        gate: Whether the mixer's output is gated.
        conv_bias: Whether the mixer's depthwise convolution has a bias.
        activation: Activation of the mixer, ``"silu"`` or ``"gelu"``.
        scan_float32: Whether the scan's inputs are float32 also under autocast.
        mlp_ratio: Hidden channels of the MLP over those of the stage; 0 for no MLP.
        norm: ``"ln"``, layer norm over channels, or ``"bn"``, batch norm.
        patch_embed: ``"v1"``, one 4x4 convolution, or ``"v2"``, two 3x3 ones.
        downsample: ``"v1"``, patch merging, or ``"v3"``, a 3x3 convolution.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0. The
            presets hold the value of the official ImageNet recipe.
        routes: Where the scans walk: what :func:`mamba_mm.ops.routes.route_sets` takes, such as
            ``"cross"``, VMamba's own, ``"serpentine"``, or a list with one set a block.

    Raises:
        ValueError: When a value is none of those listed or out of range.
    """

    dims: tuple[int, ...]
    depths: tuple[int, ...]
    ssm_ratio: float = 1.0
    d_state: int = 1
    gate: bool = False
    conv_bias: bool = False
    activation: str = "silu"
    scan_float32: bool = False
    mlp_ratio: float = 4.0
    norm: str = "ln"
    patch_embed: str = "v2"
    downsample: str = "v3"
    drop_path_rate: float = 0.0
    routes: str | Mapping | Sequence | RouteSet = "cross"

    def __post_init__(self) -> None:
        dims = self.dims
        if isinstance(dims, int):
            dims = [self.dims * 2**i for i in range(len(self.depths))]
        object.__setattr__(self, "dims", tuple(dims))
        object.__setattr__(self, "depths", tuple(self.depths))
        self._check_sizes()
        self.block_routes()
        self._check_name("activation", ACTIVATIONS)
        self._check_name("norm", NORMS)
        self._check_name("patch_embed", PATCH_EMBEDS)
        self._check_name("downsample", DOWNSAMPLES)

    def block_routes(self) -> tuple[RouteSet, ...]:
        """Return the route set of every block, in order."""
        return route_sets(self.routes, sum(self.depths))

    def _check_sizes(self) -> None:
        if not self.depths or len(self.dims) != len(self.depths):
            raise ValueError(
                "VMambaArch: dims and depths need one entry a stage each, "
                f"got dims={self.dims} and depths={self.depths}"
            )
        if min(*self.dims, *self.depths, self.d_state) < 1 or self.ssm_ratio <= 0:
            raise ValueError(
                "VMambaArch: dims, depths, d_state and ssm_ratio must be positive, "
                f"got {self.dims}, {self.depths}, {self.d_state} and {self.ssm_ratio}"
            )
        if self.mlp_ratio < 0:
            raise ValueError(
                f"VMambaArch: mlp_ratio must not be negative (0: no MLP), got {self.mlp_ratio}"
            )
        if not 0 <= self.drop_path_rate < 1:
            raise ValueError(
                f"VMambaArch: drop_path_rate must lie in [0, 1), got {self.drop_path_rate}"
            )

    def _check_name(self, field: str, known: Mapping[str, object]) -> None:
        value = getattr(self, field)
        if value not in known:
            raise ValueError(f"VMambaArch: unknown {field} {value!r}; known: {', '.join(known)}")


def _v0(dims: int, depths: Sequence[int], drop_path_rate: float) -> VMambaArch:
    """First generation, "Vanilla VMamba": gated, 16 states, no MLP, scan in float32."""
    return VMambaArch(
        dims=dims,
        depths=depths,
        ssm_ratio=2.0,
        d_state=16,
        gate=True,
        conv_bias=True,
        scan_float32=True,
        mlp_ratio=0.0,
        patch_embed="v1",
        downsample="v1",
        drop_path_rate=drop_path_rate,
    )


VMAMBA_ARCHS: dict[str, VMambaArch] = {
    "v0_tiny": _v0(96, (2, 2, 9, 2), 0.2),
    "v0_small": _v0(96, (2, 2, 27, 2), 0.3),
    "v0_base": _v0(128, (2, 2, 27, 2), 0.6),
    "tiny_s2l5": VMambaArch(96, (2, 2, 5, 2), ssm_ratio=2.0, drop_path_rate=0.2),
    "small_s2l15": VMambaArch(96, (2, 2, 15, 2), ssm_ratio=2.0, drop_path_rate=0.3),
    "base_s2l15": VMambaArch(128, (2, 2, 15, 2), ssm_ratio=2.0, drop_path_rate=0.6),
    "tiny_s1l8": VMambaArch(96, (2, 2, 8, 2), drop_path_rate=0.2),
    "small_s1l20": VMambaArch(96, (2, 2, 20, 2), drop_path_rate=0.3),
    "base_s1l20": VMambaArch(128, (2, 2, 20, 2), drop_path_rate=0.5),
    "vmunet_encoder": _v0(96, (2, 2, 2, 2), 0.2),
    "nano": VMambaArch(32, (1, 1, 2, 1)),
}
"""The nine released models (s and l: the ratio of the scan and the depth of stage 3), the
encoder of VM-UNet, and ``nano``, our own, for tests and demos on a CPU."""

TAPS = ("stage_output", "stage_input")


class VSSStage(nn.Module):
    """Blocks at one resolution, and the way down to the next.

    Args:
        blocks: The blocks, in order.
        downsample: What leads to the next stage; ``None`` in the last.
    """

    def __init__(self, blocks: Sequence[VSSBlock], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample


@MODELS.register_module()
class VMamba(StrictInit, BaseModule):
    """VMamba as a backbone of any OpenMMLab toolbox.

    The output is a tuple of NCHW maps at strides 4, 8, 16 and 32, taken before each stage's
    downsampling and normed by ``outnorm{i}``; ``taps`` takes them elsewhere. They are contiguous
    in the memory format of the images.
    Images need not be a multiple of anything; they must hold one patch of 4x4 pixels. Odd
    sizes are rounded up from stage to stage, the v1 patch embedding alone rounds down.

    Stages deeper than ``max(out_indices)`` are built, so that every checkpoint of the
    architecture fits strictly, but they neither run nor train. (MMDetection's Swin runs
    them, and needs ``find_unused_parameters`` to train distributed.)

    Args:
        arch: Name of a preset of :data:`VMAMBA_ARCHS`, or a dict of the fields of
            :class:`VMambaArch`. The dict may name a preset as ``base`` and override some of
            its fields: ``dict(base='tiny_s1l8', depths=(2, 2, 4, 2))``.
        in_channels: Channels of the image.
        out_indices: Stages whose maps are returned, ascending.
        frozen_stages: -1 trains everything, 0 freezes the patch embedding, n the patch
            embedding and the first n stages with their downsampling and output norms, as
            ResNet does. Frozen parts stay in eval mode.
        norm_eval: Whether batch norms stay in eval mode while training. It matters only to
            an ``arch`` with ``norm='bn'``: the presets have layer norms, which keep no
            statistics.
        with_cp: Whether the activations of each block are recomputed in the backward pass,
            which costs time and saves memory. Results and gradients are the same.
        drop_path_rate: Stochastic depth of the last block, growing linearly from 0 at the
            first. ``None`` takes that of ``arch``: for a preset the ImageNet recipe's.
        taps: Where the maps are taken. ``"stage_output"``: index i is the output of stage i.
            ``"stage_input"``, for U-Nets: index i is the input of stage i, and one index more
            is the output of the last stage.
        output_norms: Whether every returned map is normed. Inputs of stages have no norms:
            ``taps="stage_input"`` needs ``False``.
        init_cfg: As in MMEngine. ``Pretrained`` goes through the strict loader of this
            package, which raises where MMEngine's would leave the model random; it accepts
            the fields ``checkpoint`` and ``prefix``.

    Raises:
        ValueError: When a name or field is unknown, or an index or a size out of range.

    Example:
        >>> import torch
        >>> maps = VMamba("nano")(torch.zeros(1, 3, 64, 96))
        >>> [tuple(m.shape) for m in maps]
        [(1, 32, 16, 24), (1, 64, 8, 12), (1, 128, 4, 6), (1, 256, 2, 3)]
    """

    archs: Mapping[str, VMambaArch] = VMAMBA_ARCHS

    def __init__(
        self,
        arch: str | Mapping = "tiny_s1l8",
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        drop_path_rate: float | None = None,
        taps: str = "stage_output",
        output_norms: bool = True,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.arch_settings = resolve_arch(arch, drop_path_rate, self.archs)
        self.in_channels = in_channels
        self.taps = _check_taps(taps, output_norms)
        self.output_norms = output_norms
        self.out_indices = _check_out_indices(out_indices, len(self.tap_channels))
        self.frozen_stages = _check_frozen_stages(frozen_stages, self.num_stages)
        self.norm_eval = norm_eval
        self.with_cp = with_cp

        dims, norm = self.arch_settings.dims, self.arch_settings.norm
        self.patch_embed = PATCH_EMBEDS[self.arch_settings.patch_embed](in_channels, dims[0], norm)
        self.layers = nn.ModuleList(self._build_stage(i) for i in range(self.num_stages))
        for i in self.out_indices if output_norms else ():
            self.add_module(f"outnorm{i}", NORMS[norm](dims[i]))
        init_linear_layers(self)
        self._freeze()

    @property
    def num_stages(self) -> int:
        """Number of stages."""
        return len(self.arch_settings.depths)

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of the returned maps: what a neck takes as ``in_channels``."""
        return tuple(self.tap_channels[i] for i in self.out_indices)

    @property
    def tap_channels(self) -> tuple[int, ...]:
        """Channels of every map that ``out_indices`` can name."""
        dims = self.arch_settings.dims
        return dims if self.taps == "stage_output" else (*dims, dims[-1])

    def _build_stage(self, i: int) -> VSSStage:
        arch = self.arch_settings
        channels = arch.dims[i]
        own = slice(sum(arch.depths[:i]), sum(arch.depths[: i + 1]))
        settings = zip(_drop_path_rates(arch)[own], arch.block_routes()[own], strict=True)
        blocks = [
            build_vss_block(arch, channels, rate, routes, self.with_cp) for rate, routes in settings
        ]
        downsample = None
        if i + 1 < self.num_stages:
            downsample = DOWNSAMPLES[arch.downsample](channels, arch.dims[i + 1], arch.norm)
        return VSSStage(blocks, downsample)

    def load_pretrained(self, checkpoint: str, prefix: str | None = None) -> None:
        """Load weights as ``init_cfg`` of type ``Pretrained`` does, strictly."""
        from mamba_mm.models.utils.checkpoint import load_pretrained_vmamba

        load_pretrained_vmamba(self, checkpoint, prefix)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps of the stages in ``out_indices``.

        Args:
            x: Images of shape (B, in_channels, H, W), H and W at least 4.

        Returns:
            One map (B, dims[i], ~H / 2^(i+2), ~W / 2^(i+2)) for each i, contiguous in the memory
            format of the images.

        Raises:
            ValueError: When the shape is another.
        """
        self._check_input(x)
        layout = memory_format_of(x)
        x = self.patch_embed(x)
        if self.taps == "stage_input":
            maps = self._stage_inputs(x)
            return tuple(maps[i].contiguous(memory_format=layout) for i in self.out_indices)
        maps = []
        for i in range(self.out_indices[-1] + 1):
            stage = self.layers[i]
            x = stage.blocks(x)
            if i in self.out_indices:
                normed = getattr(self, f"outnorm{i}")(x) if self.output_norms else x
                maps.append(normed.contiguous(memory_format=layout))
            if i < self.out_indices[-1]:
                x = stage.downsample(x)
        return tuple(maps)

    def _stage_inputs(self, x: Tensor) -> list[Tensor]:
        """Run the stages from the embedded patches, as far as needed; return all inputs."""
        maps = [x]
        for stage in self.layers[: self.out_indices[-1]]:
            x = stage.blocks(x)
            if stage.downsample is not None:
                x = stage.downsample(x)
            maps.append(x)
        return maps

    def _check_input(self, x: Tensor) -> None:
        name = type(self).__name__
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"{name}: expected images of shape (B, {self.in_channels}, H, W), "
                f"got {tuple(x.shape)}; check in_channels"
            )
        if x.shape[2] < PATCH_SIZE or x.shape[3] < PATCH_SIZE:
            raise ValueError(
                f"{name}: an image must be at least {PATCH_SIZE}x{PATCH_SIZE} pixels, one patch, "
                f"got {x.shape[2]}x{x.shape[3]}; resize or pad it"
            )

    def train(self, mode: bool = True) -> VMamba:
        """Switch between training and evaluation; what is frozen stays in evaluation."""
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if hasattr(module, "running_mean"):  # mmcv's SyncBatchNorm is no _BatchNorm
                    module.eval()
        return self

    def _freeze(self) -> None:
        for module in (*self._frozen_modules(), *self._unused_modules()):
            module.eval()
            module.requires_grad_(False)

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        frozen = range(self.frozen_stages) if self.output_norms else ()
        norms = [getattr(self, f"outnorm{i}") for i in self.out_indices if i in frozen]
        return [self.patch_embed, *self.layers[: self.frozen_stages], *norms]

    def _unused_modules(self) -> list[nn.Module]:
        last = self.out_indices[-1]
        if self.taps == "stage_input":
            return list(self.layers[last:])
        unused = list(self.layers[last + 1 :])
        return [self.layers[last].downsample, *unused] if unused else []

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Tell how deep a parameter lies, for layer-wise learning-rate decay.

        MMPretrain's convention: 0 is the patch embedding, every block is one deeper than
        the block before, a downsampling layer is as deep as the last block of its stage,
        and everything after, the output norms included, shares the last depth.

        Args:
            param_name: Name of the parameter.
            prefix: What stands before the backbone's own names, e.g. ``"backbone."``.

        Returns:
            The depth and the number of depths.
        """
        depths = self.arch_settings.depths
        num_layers = sum(depths) + 2
        last = num_layers - 1
        if not param_name.startswith(prefix):
            return last, num_layers
        kind, *rest = param_name.removeprefix(prefix).split(".")
        if kind == "patch_embed":
            return 0, num_layers
        if kind != "layers":
            return last, num_layers
        stage = int(rest[0])
        if rest[1] == "downsample":
            return sum(depths[: stage + 1]), num_layers
        return sum(depths[:stage]) + int(rest[2]) + 1, num_layers


def resolve_arch(
    arch: str | Mapping, drop_path_rate: float | None, archs: Mapping[str, VMambaArch]
) -> VMambaArch:
    """Look up or assemble the settings that a config asks for.

    Args:
        arch: Name of a preset, or a dict of fields, perhaps with ``base``, such a name.
        drop_path_rate: What overrides the field of that name, unless ``None``.
        archs: The presets, all of one class; its fields are those that a dict may have.

    Raises:
        ValueError: When a name or a field is unknown, or a needed field is missing.
    """
    settings = dict(arch) if isinstance(arch, Mapping) else {"base": arch}
    if "base" in settings:
        name = settings.pop("base")
        if name not in archs:
            raise ValueError(f"VMamba: unknown arch {name!r}; known: {', '.join(archs)}")
        settings = vars(archs[name]) | settings
    kind = type(next(iter(archs.values())))
    known = [field.name for field in fields(kind)]
    unknown = [key for key in settings if key not in known]
    if unknown:
        raise ValueError(
            f"VMamba: unknown arch field(s) {', '.join(map(str, unknown))}; "
            f"known: base, {', '.join(known)}"
        )
    missing = [key for key in ("dims", "depths") if key not in settings]
    if missing:
        raise ValueError(
            f"VMamba: an arch dict needs {' and '.join(missing)}, or base, the name of a preset"
        )
    if drop_path_rate is not None:
        settings["drop_path_rate"] = drop_path_rate
    return kind(**settings)


def build_vss_block(
    arch: VMambaArch, channels: int, drop_path: float, routes: RouteSet, with_cp: bool = False
) -> VSSBlock:
    """Build one block.

    Args:
        arch: What the block is like.
        channels: Channels of its stage.
        drop_path: Its probability of being dropped.
        routes: Where its scans walk.
        with_cp: Whether its activations are recomputed in the backward pass.
    """
    mixer = SSMixer2D(
        channels,
        d_state=arch.d_state,
        ssm_ratio=arch.ssm_ratio,
        gate=arch.gate,
        conv_bias=arch.conv_bias,
        activation=arch.activation,
        norm=arch.norm,
        scan_float32=arch.scan_float32,
        routes=routes,
    )
    return VSSBlock(
        mixer,
        channels,
        mlp_ratio=arch.mlp_ratio,
        norm=arch.norm,
        drop_path=drop_path,
        with_cp=with_cp,
    )


def init_linear_layers(model: nn.Module) -> None:
    """Initialise, officially, what the layers themselves start differently."""
    for module in model.modules():
        if isinstance(module, Linear2d):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _check_taps(taps: str, output_norms: bool) -> str:
    if taps not in TAPS:
        raise ValueError(f"VMamba: unknown taps {taps!r}; known: {', '.join(TAPS)}")
    if taps == "stage_input" and output_norms:
        raise ValueError(
            "VMamba: the inputs of stages have no norms; "
            "pass output_norms=False with taps='stage_input'"
        )
    return taps


def _check_out_indices(out_indices: Sequence[int], num_taps: int) -> tuple[int, ...]:
    indices = tuple(out_indices)
    in_range = all(isinstance(i, int) and 0 <= i < num_taps for i in indices)
    if not indices or not in_range or list(indices) != sorted(set(indices)):
        raise ValueError(
            "VMamba: out_indices must be ascending numbers of taps, each once, "
            f"from 0 to {num_taps - 1}, got {out_indices}"
        )
    return indices


def _check_frozen_stages(frozen_stages: int, num_stages: int) -> int:
    if not -1 <= frozen_stages <= num_stages:
        raise ValueError(
            f"VMamba: frozen_stages must be from -1 (none) to {num_stages} (patch embedding and "
            f"all stages), got {frozen_stages}"
        )
    return frozen_stages


def _drop_path_rates(arch: VMambaArch) -> list[float]:
    """Linear from 0 at the first block to the full rate at the last."""
    last = max(sum(arch.depths) - 1, 1)
    return [arch.drop_path_rate * i / last for i in range(sum(arch.depths))]
