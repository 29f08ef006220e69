"""`serve` as a process that is interrupted, and the live table."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys

import pytest
from rich.console import Console

from floodmark.core.errors import UsageError
from floodmark.faults.wire.parse import parse_fault
from floodmark.faults.wire.serve import serve, table

from .relay import HOST, SEED, ask, clients, play, relay, target

_PROGRAM = """
import sys, uvloop
from rich.console import Console
from floodmark.faults.wire.parse import parse_fault, parse_mapping
from floodmark.faults.wire.serve import serve
mapping, *faults = sys.argv[1:]
uvloop.run(serve([parse_mapping(mapping)], [parse_fault(one) for one in faults], control_port=0, seed=7, console=Console(stderr=True)))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_interrupted_with_traffic_ends_cleanly(number: signal.Signals) -> None:
    async def job() -> tuple[bytes, int | None, str]:
        async with target() as (_, port):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                _PROGRAM,
                f"{HOST}:0={HOST}:{port}",
                "latency=20ms",
                "partition,share=0",
                stderr=asyncio.subprocess.PIPE,
            )
            assert process.stderr is not None
            lines = [(await process.stderr.readline()).decode().split() for _ in range(3)]
            assert lines[0] == ["seed", "7"]
            assert lines[2][0] == "control"
            reader, writer = await asyncio.open_connection(HOST, int(lines[1][0].rpartition(":")[2]))
            answer, taken_s = await ask(reader, writer, b"hello")
            assert taken_s > 0.039
            process.send_signal(number)
            rest = (await process.stderr.read()).decode()
            code = await process.wait()
            assert await reader.read(-1) == b""
            writer.transport.abort()
            return answer, code, rest

    answer, code, rest = play(job())

    assert answer == b"hello"
    assert code == 0
    assert rest.splitlines() == ["latency: 2 hits, 10 B", "partition: 0 hits, 0 B"]


def test_serve_on_a_terminal_shows_the_table_and_stops_when_told() -> None:
    async def job() -> str:
        told = io.StringIO()
        stop = asyncio.Event()
        console = Console(file=told, force_terminal=True, width=200)
        async with target() as (_, port), asyncio.TaskGroup() as group:
            group.create_task(
                serve([((HOST, 0), (HOST, port))], [parse_fault("latency=1ms")], control_port=None, seed=SEED, console=console, stop=stop)
            )
            while "0 open connections · latency 0 hits" not in told.getvalue():  # noqa: ASYNC110 - a terminal has no event to wait for
                await asyncio.sleep(0.01)
            stop.set()
        return told.getvalue()

    assert "control" not in play(job())


def test_serve_with_two_relays_where_one_port_is_taken_closes_the_other() -> None:
    async def job() -> None:
        async with target() as (_, port):
            await serve(
                [((HOST, 0), (HOST, port)), ((HOST, port), (HOST, port))],
                [],
                control_port=None,
                seed=SEED,
                console=Console(file=io.StringIO()),
            )

    with pytest.raises(UsageError, match="cannot listen"):
        play(job())


def test_serve_nothing_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="nothing to relay"):
        play(serve([], [], control_port=None, seed=SEED, console=Console(file=io.StringIO())))


def test_table_shows_connections_with_their_faults() -> None:
    async def job() -> str:
        async with relay("latency=1ms") as (proxy, _), clients(proxy, 40):
            console = Console(file=io.StringIO(), width=200)
            console.print(table([proxy]))
            assert isinstance(console.file, io.StringIO)
            return console.file.getvalue()

    shown = play(job())

    assert "40 open connections · latency 80 hits" in shown
    assert shown.count("latency") == 31  # 30 rows and the caption
    assert os.linesep in shown
