"""`python -m floodmark.systems.fleet.host`: the host on its own."""

from __future__ import annotations

import sys

import typer

if not any("ws://" in word or "wss://" in word for word in sys.argv):
    # As in work.py: nats-py imports it for WebSocket alone, and it is a third of what a start costs.
    sys.modules.setdefault("aiohttp", None)  # type: ignore[arg-type]
from floodmark.systems.fleet.host.command import host

if __name__ == "__main__":
    typer.run(host)
