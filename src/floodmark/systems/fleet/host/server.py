"""The NATS server of a host: a child of its own, one outside of its process tree, or somebody else's.

A server apart is kept by a small process (`keeper.py`) that is nobody's child and ends with the pipe to us: it goes even if we are killed.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from floodmark.core.errors import FloodmarkError, UsageError
from floodmark.core.nats_server import EmbeddedNats

KEEPER_LIMIT_S = 15.0


class Server(Protocol):
    """A server that can be hurt."""

    url: str

    def check(self) -> None:
        """Raises: UsageError when it is not ours to hurt."""
        ...

    async def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        ...

    async def start_again(self) -> None:
        """Start it on the same port with the same store; one that still runs is ended gently first."""
        ...


class OwnServer(EmbeddedNats):
    """A child of this process."""

    def check(self) -> None:
        """It is ours."""

    async def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def start_again(self) -> None:
        """Start it again."""
        assert self.process is not None
        assert self._directory is not None
        if self.process.returncode is None:
            self.process.terminate()
            await self.process.wait()
        await self._start(Path(self._directory.name))


class GivenServer:
    """Somebody else's: we do not touch it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def check(self) -> None:
        """Refuse."""
        raise UsageError("the NATS server is not ours to end; leave out --nats to have one of our own")

    async def kill(self) -> None:
        """Refuse."""
        self.check()

    async def start_again(self) -> None:
        """Refuse."""
        self.check()


class ApartServer:
    """One that a keeper holds; `async with`. Args: sync: when it syncs what it stores to disk."""

    def __init__(self, sync: str) -> None:
        self.url = ""
        self._sync = sync
        self._reader = asyncio.StreamReader()
        self._reading: asyncio.ReadTransport | None = None
        self._writing: asyncio.WriteTransport | None = None

    async def __aenter__(self) -> ApartServer:
        loop = asyncio.get_running_loop()
        its_words, our_words = os.pipe()
        our_answers, its_answers = os.pipe()
        self._writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(our_words, "wb", 0))
        self._reading, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(self._reader), os.fdopen(our_answers, "rb", 0))
        command = (sys.executable, "-m", "floodmark.systems.fleet.host.keeper", self._sync)
        try:
            # It ends at once: the keeper it leaves has no parent of ours, so no one who sums up our tree counts its memory.
            process = subprocess.Popen(command, stdin=its_words, stdout=its_answers, start_new_session=True)  # noqa: ASYNC220  a few ms
        finally:
            os.close(its_words)
            os.close(its_answers)
        try:
            self.url = await self._told()
        except BaseException:
            await self.__aexit__()
            raise
        finally:
            process.wait()
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._writing is not None
        assert self._reading is not None
        self._writing.close()  # the keeper ends the server, then itself
        try:
            async with asyncio.timeout(KEEPER_LIMIT_S):
                await self._reader.read()
        finally:
            self._reading.close()

    def check(self) -> None:
        """It is ours."""

    async def kill(self) -> None:
        """SIGKILL."""
        await self._ask("kill")

    async def start_again(self) -> None:
        """Start it again."""
        await self._ask("start-again")

    async def _ask(self, word: str) -> None:
        assert self._writing is not None
        self._writing.write(word.encode() + b"\n")
        await self._told()

    async def _told(self) -> str:
        try:
            async with asyncio.timeout(KEEPER_LIMIT_S):
                line = (await self._reader.readline()).decode().strip()
        except TimeoutError:
            raise FloodmarkError(f"the keeper of the NATS server did not answer within {KEEPER_LIMIT_S:g} s") from None
        word, _, rest = line.partition(" ")
        if word != "ok":
            raise FloodmarkError(rest or "the keeper of the NATS server has ended")
        return rest


@asynccontextmanager
async def serving(nats: str, *, apart: bool, sync: str) -> AsyncIterator[Server]:
    """The server that was asked for, for as long as the block runs."""
    if nats:
        yield GivenServer(nats)
    elif apart:
        async with ApartServer(sync) as server:
            yield server
    else:
        async with OwnServer(sync_interval=sync) as own:
            yield own
