"""The vision transformer of HaMeR and ViTPose, as MMPretrain's ``VisionTransformer``.

Both release the same backbone: a plain ViT whose patches of 16 pixels are cut with a padding of 2.
Its position embedding has a row for a class token that does not exist; that row is added to every
patch. MMPretrain's class drops such a row without a word, which would shift all positions, so it
is added to the others here.

Hamba starts from HaMeR's weights. Only the backbone is taken: HaMeR's decoder is another head, the
hand model is under a licence of its own, and the discriminator belongs to training.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from .arch_comparison import InferredFields, Presets
from .assignment import plan_assignment
from .containers import select_backbone
from .errors import CheckpointFormatError, StateMismatchError
from .family import Converted, Family

PATCH = 16
PATCH_PADDING = 2
CROP_SIZE = (256, 192)
"""Height and width of the input of all released weights."""

_NOT_THE_BACKBONE = ("mano_head", "mano", "discriminator", "keypoint_head", "initialized")
"""Modules beside the backbone that are left out: of HaMeR, and the head of ViTPose."""

_BLOCK = re.compile(r"blocks\.(\d+)\.")
_RENAMED = (
    (re.compile(r"^patch_embed\.proj\."), "patch_embed.projection."),
    (re.compile(r"^last_norm\."), "ln1."),
    (re.compile(r"^blocks\.(\d+)\.norm([12])\."), r"layers.\1.ln\2."),
    (re.compile(r"^blocks\.(\d+)\.attn\."), r"layers.\1.attn."),
    (re.compile(r"^blocks\.(\d+)\.mlp\.fc1\."), r"layers.\1.ffn.layers.0.0."),
    (re.compile(r"^blocks\.(\d+)\.mlp\.fc2\."), r"layers.\1.ffn.layers.1."),
)


@dataclass(frozen=True)
class InferredViT(InferredFields):
    """What the shapes of the weights tell; the number of heads leaves no trace."""

    embed_dims: int
    depth: int
    hidden_dims: int


HAMER_VIT_PRESETS = Presets(
    "ViTPose",
    {
        "small": InferredViT(384, 12, 4 * 384),
        "base": InferredViT(768, 12, 4 * 768),
        "large": InferredViT(1024, 24, 4 * 1024),
        "huge": InferredViT(1280, 32, 4 * 1280),
    },
)
"""The released sizes; HaMeR's is ``huge``."""

_HEADS = {"small": 12, "base": 12, "large": 16, "huge": 16}


def is_hamer_vit(keys: Iterable[str]) -> bool:
    """Tell whether the keys of a state dict, prefixed or not, are such a transformer's."""
    keys = tuple(keys)
    return any(key.endswith("blocks.0.attn.qkv.weight") for key in keys) and any(
        key.endswith("last_norm.weight") for key in keys
    )


def convert_hamer_vit(
    tensors: Mapping[str, torch.Tensor],
    where: str,
    arch: str | None = None,
    drop_head: bool = False,
    img_size: tuple[int, int] | None = None,
) -> Converted:
    """Rename the backbone of HaMeR or ViTPose to MMPretrain's.

    The config of the model that the weights fill is written to ``meta["backbone"]``. A transformer
    of no released size is converted too, but its number of heads has to be known: its ``arch``
    there lacks it.

    Args:
        tensors (Mapping[str, torch.Tensor]): The whole state dict.
        where (str): What to call the file in messages, such as its path.
        arch (str, optional): The preset that the file must hold.
        drop_head (bool): Makes no difference: the backbone is all that is ever kept.
        img_size (tuple[int, int], optional): (height, width) of the input. By default 256 x 192,
            as all releases.

    Returns:
        Converted: The weights under ``backbone.``.

    Raises:
        ArchMismatchError: The file holds another size than ``arch``.
        StateMismatchError: Keys are missing or unexpected, or shapes do not fit.
        NonFiniteWeightsError: Weights are NaN or infinite.
        CheckpointFormatError: Its position rows are not those of the image size.
    """
    selection = select_backbone(tensors, where=where)
    modules = {name for name, _ in selection.ignored}
    if unknown := sorted(modules.difference(_NOT_THE_BACKBONE)):
        raise StateMismatchError(
            f"{where} has modules beside the backbone that neither HaMeR nor ViTPose have",
            unexpected=unknown,
        )
    size = img_size or CROP_SIZE
    inferred = _infer(selection.tensors, where)
    preset = _preset(inferred, arch, where)
    target = _layout(inferred, size)
    _require_rows(selection.tensors, len(target["pos_embed"][0]), size, where)
    renamed = to_mmpretrain(selection.tensors)
    fitting = plan_assignment(renamed, target, where=where).copied
    return Converted(
        preset=preset,
        config=None,
        spelling=selection.spelling("official"),
        state_dict={f"backbone.{key}": fitting[key] for key in target},
        dropped=tuple(sorted(selection.others)),
        meta={"img_size": list(size), "backbone": _config(inferred, preset, size)},
    )


