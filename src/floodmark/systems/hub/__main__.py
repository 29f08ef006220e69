"""`python -m floodmark.systems.hub`: the hub on its own."""

from __future__ import annotations

import typer

from floodmark.systems.hub.command import hub

if __name__ == "__main__":
    typer.run(hub)
