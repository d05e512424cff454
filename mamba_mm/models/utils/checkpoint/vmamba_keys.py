"""The spellings in which VMamba weights exist, and the way from each to one.

``A``, the keys of the current official classification code, is what
:class:`mamba_mm.VMamba` uses. The others differ in names, and ``C`` in shapes too:

===  ==============================================  =====================================
id   where it occurs                                 differs in
===  ==============================================  =====================================
A    official classification code
B    oldest v0 files, also used to start VM-UNet     ``patch_embed.proj``, ``ln_1``,
                                                     ``self_attention``, ``norm``, ``head``
C    the official single-file ``vmamba.py``          ``x_proj.weight`` and
                                                     ``dt_projs.weight`` flattened over the
                                                     routes, numbered v1 downsampling
D/x  OpenMMLab checkpoints                           x under ``backbone.``, plus ``outnorm``
===  ==============================================  =====================================
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch

from .errors import CheckpointFormatError, bullets

ROUTES = 4
_SAMPLE = 12

_BLOCK = r"layers\.\d+\.blocks\.\d+\."
_KNOWN_KEY = re.compile(
    r"patch_embed\.[0257]\.(weight|bias)"
    rf"|{_BLOCK}(norm|norm2|op\.out_norm|op\.conv2d|mlp\.fc1|mlp\.fc2)\.(weight|bias)"
    rf"|{_BLOCK}op\.(in_proj|out_proj)\.weight"
    rf"|{_BLOCK}op\.(x_proj_weight|dt_projs_weight|dt_projs_bias|A_logs|Ds)"
    r"|layers\.\d+\.downsample\.(1|3|norm|reduction)\.(weight|bias)"
    r"|classifier\.(norm|head)\.(weight|bias)"
    r"|outnorm\d+\.(weight|bias)"
)

_MIXER_KEY = re.compile(rf"(^|\.){_BLOCK}(op|self_attention)\.")

# The only weights that channel-first models hold as 1x1 convolutions.
_LINEAR_KEY = re.compile(rf"{_BLOCK}(op\.in_proj|op\.out_proj|mlp\.fc1|mlp\.fc2)\.weight")


@dataclass(frozen=True)
class _Rename:
    """One step towards spelling A: what to replace in a key, and how to fold its tensor."""

    spelling: str
    pattern: re.Pattern
    replacement: str
    fold: Callable[[torch.Tensor], torch.Tensor] | None = None


def _split_routes(tensor: torch.Tensor) -> torch.Tensor:
    """(4 * n, ...) -> (4, n, ...); what does not divide is left for the shape check."""
    if tensor.ndim == 0 or tensor.shape[0] % ROUTES:
        return tensor
    return tensor.reshape(ROUTES, -1, *tensor.shape[1:])


# Every rule that fits a key is applied, in this order: the names of B that enclose others
# come first, so that `self_attention.x_proj` of a mixed file is found as `op.x_proj`.
_RENAMES = (
    _Rename("B", re.compile(r"^patch_embed\.proj\."), "patch_embed.0."),
    _Rename("B", re.compile(r"^patch_embed\.norm\."), "patch_embed.2."),
    _Rename("B", re.compile(rf"^({_BLOCK})ln_1\."), r"\1norm."),
    _Rename("B", re.compile(rf"^({_BLOCK})self_attention\."), r"\1op."),
    _Rename("B", re.compile(r"^(norm|head)\.(weight|bias)$"), r"classifier.\1.\2"),
    _Rename("C", re.compile(rf"^({_BLOCK}op\.)x_proj\.weight$"), r"\1x_proj_weight", _split_routes),
    _Rename(
        "C", re.compile(rf"^({_BLOCK}op\.)dt_projs\.weight$"), r"\1dt_projs_weight", _split_routes
    ),
    _Rename("C", re.compile(rf"^({_BLOCK}op\.)dt_projs\.bias$"), r"\1dt_projs_bias", _split_routes),
)

_NUMBERED_DOWNSAMPLE = re.compile(r"^(layers\.\d+\.downsample)\.([12])\.(weight|bias)$")
_MERGING_NAMES = {"1": "norm", "2": "reduction"}


@dataclass(frozen=True)
class CanonicalState:
    """VMamba weights in spelling A.

    Attributes:
        tensors (dict[str, torch.Tensor]): Entries by their key of spelling A; keys that no
            rule knows are kept as they are.
        spelling (str): The spellings met, such as ``'A'``, ``'B'`` or ``'B+C'``.
    """

    tensors: dict[str, torch.Tensor]
    spelling: str


def is_vmamba_block_key(key: str) -> bool:
    """Whether a key of any spelling, prefixed or not, lies in a VMamba mixer."""
    return _MIXER_KEY.search(key) is not None


def is_vmamba_key(key: str) -> bool:
    """Whether a key belongs to VMamba's spelling A."""
    return _KNOWN_KEY.fullmatch(key) is not None


