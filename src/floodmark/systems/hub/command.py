"""The command line of the hub: `floodmark serve hub` and `python -m floodmark.systems.hub`.

One line on stdout when it is ready, errors as one sentence on stderr, exit code 2 for a usage error and 0 after a drain.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
from typing import Annotated

import typer
import uvloop

from floodmark.core.errors import UsageError
from floodmark.systems.hub.hub import Hub
from floodmark.systems.hub.settings import HubSettings, Policy, settings_from

LIMITS = "Limits"


def hub(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 lets the OS choose.")] = None,
    preset: Annotated[str | None, typer.Option(help="development, production or high_performance; other options lie over it.")] = None,
    policy: Annotated[Policy | None, typer.Option(help="What a full subscription queue does to a publish.")] = None,
    queue: Annotated[int | None, typer.Option(help="Events a subscription may have waiting.")] = None,
    queue_bytes: Annotated[int | None, typer.Option(help="Bytes a subscription may have waiting.")] = None,
    history: Annotated[int | None, typer.Option(help="Events kept per channel for resume.")] = None,
    history_bytes: Annotated[int | None, typer.Option(help="Bytes kept per channel for resume.")] = None,
    token: Annotated[str | None, typer.Option(help="Bearer token that clients must present.")] = None,
    no_rate_limits: Annotated[bool, typer.Option("--no-rate-limits", help="Switch off all rates and limits per user.")] = False,
    max_connections: Annotated[int | None, typer.Option(help="Connections at once.", rich_help_panel=LIMITS)] = None,
    subscriptions_per_connection: Annotated[int | None, typer.Option(rich_help_panel=LIMITS)] = None,
    message_bytes: Annotated[int | None, typer.Option(help="Longest message from a client.", rich_help_panel=LIMITS)] = None,
    payload_bytes: Annotated[int | None, typer.Option(help="Longest data of one event.", rich_help_panel=LIMITS)] = None,
) -> None:
    """Serve a GraphQL subscription hub until SIGTERM or SIGINT."""
    try:
        settings = settings_from(
            preset,
            {
                "host": host,
                "port": port,
                "policy": policy,
                "queue_events": queue,
                "queue_bytes": queue_bytes,
                "history_events": history,
                "history_bytes": history_bytes,
                "token": token,
                "rate_limits": False if no_rate_limits else None,
                "connections_max": max_connections,
                "subscriptions_per_connection": subscriptions_per_connection,
                "message_bytes": message_bytes,
                "event_payload_bytes": payload_bytes,
            },
        )
        _raise_descriptor_limit()
        uvloop.run(serve(settings))
    except UsageError as exc:
        print(exc, file=sys.stderr)
        raise typer.Exit(2) from None


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def serve(settings: HubSettings) -> None:
    """Run a hub until a signal asks it to stop, then drain it."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    hub = Hub(settings)
    await hub.start()
    print(f"floodmark hub ready {hub.url}", flush=True)
    await stop.wait()
    await hub.stop()
