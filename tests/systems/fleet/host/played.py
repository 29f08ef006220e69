"""A host in a process of its own, and what its tests ask of it."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import psutil
from nats.aio.client import Client

from floodmark.core.nats_client import close_for_good, connect_for_good
from floodmark.core.parent import die_with_parent

START_LIMIT_S = 20.0
ANSWER_LIMIT_S = 15.0
LIMIT_S = 20.0
PAUSE_S = 0.02


class Host:
    """One host that runs, and a connection to its server."""

    def __init__(self, process: Process, url: str, client: Client) -> None:
        self.process = process
        self.url = url
        self.client = client

    async def ask(self, do: str, **what: Any) -> dict[str, Any]:
        """Say a word."""
        text = msgspec.json.encode({"do": do, **what})
        answer: dict[str, Any] = msgspec.json.decode((await self.client.request("fleet.control", text, timeout=ANSWER_LIMIT_S)).data)
        return answer

    async def do(self, word: str, **what: Any) -> dict[str, Any]:
        """Say a word that must be done."""
        answer = await self.ask(word, **what)
        assert answer["ok"], answer
        return answer

    async def workers(self) -> list[dict[str, Any]]:
        """All workers, with the names of their partitions."""
        found: list[dict[str, Any]] = (await self.do("status", names=True)).get("workers", [])
        return found

    async def worker(self, number: int) -> dict[str, Any]:
        """One of them."""
        return next(one for one in await self.workers() if one["number"] == number)

    async def settled(self, count: int, partitions: int) -> list[dict[str, Any]]:
        """Wait until so many workers are stable, one of them leads, and each partition has one owner; these workers."""

        async def look() -> list[dict[str, Any]] | None:
            running = [one for one in await self.workers() if one["state"] not in ("Shutdown", "Killed") and not one["paused"]]
            names = [name for one in running for name in one["names"]]
            versions = {(one["epoch"], one["version"]) for one in running}
            good = (
                len(running) == count
                and all(one["state"] in ("Stable", "Degraded") for one in running)
                and sum(one["leader"] for one in running) == 1
                and len(versions) == 1
                and len(names) == len(set(names)) == partitions
            )
            return running if good else None

        found: list[dict[str, Any]] = await until(look)
        return found

    async def make_record(self) -> None:
        """Have the server keep what the host says that it did."""
        await self.client.jetstream().add_stream(name="FM_RECORD", subjects=["done.*"])

    async def marks(self, word: str) -> list[dict[str, Any]]:
        """What the record has of a word."""
        stream = self.client.jetstream(timeout=1.0)  # a server that is down is asked again soon
        info = await stream.stream_info("FM_RECORD")
        found = []
        for number in range(1, info.state.messages + 1):
            message = await stream.get_msg("FM_RECORD", number)
            if message.subject == f"done.{word}":
                found.append(msgspec.json.decode(message.data or b""))
        return found


async def until(look: Callable[[], Awaitable[Any]], limit_s: float = LIMIT_S) -> Any:
    """Ask again until there is something; it."""
    async with asyncio.timeout(limit_s):
        while not (found := await look()):  # noqa: ASYNC110  # no event tells of it
            await asyncio.sleep(PAUSE_S)
    return found


async def gone(pids: list[int], limit_s: float = LIMIT_S) -> bool:
    """Whether these processes end in time."""

    async def look() -> bool:
        return not any(alive(pid) for pid in pids)

    try:
        return bool(await until(look, limit_s))
    except TimeoutError:
        return False


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@asynccontextmanager
async def hosted(*args: str, profile: str = "fast") -> AsyncIterator[Host]:
    """Start a host, and end it with SIGTERM when the block ends unless it has ended."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "floodmark.systems.fleet.host", "--profile", profile, *args),
        stdout=PIPE,
        start_new_session=True,
        preexec_fn=die_with_parent,  # a run of tests that is killed leaves no host
    )
    client = Client()
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_LIMIT_S):
            line = (await process.stdout.readline()).decode()
        assert line.startswith("floodmark fleet ready nats://"), line
        await connect_for_good(client, line.split()[-1], limit_s=START_LIMIT_S, error_cb=_silent, reconnect_time_wait=0.1)
        yield Host(process, line.split()[-1], client)
    finally:
        await close_for_good(client)
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(LIMIT_S):
            await process.wait()


async def _silent(_: Exception) -> None:
    return None
