"""`python -m floodmark.systems.conductor.host`: the host on its own."""

from __future__ import annotations

import typer

from floodmark.systems.conductor.host.command import host

if __name__ == "__main__":
    typer.run(host)
