"""Kill, terminate and pause on real processes: what the processes show of it, and who is left alone."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from floodmark.core.errors import UsageError
from floodmark.faults.process import Journal, Kill, Pause, Scene, Terminate, inflict
from floodmark.faults.process.spec import ProcessFault
from tests.soonest import soonest

from .victim import COUNTER, Victim, journal, play, process_of, state, until, victim

OBEDIENT = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); print('up', flush=True); signal.pause()"


def count(path: Path) -> int:
    """How far a counter has come."""
    return int.from_bytes(path.read_bytes(), "little")


def counter(target: Victim, path: Path) -> int:
    """Start a counter as a worker and wait until it counts; returns its PID."""
    path.write_bytes(bytes(8))
    pid = target.worker(f"import sys; sys.argv = ['', {str(path)!r}]\n{COUNTER}")
    until(lambda: count(path), lambda seen: seen > 0)
    return pid


def scene(target: Victim, log: Journal, *, ratio: float = 1.0, seed: int = 0, occasion: int = 0) -> Scene:
    """A scene without a restarter."""
    return Scene(tree=target.tree, journal=log, ratio=ratio, seed=seed, occasion=occasion)


def test_kill_ends_the_whole_tree_and_nobody_else() -> None:
    with victim() as target, victim() as stranger:
        workers = [target.worker() for _ in range(4)]
        log = journal()

        entry = play(inflict(Kill(), scene(target, log), for_s=0))

        assert target.process.wait(10) == -signal.SIGKILL
        until(lambda: [state(pid) for pid in workers], lambda letters: set(letters) <= {"Z", "-"})
        assert entry.hits == 5
        assert sorted(entry.pids) == sorted([target.pid, *workers])
        assert log.entries() == (entry,)
        assert stranger.ask("5") == "5"


def test_kill_of_workers_takes_the_drawn_share_and_leaves_the_root() -> None:
    with victim() as target:
        workers = [target.worker() for _ in range(4)]

        entry = play(inflict(Kill(whom="workers"), scene(target, journal(), ratio=0.5), for_s=0))

        assert entry.hits == 2
        assert set(entry.pids) < set(workers)
        until(lambda: [state(pid) for pid in entry.pids], lambda letters: set(letters) == {"Z"})
        assert target.ask("6") == "6"
        until(lambda: {state(pid) for pid in workers if pid not in entry.pids}, lambda letters: letters == {"S"})


def test_terminate_reaches_the_handler_of_the_root_alone() -> None:
    with victim(OBEDIENT) as target:
        assert target.process.stdout is not None
        assert target.process.stdout.readline() == "up\n"

        entry = play(inflict(Terminate(), scene(target, journal()), for_s=0))

        assert target.process.wait(10) == 7
        assert entry.pids == (target.pid,)


def test_terminate_tree_reaches_workers_too() -> None:
    with victim() as target:
        worker = target.worker()

        entry = play(inflict(Terminate(whom="tree"), scene(target, journal()), for_s=0))

        assert target.process.wait(10) == -signal.SIGTERM
        until(lambda: state(worker), lambda letter: letter in "Z-")
        assert entry.pids == (target.pid, worker)


def test_pause_stops_the_progress_of_the_whole_tree_and_then_it_goes_on(tmp_path: Path) -> None:
    async def job() -> None:
        with victim() as target:
            cell = tmp_path / "cell"
            pid = counter(target, cell)
            log = journal()

            async with Pause().applied(scene(target, log)) as entry:
                before = count(cell)
                assert {state(target.pid), state(pid)} == {"T"}
                burnt = process_of(pid).look()
                await asyncio.sleep(0.1)  # time in which a running counter comes far
                assert count(cell) == before
                assert process_of(pid).look() == burnt

            until(lambda: count(cell), lambda seen: seen > before)
            assert target.ask("8") == "8"
            assert entry.hits == 2
            applied, healed = log.entries()
            assert (applied.action, healed.action) == ("applied", "healed")
            assert applied.pids == healed.pids == (target.pid, pid)
            assert applied.number == healed.number
            assert healed.at_s - applied.at_s > 0.099

    play(job())


def test_pause_lasts_as_long_as_told(tmp_path: Path) -> None:
    with victim() as target:

        def paused_s() -> float:
            log = journal()
            play(inflict(Pause(), scene(target, log), for_s=0.2))
            applied, healed = log.entries()
            return healed.at_s - applied.at_s

        assert 0.199 <= soonest(paused_s, 1.0) < 1.0


def test_pause_of_a_share_lets_the_others_run() -> None:
    async def job() -> None:
        with victim() as target:
            workers = [target.worker() for _ in range(4)]
            async with Pause(whom="workers").applied(scene(target, journal(), ratio=0.25, seed=3)) as entry:
                assert entry.hits == 1
                until(lambda: [state(pid) for pid in workers], lambda letters: sorted(letters) == ["S", "S", "S", "T"])
                assert state(entry.pids[0]) == "T"
                assert target.ask("9") == "9"
            until(lambda: [state(pid) for pid in workers], lambda letters: set(letters) == {"S"})

    play(job())


def test_pause_process_killed_meanwhile_is_told_and_the_others_go_on() -> None:
    async def job() -> None:
        with victim() as target:
            worker = target.worker()
            log = journal()
            async with Pause().applied(scene(target, log)):
                os.kill(worker, signal.SIGKILL)
                until(lambda: state(worker), lambda letter: letter == "Z")
            assert target.ask("10") == "10"
            assert log.entries()[-1].pids == (target.pid,)
            assert log.entries()[-1].note == "1 had ended"

    play(job())


def test_pause_undone_by_somebody_else_is_told() -> None:
    async def job() -> None:
        with victim() as target:
            log = journal()
            async with Pause().applied(scene(target, log)):
                os.kill(target.pid, signal.SIGCONT)
                assert target.ask("11") == "11"
            assert log.entries()[-1].note == "1 had been continued by somebody else"

    play(job())


def test_pause_cancelled_goes_on_at_once() -> None:
    async def job() -> None:
        with victim() as target:
            log = journal()
            task = asyncio.create_task(inflict(Pause(), scene(target, log), for_s=60))
            while state(target.pid) != "T" or not log.entries():  # noqa: ASYNC110  nobody tells us
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert target.ask("12") == "12"
            assert [entry.action for entry in log.entries()] == ["applied", "healed"]

    play(job())


def test_pause_cancelled_at_any_moment_leaves_nobody_stopped() -> None:
    async def job() -> None:
        with victim() as target:
            workers = [target.worker() for _ in range(3)]
            for moment in range(40):
                task = asyncio.create_task(inflict(Pause(), scene(target, journal()), for_s=60))
                for _ in range(moment // 4):
                    await asyncio.sleep(0.0002)
                task.cancel()
                await asyncio.wait([task])
                until(lambda: {state(pid) for pid in [target.pid, *workers]}, lambda letters: "T" not in letters)
            assert target.ask("13") == "13"

    play(job())


def test_pause_that_overlaps_another_is_refused_and_the_first_still_heals() -> None:
    async def job() -> None:
        with victim() as target:
            async with Pause().applied(scene(target, journal())):
                with pytest.raises(UsageError, match="still held by an earlier fault"):
                    await inflict(Pause(), scene(target, journal()), for_s=1)
                assert state(target.pid) == "T"
            assert target.ask("14") == "14"
            async with Pause().applied(scene(target, journal())) as entry:
                assert entry.hits == 1

    play(job())


@pytest.mark.parametrize("fault", [Kill(), Terminate(), Terminate(whom="tree"), Pause()])
def test_ratio_0_touches_nobody_and_says_so(fault: ProcessFault) -> None:
    with victim() as target:
        target.worker()
        log = journal()

        entry = play(inflict(fault, scene(target, log, ratio=0.0), for_s=0.01))

        assert (entry.hits, entry.pids, entry.note) == (0, (), "ratio is 0")
        assert log.entries() == (entry,)
        assert target.ask("15") == "15"
        assert len(target.tree.processes()) == 2


def test_pause_for_0_s_touches_nobody() -> None:
    with victim() as target:
        entry = play(inflict(Pause(), scene(target, journal()), for_s=0))

        assert (entry.hits, entry.note) == (0, "for_s is 0")
        assert target.ask("16") == "16"


@pytest.mark.parametrize("fault", [Kill(), Terminate(), Pause()])
def test_fault_on_a_target_that_is_gone_hits_nobody(fault: ProcessFault) -> None:
    with victim() as target:
        target.process.kill()
        target.process.wait()

        entry = play(inflict(fault, scene(target, journal()), for_s=5))

        assert (entry.hits, entry.note) == (0, "no process of the target is left")


def test_workers_of_a_target_without_any_are_none_chosen() -> None:
    with victim() as target:
        entry = play(inflict(Kill(whom="workers"), scene(target, journal()), for_s=0))

        assert (entry.hits, entry.note) == (0, "none was chosen")
