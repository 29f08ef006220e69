"""Reads until after_s, then never again; the drain ends the profile, and that is the caller's to do."""

from __future__ import annotations

from floodmark.model.scenario import Stuck


def wants_to_read(consumer: Stuck, *, elapsed_ns: int, received_bytes: int) -> bool:
    """Say yes before after_s."""
    return elapsed_ns < round(consumer.after_s * 1e9)
