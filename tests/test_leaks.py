"""The leak check of conftest.py, on trial: each kind of leak is planted once, and the tidy twin is not accused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

TIDY = """
import asyncio, socket, subprocess, sys, threading

def test_planted():
    async def main():
        task = asyncio.create_task(asyncio.sleep(0))
        await task
    asyncio.run(main())
    with socket.socket():
        pass
    subprocess.run([sys.executable, "-c", ""], check=True)
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
"""

TASK = """
import asyncio

def test_planted():
    async def main():
        main.task = asyncio.create_task(asyncio.sleep(60), name="forgotten")
        await asyncio.sleep(0)
    asyncio.run(main())
"""

UVLOOP_TASK = """
import asyncio, uvloop

def test_planted():
    async def main():
        main.task = asyncio.create_task(asyncio.sleep(60), name="forgotten")
        await asyncio.sleep(0)
    uvloop.run(main())
"""

SOCKET = """
import socket
kept = []

def test_planted():
    kept.append(socket.socket())

def teardown_module():
    kept.pop().close()
"""

CHILD = """
import subprocess, sys
kept = []

def test_planted():
    kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))

def teardown_module():
    with kept.pop():  # closes its input, which ends it, and waits
        pass
"""

THREAD = """
import threading
stop = threading.Event()

def test_planted():
    threading.Thread(target=stop.wait, name="forgotten").start()

def teardown_module():
    stop.set()
"""


@pytest.fixture
def planted(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder that holds our conftest, with a grace short enough to wait for."""
    text = (Path(__file__).parent / "conftest.py").read_text()
    short = re.sub(r"^GRACE_S = .*$", "GRACE_S = 0.1", text, flags=re.MULTILINE)
    assert short != text
    pytester.makeconftest(short)
    return pytester


def test_leaks_tidy_test_passes(planted: pytest.Pytester) -> None:
    planted.makepyfile(TIDY)

    outcome = planted.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error")

    outcome.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        pytest.param(TASK, "*task forgotten: *sleep*", id="task"),
        pytest.param(UVLOOP_TASK, "*task forgotten: *sleep*", id="task-uvloop"),
        pytest.param(SOCKET, "*socket, descriptor *", id="socket"),
        pytest.param(CHILD, "*child process *input()*", id="child"),
        pytest.param(THREAD, "*thread forgotten*", id="thread"),
    ],
)
def test_leaks_planted_leak_fails_the_test_and_names_it(planted: pytest.Pytester, source: str, said: str) -> None:
    planted.makepyfile(source)

    outcome = planted.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error")

    outcome.assert_outcomes(passed=1, errors=1)  # the test itself ran through; its tear-down accuses it
    outcome.stdout.fnmatch_lines(["*the test left behind:*", said])
