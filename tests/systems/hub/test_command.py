"""The command as a user runs it: the ready line, exit codes, the drain, and what a liar says at the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest

from floodmark.systems.hub.testing import PUBLISH, connected, eventually, scenario


@asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command, ended at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "floodmark.systems.hub", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "400"},
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ready(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(15):
        line = (await process.stdout.readline()).decode()
    assert line.startswith("floodmark hub ready ws://127.0.0.1:")
    assert line.endswith("/graphql\n")
    return line.split()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@scenario
async def test_signal_drains_and_exits_0_with_one_line_on_stdout(number: signal.Signals) -> None:
    async with started("--no-rate-limits") as process:
        url = await ready(process)
        async with connected(url) as client:
            await client.subscribe("1", "x")
            process.send_signal(number)

            assert await client.recv() == {"id": "1", "type": "complete"}
            assert await client.closed() == 1001
        out, errors = await process.communicate()

        assert process.returncode == 0
        assert (out, errors) == (b"", b"")


@scenario
async def test_occupied_port_is_one_sentence_and_exit_2() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for workers in ("1", "2"):
            async with started("--port", str(port), "--workers", workers) as process:
                out, errors = await process.communicate()

            assert process.returncode == 2
            assert out == b""
            assert errors.decode().startswith(f"the hub cannot listen on 127.0.0.1:{port} (")
            assert errors.count(b"\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--lie", "drop=5"), "a lie is NAME=K/N"),
        (("--preset", "fast"), "no preset 'fast'"),
        (("--queue", "0"), "queue_events must be at least 1"),
        (("--bus", "kafka"), "there is no bus 'kafka'"),
        (("--lie", "drop=1/5", "--workers", "2"), "--workers 1"),
    ],
)
@scenario
async def test_wrong_arguments_are_one_sentence_and_exit_2(arguments: tuple[str, ...], message: str) -> None:
    async with started(*arguments) as process:
        _, errors = await process.communicate()

        assert process.returncode == 2
        assert message in errors.decode()
        assert b"Traceback" not in errors


@scenario
async def test_liar_says_what_it_did_when_it_stops() -> None:
    async with started("--no-rate-limits", "--lie", "drop=3@10", "--lie", "duplicate=1/100", "--seed", "5") as process:
        url = await ready(process)
        async with connected(url) as client:
            await client.subscribe("s", "x")
            for number in range(20):
                client.start(f"p{number}", PUBLISH, c="x", d=number)
            messages = [await client.recv() for _ in range(40 + 17)]
        process.terminate()
        _, errors = await process.communicate()

        assert sum(1 for message in messages if message["id"] == "s") >= 17
        planted = json.loads(errors)["lies"]
        assert planted["drop"] == {"planted": 3, "owed": 0}
        assert planted["duplicate"]["planted"] in (0, 1)


@scenario
async def test_die_with_parent_ends_the_hub_when_its_parent_is_killed() -> None:
    code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-m', 'floodmark.systems.hub', '--die-with-parent'], stdout=subprocess.PIPE)\n"
        "p.stdout.readline(); print(p.pid, flush=True); time.sleep(60)\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    parent.kill()
    await parent.communicate()

    await eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 10)
