"""Real processes to put faults on: Python that does one thing on request and says what came of it, and one that counts."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from floodmark.faults.process import procfs
from floodmark.faults.process.journal import Journal
from floodmark.faults.process.tree import Process, Tree

T = TypeVar("T")
LIMIT_S = 20.0

# Each line on stdin is a Python expression; the answer is its value, or the name of its error.
_SERVER = """
import errno, mmap, os, signal, subprocess, sys
kept = []
def take(size): kept.append(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)); return size
def opened(): kept.append(open(os.devnull)); return kept[-1].fileno()
def worker(code, session=False):
    up, say = os.pipe()
    words = [sys.executable, "-I", "-S", "-c", f"import mmap, os, signal, sys; os.write({say}, b'1'); os.close({say})\\n{code}"]
    kept.append(subprocess.Popen(words, start_new_session=session, pass_fds=[say]))
    os.close(say); os.read(up, 1); os.close(up)  # it has all the files open that it needs
    return kept[-1].pid
def fork_idle():
    pid = os.fork()
    if pid == 0:
        signal.pause(); os._exit(0)
    return pid
print("ready", flush=True)
for line in sys.stdin:
    try: said = eval(line)
    except MemoryError: said = "MemoryError"
    except OSError as exc: said = errno.errorcode[exc.errno]
    print(said, flush=True)
"""
SLEEPER = "import signal; signal.pause()"
# Counts in shared memory: what it did can be read while it stands still.
COUNTER = """
import mmap, sys
file = open(sys.argv[1], "r+b"); cell = mmap.mmap(file.fileno(), 8); n = 0
while True:
    n += 1; cell[:8] = n.to_bytes(8, "little")
"""


class Victim:
    """A process that obeys."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid
        self.tree = Tree.of(process.pid)

    def ask(self, expression: str) -> str:
        """Evaluate an expression in it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def worker(self, code: str = SLEEPER) -> int:
        """Let it start a child; returns its PID."""
        return int(self.ask(f"worker({code!r})"))


@contextmanager
def victim(*command: str) -> Iterator[Victim]:
    """Start one in a session of its own, as the runner does; end it and everything in its tree at the exit."""
    words = [sys.executable, "-I", "-S", "-c", *(command or (_SERVER,))]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        if not command:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        up = Victim(process)
        try:
            yield up
        finally:
            left = up.tree.processes()
            for each in left:
                each.send(signal.SIGKILL)
            process.kill()
            process.wait(LIMIT_S)
            until(lambda: [each for each in left if each.alive], lambda alive: not alive)


def process_of(pid: int) -> Process:
    """Name a process by its start time."""
    look = procfs.stat(pid)
    assert look is not None
    return Process(look.started_ticks, pid)


def state(pid: int) -> str:
    """The kernel's letter for it; '-' when it is gone."""
    look = procfs.stat(pid)
    return "-" if look is None else look.state


def until(look: Callable[[], T], holds: Callable[[T], bool]) -> T:
    """Look again and again until the condition holds; fail with the last look after a limit."""
    limit_s = time.monotonic() + LIMIT_S
    while not holds(found := look()):
        assert time.monotonic() < limit_s, f"still {found!r} after {LIMIT_S:g} s"
        time.sleep(0.002)
    return found


def journal() -> Journal:
    """One with a real clock."""
    return Journal(time.monotonic)


def play(job: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine with a limit."""

    async def limited() -> T:
        async with asyncio.timeout(LIMIT_S * 2):
            return await job

    return asyncio.run(limited())
