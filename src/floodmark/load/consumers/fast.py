"""Reads whatever arrives at once."""

from __future__ import annotations

from floodmark.model.scenario import Fast


def wants_to_read(consumer: Fast, *, elapsed_ns: int, received_bytes: int) -> bool:
    """Say yes, always."""
    return True
