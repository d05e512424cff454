"""One walk over a map, as a value that a config can hold."""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import generators  # noqa: F401  registers the walks
from .registry import Arguments, route_generator

REFLECTIONS = ("lr", "ud")
EXTRAS = ("middle_then_reverse", "reverse_then_middle")
MODIFIERS = (*REFLECTIONS, *EXTRAS)

# The move that led to a step, as PlainMamba numbers them (arXiv 2403.17695, section 3.3).
START, RIGHT, LEFT, UP, DOWN = range(5)
NUM_CODES = 5


@dataclass(frozen=True)
class ScanRoute:
    """One walk over a map.

    Written as a string, a route reads ``~phase(s=2,r0=1,c0=0,major=col):lr``: a leading ``~``
    for ``reverse``, the generator with its keywords, then ``reflect`` and ``extra`` after
    colons. ``str`` and :meth:`parse` are inverse.

    Args:
        name: A registered generator.
        args: Its keywords, as a mapping; kept as sorted pairs with defaults filled in.
        reflect: ``"lr"`` to walk the map mirrored left to right, ``"ud"`` top to bottom.
        reverse: Whether the whole table, pads included, is read backwards.
        extra: How an extra token, index H W, is put at step ``floor(n / 2)`` of a walk over n
            tokens: before the reversal, ``"middle_then_reverse"`` (Vim, arXiv 2401.09417), or
            after it, ``"reverse_then_middle"`` (LocalVim, arXiv 2403.09338). They differ where
            n is odd, and where the walk pads.

    Raises:
        ValueError: A name is unknown.
        TypeError: Keywords do not fit the generator.
    """

    name: str
    args: Arguments = ()
    reflect: str | None = None
    reverse: bool = False
    extra: str | None = None

    def __post_init__(self) -> None:
        generator = route_generator(self.name)
        object.__setattr__(self, "args", generator.bind(dict(self.args)))
        object.__setattr__(self, "reverse", bool(self.reverse))
        _check_choice("reflect", self.reflect, REFLECTIONS)
        _check_choice("extra", self.extra, EXTRAS)

    @classmethod
    def parse(cls, text: str) -> ScanRoute:
        """Read a route from its string.

        Keywords may be given by position too: ``phase(2, 1, 0, col)``, ``window(7)``.

        Raises:
            ValueError: The text is no route, or names an unknown one.
            TypeError: Keywords do not fit the generator.
        """
        reverse, call, modifiers = _split(text)
        name, positional, named = _parse_call(call, text)
        keywords = route_generator(name).keywords
        if len(positional) > len(keywords):
            raise TypeError(
                f"route {text!r}: {len(positional)} values, but {name} takes {len(keywords)} "
                "keywords"
            )
        positions = dict(zip(keywords, positional, strict=False))
        twice = positions.keys() & named.keys()
        if twice:
            raise TypeError(f"route {text!r}: {', '.join(sorted(twice))} is given twice")
        return cls(name, positions | named, reverse=reverse, **_parse_modifiers(modifiers, text))

    @classmethod
    def of(cls, value: ScanRoute | str | Mapping[str, Any]) -> ScanRoute:
        """Return a route given as itself, as its string, or as a mapping of its fields.

        Raises:
            TypeError: The value is none of these, or a mapping with unknown keys.
            ValueError: It names an unknown route.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls.parse(value)
        if isinstance(value, Mapping):
            return cls(**value)
        raise TypeError(f"a route is a ScanRoute, a string or a mapping, got {value!r}")

    def __str__(self) -> str:
        values = dict(self.args)
        names = route_generator(self.name).keywords
        keywords = ",".join(f"{name}={_spell(values[name])}" for name in names)
        modifiers = "".join(f":{value}" for value in (self.reflect, self.extra) if value)
        return f"{'~' * self.reverse}{self.name}{f'({keywords})' * bool(keywords)}{modifiers}"

    @property
    def is_permutation(self) -> bool:
        """Whether every map's table reads every token of the map and never pads."""
        return route_generator(self.name).permutation

    @property
    def is_continuous(self) -> bool:
        """Whether consecutive steps always read neighbours, so that :meth:`codes` exist."""
        return route_generator(self.name).continuous and self.extra is None

    def table(self, height: int, width: int) -> Tensor:
        """Return the walk over an H x W map.

        Args:
            height: Rows H of the map.
            width: Columns W of the map.

        Returns:
            Raster index of the token read at each step, -1 at padded steps, H W for the extra
            token; 1-D, int64, on the CPU.

        Raises:
            ValueError: The size is not positive, or the generator's table is not valid.
        """
        with torch.inference_mode(False):
            return torch.from_numpy(self.array(height, width))

    def array(self, height: int, width: int) -> np.ndarray:
        """Return :meth:`table` as a NumPy array."""
        table = route_generator(self.name).table(height, width, self.args)
        if self.reflect is not None:
            table = _reflected(table, self.reflect, height, width)
        if self.extra == "middle_then_reverse":
            table = _with_middle(table, height * width)
        if self.reverse:
            table = table[::-1].copy()
        if self.extra == "reverse_then_middle":
            table = _with_middle(table, height * width)
        return table

    def codes(self, height: int, width: int) -> Tensor:
        """Return the move that led to each step: 0 start, 1 right, 2 left, 3 up, 4 down.

        Returns:
            Codes of shape (H W,), int64, on the CPU.

        Raises:
            ValueError: The walk jumps, so that moves are not defined.
        """
        with torch.inference_mode(False):
            return torch.from_numpy(self.code_array(height, width))

    def code_array(self, height: int, width: int) -> np.ndarray:
        """Return :meth:`codes` as a NumPy array."""
        if not self.is_continuous:
            raise ValueError(
                f"route {str(self)!r} has no step codes: consecutive steps are not always "
                "neighbours; snake_row, snake_col and spiral have them"
            )
        rows, columns = np.divmod(self.array(height, width), width)
        down, right = np.diff(rows), np.diff(columns)
        moves = np.select([right > 0, right < 0, down < 0], [RIGHT, LEFT, UP], DOWN)
        return np.concatenate(([START], moves)).astype(np.int64)