def to_spelling_a(
    tensors: Mapping[str, torch.Tensor], where: str = "The checkpoint"
) -> CanonicalState:
    """Bring VMamba weights of any known spelling, or of a mixture, into spelling A.

    Besides names, two things change shape: the route-wise projections of spelling C are
    split into four routes, and ``in_proj``, ``out_proj``, ``fc1`` and ``fc2`` lose the
    trailing 1 x 1 that channel-first models give them. The values stay the same.

    Args:
        tensors (Mapping[str, torch.Tensor]): Backbone or classifier entries, unprefixed.
        where (str): What to call the checkpoint in messages, such as its path.

    Returns:
        CanonicalState: The renamed entries and the spellings met.

    Raises:
        CheckpointFormatError: No key is known, or two keys are names of the same tensor.
    """
    merging_stages = _stages_with_numbered_merging(tensors)
    renamed: dict[str, torch.Tensor] = {}
    sources: dict[str, str] = {}
    spellings: set[str] = set()
    clashes: list[str] = []
    for source, tensor in tensors.items():
        key, value, met = _rename(source, tensor, merging_stages)
        if key in renamed:
            clashes.append(f"{sources[key]} and {source} are both {key}")
        renamed[key] = value
        sources[key] = source
        spellings |= met

    if clashes:
        raise CheckpointFormatError(
            f"{where} mixes spellings that do not resolve: two keys name one tensor"
            + bullets("clashes", clashes)
        )
    if not any(map(is_vmamba_key, renamed)):
        raise CheckpointFormatError(
            f"{where} is no VMamba in any known spelling: not one key fits"
            + bullets("its keys", tensors, _SAMPLE)
        )
    return CanonicalState(renamed, "+".join(sorted(spellings)) or "A")


def is_mamba2(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether weights in spelling A belong to the Mamba-2 (``m0``) variant of VMamba.

    Its mixers wrap the convolution once more (``op.conv2d.1``), and keep one decay a head
    in ``A_logs`` of shape (4, R), without a ``dt_projs_weight`` beside it.
    """
    return any(
        key.endswith("op.conv2d.1.weight")
        or (
            key.endswith("op.A_logs")
            and tensor.ndim == 2
            and tensor.shape[0] == ROUTES
            and key.removesuffix("A_logs") + "dt_projs_weight" not in tensors
        )
        for key, tensor in tensors.items()
    )


def _rename(
    key: str, tensor: torch.Tensor, merging_stages: Iterable[str]
) -> tuple[str, torch.Tensor, set[str]]:
    """One entry in spelling A, and the other spellings that its key and shape showed."""
    met = set()
    for rule in _RENAMES:
        key, count = rule.pattern.subn(rule.replacement, key)
        if count:
            met.add(rule.spelling)
            tensor = rule.fold(tensor) if rule.fold else tensor

    numbered = _NUMBERED_DOWNSAMPLE.match(key)
    if numbered and numbered.group(1) in merging_stages:
        met.add("C")
        stem, number, kind = numbered.groups()
        key = f"{stem}.{_MERGING_NAMES[number]}.{kind}"

    if tensor.ndim == 4 and tensor.shape[2:] == (1, 1) and _LINEAR_KEY.fullmatch(key):
        tensor = tensor.flatten(1)
    return key, tensor, met


def _stages_with_numbered_merging(tensors: Mapping[str, torch.Tensor]) -> set[str]:
    """Downsample layers whose ``1`` is the norm of a patch merging, not a convolution.

    The name alone does not tell: only the rank of the weight does, and the bias has to
    follow the weight of its own layer.
    """
    stages = set()
    for key, tensor in tensors.items():
        numbered = _NUMBERED_DOWNSAMPLE.match(key)
        if numbered and numbered.groups()[1:] == ("1", "weight") and tensor.ndim == 1:
            stages.add(numbered.group(1))
    return stages
