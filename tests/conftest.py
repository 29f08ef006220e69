"""What every test gets without asking: a check that it left nothing behind, and the Hypothesis profile.

After each test there must be no task that its event loop had to cancel, no socket, child process or thread that was not there before.
What a wider fixture (module, session) opened before the test began is not the test's. What is still going down gets GRACE_S to be gone.
Not looked at: plain files (ResourceWarning is an error already), native threads of libraries, the helper processes of `multiprocessing`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest

GRACE_S = 10.0
POLL_S = 0.01
HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")  # started once per process by the standard library

hypothesis.settings.register_profile("dev", deadline=None, print_blob=True)
hypothesis.settings.register_profile("ci", deadline=None, print_blob=True, max_examples=200, derandomize=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


def sockets() -> dict[str, str]:
    """Open sockets of this process by inode; a number reused for another socket is another socket."""
    found: dict[str, str] = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:  # the descriptor of this very listing is gone by now
            continue
        if target.startswith("socket:"):
            found[target] = f"socket, descriptor {entry.name}"
    return found


def children() -> dict[str, str]:
    """Child processes, zombies included: one that nobody waited for is a leak too."""
    found: dict[str, str] = {}
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # none at all, as after nearly every test: reading every process of the machine took 3 ms a test
        return found
    for child in psutil.Process().children(recursive=True):
        try:
            line = " ".join(child.cmdline()) or child.name()
        except psutil.Error:
            line = "not waited for"
        if not any(helper in line for helper in HELPERS):
            found[f"{child.pid}@{child.create_time()}"] = f"child process {child.pid}: {line}"
    return found


def threads() -> dict[str, str]:
    """Python threads that are alive."""
    return {f"{thread.name}@{id(thread)}": f"thread {thread.name}" for thread in threading.enumerate()}


WATCHES: tuple[Callable[[], dict[str, str]], ...] = (sockets, children, threads)


def left_over(before: list[dict[str, str]]) -> list[str]:
    """What is there now and was not before, in words."""
    return [what for watch, known in zip(WATCHES, before, strict=True) for key, what in watch().items() if key not in known]


@pytest.fixture(autouse=True)
def leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that leaks a task, a socket, a child process or a thread."""
    abandoned: list[str] = []
    cancel_all = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]  # where asyncio.run hides what a test forgot

    def remember_and_cancel_all(loop: asyncio.AbstractEventLoop) -> None:
        abandoned.extend(f"task {task.get_name()}: {task.get_coro()!r}" for task in asyncio.all_tasks(loop))
        cancel_all(loop)

    monkeypatch.setattr(asyncio.runners, "_cancel_all_tasks", remember_and_cancel_all)
    before = [watch() for watch in WATCHES]

    yield

    until_s = time.monotonic() + GRACE_S
    if left_over(before):
        time.sleep(POLL_S)  # a thread on its way down needs no more, and no search for cycles
    while (left := left_over(before)) and time.monotonic() < until_s:
        gc.collect()  # a socket in a cycle closes here, with the ResourceWarning that makes it an error
        time.sleep(POLL_S)
    if leaked := abandoned + left:
        pytest.fail("the test left behind:\n  " + "\n  ".join(leaked), pytrace=False)
