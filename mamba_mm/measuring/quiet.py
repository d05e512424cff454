"""Silence for what MMEngine logs of every variable and every parameter."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from mmengine.logging import MMLogger


@contextlib.contextmanager
def mmengine_logs_only(level: int) -> Iterator[None]:
    """Let MMEngine's current logger pass messages of a level and above only.

    Args:
        level: As in ``logging``, such as ``logging.ERROR``.
    """
    # MMEngine's loggers remember what logging.disable() says when they first ask, and keep to
    # it for the rest of the process.
    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