HAMER_VIT = Family("hamer_vit", is_hamer_vit, convert_hamer_vit, takes_img_size=True)


def to_mmpretrain(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename a transformer's tensors, and add the row of the class token to the others.

    Args:
        tensors (Mapping[str, torch.Tensor]): The backbone's entries, unprefixed. Keys that are
            not known stay as they are.
    """
    renamed = {_rename(key): tensor for key, tensor in tensors.items()}
    if "pos_embed" in renamed:
        rows = renamed["pos_embed"]
        renamed["pos_embed"] = rows[:, 1:] + rows[:, :1]
    return renamed


def _rename(key: str) -> str:
    for pattern, replacement in _RENAMED:
        key, found = pattern.subn(replacement, key)
        if found:
            break
    return key


def _infer(tensors: Mapping[str, torch.Tensor], where: str) -> InferredViT:
    wanted = {"last_norm.weight": 1, "blocks.0.mlp.fc1.weight": 2}
    missing = [key for key in wanted if key not in tensors]
    misshapen = [
        f"{key}: {tuple(tensors[key].shape)}, {dimensions} dimensions"
        for key, dimensions in wanted.items()
        if key in tensors and tensors[key].ndim != dimensions
    ]
    if missing or misshapen:
        raise StateMismatchError(
            f"{where} lacks the tensors that tell its size", missing, mismatched=misshapen
        )
    blocks = {int(match.group(1)) for match in map(_BLOCK.match, tensors) if match}
    return InferredViT(
        embed_dims=len(tensors["last_norm.weight"]),
        depth=max(blocks) + 1,
        hidden_dims=len(tensors["blocks.0.mlp.fc1.weight"]),
    )


def _preset(inferred: InferredViT, asserted: str | None, where: str) -> str:
    if asserted is not None:
        return HAMER_VIT_PRESETS.require(inferred, asserted, where)
    return HAMER_VIT_PRESETS.find(inferred) or "custom"


def _require_rows(
    tensors: Mapping[str, torch.Tensor], patches: int, size: tuple[int, int], where: str
) -> None:
    """Refuse a position embedding of another grid, whose rows MMPretrain would interpolate."""
    rows = tensors.get("pos_embed")
    if rows is not None and (rows.ndim != 3 or rows.shape[1] != patches + 1):
        raise CheckpointFormatError(
            f"{where} has a position embedding of shape {tuple(rows.shape)}, but {size[0]} x "
            f"{size[1]} pixels have {patches} patches, which with the row of the class token are "
            f"{patches + 1} rows; give the image size that it was trained with, --img-size H W"
        )


def _layout(inferred: InferredViT, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Keys and shapes of MMPretrain's model, in its order, without MMPretrain."""
    dims, hidden = inferred.embed_dims, inferred.hidden_dims
    patches = (size[0] // PATCH) * (size[1] // PATCH)
    shapes = {
        "pos_embed": (1, patches, dims),
        "patch_embed.projection.weight": (dims, 3, PATCH, PATCH),
        "patch_embed.projection.bias": (dims,),
    }
    for block in range(inferred.depth):
        for name, shape in {
            "ln1": (dims,),
            "attn.qkv": (3 * dims, dims),
            "attn.proj": (dims, dims),
            "ln2": (dims,),
            "ffn.layers.0.0": (hidden, dims),
            "ffn.layers.1": (dims, hidden),
        }.items():
            shapes[f"layers.{block}.{name}.weight"] = shape
            shapes[f"layers.{block}.{name}.bias"] = shape[:1]
    shapes |= {"ln1.weight": (dims,), "ln1.bias": (dims,)}
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def _config(inferred: InferredViT, preset: str, size: tuple[int, int]) -> dict:
    """Config of the backbone, without what only training needs."""
    arch = {
        "embed_dims": inferred.embed_dims,
        "num_layers": inferred.depth,
        "feedforward_channels": inferred.hidden_dims,
    }
    if preset in _HEADS:
        arch["num_heads"] = _HEADS[preset]
    return {
        "type": "mmpretrain.VisionTransformer",
        "arch": arch,
        "img_size": list(size),
        "patch_size": PATCH,
        "qkv_bias": True,
        "with_cls_token": False,
        "out_type": "featmap",
        "patch_cfg": {"padding": PATCH_PADDING},
    }
