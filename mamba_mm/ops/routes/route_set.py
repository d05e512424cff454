"""All the walks of a layer and how they belong together, as one value."""

from __future__ import annotations

import dataclasses
import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from .scan_route import ScanRoute
from .tables import PLAIN_WALKS, RouteTables, cached_tables

PERMUTES = ("all", "input_only")
CODES = (None, "step")
SHIFTS = (0, 1)
MERGES = ("sum", "mean", "gated", "per_route_gated")
UPSAMPLES = (None, "bilinear", "nearest")


@dataclass(frozen=True)
class RouteSet:
    """The walks of a layer: which, on which map, with which parameters, merged how.

    Immutable, hashable data: configs, caches and tests can compare it. The order of the
    routes is the order of the stacked parameters.

    Args:
        routes: Routes as :class:`ScanRoute`, strings or mappings.
        branch: The map each route walks: 0 is the full map, others are made by the mixer, such
            as a strided convolution of it. By default all walk the full map.
        join: Groups of route indices; each group is walked as one sequence whose state is
            carried across (MSVMamba, arXiv 2405.14174). ``None``: every route is a sequence.
        param_group: Row of the parameter stack of each sequence; by default each its own.
        channel_slices: Channels (start, stop) of each sequence (multi-head scanning: MHS-VM,
            arXiv 2406.05992). ``None``: all channels.
        permute: ``"all"``, or ``"input_only"``: the walk permutes the input alone, and step t
            takes dt, B and C at raster position t (PlainMamba, arXiv 2403.17695).
        codes: ``"step"`` to add a learned row to B by the move that led to a step.
        shift: 1 to delay the output one step, the first one being zero (Hydra, arXiv
            2407.09941).
        merge: How the outputs on a map become one: ``"sum"``, ``"mean"``, ``"gated"`` (the
            sum times ReLU(variation - threshold)) or ``"per_route_gated"`` (each output times
            its own gate, then summed).
        threshold: Threshold of the gated merge.
        upsample: Interpolation of branches below full size, ``"bilinear"`` (corners not
            aligned) or ``"nearest"``.
        dynamic: Whether the order of the tokens is an argument of the call
            (:func:`~mamba_mm.ops.routes.dynamic_index`).

    Raises:
        ValueError: Fields have wrong lengths or values, or contradict each other.
        TypeError: A route or one of its keywords has a wrong type.
    """

    routes: tuple[ScanRoute, ...]
    branch: tuple[int, ...] | None = None
    join: tuple[tuple[int, ...], ...] | None = None
    param_group: tuple[int, ...] | None = None
    channel_slices: tuple[tuple[int, int], ...] | None = None
    permute: str = "all"
    codes: str | None = None
    shift: int = 0
    merge: str = "sum"
    threshold: float = 0.0
    upsample: str | None = None
    dynamic: bool = False
    key: str = field(init=False, repr=False, compare=False)
    """The whole value as text: what tables are cached by, and a constant to torch.compile."""

    plain_walks: tuple[str, ...] | None = field(init=False, repr=False, compare=False)
    """Name of each sequence's walk where all are ``"row"``, ``"col"`` or one of these reversed,
    which need no table at any size; else ``None``."""

    # Made once: under torch.compile no set can be made.
    _heads: tuple[Head, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._normalise()
        self._check_choices()
        self._check_lengths()
        self._check_combinations()
        object.__setattr__(self, "plain_walks", self._plain_walks())
        object.__setattr__(self, "_heads", self._make_heads())
        object.__setattr__(self, "key", json.dumps(self.to_dict(), sort_keys=True))

    @classmethod
    def of(cls, value: RouteSet | Mapping[str, Any] | Sequence[Any]) -> RouteSet:
        """Return a set given as itself, as a mapping of its fields, or as a list of routes.

        Raises:
            TypeError: The value is none of these.
            ValueError: A mapping has unknown keys, or the set is not valid.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, Mapping):
            known = [f.name for f in dataclasses.fields(cls) if f.init]
            unknown = [repr(name) for name in value if name not in known]
            if unknown:
                raise ValueError(
                    f"RouteSet: unknown fields {', '.join(unknown)}; known: {', '.join(known)}"
                )
            return cls(**value)
        if isinstance(value, (list, tuple)):
            return cls(value)
        raise TypeError(
            f"a route set is a RouteSet, a mapping of its fields or a list of routes, got {value!r}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain data for a config, routes as strings, defaults left out."""
        fields: dict[str, Any] = {"routes": [str(route) for route in self.routes]}
        for f in dataclasses.fields(self)[1:]:
            if f.init and getattr(self, f.name) != f.default:
                fields[f.name] = getattr(self, f.name)
        defaults = {
            "branch": (0,) * len(self.routes),
            "param_group": tuple(range(self.num_sequences)),
        }
        return {name: value for name, value in fields.items() if value != defaults.get(name, ...)}

    @property
    def sequences(self) -> tuple[tuple[int, ...], ...]:
        """Route indices of each sequence."""
        return self.join or tuple((index,) for index in range(len(self.routes)))

    @property
    def num_sequences(self) -> int:
        """Number of sequences K."""
        return len(self.sequences)

    @property
    def num_groups(self) -> int:
        """Number of rows G of the parameter stack."""
        return max(self.param_group) + 1

    @property
    def num_branches(self) -> int:
        """Number of maps that the mixer makes."""
        return max(self.branch) + 1

    @property
    def extra_tokens(self) -> int:
        """Number of tokens, 0 or 1, that follow the map's own H W."""
        return int(self.routes[0].extra is not None)

    def describe(self, sequence: int) -> str:
        """Return the routes of a sequence as one string, joined by ``+``."""
        return " + ".join(str(self.routes[index]) for index in self.sequences[sequence])

    def sequences_on_branch(self, branch: int) -> tuple[int, ...]:
        """Return the indices of the sequences that walk a branch, in order."""
        return tuple(
            k for k, routes in enumerate(self.sequences) if self.branch[routes[0]] == branch
        )

    def groups_on_branch(self, branch: int) -> tuple[int, ...]:
        """Return the rows of this set's stack that :meth:`on_branch` numbers 0, 1, ..."""
        return tuple(sorted({self.param_group[k] for k in self.sequences_on_branch(branch)}))

    def on_branch(self, branch: int) -> RouteSet:
        """Return the sequences of one branch as a set of their own, on branch 0.

        Sequences keep their order. Parameter groups are numbered anew, in order:
        :meth:`groups_on_branch` tells which they are here.

        Raises:
            ValueError: There is no such branch.
        """
        if not 0 <= branch < self.num_branches:
            raise ValueError(
                f"RouteSet: there is no branch {branch!r}; the set has {self.num_branches}"
            )
        if self.num_branches == 1:
            return self
        own = self.sequences_on_branch(branch)
        subset, _ = self._subset(own)
        slices = self.channel_slices and [self.channel_slices[k] for k in own]
        return dataclasses.replace(subset, channel_slices=slices)

    def heads(self) -> tuple[Head, ...]:
        """Return the sequences that share a channel slice as sets of their own.

        Returns:
            For each slice, in order of its first channel: (start, stop), the set without
            slices, and the rows of this set's stack that the set numbers 0, 1, ...
        """
        return self._heads

    def _subset(self, own: Sequence[int]) -> tuple[RouteSet, tuple[int, ...]]:
        """Return some sequences as a set on branch 0, and the groups that it numbers anew."""
        groups = tuple(sorted({self.param_group[k] for k in own}))
        routes = [index for k in own for index in self.sequences[k]]
        renumbered = iter(range(len(routes)))
        subset = dataclasses.replace(
            self,
            routes=[self.routes[index] for index in routes],
            branch=None,
            join=self.join
            and tuple(tuple(next(renumbered) for _ in self.sequences[k]) for k in own),
            param_group=[groups.index(self.param_group[k]) for k in own],
            channel_slices=None,
            upsample=None,
        )
        return subset, groups

    def tables(self, height: int, width: int, device: torch.device | str = "cpu") -> RouteTables:
        """Return the index tables of an H x W map; those of a size seen before are kept.

        Under ``torch.compile`` they are constants, and the code is compiled for that size.

        Args:
            height: Rows H of the map the sequences walk.
            width: Columns W of it.
            device: Where the tables are wanted.

        Raises:
            ValueError: The set has several branches or is dynamic, or the size is not
                positive.
        """
        # Dynamo turns operator.index, unlike int, of a symbolic size into a constant.
        return cached_tables(self.key, operator.index(height), operator.index(width), device)

    def _normalise(self) -> None:
        """Make every field what its annotation says, with the defaults of the lengths."""
        if isinstance(self.routes, (str, ScanRoute, Mapping)):
            raise TypeError(f"RouteSet: routes must be a list, got {self.routes!r}; write [...]")
        routes = tuple(ScanRoute.of(route) for route in self.routes)
        if not routes:
            raise ValueError("RouteSet: there are no routes; expected at least one")
        object.__setattr__(self, "routes", routes)
        for name in ("branch", "param_group"):
            self._set_tuple(name, _integers)
        for name in ("join", "channel_slices"):
            self._set_tuple(name, lambda groups: tuple(_integers(group) for group in groups))
        if self.join == tuple((index,) for index in range(len(routes))):
            object.__setattr__(self, "join", None)
        if self.branch is None:
            object.__setattr__(self, "branch", (0,) * len(routes))
        if self.param_group is None:
            object.__setattr__(self, "param_group", tuple(range(self.num_sequences)))
        object.__setattr__(self, "threshold", float(self.threshold))
        object.__setattr__(self, "dynamic", bool(self.dynamic))

    def _make_heads(self) -> tuple[Head, ...]:
        heads = []
        for channels in sorted(set(self.channel_slices or ())):
            own = [k for k, c in enumerate(self.channel_slices) if c == channels]
            heads.append((channels, *self._subset(own)))
        return tuple(heads)

    def _plain_walks(self) -> tuple[str, ...] | None:
        names = tuple(self.describe(k) for k in range(self.num_sequences))
        plain = all(name in PLAIN_WALKS for name in names) and self.num_branches == 1
        plain = plain and self.permute == "all" and not self.shift and not self.dynamic
        return names if plain else None

    def _set_tuple(self, name: str, convert: Any) -> None:
        value = getattr(self, name)
        if value is None:
            return
        try:
            object.__setattr__(self, name, convert(value))
        except TypeError:
            nested = "lists of whole numbers" if name in ("join", "channel_slices") else "numbers"
            raise TypeError(f"RouteSet: {name} is {value!r}, expected a list of {nested}") from None

    def _check_choices(self) -> None:
        choices = {
            "permute": PERMUTES,
            "codes": CODES,
            "shift": SHIFTS,
            "merge": MERGES,
            "upsample": UPSAMPLES,
        }
        for name, known in choices.items():
            value = getattr(self, name)
            if value not in known:
                listed = ", ".join(repr(choice) for choice in known)
                raise ValueError(f"RouteSet: {name} is {value!r}, expected one of {listed}")

    def _check_lengths(self) -> None:
        routes, sequences = len(self.routes), self.num_sequences
        if self.join is not None and sorted(i for s in self.join for i in s) != list(range(routes)):
            raise ValueError(
                f"RouteSet: join is {self.join}, expected every route index 0..{routes - 1} once"
            )
        if self.join is not None and not all(self.join):
            raise ValueError(f"RouteSet: join is {self.join}, expected no empty sequence")
        for name, expected, what in (
            ("branch", routes, "routes"),
            ("param_group", sequences, "sequences"),
            ("channel_slices", sequences, "sequences"),
        ):
            value = getattr(self, name)
            if value is not None and len(value) != expected:
                raise ValueError(
                    f"RouteSet: {name} has {len(value)} entries for {expected} {what}, "
                    "expected one for each"
                )
        for name in ("branch", "param_group"):
            used = sorted(set(getattr(self, name)))
            if used != list(range(len(used))):
                raise ValueError(
                    f"RouteSet: {name} is {getattr(self, name)}, expected numbers from 0 on "
                    "without gaps"
                )
        for start_stop in self.channel_slices or ():
            if len(start_stop) != 2 or not 0 <= start_stop[0] < start_stop[1]:
                raise ValueError(
                    f"RouteSet: channel_slices has {start_stop}, expected (start, stop) with "
                    "0 <= start < stop"
                )

    def _check_combinations(self) -> None:
        for reason in self._contradictions():
            raise ValueError(f"RouteSet: {reason}")

    def _contradictions(self) -> Iterable[str]:
        """Say which fields contradict each other."""
        extras = {route.extra is not None for route in self.routes}
        jumping = [str(route) for route in self.routes if not route.is_continuous]
        padding = [str(route) for route in self.routes if not route.is_permutation]
        if any(len({self.branch[i] for i in sequence}) > 1 for sequence in self.sequences):
            yield f"join {self.join} mixes branches {self.branch}; a sequence walks one map"
        if len(extras) > 1:
            yield "some routes have an extra token and some do not; give extra to all or none"
        if self.num_branches > 1 and True in extras:
            yield "an extra token has no place on several branches; use one branch"
        if self.num_branches > 1 and self.merge != "sum":
            yield f"several branches are summed; merge is {self.merge!r}, expected 'sum'"
        if self.num_branches > 1 and self.upsample is None:
            yield "several branches need upsample, 'bilinear' or 'nearest'"
        if self.num_branches == 1 and self.upsample is not None:
            yield f"upsample is {self.upsample!r}, but all routes walk the full map; leave it None"
        if self.num_branches > 1 and self.dynamic:
            yield "a dynamic set has one order of tokens; use one branch"
        if self.codes == "step" and jumping:
            yield f"codes need continuous routes, and these jump: {', '.join(jumping)}"
        if self.permute == "input_only":
            if padding:
                yield f"input_only needs permutations, and these pad: {', '.join(padding)}"
            if self.join is not None or True in extras:
                yield "input_only pairs step t with raster position t; use no join and no extra"
        if self.threshold != 0 and self.merge != "gated":
            yield f"threshold belongs to merge='gated', but merge is {self.merge!r}"
        if self.merge == "gated" and self.num_sequences < 2:
            yield "merge='gated' compares sequences; expected at least two"


Head = tuple[tuple[int, int], RouteSet, tuple[int, ...]]


def _integers(values: Iterable[Any]) -> tuple[int, ...]:
    return tuple(operator.index(value) for value in values)
