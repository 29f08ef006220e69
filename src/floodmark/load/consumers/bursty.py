"""Reads for read_s, then not at all for pause_s, again and again, starting with a read."""

from __future__ import annotations

from floodmark.model.scenario import Bursty


def wants_to_read(consumer: Bursty, *, elapsed_ns: int, received_bytes: int) -> bool:
    """Say yes in the first read_s of each cycle."""
    read_ns, pause_ns = round(consumer.read_s * 1e9), round(consumer.pause_s * 1e9)
    return elapsed_ns % max(1, read_ns + pause_ns) < read_ns
