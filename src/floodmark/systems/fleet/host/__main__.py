"""`python -m floodmark.systems.fleet.host`: the host on its own."""

from __future__ import annotations

import typer

from floodmark.systems.fleet.host.command import host

if __name__ == "__main__":
    typer.run(host)
