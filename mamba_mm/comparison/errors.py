"""What stops a comparison before anything is measured."""

from __future__ import annotations


class ComparisonError(Exception):
    """The comparison cannot be made; the message says why and what to do."""
