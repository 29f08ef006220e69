"""A network between the workers and NATS: one fault proxy with a relay for each process of workers, so that one can be cut off.

The proxy is the tool's own command, started as a user would. A relay goes to a process when that starts and is free when it has ended.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from functools import partial
from typing import Any, Self
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import msgspec

from floodmark.core.errors import FloodmarkError, UsageError
from floodmark.core.parent import die_with_parent

RELAYS_COUNT = 64
START_LIMIT_S = 20.0
END_LIMIT_S = 5.0
ASK_LIMIT_S = 5.0
_CONTROL = re.compile(r"control (http://\S+)")
_RELAY = re.compile(r"127\.0\.0\.1:(\d+) -> ")


class NetworkError(FloodmarkError):
    """The proxy did not start, or does not answer."""


class Network:
    """The proxy; `async with`."""

    def __init__(self, url: str) -> None:
        split = urlsplit(url)
        self._upstream = f"{split.hostname}:{split.port or 4222}"
        self._process: Process | None = None
        self._control = ""
        self._ports: list[int] = []
        self._free: set[int] = set()
        self._cuts: dict[int, str] = {}  # relay to the id of the fault on it

    async def __aenter__(self) -> Self:
        relays = [f"127.0.0.1:0={self._upstream}"] * RELAYS_COUNT
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "floodmark", "proxy", *relays, "--control-port", "0"),
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
            preexec_fn=partial(die_with_parent, signal.SIGKILL),
            start_new_session=True,
        )
        assert self._process.stderr is not None
        told = ""
        try:
            async with asyncio.timeout(START_LIMIT_S):
                while not self._control:
                    line = (await self._process.stderr.readline()).decode(errors="replace")
                    if not line:
                        raise NetworkError(f"the fault proxy did not start: {' '.join(told.split()) or 'it said nothing'}")
                    told += line
                    if match := _RELAY.search(line):
                        self._ports.append(int(match[1]))
                    if match := _CONTROL.search(line):
                        self._control = match[1]
        except TimeoutError:
            await self.__aexit__()
            raise NetworkError(f"the fault proxy was not up within {START_LIMIT_S:g} s") from None
        except BaseException:
            await self.__aexit__()
            raise
        self._free = set(range(len(self._ports)))
        return self

    async def __aexit__(self, *exc: object) -> None:
        process = self._process
        assert process is not None
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
        try:
            async with asyncio.timeout(END_LIMIT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def take(self) -> tuple[int, str]:
        """A relay and the URL of NATS through it. Raises: UsageError when none is left."""
        if not self._free:
            raise UsageError(f"the network has {RELAYS_COUNT} relays and each has a process of workers; raise --per-process")
        relay = min(self._free)
        self._free.remove(relay)
        return relay, f"nats://127.0.0.1:{self._ports[relay]}"

    async def give_back(self, relay: int) -> None:
        """Free the relay of a process that has ended; one that stays cut is given to nobody, who would be blamed for its silence."""
        with suppress(NetworkError):
            await self.heal(relay)
            self._free.add(relay)

    async def cut(self, relay: int) -> None:
        """Let nothing pass, and lose nothing. Raises: NetworkError."""
        if relay not in self._cuts:
            [fault] = await self._ask("POST", "/faults", {"kind": "partition", "proxy": relay})
            self._cuts[relay] = fault["id"]

    def is_cut(self, relay: int) -> bool:
        """Whether nothing passes now."""
        return relay in self._cuts

    async def heal(self, relay: int) -> None:
        """Let everything pass, what was held first. Raises: NetworkError; it is cut as before then."""
        fault = self._cuts.pop(relay, None)
        if fault is None:
            return
        try:
            await self._ask("DELETE", f"/faults/{fault}", None)
        except NetworkError:
            self._cuts.setdefault(relay, fault)
            raise

    async def _ask(self, method: str, path: str, body: Any) -> Any:
        content = msgspec.json.encode(body) if body is not None else None
        request = Request(self._control + path, data=content, method=method)

        def asked() -> bytes:
            with urlopen(request, timeout=ASK_LIMIT_S) as answer:
                told: bytes = answer.read()
            return told

        try:
            return msgspec.json.decode(await asyncio.to_thread(asked))
        except (OSError, msgspec.MsgspecError) as exc:
            raise NetworkError(f"the fault proxy did not do {method} {path}: {exc}") from exc
