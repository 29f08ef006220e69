"""`floodmark agent`: an agent for runs that are called out at a NATS server.

In a module of its own because an agent stays for as long as its machine lends itself, beside the load: started by its name it loads this
much of the command line and no more, which is half of the memory and half of the start. `floodmark.cli` lists it among the other commands.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
import uvloop

from floodmark.core.errors import UsageError
from floodmark.exits import end_with


def agent(
    nats: Annotated[str, typer.Option(metavar="URL", help="The NATS server, with JetStream, at which runs are called out.")],
    name: Annotated[str, typer.Option(help="What it is called in results; the machine's name and four digits unless given.")] = "",
    capacity: Annotated[int, typer.Option(help="Load processes at once; one for each core but one, as a rule.")] = 1,
) -> None:
    """Play slices of runs that are called out at a NATS server, until SIGTERM or SIGINT."""
    if capacity < 1:
        raise UsageError(f"--capacity must be at least 1, got {capacity}")
    from floodmark.runner import remote  # here: a wrong option is told without it

    order = remote.Order(nats=nats, name=name, capacity=capacity)
    uvloop.run(remote.until_told(order, lambda line: print(line, file=sys.stderr, flush=True)))


app = typer.Typer(name="floodmark", add_completion=False, pretty_exceptions_enable=False)
app.command()(agent)


@app.callback()
def _floodmark() -> None:
    """Stress-test streaming systems."""


def main() -> None:
    """Run `floodmark agent` as `floodmark.cli` would."""
    end_with(app)
