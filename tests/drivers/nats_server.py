"""A real nats-server for a module of tests, and the drivers' connections to it."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from floodmark.drivers import build
from floodmark.drivers.base import Connection, Driver, Options, Wanted
from tests.drivers.harness import Recorder

_runs = itertools.count(1)


@contextmanager
def serving(*words: str) -> Iterator[str]:
    """Start the embedded server with these options; gives its URL."""
    process = subprocess.Popen([sys.executable, "-m", "floodmark.core.nats_command", *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("floodmark nats ready "), line
        yield line.split()[-1]
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def a_run() -> list[str]:
    """Channels that no other test has, as a run names them."""
    run = next(_runs)
    return [f"fm{run:x}.{number}" for number in range(4)]


def want(slot: int, channel: str, after: int | None = None) -> Wanted:
    return Wanted(slot=slot, channel=channel, after=after)


class OneByOne(Recorder):
    """Wants to see every single frame, as whoever resumes does."""

    @property
    def takes_blocks(self) -> bool:
        return False


@asynccontextmanager
async def joined(driver: Driver, url: str, channel: str, recorder: Recorder) -> AsyncIterator[Connection]:
    """One connection, closed at the end."""
    connection = await driver.connect(url, channel, recorder, limit_s=15.0)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def pair(name: str, url: str, channel: str, options: Options | None = None) -> AsyncIterator[tuple[Connection, Connection, Recorder]]:
    """A connection that subscribes, one that publishes, and what both tell."""
    driver, recorder = build(name, options or {}), Recorder()
    async with joined(driver, url, channel, recorder) as reader, joined(driver, url, channel, recorder) as writer:
        yield reader, writer, recorder
