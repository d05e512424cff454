"""What can be wrong with a checkpoint, one exception a kind.

Every message states the problem in its first line; lists and the way out follow.
"""

from collections.abc import Iterable


class CheckpointError(RuntimeError):
    """Base of all errors that a checkpoint can cause; catch this one to catch them all."""


class CheckpointReadError(CheckpointError):
    """The file is missing, unreadable, truncated or no checkpoint at all."""


class UnsafeCheckpointError(CheckpointReadError):
    """The file holds Python objects beside its tensors, and reading it would run its code."""


class CheckpointFormatError(CheckpointError):
    """The file can be read, but its container or the spelling of its keys is not known."""


class ArchMismatchError(CheckpointError):
    """The weights belong to another architecture than the one they should fill."""


class StateMismatchError(CheckpointError):
    """Keys are missing or unexpected, or shapes differ.

    Args:
        headline (str): First line of the message.
        missing (Iterable[str]): Keys that the model has and the file lacks.
        unexpected (Iterable[str]): Keys that the file has and the model lacks.
        mismatched (Iterable[str]): One line for each tensor whose shape differs.
    """

    def __init__(
        self,
        headline: str,
        missing: Iterable[str] = (),
        unexpected: Iterable[str] = (),
        mismatched: Iterable[str] = (),
    ):
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        self.mismatched = tuple(mismatched)
        super().__init__(
            headline
            + bullets("missing from the file", self.missing)
            + bullets("unexpected in the file", self.unexpected)
            + bullets("of another shape (file, model)", self.mismatched)
        )


class NonFiniteWeightsError(CheckpointError):
    """Some weights are NaN or infinite."""


class CheckpointWriteError(CheckpointError):
    """The destination may not, or cannot, be written."""


def bullets(title: str, items: Iterable[str], limit: int | None = None) -> str:
    """Format a titled list that follows the first line of an error message.

    Args:
        title (str): What the items are; their number is added to it.
        items (Iterable[str]): The lines of the list.
        limit (int, optional): Show at most so many and say how many follow.

    Returns:
        str: The list on lines of its own, or an empty string when there are no items.
    """
    lines = [str(item) for item in items]
    if not lines:
        return ""
    shown = lines if limit is None else lines[:limit]
    rest = len(lines) - len(shown)
    if rest:
        shown = [*shown, f"... and {rest} more"]
    return f"\n{title} ({len(lines)}):" + "".join(f"\n  {line}" for line in shown)
