"""The route sets of published models, by name.

====================================================================  ======================
system                                                                preset
====================================================================  ======================
VMamba, VM-UNet, HRVMamba, Mamba-YOLO, MSVM-UNet, SinRef-6D (image)   ``cross``
Hamba                                                                 ``hamba``
Vim                                                                   ``vim``
ToP-ViM (Vim on the tokens that are kept)                             ``top_vim``
MSVMamba, first and second version                                    ``msvmamba_v1``, ``_v2``
EfficientVMamba                                                       ``atrous2``
PlainMamba, VCMamba                                                   ``serpentine``
FER-YOLO-Mamba, neck                                                  ``fer``
MHS-VM, heads C, X, S and Z                                           ``mhsvm_c``, ``_x``,
                                                                      ``_s``, ``_z``
LocalVMamba, tiny and small                                           ``local_vmamba_tiny``,
                                                                      ``local_vmamba_small``
LocalVim, tiny                                                        ``local_vim_tiny``,
                                                                      ``local_vim_tiny_middle``
LocalVim, small                                                       ``local_vim_small``
LightM-UNet, SinRef-6D (points)                                       ``lightm_unet``
MambaTrack                                                            ``mambatrack``
Hydra                                                                 ``hydra``
====================================================================  ======================

Presets of LocalMamba that differ from layer to layer are tuples of sets, one a layer.
``unidirectional`` and ``bidirectional`` are the plain sets of one and two directions. VSSD
has no order of tokens, hence no routes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from . import local_mamba
from .route_set import RouteSet

LayerSets = tuple[RouteSet, ...]
ROUTE_SETS: dict[str, RouteSet | LayerSets] = {}
"""Named route sets, and tuples of them for models whose layers differ."""


def register_route_set(
    name: str, value: RouteSet | Mapping[str, Any] | Sequence[Any]
) -> RouteSet | LayerSets:
    """Give a name to a route set, or to a sequence of sets, one a layer.

    Args:
        name: The name in configs.
        value: A set, a mapping of its fields, a list of routes, or a tuple of sets.

    Returns:
        The value as it is registered.

    Raises:
        ValueError: The name is taken, or the value is no valid set.
        TypeError: The value is nothing that makes a set.
    """
    if name in ROUTE_SETS:
        raise ValueError(f"route set {name!r} is registered already; choose another name")
    layers = isinstance(value, (list, tuple)) and all(isinstance(v, RouteSet) for v in value)
    ROUTE_SETS[name] = tuple(value) if layers and value else RouteSet.of(value)
    return ROUTE_SETS[name]


def route_set(value: RouteSet | str | Mapping[str, Any] | Sequence[Any]) -> RouteSet:
    """Return one route set.

    Args:
        value: A set, the name of a preset, a mapping of the fields of :class:`RouteSet`, or a
            list of routes.

    Raises:
        ValueError: The name is unknown or that of a preset with one set a layer, or the
            value is no valid set.
        TypeError: The value is nothing that makes a set.
    """
    if not isinstance(value, str):
        return RouteSet.of(value)
    preset = _preset(value)
    if isinstance(preset, tuple):
        raise ValueError(
            f"route set {value!r} has {len(preset)} sets, one a layer; take route_sets({value!r}, "
            f"{len(preset)}), or one of them"
        )
    return preset


def route_sets(
    value: RouteSet | str | Mapping[str, Any] | Sequence[Any], depth: int
) -> tuple[RouteSet, ...]:
    """Return the route sets of the layers of a model.

    Args:
        value: What :func:`route_set` takes, for all layers alike, except that a list has one
            such value a layer; or the name of a preset with one set a layer.
        depth: Number of layers.

    Raises:
        ValueError: There are not as many sets as layers, or one is not valid.
        TypeError: A value is nothing that makes a set.
    """
    layers = _preset(value) if isinstance(value, str) else value
    if not isinstance(layers, (list, tuple)):
        return (route_set(layers),) * depth
    if len(layers) != depth:
        raise ValueError(
            f"route sets for {len(layers)} layers, but the model has {depth}; for the same routes "
            "in all layers write dict(routes=[...])"
        )
    return tuple(route_set(layer) for layer in layers)


def multi_head(heads: Sequence[RouteSet | str], channels: int) -> RouteSet:
    """Return one set whose heads walk slices of the channels, each with its own routes.

    Args:
        heads: Sets, or names of presets, that agree in everything but their routes and groups.
        channels: Channels of all heads together; a multiple of their number.

    Returns:
        The sequences of all heads, in order, with ``channel_slices`` and groups of their own.

    Raises:
        ValueError: The channels do not divide, or the heads do not fit together.
    """
    sets = [route_set(head) for head in heads]
    if not sets or channels < len(sets) or channels % len(sets):
        raise ValueError(
            f"multi_head: {channels} channels for {len(sets)} heads; expected a multiple"
        )
    mixed = any(s.join or s.num_branches > 1 or s.channel_slices for s in sets)
    if mixed or len({_without_routes(s, sets[0]) for s in sets}) > 1:
        raise ValueError(
            "multi_head: expected heads without join, branches and channel_slices that differ "
            "in routes and param_group only"
        )
    width = channels // len(sets)
    groups, slices = [], []
    for head, s in enumerate(sets):
        first = max(groups, default=-1) + 1
        groups += [first + group for group in s.param_group]
        slices += [(head * width, (head + 1) * width)] * s.num_sequences
    return dataclasses.replace(
        sets[0],
        routes=tuple(route for s in sets for route in s.routes),
        branch=None,
        param_group=groups,
        channel_slices=slices,
    )


def _without_routes(value: RouteSet, like: RouteSet) -> RouteSet:
    """Return the set with the routes of another, to compare everything else."""
    return dataclasses.replace(value, routes=like.routes, branch=None, param_group=None)


def _preset(name: str) -> RouteSet | LayerSets:
    if name not in ROUTE_SETS:
        raise ValueError(
            f"unknown route set {name!r}; known: {', '.join(ROUTE_SETS)}; a list of routes, as in "
            "['row', '~row'], is a set too"
        )
    return ROUTE_SETS[name]


def _there_and_back(*routes: str) -> list[str]:
    return [walk for route in routes for walk in (route, f"~{route}")]


def _heads(*routes: str) -> RouteSet:
    # Trained with 0.5 on ISIC 2018, with 0 on ISIC 2017.
    return RouteSet(_there_and_back(*routes), merge="gated", threshold=0.5)


def _per_layer(layers: Sequence[Sequence[str]], extra: str | None = None) -> LayerSets:
    suffix = f":{extra}" if extra else ""
    return tuple(
        RouteSet([f"{route}{suffix}" for route in routes], merge="per_route_gated")
        for routes in layers
    )


_CROSS = register_route_set("cross", RouteSet(["row", "col", "~row", "~col"]))
_BIDIRECTIONAL = register_route_set("bidirectional", RouteSet(["row", "~row"]))
_UNIDIRECTIONAL = register_route_set("unidirectional", RouteSet(["row"]))
register_route_set("hamba", _CROSS)
_VIM = register_route_set(
    "vim", RouteSet(["row:middle_then_reverse", "~row:middle_then_reverse"], merge="mean")
)
register_route_set("top_vim", dataclasses.replace(_VIM, dynamic=True))
register_route_set(
    "msvmamba_v1",
    RouteSet(
        ["~row", "col", "~col", "row"],
        branch=(1, 1, 1, 0),
        join=((0, 1, 2), (3,)),
        upsample="bilinear",
    ),
)
register_route_set(
    "msvmamba_v2",
    RouteSet(
        ["row", "~row", "col", "~col"],
        branch=(0, 1, 1, 1),
        join=((0,), (1, 2, 3)),
        upsample="nearest",
    ),
)
register_route_set(
    "atrous2",
    RouteSet(["phase(2,0,0,row)", "phase(2,1,0,col)", "phase(2,0,1,row)", "phase(2,1,1,col)"]),
)
register_route_set(
    "serpentine",
    RouteSet(
        _there_and_back("snake_row", "snake_col"),
        param_group=(0, 0, 0, 0),
        permute="input_only",
        codes="step",
    ),
)
register_route_set(
    "fer",
    RouteSet(["row", "col", "~row", "~col", "wrap_diag", "wrap_anti", "~wrap_diag", "~wrap_anti"]),
)
register_route_set("mhsvm_c", _heads("snake_row", "snake_col"))
register_route_set("mhsvm_x", _heads("zigzag", "zigzag:lr"))
register_route_set("mhsvm_s", _heads("spiral", "spiral:ud"))
register_route_set("mhsvm_z", _heads("row", "col"))
register_route_set("local_vmamba_tiny", _per_layer(local_mamba.LOCAL_VMAMBA_TINY))
register_route_set("local_vmamba_small", _per_layer(local_mamba.LOCAL_VMAMBA_SMALL))
register_route_set("local_vim_tiny", _per_layer(local_mamba.LOCAL_VIM_TINY))
register_route_set(
    "local_vim_tiny_middle", _per_layer(local_mamba.LOCAL_VIM_TINY, "reverse_then_middle")
)
register_route_set(
    "local_vim_small", RouteSet(_there_and_back("row", "window(2)"), merge="per_route_gated")
)
register_route_set("lightm_unet", _UNIDIRECTIONAL)
register_route_set("mambatrack", _BIDIRECTIONAL)
register_route_set("hydra", RouteSet(["row", "~row"], shift=1))
