"""A network between the pipeline and its rows: a page server (`pages.py`) and a fault proxy in front of it, each a process of its own.

The proxy is the tool's own command, started as a user would; its faults are those that the client names in `network`, such as
`limit=60KB,direction=downstream`: each connection ends in the midst of an answer after so many bytes. What it has done to connections is
asked of it at the end, so that a run in which nothing was cut is known to have shown nothing.

Limits: one network for all channels, with the faults that the first of them named.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import secrets
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import msgspec
import polars as pl

from floodmark.core.errors import FloodmarkError, UsageError
from floodmark.systems.pipeline.host import pages
from floodmark.systems.pipeline.host.rows import TABLE
from floodmark.systems.pipeline.query import Query
from floodmark.systems.pipeline.source.base import Cursor, Pager
from floodmark.systems.pipeline.source.http import HttpSource

START_LIMIT_S = 20.0
END_LIMIT_S = 5.0
ASK_LIMIT_S = 5.0
PAGE_LIMIT_S = 5.0
FAULT = re.compile(r"[a-z_]+(=[\w.%/,=]+)?")  # leaves no room for another relay or an option of the command
CONTROL = re.compile(r"control (http://\S+)")
RELAY = re.compile(r"127\.0\.0\.1:(\d+) -> ")
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class NetworkError(FloodmarkError):
    """The page server or the proxy did not start."""


class _Fault(msgspec.Struct, frozen=True):
    kind: str
    hits: int


def checked_faults(text: str) -> tuple[str, ...]:
    """Read the option `network`: faults of the proxy, one blank between them. Raises: UsageError.

    >>> checked_faults("limit=60KB,direction=downstream reset=100ms,share=50%")
    ('limit=60KB,direction=downstream', 'reset=100ms,share=50%')
    """
    words = tuple(text.split())
    for word in words:
        if not FAULT.fullmatch(word):
            raise UsageError(f"{word!r} is no fault of the proxy; write for example limit=60KB,direction=downstream")
    return words


class Network:
    """The two processes."""

    def __init__(self, folder: Path, faults: tuple[str, ...]) -> None:
        self._folder = folder
        self._faults = faults
        self._processes: list[Process] = []
        self._control = ""
        self._port = 0

    async def start(self) -> None:
        """Start both. Raises: NetworkError, in the proxy's own words where it has some."""
        server = await self._started("-I", pages.__file__, str(self._folder), TABLE, stdin=PIPE, stderr=DEVNULL)
        assert server.stdout is not None
        port = (await self._line(server.stdout)).strip()
        if not port.isdecimal():
            raise NetworkError("the page server did not start")
        words = ("proxy", f"127.0.0.1:0=127.0.0.1:{port}", *self._faults, "--control-port", "0")
        proxy = await self._started("-m", "floodmark", *words, stdin=DEVNULL, stderr=PIPE)
        assert proxy.stderr is not None
        told = ""
        while not self._control:
            line = await self._line(proxy.stderr)
            if not line:
                raise NetworkError(f"the fault proxy did not start: {' '.join(told.split()) or 'it said nothing'}")
            told += line
            if match := RELAY.search(line):
                self._port = int(match[1])
            if match := CONTROL.search(line):
                self._control = match[1]

    def source(self, name: str) -> PagesSource:
        """The rows of a table in the folder, by way of the proxy."""
        return PagesSource(f"http://127.0.0.1:{self._port}/{name}")

    async def figures(self) -> dict[str, float]:
        """How often each fault of the proxy was felt, as `network_KIND_hits`; nothing where it does not answer."""
        if not self._control:
            return {}
        try:
            found = msgspec.json.decode(await asyncio.to_thread(self._asked, "/faults"), type=list[_Fault])
        except (OSError, msgspec.MsgspecError):
            return {}
        hits: dict[str, float] = {}
        for fault in found:
            name = f"network_{fault.kind}_hits"
            hits[name] = hits.get(name, 0.0) + fault.hits
        return hits

    async def close(self) -> None:
        """End both, gently if they let us."""
        for process in reversed(self._processes):
            with suppress(ProcessLookupError):
                process.terminate()
        for process in self._processes:
            try:
                async with asyncio.timeout(END_LIMIT_S):
                    await process.wait()
            except TimeoutError:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        self._processes.clear()

    def _asked(self, path: str) -> bytes:
        with urlopen(self._control + path, timeout=ASK_LIMIT_S) as answer:
            body: bytes = answer.read()
        return body

    async def _started(self, *words: str, stdin: int, stderr: int) -> Process:
        environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, stdin=stdin, stdout=PIPE, stderr=stderr, env=environment, preexec_fn=_end_with_parent
        )
        self._processes.append(process)
        return process

    async def _line(self, stream: asyncio.StreamReader) -> str:
        try:
            async with asyncio.timeout(START_LIMIT_S):
                return (await stream.readline()).decode(errors="replace")
        except TimeoutError:
            raise NetworkError(f"the network was not up within {START_LIMIT_S:g} s") from None


class PagesSource:
    """The rows of one table over HTTP, their payloads as bytes again."""

    def __init__(self, url: str) -> None:
        self._inner = HttpSource(url, paging="offset", limit_s=PAGE_LIMIT_S)

    @property
    def name(self) -> str:
        """The inner one's."""
        return self._inner.name

    async def open(self, query: Query, *, pager: Pager = "keyset") -> Cursor:
        """Open the inner one."""
        return _PagesCursor(await self._inner.open(query, pager=pager))

    async def close(self) -> None:
        """Close the inner one."""
        await self._inner.close()


class _PagesCursor:
    """The inner one, its payloads decoded."""

    def __init__(self, inner: Cursor) -> None:
        self._inner = inner

    @property
    def position(self) -> Hashable:
        return self._inner.position

    @property
    def total(self) -> int | None:
        return self._inner.total

    @property
    def exhausted(self) -> bool:
        return self._inner.exhausted

    async def fetch(self, count: int) -> pl.DataFrame:
        rows = await self._inner.fetch(count)
        return rows.with_columns(pl.col("payload").str.decode("base64")) if len(rows) else rows

    def seek(self, position: Hashable) -> None:
        self._inner.seek(position)

    async def close(self) -> None:
        await self._inner.close()


def table_name() -> str:
    """A name for a table's file: a client names the channel, but no files."""
    return secrets.token_hex(8)


def _end_with_parent() -> None:
    """In the child, before it is anything: it dies when the host does, however that dies."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
