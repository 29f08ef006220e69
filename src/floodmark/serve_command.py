"""`floodmark serve`: the reference systems as commands, each with the options of its own command line.

A system is imported once its command is asked for: what it brings, up to a second, no other command should pay for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

SYSTEMS: dict[str, tuple[str, str]] = {
    "hub": ("floodmark.systems.hub.command", "hub"),
    "pipeline": ("floodmark.systems.pipeline.host.command", "host"),
    "tokens": ("floodmark.systems.conductor.tokens.command", "tokens"),
    "conductor": ("floodmark.systems.conductor.host.command", "host"),
    "fleet": ("floodmark.systems.fleet.host.command", "host"),
}
"""Name -> the module and the function of its command line."""


class Systems(TyperGroup):
    """The commands of SYSTEMS, beside those that are registered."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        names: dict[str, Any] = dict.fromkeys(SYSTEMS)
        self.commands = names | dict(self.commands)  # names are listed and suggested from here; what they stand for is fetched below

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        place = SYSTEMS.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        module, function = place
        alone = typer.Typer(add_completion=False)
        alone.command(cmd_name)(getattr(import_module(module), function))
        return get_command(alone)


serve = typer.Typer(cls=Systems, help="Start a reference system to try things on.", no_args_is_help=True)


@serve.command("nats")
def serve_nats(
    *,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 lets the server choose.")] = 0,
    store: Annotated[str, typer.Option(help="Directory of the streams; empty: one that goes with the server.")] = "",
    sync: Annotated[str, typer.Option(help="When streams are synced to disk: always, or how often, such as 2m.")] = "always",
    keep: Annotated[bool, typer.Option(help="Start a server that dies again, with what it held.")] = False,
) -> None:
    """Run a nats-server with JetStream, for the drivers `nats` and `jetstream`, until SIGTERM or SIGINT."""
    from floodmark.core.nats_command import main as nats  # here: no other command needs it

    raise typer.Exit(nats(["--port", str(port), "--store", store, "--sync", sync, *(["--keep"] if keep else [])]))
