"""The index tables of a route set on a map, made once for each size and device."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .index import RouteIndex, inverted

if TYPE_CHECKING:
    from .route_set import RouteSet

CACHE_BYTES = 256 * 2**20
"""Tables kept in memory; the least recently used go first. Four routes on a 200 x 336 map
take 2 MiB, on the CPU or on a GPU."""

PLAIN_WALKS = ("row", "col", "~row", "~col")


@dataclass(frozen=True, eq=False)
class RouteTables:
    """The tables of a route set on one map; K sequences of L steps, T tokens.

    Shorter sequences end in padded steps. Do not write into the tensors: they are shared by
    all who ask for the same tables. Equal tables are one object.

    Attributes:
        height: Rows H of the map.
        width: Columns W of the map.
        sequences: K.
        length: L.
        tokens: T: H W, and one more with an extra token, whose index is H W.
        read: Token whose input each step takes, -1 at padded steps; (K, L), int32.
        project: Token whose dt, B and C it takes; ``read`` unless ``input_only``.
        write: Token its output is added to; ``read`` unless ``shift``.
        codes: Move that led to each step, 0 where there is none; (K, L), int64; or ``None``.
        lengths: Steps of each sequence without the padding at its end.
        walks: For each sequence ``"row"``, ``"col"``, ``"~row"`` or ``"~col"`` when its row of
            ``read`` is exactly that walk over all T = L tokens, else ``None``.
        reading: ``read`` with its inverse.
        projecting: ``project`` with its inverse.
        writing: ``write`` with its inverse.
    """

    height: int
    width: int
    sequences: int
    length: int
    tokens: int
    read: Tensor
    project: Tensor
    write: Tensor
    codes: Tensor | None
    lengths: tuple[int, ...]
    walks: tuple[str | None, ...]
    reading: RouteIndex
    projecting: RouteIndex
    writing: RouteIndex


class _TableCache:
    """A bounded store of tables; least recently used ones are dropped."""

    def __init__(self) -> None:
        self._tables: OrderedDict[tuple, RouteTables] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: tuple) -> RouteTables | None:
        with self._lock:
            if key in self._tables:
                self._tables.move_to_end(key)
            return self._tables.get(key)

    def put(self, key: tuple, tables: RouteTables) -> None:
        with self._lock:
            if key not in self._tables:
                self._tables[key] = tables
                self._bytes += _size_of(tables)
            while self._bytes > CACHE_BYTES and len(self._tables) > 1:
                _, dropped = self._tables.popitem(last=False)
                self._bytes -= _size_of(dropped)

    def clear(self) -> None:
        with self._lock:
            self._tables.clear()
            self._bytes = 0

    def __len__(self) -> int:
        return len(self._tables)


_CACHE = _TableCache()


def clear_table_cache() -> None:
    """Forget all tables; they are made again when they are asked for."""
    _CACHE.clear()


@torch.compiler.assume_constant_result
def cached_tables(
    key: str, height: int, width: int, device: torch.device | str = "cpu"
) -> RouteTables:
    """Return the tables of the route set with that ``key``.

    Arguments are text, numbers and a device, so that ``torch.compile`` can run this function
    while it traces and take its result as a constant.
    """
    entry = (key, height, width, str(device))
    tables = _CACHE.get(entry)
    if tables is None:
        from .route_set import RouteSet

        tables = make_tables(RouteSet(**json.loads(key)), height, width, torch.device(device))
        # Under a fake tensor mode the copies to a device are fakes, which nobody else can use.
        if type(tables.read) is Tensor:
            _CACHE.put(entry, tables)
    return tables


def make_tables(routes: RouteSet, height: int, width: int, device: torch.device) -> RouteTables:
    """Make the tables that :meth:`RouteSet.tables` returns.

    Raises:
        ValueError: The set has several branches or is dynamic, or the size is not positive.
    """
    if routes.num_branches > 1:
        raise ValueError(
            f"RouteSet: the routes walk {routes.num_branches} maps, and tables are of one; "
            "take on_branch(b).tables(height, width) for each branch b"
        )
    if routes.dynamic:
        raise ValueError(
            "RouteSet: a dynamic set has no tables of its own; pass the order of the tokens to "
            "dynamic_index(route_set, order)"
        )
    tokens = height * width + routes.extra_tokens
    walked = [
        np.concatenate([routes.routes[index].array(height, width) for index in sequence])
        for sequence in routes.sequences
    ]
    read = _stacked(walked, padding=-1)
    reading = _indexed(read, tokens, device)
    projecting = writing = reading
    if routes.permute == "input_only":
        projecting = _indexed(np.tile(np.arange(tokens), (len(read), 1)), tokens, device)
    if routes.shift:
        delayed = np.concatenate((read[:, 1:], np.full((len(read), 1), -1)), axis=1)
        writing = _indexed(delayed, tokens, device)
    return RouteTables(
        height=height,
        width=width,
        sequences=reading.sequences,
        length=reading.length,
        tokens=tokens,
        read=reading.index,
        project=projecting.index,
        write=writing.index,
        codes=_codes(routes, height, width, device) if routes.codes else None,
        lengths=tuple(len(table) for table in walked),
        walks=tuple(_plain_walk(routes, k, read.shape[1] == tokens) for k in range(len(walked))),
        reading=reading,
        projecting=projecting,
        writing=writing,
    )


def _stacked(rows: list[np.ndarray], padding: int) -> np.ndarray:
    stack = np.full((len(rows), max(map(len, rows))), padding)
    for line, values in zip(stack, rows, strict=True):
        line[: len(values)] = values
    return stack


def _indexed(index: np.ndarray, tokens: int, device: torch.device) -> RouteIndex:
    inverse = inverted(index, tokens)
    return RouteIndex(
        index=_tensor(index, np.int32, device),
        inverse=_tensor(inverse, np.int32, device),
        sequences=index.shape[0],
        length=index.shape[1],
        tokens=tokens,
        visits=inverse.shape[1],
        has_pads=bool((index < 0).any()),
        has_gaps=bool((inverse < 0).any()),
    )


def _tensor(values: np.ndarray, dtype: type, device: torch.device) -> Tensor:
    # Tables made in inference mode could not be used in training later.
    with torch.inference_mode(False):
        tensor = torch.from_numpy(np.ascontiguousarray(values, dtype=dtype))
        return tensor if device.type == "cpu" else tensor.to(device)


def _codes(routes: RouteSet, height: int, width: int, device: torch.device) -> Tensor:
    codes = [
        np.concatenate([routes.routes[index].code_array(height, width) for index in sequence])
        for sequence in routes.sequences
    ]
    return _tensor(_stacked(codes, padding=0), np.int64, device)


def _plain_walk(routes: RouteSet, sequence: int, whole: bool) -> str | None:
    """Name the walk of a sequence when it is a plain one and fills its row of the table."""
    name = routes.describe(sequence)
    return name if whole and name in PLAIN_WALKS else None


def _size_of(tables: RouteTables) -> int:
    indices = {id(i): i for i in (tables.reading, tables.projecting, tables.writing)}.values()
    tensors = [t for i in indices for t in (i.index, i.inverse)]
    if tables.codes is not None:
        tensors.append(tables.codes)
    return sum(t.numel() * t.element_size() for t in tensors)
