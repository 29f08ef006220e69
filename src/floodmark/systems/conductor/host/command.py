"""The command line of the host: one line on stdout when it is ready, exit code 2 for a usage error and 0 after a signal.

The defaults are those of a load: no rate limit, no greeting, a long channel.
"""

from __future__ import annotations

import asyncio
import enum
import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer
import uvloop

from floodmark.core.errors import FloodmarkError, UsageError
from floodmark.systems.conductor.backend import BackendSettings, backend_of
from floodmark.systems.conductor.host.lies import LIES, Lies
from floodmark.systems.conductor.host.server import Server
from floodmark.systems.conductor.settings import (
    MIB,
    STRESS_CHANNEL_COUNT,
    ConductorSettings,
    InputLimits,
    Overflow,
    SessionSettings,
    StreamSettings,
)

HEARTBEAT_S = 30.0


class OverflowName(enum.StrEnum):
    """`Overflow`, as it is typed."""

    HOLD = "hold"
    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"
    CONCATENATE = "concatenate"


def host(
    *,
    address: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 lets the OS choose.")] = 0,
    backend: Annotated[str, typer.Option(help="Where answers come from: mock, openai or ollama.")] = "mock",
    url: Annotated[str, typer.Option(help="Where the backend is; empty: its usual place.")] = "",
    model: Annotated[str, typer.Option(help="The model to ask for; empty: the backend's own choice.")] = "",
    api_key_env: Annotated[str, typer.Option(help="The environment variable that holds the backend's API key.")] = "",
    channel: Annotated[int, typer.Option(help="Events that may wait for a surface.")] = STRESS_CHANNEL_COUNT,
    conversations: Annotated[int, typer.Option(help="Conversations of a surface, the main one among them.")] = 16,
    streams: Annotated[int, typer.Option(help="Answers of a surface that are streamed at once.")] = 16,
    poll_tokens: Annotated[int, typer.Option(help="Tokens that one poll moves at most.")] = 256,
    buffer: Annotated[int, typer.Option(help="Tokens of an answer that wait before --overflow applies.")] = 1000,
    overflow: Annotated[OverflowName, typer.Option(help="What then happens to them.")] = OverflowName.HOLD,
    idle_limit: Annotated[float, typer.Option(help="Seconds of silence after which an answer has hung and fails.")] = 30.0,
    context: Annotated[int, typer.Option(help="Earlier messages that go to the backend with a question.")] = 10,
    session_messages: Annotated[int, typer.Option(help="Messages of a session that are kept.")] = 1000,
    session_bytes: Annotated[int, typer.Option(help="And bytes of them.")] = 10 * MIB,
    messages_per_minute: Annotated[int, typer.Option(help="Messages that a surface may send; 0: any number.")] = 0,
    heartbeat: Annotated[float, typer.Option(help="Seconds between two heartbeats; 0: none.")] = HEARTBEAT_S,
    socket_send_bytes: Annotated[int, typer.Option(min=0, help="SO_SNDBUF of each surface's socket; 0: the kernel's choice.")] = 0,
    lie: Annotated[list[str] | None, typer.Option(help=f"Break a promise, NAME=K with one of: {', '.join(LIES)}; repeatable.")] = None,
) -> None:
    """Give every surface that connects a conductor of its own, for the driver `conductor`, until SIGTERM or SIGINT."""
    try:
        settings = ConductorSettings(
            model=model,
            greet=False,
            context_window_count=context,
            max_tokens_per_poll=poll_tokens,
            channel_count=channel,
            conversations_count=conversations,
            streams=StreamSettings(limit_count=streams, buffer_count=buffer, overflow=Overflow(overflow.value), idle_limit_s=idle_limit),
            session=SessionSettings(messages_count=session_messages, kept_bytes=session_bytes),
            limits=InputLimits(messages_per_minute=messages_per_minute or None),
        )
        chosen = BackendSettings(url=url, model=model, api_key=_key(api_key_env))
        lies = Lies(lie or ())

        def server() -> Server:
            return Server(backend_of(backend, chosen), settings, lies, heartbeat_s=heartbeat, socket_send_bytes=socket_send_bytes)

        uvloop.run(_serve(address, port, server))
    except FloodmarkError as exc:
        print(exc, file=sys.stderr)
        raise typer.Exit(2) from None
    except OSError as exc:
        print(f"cannot listen on {address}:{port}: {exc.strerror or exc}", file=sys.stderr)
        raise typer.Exit(2) from None


def _key(name: str) -> str:
    if not name:
        return ""
    key = os.environ.get(name, "")
    if not key:
        raise UsageError(f"--api-key-env {name}: there is no such environment variable, or it is empty; set it to the key")
    return key


async def _serve(address: str, port: int, make: Callable[[], Server]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = make()
    gc.freeze()  # what is loaded by now stays; collections need not look at it again
    await server.serve(address, port, lambda bound: print(f"floodmark conductor ready tcp://{address}:{bound}", flush=True), stop)
