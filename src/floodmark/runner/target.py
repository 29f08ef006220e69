"""The process under test: started by name or by command line, watched, ended; or a URL, where nothing is started.

The target runs in a session of its own and carries a mark in its environment, so that ending it ends everything it started, and on Linux
it dies with the runner. Its output goes to the run folder with a bound: the first and the last mebibyte are kept, whatever it prints.
Limit: when the runner itself is killed, the target goes with it, but what the target started is the target's to end.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from floodmark.core.errors import SystemUnderTestError, UsageError
from floodmark.model.scenario import Target
from floodmark.runner.embedded import command_of
from floodmark.runner.leftovers import MARK, end_marked

LOG_HEAD_BYTES = 1 << 20
LOG_TAIL_BYTES = 1 << 20
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


class Log:
    """A target's output, bounded: the head goes to the file at once, the tail is kept in memory and added at the end.

    What the disk does not take is dropped and counted: the target must never stand still because its output is not read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as exc:
            raise UsageError(f"cannot write {path}: {exc.strerror or exc}; choose another place with --out") from exc
        self._head_bytes = 0
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self.dropped_bytes = 0
        self._lines: deque[str] = deque(maxlen=20)
        self._rest = b""

    def write(self, chunk: bytes) -> list[str]:
        """Take some output; returns the complete lines in it."""
        if self._head_bytes < LOG_HEAD_BYTES:
            self._put(chunk)
            self._head_bytes += len(chunk)
        else:
            self._tail.append(chunk)
            self._tail_bytes += len(chunk)
            while self._tail_bytes > LOG_TAIL_BYTES and len(self._tail) > 1:
                gone = self._tail.popleft()
                self._tail_bytes -= len(gone)
                self.dropped_bytes += len(gone)
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest[-4096:]
        texts = [line[:2000].decode("utf-8", "replace").rstrip() for line in lines]
        self._lines.extend(text for text in texts if text)
        return texts

    def last_lines(self) -> tuple[str, ...]:
        """The last lines printed, oldest first; an unfinished one counts."""
        rest = self._rest[:2000].decode("utf-8", "replace").strip()
        return (*self._lines, *([rest] if rest else []))

    def close(self) -> None:
        """Add the tail and close the file."""
        if self.dropped_bytes:
            self._put(b"\n[floodmark: %d bytes left out here]\n" % self.dropped_bytes)
        for chunk in self._tail:
            self._put(chunk)
        self._file.close()

    def _put(self, chunk: bytes) -> None:
        try:
            self._file.write(chunk)
        except OSError:
            self.dropped_bytes += len(chunk)


