"""`floodmark serve tokens` as a user runs it: the ready line, signals and exit codes, wrong arguments."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from tests.systems.conductor.serving import ask, documents, scenario, text_in

COMMANDS = (("-m", "floodmark.systems.conductor.tokens"), ("-m", "floodmark", "serve", "tokens"))


@asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command, ended at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
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
    line = (await process.stdout.readline()).decode()
    assert line.startswith("floodmark tokens ready http://127.0.0.1:")
    return line.split()[-1]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
@scenario
async def test_signal_ends_it_at_once_in_mid_stream(command: tuple[str, ...], number: signal.Signals, code: int) -> None:
    async with started(*command) as process, aiohttp.ClientSession() as session:
        url = await ready(process)
        body = {"messages": [{"role": "user", "content": "numbered: count=1000000 rate=1000"}], "stream": True}
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            await response.content.readany()
            sent_s = time.monotonic()
            process.send_signal(number)
            out, errors = await process.communicate()

        assert time.monotonic() - sent_s < 20  # its answer would take 1000 s
        assert process.returncode == code
        assert (out, errors) == (b"", b"")


@scenario
async def test_options_reach_the_server() -> None:
    async with (
        started(*COMMANDS[1], "--per-chunk", "5", "--rate", "0", "--lie", "truncate=1") as process,
        aiohttp.ClientSession() as session,
    ):
        url = await ready(process)
        found = documents(await ask(session, url, "numbered: count=100 size=5"))

        assert len(text_in(found)) == 50 * 5
        assert len(found) == 1 + 10 + 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--lie", "drop"), "'drop' is not a lie"),
        (("--per-chunk", "0"), "--per-chunk 0 is not between"),
        (("--rate", "-1"), "--rate -1.0 is"),
    ],
)
@scenario
async def test_wrong_arguments_are_one_sentence_and_exit_2(arguments: tuple[str, ...], message: str) -> None:
    async with started(*COMMANDS[0], *arguments) as process:
        _, errors = await process.communicate()

        assert process.returncode == 2
        assert errors.decode().startswith(message)
        assert errors.count(b"\n") == 1


@scenario
async def test_occupied_port_is_one_sentence_and_exit_2() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with started(*COMMANDS[0], "--port", str(port)) as process:
            _, errors = await process.communicate()

        assert process.returncode == 2
        assert errors.decode().startswith(f"the token server cannot listen on 127.0.0.1:{port}: ")
