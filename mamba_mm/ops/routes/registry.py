"""The names of the walks: functions from a map's size to an index table, checked."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Arguments = tuple[tuple[str, Any], ...]
"""Keyword arguments of a generator as sorted (name, value) pairs."""


@dataclass(frozen=True)
class RouteGenerator:
    """A registered function and what it promises about its tables.

    Attributes:
        name: Its name in configs.
        function: ``(height, width, **keywords) -> table``.
        permutation: Whether every table reads every token and has no padded steps.
        continuous: Whether consecutive steps always read neighbouring tokens.
    """

    name: str
    function: Callable[..., Any]
    permutation: bool
    continuous: bool

    def bind(self, arguments: Mapping[str, Any]) -> Arguments:
        """Return ``arguments`` completed with defaults, sorted by name.

        Raises:
            TypeError: A keyword is unknown or missing, or a value is not plain data.
        """
        known = ", ".join(self.keywords) or "none"
        for name in arguments:
            if name not in self.keywords:
                raise TypeError(f"route {self.name!r} has no keyword {name!r}; it has: {known}")
        try:
            bound = inspect.signature(self.function).bind(1, 1, **arguments)
        except TypeError as error:
            raise TypeError(f"route {self.name!r}: {error}; its keywords: {known}") from None
        bound.apply_defaults()
        named = tuple(bound.arguments.items())[2:]
        return tuple(sorted((name, self._plain(name, value)) for name, value in named))

    @property
    def keywords(self) -> tuple[str, ...]:
        """Names of the keyword arguments, in the order of the function."""
        return tuple(inspect.signature(self.function).parameters)[2:]

    def _plain(self, name: str, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return tuple(self._plain(name, item) for item in value)
        finite = not isinstance(value, float) or math.isfinite(value)
        if value is None or (isinstance(value, (bool, int, float, str)) and finite):
            return value
        raise TypeError(
            f"route {self.name!r}: {name} is {value!r}, expected numbers, strings, booleans, "
            "None, or tuples of them, so that routes can be compared and written in configs"
        )

    def table(self, height: int, width: int, arguments: Arguments) -> np.ndarray:
        """Return the checked table of a map.

        Args:
            height: Rows H of the map.
            width: Columns W of the map.
            arguments: Keywords as :meth:`bind` returns them.

        Returns:
            Raster index of the token read at each step, -1 for a padded step; 1-D, int64.

        Raises:
            ValueError: The size is not positive, or the function returns no such table or
                breaks one of its promises.
        """
        if height < 1 or width < 1:
            raise ValueError(f"a map has at least one row and column, got {height}x{width}")
        table = np.asarray(self.function(height, width, **dict(arguments)))
        fault = self._fault(table, height, width)
        if fault:
            raise ValueError(f"route {self.name!r} on {height}x{width}: {fault}")
        return table.astype(np.int64)

    def _fault(self, table: np.ndarray, height: int, width: int) -> str | None:
        """Say what is wrong with a table, if anything."""
        tokens = height * width
        if table.ndim != 1 or not np.issubdtype(table.dtype, np.integer):
            return (
                f"the table has shape {table.shape} and dtype {table.dtype}, expected one "
                "dimension and integers"
            )
        if table.size and not (table.min() >= -1 and table.max() < tokens):
            return (
                f"the table has entries from {table.min()} to {table.max()}, expected raster "
                f"indices up to {tokens - 1}, or -1 at padded steps"
            )
        visits = np.bincount(table[table >= 0], minlength=tokens)
        if visits.max() > 1:
            return f"token {visits.argmax()} is read {visits.max()} times, expected once at most"
        if self.permutation and not (table.size == tokens and visits.min() == 1):
            return "it pads or leaves tokens out; register it without permutation=True"
        if self.continuous and not is_continuous(table, width):
            return "it jumps; register it without continuous=True"
        return None


_GENERATORS: dict[str, RouteGenerator] = {}


def register_route(
    name: str, *, permutation: bool = False, continuous: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a route, for use as a decorator.

    The function takes the height and width of a map, perhaps keywords, and returns the
    raster indices ``row * width + column`` in the order of the walk, as a 1-D integer array
    or CPU tensor. It reads a token at most once; -1 is a padded step. Promises are checked
    on every table.

    Args:
        name: Its name in configs, a Python identifier.
        permutation: Promise to read every token and never to pad, which the ``input_only``
            permutation needs.
        continuous: Promise that consecutive steps read neighbours, which step codes need.

    Raises:
        ValueError: The name is taken or no identifier.
        TypeError: The function does not begin with two sizes, or has ``*args`` or
            ``**kwargs``, which would swallow mistakes.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if not name.isidentifier():
            raise ValueError(f"route name {name!r} is no identifier; use letters, digits and _")
        if name in _GENERATORS:
            raise ValueError(f"route {name!r} is registered already; choose another name")
        kinds = [p.kind for p in inspect.signature(function).parameters.values()]
        starred = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
        if len(kinds) < 2 or inspect.Parameter.KEYWORD_ONLY in kinds[:2] or starred & set(kinds):
            raise TypeError(
                f"route {name!r}: the function must take height and width and then named keywords, "
                f"got {name}{inspect.signature(function)}"
            )
        _GENERATORS[name] = RouteGenerator(name, function, permutation, continuous)
        return function

    return register


def route_generator(name: str) -> RouteGenerator:
    """Return the generator of that name.

    Raises:
        ValueError: There is none.
    """
    if name not in _GENERATORS:
        raise ValueError(
            f"unknown route {name!r}; known: {', '.join(_GENERATORS)}; "
            "add your own with mamba_mm.ops.routes.register_route"
        )
    return _GENERATORS[name]


def known_routes() -> tuple[str, ...]:
    """Return the names of all registered routes, in the order of their registration."""
    return tuple(_GENERATORS)


def is_continuous(table: np.ndarray, width: int) -> bool:
    """Whether all steps of a table without pads lead to one of the four neighbours."""
    rows, columns = np.divmod(table, width)
    return bool((np.abs(np.diff(rows)) + np.abs(np.diff(columns)) == 1).all())