class RunningTarget:
    """A target that is up. `pid` is None when floodmark did not start it; `died` is set when it ends by itself."""

    def __init__(self, name: str, url: str, process: asyncio.subprocess.Process | None, log: Log | None) -> None:
        self.name = name
        self.url = url
        self._process = process
        self._log = log
        self.ending = False
        self.died = asyncio.Event()
        self.died_ns = 0

    @property
    def pid(self) -> int | None:
        """The root process id."""
        return None if self._process is None else self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code once it has ended by itself."""
        return None if self._process is None else self._process.returncode

    def log_tail(self) -> tuple[str, ...]:
        """Its last lines."""
        return () if self._log is None else self._log.last_lines()

    def death(self, when: str) -> TargetDiedError | None:
        """The error to raise when it has ended by itself."""
        if self._process is None or self._process.returncode is None or self.ending:
            return None
        return TargetDiedError(self.name, self._process.returncode, when, self.log_tail())

    async def note_death(self) -> None:
        """Watch it; to be run beside the scenario."""
        if self._process is not None:
            await self._process.wait()
            if not self.ending:
                self.died_ns = time.monotonic_ns()
                self.died.set()


def _own_death() -> None:
    """In the child, before exec: die when the runner dies. (The child of an interactive Ctrl-C is safe: it has its own session.)"""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def require_startable(target: Target) -> None:
    """Refuse a command that cannot be started before anything else is. Raises: UsageError."""
    if target.command is None:
        if target.system is not None:
            command_of(target)
        return
    words = _words(target.command)
    if not words or shutil.which(words[0]) is None:
        raise UsageError(f"target {target.command!r} cannot be started: there is no program {(words or [''])[0]!r}; give one that exists")


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as exc:
        raise UsageError(f"target {command!r} is not a command line: {exc}") from exc


@asynccontextmanager
async def running(target: Target, log_path: Path) -> AsyncIterator[RunningTarget]:
    """Start a target and wait until it is ready; end it and everything it started on leaving, whatever happened.

    Raises: UsageError for a command that cannot be started; SystemUnderTestError when it dies or is not ready in time.
    """
    if target.system is None and target.command is None:
        assert target.url is not None
        yield RunningTarget(target.url, target.url, None, None)
        return
    pattern: re.Pattern[str] | None
    if target.system is not None:
        command, ready_text = command_of(target)
        name, pattern = target.system, re.compile(ready_text)
    else:
        assert target.command is not None
        command, name = _words(target.command), target.command
        pattern = _compiled(target.ready_pattern) if target.ready_pattern else None
        if pattern is None and target.url is not None and await _accepts(target.url):
            raise UsageError(f"{target.url} takes connections before {name!r} was started; end what listens there or use another port")
    log = Log(log_path)
    mark = secrets.token_hex(8)
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_own_death,
            env=dict(os.environ, PYTHONUNBUFFERED="1", **{MARK: mark}),
        )
    except OSError as exc:
        log.close()
        raise UsageError(f"target {name!r} cannot be started: {exc.strerror or exc}; give a command that exists") from exc
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    pump = asyncio.create_task(_pump(process, log, pattern, ready))  # its parent is the finally below: it ends with the process
    try:
        url = await _wait_ready(target, name, process, log, ready)
        up = RunningTarget(name, url, process, log)
        watch = asyncio.create_task(up.note_death())
        try:
            yield up
        finally:
            up.ending = process.returncode is None
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
    finally:
        try:
            await _end(process, mark)
            with suppress(TimeoutError):
                async with asyncio.timeout(PIPE_LIMIT_S):  # whoever wiped the mark away may hold the pipe open
                    await pump
        finally:
            pump.cancel()
            log.close()


def _compiled(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as exc:
        raise UsageError(f"target.ready_pattern {text!r} is not a regular expression: {exc}") from exc


async def _pump(process: asyncio.subprocess.Process, log: Log, pattern: re.Pattern[str] | None, ready: asyncio.Future[str]) -> None:
    stream = process.stdout
    assert stream is not None
    while chunk := await stream.read(65536):
        for line in log.write(chunk):
            if pattern is not None and not ready.done() and (match := pattern.search(line)) is not None:
                ready.set_result(match.group(1) if pattern.groups else "")


async def _wait_ready(target: Target, name: str, process: asyncio.subprocess.Process, log: Log, ready: asyncio.Future[str]) -> str:
    by_line = target.system is not None or target.ready_pattern is not None
    wanted = "waiting for its ready line" if by_line else f"waiting for {target.url} to accept a connection"
    deadline = time.monotonic() + target.start_limit_s
    while time.monotonic() < deadline:
        if process.returncode is not None:
            await asyncio.sleep(0.05)  # let the pump read its last words
            raise TargetDiedError(name, process.returncode, "before it was ready", log.last_lines())
        if by_line:
            done, _ = await asyncio.wait([ready], timeout=0.05)
            if done:
                url = ready.result() or target.url
                if not url:
                    raise UsageError("target.ready_pattern has no group for the URL and target.url is not given; add one of them")
                return url
        elif target.url is not None and await _accepts(target.url):
            return target.url
        else:
            await asyncio.sleep(0.05)
    raise StartTimeoutError(name, target.start_limit_s, wanted, log.last_lines())


async def _accepts(url: str) -> bool:
    parts = urlsplit(url)
    port = parts.port or {"wss": 443, "https": 443}.get(parts.scheme, 80)
    try:
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except (OSError, TimeoutError, socket.gaierror):
        return False
    writer.close()
    return True


async def _end(process: asyncio.subprocess.Process, mark: str) -> None:
    """Ask the target to end, then make it; then end whatever it has started and left behind. Also when cancelled."""
    try:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(TERMINATE_LIMIT_S):
                    await process.wait()
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # its group is ours, since we started it in a session of its own
        end_marked(mark)
    await process.wait()
