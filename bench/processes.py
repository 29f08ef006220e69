"""Child processes of a benchmark: started, spoken to in lines of JSON, watched from outside, and always ended.

Contract: `Child` is a context manager; on exit the whole process tree is gone, politely if it will, else killed, and waited for.
CPU and memory are read from /proc for the tree, so they hold for a tool in any language. Resolution of CPU time: one clock tick (10 ms),
so a measured stretch should cost a second.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

POLL_S = 0.005
END_LIMIT_S = 5.0
LOG_TAIL_BYTES = 600


class BenchError(Exception):
    """A figure cannot be had: the tool failed, was too slow, or its account does not add up. Told in the table, in place of the figure."""


class Child:
    """One child process with its own process group. Its output: stdout in lines of JSON, stderr into an unnamed file for error messages."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None, what: str = "") -> None:
        self._command = list(command)
        self._env = os.environ | dict(env or {})
        self._cwd = cwd
        self.what = what or Path(command[0]).name
        self._unread = b""

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=self._env,
            cwd=self._cwd,
            start_new_session=True,  # so that the whole tree can be ended by its group
        )
        self._tree = psutil.Process(self._process.pid)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        process = self._process
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        try:
            process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what is left of the tree, or of a leader that did not listen
            process.wait()
            self._log.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    # -- speaking to it ----------------------------------------------------------------------------------------------------------------

    def tell(self, message: bytes) -> None:
        """Write to its standard input."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(message)
            self._process.stdin.flush()
        except BrokenPipeError as exc:
            raise BenchError(f"{self.what} is gone: {self._last_words()}") from exc

    def read(self, size_bytes: int, *, limit_s: float) -> bytes:
        """Read exactly so much of its standard output."""
        until_s = time.monotonic() + limit_s
        while len(self._unread) < size_bytes:
            self._fill(until_s, limit_s)
        data, self._unread = self._unread[:size_bytes], self._unread[size_bytes:]
        return data

    def read_line(self, *, limit_s: float) -> bytes:
        """Read up to the next line end of its standard output."""
        until_s = time.monotonic() + limit_s
        while b"\n" not in self._unread:
            self._fill(until_s, limit_s)
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def read_json(self, *, limit_s: float) -> dict[str, Any]:
        """Read the next line of JSON; other lines (a tool's chatter) are skipped."""
        until_s = time.monotonic() + limit_s
        while True:
            line = self.read_line(limit_s=max(0.0, until_s - time.monotonic()))
            if line.startswith(b"{"):
                message: dict[str, Any] = json.loads(line)
                return message

    def _fill(self, until_s: float, limit_s: float) -> None:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, until_s - time.monotonic()))
        if not ready:
            raise BenchError(f"{self.what} said nothing for {limit_s:.0f} s: {self._last_words()}")
        data = os.read(self._process.stdout.fileno(), 1 << 16)
        if not data:
            raise BenchError(f"{self.what} ended by itself: {self._last_words()}")
        self._unread += data

    def _last_words(self) -> str:
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - LOG_TAIL_BYTES))
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip() if lines else "it left no message"  # of a traceback the line that says what, not where

    # -- watching it -------------------------------------------------------------------------------------------------------------------

    def cpu_s(self) -> float:
        """CPU seconds spent so far by the process and its living descendants, and by those it waited for."""
        total_s = 0.0
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total_s += times.user + times.system + times.children_user + times.children_system
        return total_s

    def rss_bytes(self) -> int:
        """Resident memory of the process and its living descendants."""
        total_bytes = 0
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                total_bytes += process.memory_info().rss
        return total_bytes

    def _processes(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return [self._tree, *self._tree.children(recursive=True)]
        return []

    def wait_for(self, done: Callable[[], bool], *, limit_s: float, what: str) -> None:
        """Wait until something holds; BenchError with `what` after the limit, or when the process ends first."""
        until_s = time.monotonic() + limit_s
        while not done():
            if self._process.poll() is not None and not done():
                raise BenchError(f"{self.what} ended by itself before {what}: {self._last_words()}")
            if time.monotonic() > until_s:
                raise BenchError(f"{self.what}: not {what} within {limit_s:.0f} s: {self._last_words()}")
            time.sleep(POLL_S)

    def wait_until_idle(self, *, quiet_s: float = 0.3, limit_s: float = 30.0) -> None:
        """Wait until it spends less than a tenth of a core, so that its start-up is not counted."""
        last_s, last_at_s = self.cpu_s(), time.monotonic()

        def is_idle() -> bool:
            nonlocal last_s, last_at_s
            now_s = time.monotonic()
            if now_s - last_at_s < quiet_s:
                return False
            spent_s, elapsed_s = self.cpu_s() - last_s, now_s - last_at_s
            last_s, last_at_s = last_s + spent_s, now_s
            return spent_s < 0.1 * elapsed_s

        self.wait_for(is_idle, limit_s=limit_s, what="idle")

    def settled_rss_bytes(self, *, quiet_s: float = 0.5, limit_s: float = 30.0) -> int:
        """Wait until its memory stands still (within 0.2 %), and give it."""
        last_bytes, last_at_s = self.rss_bytes(), time.monotonic()

        def stands_still() -> bool:
            nonlocal last_bytes, last_at_s
            if time.monotonic() - last_at_s < quiet_s:
                return False
            now_bytes = self.rss_bytes()
            still = abs(now_bytes - last_bytes) <= 0.002 * last_bytes
            last_bytes, last_at_s = now_bytes, time.monotonic()
            return still

        self.wait_for(stands_still, limit_s=limit_s, what="settled in memory")
        return last_bytes
