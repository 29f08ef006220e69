"""The command line of the token server: `floodmark serve tokens` and `python -m floodmark.systems.conductor.tokens`.

One line on stdout when it is ready, errors as one sentence on stderr. Exit code 2 for a usage error, 0 after SIGTERM, 130 after SIGINT;
both end it at once, in mid-stream too.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Annotated

import typer
import uvloop

from floodmark.core.errors import UsageError
from floodmark.systems.conductor.backend.prose import RATE_HZ
from floodmark.systems.conductor.tokens.lies import Lies
from floodmark.systems.conductor.tokens.server import TokenServer, TokenSettings

INTERRUPTED = 130


def tokens(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 lets the OS choose.")] = 0,
    rate: Annotated[float, typer.Option(help="Tokens per second of prose; 0: as fast as they are taken.")] = RATE_HZ,
    per_chunk: Annotated[int, typer.Option(help="Tokens in one chunk of a stream.")] = 1,
    max_streams: Annotated[int, typer.Option(help="Answers at once; more are refused.")] = 20_000,
    lie: Annotated[list[str] | None, typer.Option(help="Break a promise, such as truncate=3 or drop=5; repeatable.")] = None,
) -> None:
    """Serve known text over the OpenAI protocol until SIGTERM or SIGINT."""
    try:
        server = TokenServer(TokenSettings(prose_rate_hz=rate, group=per_chunk, max_streams=max_streams), Lies(lie or ()))
        number = uvloop.run(_serve(server, host, port))
    except UsageError as exc:
        print(exc, file=sys.stderr)
        raise typer.Exit(2) from None
    except OSError as exc:
        print(f"the token server cannot listen on {host}:{port}: {exc.strerror or exc}", file=sys.stderr)
        raise typer.Exit(2) from None
    if number == signal.SIGINT:
        raise typer.Exit(INTERRUPTED)


async def _serve(server: TokenServer, host: str, port: int) -> int:
    """Serve until a signal comes; which one it was."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[int] = loop.create_future()

    def stop(number: int) -> None:
        if not stopped.done():
            stopped.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    async with server.serving(host, port) as bound:
        shown = f"[{host}]" if ":" in host else host
        print(f"floodmark tokens ready http://{shown}:{bound}", flush=True)
        return await stopped