def _check_choice(field: str, value: str | None, known: tuple[str, ...]) -> None:
    if value is not None and value not in known:
        raise ValueError(
            f"ScanRoute: {field} is {value!r}, expected None or one of {', '.join(known)}"
        )


def _reflected(table: np.ndarray, reflect: str, height: int, width: int) -> np.ndarray:
    rows, columns = np.divmod(table, width)
    mirrored = (
        rows * width + (width - 1 - columns)
        if reflect == "lr"
        else (height - 1 - rows) * width + columns
    )
    return np.where(table < 0, -1, mirrored)


def _with_middle(table: np.ndarray, token: int) -> np.ndarray:
    """Insert a token at the step that is half the number of tokens read, pads not counted."""
    return np.insert(table, np.count_nonzero(table >= 0) // 2, token)


def _split(text: str) -> tuple[bool, str, list[str]]:
    """Split ``~call:modifier`` into its three parts."""
    call, *modifiers = re.split(r":(?=[^()'\"]*$)", text.strip())
    return call.startswith("~"), call.removeprefix("~").strip(), [m.strip() for m in modifiers]


def _parse_call(call: str, text: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Read ``name`` or ``name(values, keyword=value)``; bare words are strings."""
    try:
        node = ast.parse(call, mode="eval").body
    except SyntaxError:
        node = None
    if isinstance(node, ast.Name):
        return node.id, [], {}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        positional = [_value(argument, text) for argument in node.args]
        named = {k.arg: _value(k.value, text) for k in node.keywords if k.arg is not None}
        if len(named) == len(node.keywords):
            return node.func.id, positional, named
    raise _not_a_route(text)


def _value(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Tuple):
        return tuple(_value(item, text) for item in node.elts)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise _not_a_route(text) from None


def _parse_modifiers(modifiers: list[str], text: str) -> dict[str, str]:
    fields = {"reflect": REFLECTIONS, "extra": EXTRAS}
    found: dict[str, str] = {}
    for modifier in modifiers:
        field = next((field for field, known in fields.items() if modifier in known), None)
        if field is None or field in found:
            raise ValueError(
                f"route {text!r}: {modifier!r} after the colon, expected at most one of "
                f"{', '.join(REFLECTIONS)} and one of {', '.join(EXTRAS)}"
            )
        found[field] = modifier
    return found


def _not_a_route(text: str) -> ValueError:
    return ValueError(
        f"{text!r} is no route; write one as in 'row', '~col', 'window(w=7)', "
        "'~phase(s=2,r0=1,c0=0,major=col)' or 'zigzag:lr'"
    )


def _spell(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({''.join(f'{_spell(item)},' for item in value)})"
    if isinstance(value, str) and value.isidentifier() and not keyword.iskeyword(value):
        return value
    return repr(value)
