"""`python -m bench.leaky_hub BYTES -- HUB OPTIONS`: the embedded hub, keeping exactly so many bytes of every delivery.

The hub's own `--lie leak=BYTES` keeps an object per delivery: a header, a block of the allocator's size class and a place in a list come on
top, 90 bytes or so for ten. A verdict that is to find ten bytes has to be tried on ten. One growing buffer has no overhead that grows, and
what it holds ready is not resident before it is written to.
"""

from __future__ import annotations

import sys

import typer

from floodmark.systems.hub.command import hub
from floodmark.systems.hub.dispatch import Dispatcher


def leak(bytes_per_delivery: int) -> None:
    """Make the dispatcher of this process keep so much of each delivery, from one turn of its loop to the next."""
    kept = bytearray()
    paid_count = 0
    honest = Dispatcher.flush

    def flush(self: Dispatcher) -> None:
        nonlocal paid_count
        honest(self)
        kept.extend(b"\x01" * (bytes_per_delivery * (self.counters.delivered - paid_count)))
        paid_count = self.counters.delivered

    Dispatcher.flush = flush  # type: ignore[method-assign]


if __name__ == "__main__":
    leak(int(sys.argv[1]))
    sys.argv[1:] = [argument for argument in sys.argv[2:] if argument != "--"]
    typer.run(hub)
