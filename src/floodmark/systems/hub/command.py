"""The command line of the hub: `floodmark serve hub` and `python -m floodmark.systems.hub`.

One line on stdout when it is ready, errors as one sentence on stderr, exit code 2 for a usage error and 0 after a drain. A lying hub
writes what it really did as one JSON line to stderr when it stops.
"""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sys
from typing import Annotated

import typer
import uvloop

from floodmark.core.errors import FloodmarkError, UsageError
from floodmark.core.parent import die_with_parent
from floodmark.systems.hub.hub import Hub
from floodmark.systems.hub.settings import HubSettings, Policy, settings_from
from floodmark.systems.hub.workers import serve_workers

QUEUES, LIMITS, TIMES, LYING = "Queues and history", "Limits", "Times", "Lying on purpose"


def hub(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 lets the OS choose.")] = None,
    preset: Annotated[str | None, typer.Option(help="development, production or high_performance; other options lie over it.")] = None,
    bus: Annotated[str | None, typer.Option(help="memory, nats for a nats-server of its own, or nats://host:port.")] = None,
    bus_fallback: Annotated[str | None, typer.Option(help="memory: what to publish to while the bus is down; default: nothing.")] = None,
    bus_store: Annotated[str | None, typer.Option(help="Directory that outlives the hub's own nats-server, for its history.")] = None,
    breaker_failures: Annotated[int | None, typer.Option(help="In a row, before the bus is left alone.")] = None,
    breaker_successes: Annotated[int | None, typer.Option(help="In a row, before the bus is trusted again.")] = None,
    breaker_open_s: Annotated[float | None, typer.Option(help="Seconds before the bus is tried again.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes on the port; more than one share a bus.")] = 1,
    token: Annotated[str | None, typer.Option(help="Bearer token that clients must present.")] = None,
    token_lifetime_s: Annotated[float | None, typer.Option(help="Seconds after which the token expires.")] = None,
    die_with_parent_: Annotated[bool, typer.Option("--die-with-parent", help="Stop when the process that started this one ends.")] = False,
    policy: Annotated[Policy | None, typer.Option(help="What a full queue does to a publish.", rich_help_panel=QUEUES)] = None,
    queue: Annotated[int | None, typer.Option(help="Events a subscription may have waiting.", rich_help_panel=QUEUES)] = None,
    queue_bytes: Annotated[int | None, typer.Option(help="Bytes a subscription may have waiting.", rich_help_panel=QUEUES)] = None,
    history: Annotated[int | None, typer.Option(help="Events kept per channel for resume.", rich_help_panel=QUEUES)] = None,
    history_bytes: Annotated[int | None, typer.Option(help="Bytes kept per channel for resume.", rich_help_panel=QUEUES)] = None,
    write_buffer_bytes: Annotated[
        int | None, typer.Option(help="Unsent bytes at which a connection counts as slow.", rich_help_panel=QUEUES)
    ] = None,
    socket_send_bytes: Annotated[int | None, typer.Option(help="SO_SNDBUF; 0: the kernel's choice.", rich_help_panel=QUEUES)] = None,
    socket_receive_bytes: Annotated[int | None, typer.Option(help="SO_RCVBUF; 0: the kernel's choice.", rich_help_panel=QUEUES)] = None,
    max_connections: Annotated[int | None, typer.Option(help="Connections at once.", rich_help_panel=LIMITS)] = None,
    subscriptions_per_connection: Annotated[int | None, typer.Option(help="Subscriptions at once.", rich_help_panel=LIMITS)] = None,
    subscriptions_per_user: Annotated[int | None, typer.Option(help="Subscriptions at once.", rich_help_panel=LIMITS)] = None,
    connections_per_user: Annotated[int | None, typer.Option(help="Connections at once.", rich_help_panel=LIMITS)] = None,
    subscriptions_per_min: Annotated[
        int | None, typer.Option(help="New subscriptions of a user per minute.", rich_help_panel=LIMITS)
    ] = None,
    events_per_s: Annotated[
        float | None, typer.Option(help="Events a subscription gets per second; 0: all.", rich_help_panel=LIMITS)
    ] = None,
    bucket_refill: Annotated[float | None, typer.Option(help="Operations of a user per second.", rich_help_panel=LIMITS)] = None,
    bucket_capacity: Annotated[int | None, typer.Option(help="Operations of a user at once.", rich_help_panel=LIMITS)] = None,
    no_rate_limits: Annotated[
        bool, typer.Option("--no-rate-limits", help="Switch off all rates and limits per user.", rich_help_panel=LIMITS)
    ] = False,
    filter_complexity: Annotated[int | None, typer.Option(help="Conditions in one filter.", rich_help_panel=LIMITS)] = None,
    message_bytes: Annotated[int | None, typer.Option(help="Longest message from a client.", rich_help_panel=LIMITS)] = None,
    payload_bytes: Annotated[int | None, typer.Option(help="Longest data of one event.", rich_help_panel=LIMITS)] = None,
    query_bytes: Annotated[int | None, typer.Option(help="Longest query text.", rich_help_panel=LIMITS)] = None,
    max_channels: Annotated[int | None, typer.Option(help="Channels with history or subscribers.", rich_help_panel=LIMITS)] = None,
    init_s: Annotated[float | None, typer.Option(help="Limit for connection_init.", rich_help_panel=TIMES)] = None,
    ping_s: Annotated[float | None, typer.Option(help="Between two pings.", rich_help_panel=TIMES)] = None,
    pong_s: Annotated[float | None, typer.Option(help="Limit for a pong.", rich_help_panel=TIMES)] = None,
    grace_s: Annotated[float | None, typer.Option(help="Limit for the drain.", rich_help_panel=TIMES)] = None,
    subscription_lifetime_s: Annotated[
        float | None, typer.Option(help="After which a subscription ends; 0: never.", rich_help_panel=TIMES)
    ] = None,
    lie: Annotated[
        list[str] | None, typer.Option(help="Break a promise, such as drop=1/1000 or skip=5@10; repeatable.", rich_help_panel=LYING)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides which deliveries the lies hit.", rich_help_panel=LYING)] = None,
) -> None:
    """Serve a GraphQL subscription hub until SIGTERM or SIGINT."""
    if die_with_parent_:
        die_with_parent()
    try:
        settings = settings_from(
            preset,
            {
                "host": host,
                "port": port,
                "bus": bus,
                "bus_fallback": bus_fallback,
                "bus_store": bus_store,
                "breaker_failures": breaker_failures,
                "breaker_successes": breaker_successes,
                "breaker_open_s": breaker_open_s,
                "token": token,
                "token_lifetime_s": token_lifetime_s,
                "policy": policy,
                "queue_events": queue,
                "queue_bytes": queue_bytes,
                "history_events": history,
                "history_bytes": history_bytes,
                "write_buffer_bytes": write_buffer_bytes,
                "socket_send_bytes": socket_send_bytes,
                "socket_receive_bytes": socket_receive_bytes,
                "connections_max": max_connections,
                "subscriptions_per_connection": subscriptions_per_connection,
                "subscriptions_per_user": subscriptions_per_user,
                "connections_per_user": connections_per_user,
                "subscriptions_per_user_per_min": subscriptions_per_min,
                "events_per_subscription_hz": events_per_s,
                "bucket_refill_hz": bucket_refill,
                "bucket_capacity": bucket_capacity,
                "rate_limits": False if no_rate_limits else None,
                "filter_complexity_max": filter_complexity,
                "message_bytes": message_bytes,
                "event_payload_bytes": payload_bytes,
                "query_bytes": query_bytes,
                "channels_max": max_channels,
                "init_limit_s": init_s,
                "ping_interval_s": ping_s,
                "pong_limit_s": pong_s,
                "shutdown_grace_s": grace_s,
                "subscription_lifetime_s": subscription_lifetime_s,
                "lies": tuple(lie) if lie else None,
                "seed": seed,
            },
        )
        if settings.lies and workers > 1:
            raise UsageError("a lying hub numbers its deliveries, which takes one process: --lie goes with --workers 1")
        raise_descriptor_limit()
        uvloop.run(serve_workers(settings, workers) if workers > 1 else serve(settings))
    except FloodmarkError as exc:
        print(exc, file=sys.stderr)
        raise typer.Exit(exc.exit_code) from None


def raise_descriptor_limit() -> None:
    """Allow as many open sockets as the system lets us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def serve(settings: HubSettings) -> None:
    """Run one hub until a signal asks it to stop, then drain it."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Hub(settings) as hub:
        print(f"floodmark hub ready {hub.url}", flush=True)
        await stop.wait()
    if settings.lies:
        print(json.dumps({"lies": hub.planted()}), file=sys.stderr, flush=True)
