"""What a successful load did."""

import logging
from dataclasses import dataclass

from mmengine.logging import print_log


@dataclass(frozen=True)
class LoadReport:
    """The account of one load; ``str()`` gives it in a few lines.

    Attributes:
        checkpoint (str): The file that was read.
        sha256 (str): Hash of that file.
        container (str): Top-level key of its state dict.
        spelling (str): Spelling of its keys, such as ``'A'`` or ``'D/A'``.
        arch (str): Name of the preset that its shapes belong to, or ``'custom'``.
        copied (tuple[str, ...]): Keys of the model that were filled.
        dropped (tuple[str, ...]): Keys of the file, in spelling A, that the model has no
            use for, such as the classifier's.
        left_initial (tuple[str, ...]): Keys of the model that kept their initial value.
        skipped (tuple[str, ...]): Keys that did not fit and that the caller allowed to.
        ignored_modules (tuple[tuple[str, int], ...]): Modules of the file outside the
            backbone, such as neck and heads, each with its number of tensors.
        family (str): Name of the family.
        notes (tuple[str, ...]): What was changed on the way, in words.
    """

    checkpoint: str
    sha256: str
    container: str
    spelling: str
    arch: str
    copied: tuple[str, ...]
    dropped: tuple[str, ...] = ()
    left_initial: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    ignored_modules: tuple[tuple[str, int], ...] = ()
    family: str = "VMamba"
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"Loaded {len(self.copied)} tensors of {self.family} {self.arch} "
            f"from {self.checkpoint}",
            f"  container {self.container}, spelling {self.spelling}, sha256 {self.sha256}",
        ]
        for title, keys in (("dropped", self.dropped), ("left initial", self.left_initial)):
            if keys:
                lines.append(f"  {title} ({len(keys)}): {', '.join(keys)}")
        lines += [f"  {note}" for note in self.notes]
        if self.ignored_modules:
            counts = ", ".join(f"{name} ({count})" for name, count in self.ignored_modules)
            lines.append(f"  modules outside the backbone, ignored: {counts}")
        return "\n".join(lines)

    def log(self) -> None:
        """Write the report to MMEngine's current logger, and a warning per skipped key."""
        print_log(str(self), logger="current", level=logging.INFO)
        for key in self.skipped:
            print_log(
                f"{self.checkpoint}: {key} does not fit and was skipped, as allowed",
                logger="current",
                level=logging.WARNING,
            )
