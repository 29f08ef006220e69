"""The command line of the host: one line on stdout when it is ready, exit code 2 for a usage error and 0 after a gentle end.

It is ready when NATS answers, the streams are there and words are heard; no worker runs then.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from typing import Annotated

import typer
import uvloop

from floodmark.core.errors import FloodmarkError
from floodmark.systems.fleet.host.control import Control
from floodmark.systems.fleet.host.crew import Crew
from floodmark.systems.fleet.host.network import Network
from floodmark.systems.fleet.host.options import Options, read_options
from floodmark.systems.fleet.host.server import serving
from floodmark.systems.fleet.host.squad import Squad
from floodmark.systems.fleet.host.streams import make_streams
from floodmark.systems.fleet.host.words import Words
from floodmark.systems.fleet.membership import Buckets
from floodmark.systems.fleet.store.nats import NatsStore

CONNECT_LIMIT_S = 5.0
RECORDED_COUNT = 64


def host(
    *,
    nats: Annotated[str, typer.Option(help="URL of a NATS server; without it one is started.")] = "",
    server: Annotated[str, typer.Option(help="Where a server of our own runs: inside our process tree, or apart from it.")] = "inside",
    sync: Annotated[str, typer.Option(help="When a server of our own syncs to disk: always, or how often (2m).")] = "always",
    profile: Annotated[str, typer.Option(help="Settings by name: default, production, fast, baseline ...")] = "default",
    set_: Annotated[list[str] | None, typer.Option("--set", help="One setting, such as heartbeat_s=0.5; repeatable.")] = None,
    strategy: Annotated[str, typer.Option(help="consistent-hash, weighted or round-robin.")] = "consistent-hash",
    partitions: Annotated[int | None, typer.Option(help="How many, named p0, p1 ...; 100 unless weights say.")] = None,
    weights: Annotated[str, typer.Option(help="Partitions times their weight: 10x1 5x2 2x5.")] = "",
    per_process: Annotated[int, typer.Option(help="Workers in one process.")] = 1,
    assignment_history: Annotated[int, typer.Option(help="Versions of each assignment that are kept, 1 to 64.")] = 64,
    network: Annotated[bool, typer.Option("--network", help="Workers reach NATS by a fault proxy: isolate and heal.")] = False,
    out: Annotated[str, typer.Option(help="How workers publish: stream (acknowledged by FM_OUT) or core.")] = "stream",
    batch: Annotated[int, typer.Option(help="Messages that a worker pulls at once.")] = 1,
    fail_put: Annotated[str, typer.Option(help="A leader's write that fails once: round=2,k=3.")] = "",
    lie: Annotated[list[str] | None, typer.Option(help="Break a promise, such as drop=100; repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="Fixes every random choice.")] = 1,
) -> None:
    """Host a fleet, for the driver `fleet`, until SIGTERM or SIGINT; words on the subject fleet.control start and end its workers."""
    try:
        options = read_options(
            nats=nats,
            server=server,
            sync=sync,
            profile_name=profile,
            chosen=set_ or (),
            strategy=strategy,
            partitions=partitions,
            weights=weights,
            per_process=per_process,
            assignment_history=assignment_history,
            network=network,
            out=out,
            batch=batch,
            fail_put=fail_put,
            lie=lie or (),
            seed=seed,
        )
        uvloop.run(serve(options))
    except FloodmarkError as exc:
        print(exc, file=sys.stderr)
        raise typer.Exit(2) from None


async def serve(options: Options) -> None:
    """Run until a signal; then workers first, the network after them, the server last."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(options.nats, apart=options.apart, sync=options.sync))
        store = await stack.enter_async_context(await NatsStore.connect(server.url, name="fleet host", connect_s=CONNECT_LIMIT_S))
        await make_streams(store.link, out_stream=options.out_stream)
        # Before the first worker: a record can only be fed by streams that are there; with a history, since it is fed a little later.
        buckets = await Buckets.open(store, options.settings, history=RECORDED_COUNT)
        network = await stack.enter_async_context(Network(server.url)) if options.network else None
        marks = await stack.enter_async_context(asyncio.TaskGroup())

        def felt(squad: Squad, what: str) -> None:
            marks.create_task(control.felt(squad, what))

        crew = await stack.enter_async_context(Crew(options, server.url, network, felt))
        control = Control(Words(crew, server, network, buckets.election), store.link)
        await control.serve(stop, ready=lambda: print(f"floodmark fleet ready {server.url}", flush=True))
