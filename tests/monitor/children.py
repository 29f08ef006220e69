"""Real child processes that do one thing on request and say when it is done."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
LIMIT_S = 20.0

# Each line on stdin is Python to run; the answer on stdout says that it has run.
_CHILD = """
import os, subprocess, sys, threading, time
kept = []
child_code = "import sys; sys.stdin.read()"
middle_code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child_code!r}])"
def start_child():
    kept.append(subprocess.Popen([sys.executable, "-c", child_code], stdin=subprocess.PIPE))
    return kept[-1]
print("ready", flush=True)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


class Child:
    """A process that obeys."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def do(self, code: str) -> None:
        """Run one line of Python in the child; return when it has run."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(code + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def end(self) -> None:
        """Kill it and take its exit status."""
        self.process.kill()
        self.process.wait(LIMIT_S)


@contextmanager
def child() -> Iterator[Child]:
    """Start a child; end it, and with it (their stdin closes) its own children, at the exit."""
    with subprocess.Popen([sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield Child(process)
        finally:
            process.kill()


def until(look: Callable[[], T], holds: Callable[[T], bool]) -> T:
    """Look again and again until the condition holds; fail with the last look after a limit."""
    limit_s = time.monotonic() + LIMIT_S
    while not holds(found := look()):
        assert time.monotonic() < limit_s, f"still {found!r} after {LIMIT_S:g} s"
        time.sleep(0.01)
    return found
