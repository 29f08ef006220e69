"""One start of a target: its process, its output, the moment at which it is ready, its end. What lives longer is in target.py.

A process runs in a session of its own and carries a mark in its environment, so that ending it ends everything it started, and on Linux it
dies with the runner. Nothing here knows why it is started or ended.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import shlex
import shutil
import signal
import socket
import time
from contextlib import suppress
from urllib.parse import urlsplit

import msgspec

from floodmark.core.errors import SystemUnderTestError, UsageError
from floodmark.model.scenario import Target
from floodmark.runner.embedded import command_of
from floodmark.runner.leftovers import MARK, end_marked
from floodmark.runner.log import Log

TERMINATE_LIMIT_S = 8.0
PIPE_LIMIT_S = 2.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class TargetDiedError(SystemUnderTestError):
    """The target ended before it was ready, or half-way."""

    def __init__(self, name: str, code: int, when: str, log: tuple[str, ...]) -> None:
        super().__init__(name, code, when, log)
        self.name, self.code, self.when, self.log = name, code, when, log

    def __str__(self) -> str:
        how = f"was killed by {signal.Signals(-self.code).name}" if self.code < 0 else f"ended with exit code {self.code}"
        last = f"; its last words: {self.log[-1]}" if self.log else "; it printed nothing"
        return f"{self.name} {how} {self.when}{last}"


class StartTimeoutError(SystemUnderTestError):
    """The target did not come up."""

    def __init__(self, name: str, limit_s: float, wanted: str, log: tuple[str, ...]) -> None:
        super().__init__(name, limit_s, wanted, log)
        self.name, self.limit_s, self.wanted, self.log = name, limit_s, wanted, log

    def __str__(self) -> str:
        last = f"its last words: {self.log[-1]}" if self.log else "it printed nothing"
        return f"{self.name} was not ready within {self.limit_s:g} s ({self.wanted}); {last}; see its log or raise target.start_limit_s"


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How a target is started, and how it shows that it is ready: by a line that `pattern` matches, or else by taking connections at `url`.

    A recipe whose `url` is None takes the URL from the line.
    """

    name: str
    words: list[str]
    pattern: re.Pattern[str] | None
    url: str | None
    limit_s: float
    environment: dict[str, str] = {}


def recipe_of(target: Target) -> Recipe:
    """Read how a target is to be started. Raises: UsageError for a command that cannot be, before anything else is done."""
    if target.system is not None:
        words, ready = command_of(target)
        return Recipe(name=target.system, words=words, pattern=re.compile(ready), url=None, limit_s=target.start_limit_s)
    assert target.command is not None
    try:
        words = shlex.split(target.command)
    except ValueError as exc:
        raise UsageError(f"target {target.command!r} is not a command line: {exc}") from exc
    if not words or shutil.which(words[0]) is None:
        raise UsageError(f"target {target.command!r} cannot be started: there is no program {(words or [''])[0]!r}; give one that exists")
    try:
        pattern = re.compile(target.ready_pattern) if target.ready_pattern else None
    except re.error as exc:
        raise UsageError(f"target.ready_pattern {target.ready_pattern!r} is not a regular expression: {exc}") from exc
    return Recipe(name=target.command, words=words, pattern=pattern, url=target.url, limit_s=target.start_limit_s)


class Start:
    """A process that was started, ready or not. Make one with `Start.of`; whoever has one has to `end` it."""

    def __init__(self, recipe: Recipe, process: asyncio.subprocess.Process, log: Log, mark: str) -> None:
        self.process = process
        self._recipe = recipe
        self._log = log
        self._mark = mark
        self._ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._pump = asyncio.create_task(self._read())  # its parent is `end`: it ends with the process

    @classmethod
    async def of(cls, recipe: Recipe, log: Log, mark: str) -> Start:
        """Start the process. Raises: UsageError when the system refuses."""
        try:
            process = await asyncio.create_subprocess_exec(
                *recipe.words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=own_death,
                env=dict(os.environ, PYTHONUNBUFFERED="1", **recipe.environment, **{MARK: mark}),
            )
        except OSError as exc:
            raise UsageError(f"target {recipe.name!r} cannot be started: {exc.strerror or exc}; give a command that exists") from exc
        return cls(recipe, process, log, mark)

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self.process.returncode is not None

    def death(self, when: str) -> TargetDiedError:
        """The error that tells of its end."""
        code = self.process.returncode
        assert code is not None
        return TargetDiedError(self._recipe.name, code, when, self._log.last_lines())

    async def ready(self) -> str:
        """Wait until it is; returns its URL. Raises: SystemUnderTestError when it ends before, or takes too long."""
        recipe = self._recipe
        wanted = "waiting for its ready line" if recipe.pattern else f"waiting for {recipe.url} to accept a connection"
        until_s = time.monotonic() + recipe.limit_s
        while time.monotonic() < until_s:
            if self.ended:
                await asyncio.sleep(0.05)  # let the pump read its last words
                raise self.death("before it was ready")
            if recipe.pattern is not None:
                done, _ = await asyncio.wait([self._ready], timeout=0.05)
                if done:
                    url = self._ready.result() or recipe.url
                    if not url:
                        raise UsageError("target.ready_pattern has no group for the URL and target.url is not given; add one of them")
                    return url
            elif recipe.url is not None and await accepts(recipe.url):
                return recipe.url
            else:
                await asyncio.sleep(0.05)
        raise StartTimeoutError(recipe.name, recipe.limit_s, wanted, self._log.last_lines())

    async def _read(self) -> None:
        stream, pattern = self.process.stdout, self._recipe.pattern
        assert stream is not None
        while chunk := await stream.read(65536):
            for line in self._log.write(chunk):
                if pattern is not None and not self._ready.done() and (match := pattern.search(line)) is not None:
                    self._ready.set_result(match.group(1) if pattern.groups else "")

    async def end(self) -> None:
        """Ask it to end, then make it; then end whatever it has started and left behind. Also when cancelled."""
        try:
            await self._end()
            with suppress(TimeoutError):
                async with asyncio.timeout(PIPE_LIMIT_S):  # whoever wiped the mark away may hold the pipe open
                    await self._pump
        finally:
            self.let_go()

    def let_go(self) -> None:
        """Read its output no longer."""
        self._pump.cancel()

    async def _end(self) -> None:
        process = self.process
        try:
            if not self.ended:
                with suppress(ProcessLookupError):
                    process.terminate()
                with suppress(TimeoutError):
                    async with asyncio.timeout(TERMINATE_LIMIT_S):
                        await process.wait()
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # its group is ours, since we started it in a session of its own
            end_marked(self._mark)
        await process.wait()


def own_death() -> None:
    """In the child, before exec: die when the runner dies. (The child of an interactive Ctrl-C is safe: it has its own session.)"""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


async def accepts(url: str) -> bool:
    """Tell if somebody takes connections there now."""
    parts = urlsplit(url)
    port = parts.port or {"wss": 443, "https": 443}.get(parts.scheme, 80)
    try:
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except (OSError, TimeoutError, socket.gaierror):
        return False
    writer.close()
    return True
