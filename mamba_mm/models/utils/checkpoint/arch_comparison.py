"""Architectures read from files, field by field against those that are asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from .errors import ArchMismatchError, bullets


@dataclass(frozen=True)
class InferredFields:
    """Base of what the shapes of a family's weights tell; ``None`` where they do not."""

    def differences(self, other: "InferredFields") -> tuple[str, ...]:
        """Names of the fields that both know and that differ."""
        return tuple(
            field.name
            for field in fields(self)
            if not _agree(getattr(self, field.name), getattr(other, field.name))
        )


@dataclass(frozen=True)
class Presets:
    """The named architectures of a family, in the form that files are compared in.

    Attributes:
        family (str): Name of the family for messages, such as ``'VMamba'``.
        archs (Mapping[str, InferredFields]): What each preset's weights would tell.
    """

    family: str
    archs: Mapping[str, InferredFields]

    def find(self, inferred: InferredFields) -> str | None:
        """Name the preset that an architecture is, or ``None`` for one of somebody's own."""
        name = self.closest(inferred)
        return None if self.archs[name].differences(inferred) else name

    def closest(self, inferred: InferredFields) -> str:
        """Name the preset that differs from an architecture in the fewest fields."""
        return min(self.archs, key=lambda name: len(self.archs[name].differences(inferred)))

    def require_same(
        self, inferred: InferredFields, expected: InferredFields, where: str, expected_name: str
    ) -> None:
        """Compare the architecture of a file with the one that is asked for.

        Args:
            inferred (InferredFields): Read from the file.
            expected (InferredFields): Of the model to fill, or of a preset.
            where (str): What to call the file in the message, such as its path.
            expected_name (str): What to call the expected side, such as ``'the model'``.

        Raises:
            ArchMismatchError: A field differs; the message holds a table of all fields.
        """
        if not inferred.differences(expected):
            return
        name = self.find(inferred) or "a custom architecture"
        raise ArchMismatchError(
            f"{where} holds {self.family} weights of {name}, but {expected_name} is "
            f"{self.find(expected) or 'a custom architecture'}; nothing was loaded\n"
            + comparison_table(inferred, expected, expected_name)
        )

    def require(self, inferred: InferredFields, asserted: str | None, where: str) -> str:
        """Name the preset of a file, after comparing it with the one that the user asserts.

        Args:
            inferred (InferredFields): Read from the file.
            asserted (str | None): The preset that the file must hold, or ``None`` for any.
            where (str): What to call the file in the message, such as its path.

        Raises:
            ArchMismatchError: It is no preset, or another one.
        """
        if asserted is not None:
            if asserted not in self.archs:
                raise ArchMismatchError(
                    f"There is no {self.family} preset {asserted!r}" + bullets("known", self.archs)
                )
            self.require_same(inferred, self.archs[asserted], where, f"the asserted {asserted}")
            return asserted
        preset = self.find(inferred)
        if preset is None:
            closest = self.closest(inferred)
            raise ArchMismatchError(
                f"{where} holds a {self.family} of no released size; the closest is {closest}. "
                "Load it directly with init_cfg into a backbone of its arch instead.\n"
                + comparison_table(inferred, self.archs[closest], closest)
            )
        return preset


def comparison_table(inferred: InferredFields, expected: InferredFields, expected_name: str) -> str:
    """Lay out two architectures field by field, a ``*`` in front of what differs."""
    different = inferred.differences(expected)
    rows = [("  field", "file", expected_name)]
    for field in fields(inferred):
        mark = "* " if field.name in different else "  "
        values = (_show(getattr(side, field.name)) for side in (inferred, expected))
        rows.append((mark + field.name, *values))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows)


def _agree(one: object, other: object) -> bool:
    """Whether two values are equal as far as both are known."""
    if one is None or other is None:
        return True
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_agree, one, other))
    return one == other


def _show(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_show, value))
    return "?" if value is None else str(value)
