"""Restart: the old one is gone before the new one is started, and nothing is started when the run is over."""

from __future__ import annotations

import asyncio
import signal

import pytest

from floodmark.core.errors import UsageError
from floodmark.faults.process import Journal, Restart, Scene, Tree, inflict, restart
from floodmark.faults.process.procfs import stat
from floodmark.faults.process.tree import Process

from .victim import Victim, journal, play, victim

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"
POLITE = """
import signal, sys, time
def end(*_):
    time.sleep(0.3)  # it has something to tidy up
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
print('up', flush=True)
while True: signal.pause()
"""


class Again:
    """Stands for the runner: notes what was left of the tree when it was asked."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.left_over: list[int] = []

    async def restart(self) -> None:
        """Count."""
        self.left_over.append(len(self._tree.processes()))


def scene(target: Victim, log: Journal, again: Again | None, ratio: float = 1.0) -> Scene:
    """A scene with a restarter."""
    return Scene(tree=target.tree, journal=log, restarter=again, ratio=ratio)


def up(target: Victim) -> None:
    """Wait until its signal handler is in place."""
    assert target.process.stdout is not None
    assert target.process.stdout.readline() == "up\n"


def test_restart_kills_the_whole_tree_waits_and_starts_it_once() -> None:
    with victim() as target:
        worker = target.worker()
        again, log = Again(target.tree), journal()

        entry = play(inflict(Restart(), scene(target, log, again), for_s=0.1))

        assert again.left_over == [0]
        assert sorted(entry.pids) == sorted([target.pid, worker])
        assert target.process.wait(10) == -signal.SIGKILL
        applied, healed = log.entries()
        assert (healed.action, healed.note) == ("healed", "started again")
        assert healed.at_s - applied.at_s > 0.099


def test_restart_by_terminate_lets_a_polite_target_end_by_itself() -> None:
    with victim(POLITE) as target:
        up(target)
        again = Again(target.tree)

        entry = play(inflict(Restart(how="terminate"), scene(target, journal(), again), for_s=0.01))

        assert target.process.wait(10) == 7
        assert (entry.hits, entry.note) == (1, "0 of 1 killed")
        assert again.left_over == [0]


def test_restart_by_terminate_kills_a_stubborn_target_after_the_grace() -> None:
    with victim(STUBBORN) as target:
        up(target)
        again = Again(target.tree)

        entry = play(inflict(Restart(how="terminate", grace_s=0.1), scene(target, journal(), again), for_s=0.01))

        assert target.process.wait(10) == -signal.SIGKILL
        assert (entry.hits, entry.note) == (1, "1 of 1 killed")
        assert again.left_over == [0]


def test_restart_cancelled_while_down_starts_nothing() -> None:
    async def job() -> None:
        with victim() as target:
            again, log = Again(target.tree), journal()
            task = asyncio.create_task(inflict(Restart(), scene(target, log, again), for_s=60))
            while not log.entries():  # noqa: ASYNC110  nobody tells us
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert again.left_over == []
            assert [entry.action for entry in log.entries()] == ["applied"]

    play(job())


def test_restart_cancelled_in_its_grace_has_written_down_whom_it_asked_to_end() -> None:
    async def job() -> None:
        with victim(STUBBORN.replace("signal.SIG_IGN", "lambda *_: print('asked', flush=True)")) as target:
            up(target)
            again, log = Again(target.tree), journal()
            assert target.process.stdout is not None
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                task = group.create_task(inflict(Restart(how="terminate", grace_s=60.0), scene(target, log, again), for_s=60))
                assert await asyncio.to_thread(target.process.stdout.readline) == "asked\n"
                task.cancel()

            (entry,) = log.entries()
            assert (entry.action, entry.pids, again.left_over) == ("applied", (target.pid,), [])
            assert entry.note == "0 of 1 killed; cut short before they were seen to be gone"

    play(job())


def test_restart_cancelled_right_after_the_kill_has_written_down_whom_it_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def job() -> None:
        with victim() as target:
            again, log, waiting = Again(target.tree), journal(), asyncio.Event()

            async def never_gone(processes: list[Process], limit_s: float) -> list[Process]:
                waiting.set()
                await asyncio.sleep(limit_s)
                return processes

            monkeypatch.setattr(restart, "gone", never_gone)
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                task = group.create_task(inflict(Restart(), scene(target, log, again), for_s=60))
                await waiting.wait()
                task.cancel()

            (entry,) = log.entries()
            assert (entry.action, entry.pids, again.left_over) == ("applied", (target.pid,), [])
            assert target.process.wait(10) == -signal.SIGKILL

    play(job())


def test_restart_of_a_target_that_is_down_already_starts_it_all_the_same() -> None:
    with victim() as target:
        target.process.kill()
        target.process.wait()
        again, log = Again(target.tree), journal()

        entry = play(inflict(Restart(), scene(target, log, again), for_s=5))

        assert (entry.hits, again.left_over) == (0, [0])
        assert "started all the same" in entry.note


@pytest.mark.parametrize(("ratio", "for_s"), [(0.0, 0.01), (1.0, 0.0)])
def test_restart_at_ratio_0_or_for_0_s_touches_nobody(ratio: float, for_s: float) -> None:
    with victim() as target:
        again = Again(target.tree)

        entry = play(inflict(Restart(), scene(target, journal(), again, ratio), for_s=for_s))

        assert entry.hits == 0
        assert again.left_over == []
        assert target.ask("1") == "1"


def test_restart_without_a_restarter_or_of_a_share_is_refused_before_anything_happens() -> None:
    with victim() as target:
        before = stat(target.pid)
        assert before is not None

        with pytest.raises(UsageError, match="starts itself"):
            play(inflict(Restart(), scene(target, journal(), None), for_s=1))
        with pytest.raises(UsageError, match="use 'kill' for a share"):
            play(inflict(Restart(), scene(target, journal(), Again(target.tree), 0.5), for_s=1))

        assert target.ask("1") == "1"
