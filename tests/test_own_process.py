"""A process of its own, with a small program in the place of floodmark: it ends with the block, in order where it can, by force where not.

That real runs end without a trace is in test_pytest_plugin.py.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from floodmark import own_process
from floodmark.own_process import OwnProcess

LIMIT_S = 20.0
READY = "signal.alarm(60); print('ready', file=sys.stderr, flush=True)"  # whatever becomes of a test, it ends
ORDERLY = f"""
import signal, sys
def end(number, frame):
    print("ended in order", file=sys.stderr, flush=True)
    sys.exit(130)
signal.signal(signal.SIGTERM, end)
{READY}
signal.pause()
"""
STUBBORN = f"""
import signal, sys
signal.signal(signal.SIGTERM, lambda number, frame: print("asked", file=sys.stderr, flush=True))
{READY}
while True:
    signal.pause()
"""


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """A session that was started in the background of a script ignores SIGINT; these tests send it to themselves."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Heard:
    """Keeps what is said, and does something once `ready` is in it."""

    def __init__(self, at_ready: Callable[[], object] = lambda: None) -> None:
        self.text = ""
        self._at_ready = at_ready

    def __call__(self, text: str) -> None:
        before, self.text = self.text, self.text + text
        if "ready" in self.text and "ready" not in before:
            self._at_ready()


def pid_of(own: OwnProcess) -> int:
    return own._process.pid


@pytest.fixture
def plays(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put another program in floodmark's place."""
    return lambda code: monkeypatch.setattr(own_process, "CODE", code)


def test_process_that_ends_gives_its_code_and_all_it_wrote(plays: Callable[[str], None]) -> None:
    plays("import sys; print(*sys.argv[1:]); print('wörds ' * 50_000, file=sys.stderr); sys.exit(11)")
    heard = Heard()

    with OwnProcess(["run", "a b"], heard) as own:
        ended = own.wait()

    assert (ended.code, ended.stdout) == (11, b"run a b\n")
    assert heard.text == "wörds " * 50_000 + "\n"
    assert ended.stderr.endswith("wörds wörds \n")


def test_process_whose_caller_is_interrupted_ends_in_order_first(plays: Callable[[str], None]) -> None:
    plays(ORDERLY)
    heard = Heard(at_ready=lambda: signal.raise_signal(signal.SIGINT))

    own = OwnProcess([], heard)
    with pytest.raises(KeyboardInterrupt), own:
        own.wait()

    assert heard.text == "ready\nended in order\n"
    assert not psutil.pid_exists(pid_of(own))


def test_process_that_will_not_end_is_killed_at_the_limit(plays: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_process, "END_LIMIT_S", 0.1)
    plays(STUBBORN)
    heard = Heard(at_ready=lambda: signal.raise_signal(signal.SIGINT))

    own = OwnProcess([], heard)
    with pytest.raises(KeyboardInterrupt), own:
        own.wait()

    assert not psutil.pid_exists(pid_of(own))


def test_process_that_will_not_end_is_killed_at_the_second_interrupt(plays: Callable[[str], None]) -> None:
    plays(STUBBORN.replace('print("asked"', 'os.kill(os.getppid(), signal.SIGINT) or print("asked"').replace("import", "import os,", 1))
    heard = Heard(at_ready=lambda: signal.raise_signal(signal.SIGINT))
    started_s = time.monotonic()

    own = OwnProcess([], heard)
    with pytest.raises(KeyboardInterrupt), own:
        own.wait()

    assert not psutil.pid_exists(pid_of(own))
    assert time.monotonic() - started_s < own_process.END_LIMIT_S / 2


def test_process_whose_caller_is_killed_is_asked_to_end(tmp_path: Path) -> None:
    code = "from floodmark.core.parent import die_with_parent; die_with_parent()\n" + ORDERLY
    caller = f"""
import sys
from floodmark import own_process
own_process.CODE = {code!r}
with own_process.OwnProcess([], lambda text: print(text, end="", flush=True)) as own:
    print(own._process.pid, flush=True)
    own.wait()
"""

    with subprocess.Popen([sys.executable, "-c", caller], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        assert process.stdout.readline() == "ready\n"
        process.kill()

    child.wait(LIMIT_S)
    assert own_process.CODE.startswith(code.splitlines()[0])  # what the program above begins with, floodmark begins with too


def test_process_waited_for_on_a_loop_lets_the_loop_go_on(plays: Callable[[str], None]) -> None:
    plays("import sys; print('done')")
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> bytes:
        turning = asyncio.create_task(turn())
        with OwnProcess([], Heard()) as own:
            ended = await own.wait_beside()
        turning.cancel()
        return ended.stdout

    assert asyncio.run(main()) == b"done\n"
    assert turns > 10


@pytest.mark.parametrize(("code", "said"), [(ORDERLY, {"ready\nended in order\n"}), (STUBBORN, {"ready\nasked\n", "ready\n"})])
def test_process_whose_task_is_cancelled_has_ended_when_the_task_has(
    plays: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, code: str, said: set[str]
) -> None:
    monkeypatch.setattr(own_process, "END_LIMIT_S", 0.5 if code is STUBBORN else LIMIT_S)
    plays(code)

    async def main() -> tuple[OwnProcess, str, str]:
        ready = asyncio.Event()
        heard = Heard(at_ready=ready.set)
        own = OwnProcess([], heard)
        waited = ""

        async def play() -> None:
            nonlocal waited
            with own:
                try:
                    await own.wait_beside()
                finally:
                    waited = heard.text  # with the loop going on: outside of the block it would stand still

        task = asyncio.create_task(play())
        await asyncio.wait_for(ready.wait(), LIMIT_S)
        task.cancel()
        await asyncio.wait([task], timeout=LIMIT_S)
        assert task.cancelled()
        return own, waited, heard.text

    own, waited, whole = asyncio.run(main())

    assert waited == whole or code is STUBBORN
    assert whole in said  # on a busy machine the stubborn one has no time to say that it was asked; twice it never is
    assert not psutil.pid_exists(pid_of(own))
