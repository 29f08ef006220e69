"""The command line of the host: one line on stdout when it is ready, exit code 2 for a usage error and 0 after a drain.

Before it is ready it runs one small stream, so that what libraries set up at their first use is there before anybody measures.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from floodmark.core.errors import FloodmarkError
from floodmark.systems.pipeline import Pipeline
from floodmark.systems.pipeline.host.lies import Lies
from floodmark.systems.pipeline.host.measure import LAP_COUNT, measure
from floodmark.systems.pipeline.host.options import Options
from floodmark.systems.pipeline.host.server import Server


def host(
    *,
    address: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 lets the OS choose.")] = 0,
    lie: Annotated[list[str] | None, typer.Option(help="Break a promise, such as skip=1 or miscount=3; repeatable.")] = None,
) -> None:
    """Host the pipeline, for the driver `pulled`, until SIGTERM or SIGINT."""
    try:
        lies = Lies(lie or ())
        uvloop.run(_serve(address, port, lies))
    except FloodmarkError as exc:
        print(exc, file=sys.stderr)
        raise typer.Exit(2) from None
    except OSError as exc:
        print(f"cannot listen on {address}:{port}: {exc.strerror or exc}", file=sys.stderr)
        raise typer.Exit(2) from None


async def _serve(address: str, port: int, lies: Lies) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="floodmark-") as folder:
        async with Pipeline() as pipeline:
            await measure(pipeline, Options(measure_records=LAP_COUNT))
            server = Server(pipeline, Path(folder), lies)
            await server.serve(address, port, lambda bound: print(f"floodmark pipeline ready tcp://{address}:{bound}", flush=True), stop)
