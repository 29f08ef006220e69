"""Reads at most rate_bytes_per_s on average: a budget that fills with time and that every received byte draws on.

Whoever pauses the socket asks between reads, so a connection runs ahead of its budget by one read at most.
"""

from __future__ import annotations

from floodmark.model.scenario import Slow


def wants_to_read(consumer: Slow, *, elapsed_ns: int, received_bytes: int) -> bool:
    """Say yes while no more was received than the elapsed time allows."""
    return received_bytes * 1e9 <= consumer.rate_bytes_per_s * elapsed_ns
