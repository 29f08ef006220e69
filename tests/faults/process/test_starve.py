"""Starvation takes the target's cores and gives them back for certain, also when whoever did it is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from floodmark.core.errors import UsageError
from floodmark.faults.process import Journal, Scene, Starve, inflict, starve
from floodmark.faults.process.procfs import TICKS_PER_S, stat

from .victim import Victim, journal, play, process_of, state, until, victim

SPINNER = "while True: pass"
RUNNER = """
import asyncio, sys
sys.path[:0] = {path!r}
from floodmark.faults.process import Journal, Scene, Starve, Tree
async def main():
    journal = Journal(lambda: 0.0)
    async with Starve(burners_per_core=2).applied(Scene(tree=Tree.of({pid}), journal=journal)) as entry:
        print(*entry.values, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


def scene(target: Victim, log: Journal, *, ratio: float = 1.0, seed: int = 0) -> Scene:
    """A scene without a restarter."""
    return Scene(tree=target.tree, journal=log, ratio=ratio, seed=seed)


def cpu_ticks(pid: int) -> int:
    """The CPU time of a process that is there."""
    look = stat(pid)
    assert look is not None
    return look.cpu_ticks


def autogroup_nice(pid: int) -> str | None:
    """The nice value of the process's session; None where the kernel does not group by session."""
    grouped = Path(f"/proc/{pid}/autogroup")
    words = grouped.read_text().split() if grouped.exists() else []
    return words[-1] if words else None


def one_core() -> int:
    """A core that this test may use."""
    return min(os.sched_getaffinity(0))


def test_starve_burners_take_most_of_the_core_and_give_it_back() -> None:
    async def job() -> None:
        with victim(SPINNER) as target:
            os.sched_setaffinity(target.pid, {one_core()})
            log = journal()
            async with Starve(burners_per_core=3).applied(scene(target, log)) as entry:
                assert entry.hits == 1
                assert entry.pids == (target.pid,)
                assert len(entry.values) == 3
                assert [os.sched_getaffinity(pid) for pid in entry.values] == [{one_core()}] * 3
                before = {pid: cpu_ticks(pid) for pid in (target.pid, *entry.values)}
                burnt = until(
                    lambda: {pid: cpu_ticks(pid) - ticks for pid, ticks in before.items()},
                    lambda ticks: sum(ticks.values()) >= 0.6 * TICKS_PER_S,
                )
                # Of the time that the five of them had together on that core, a fair share is a quarter; alone it is all of it.
                assert burnt[target.pid] / sum(burnt.values()) < 0.5
                assert sum(burnt.values()) - burnt[target.pid] > 0
            assert {state(pid) for pid in entry.values} == {"-"}
            applied, healed = log.entries()
            assert (applied.action, healed.action) == ("applied", "healed")
            assert healed.pids == (target.pid,)
            assert float(healed.note.split()[1]) > 0

    play(job())


def test_starve_a_share_of_the_cores_takes_the_drawn_ones() -> None:
    async def job() -> None:
        with victim() as target:
            mine = sorted(os.sched_getaffinity(target.pid))
            wanted = round(0.5 * len(mine))
            async with Starve().applied(scene(target, journal(), ratio=0.5, seed=4)) as entry:
                taken = [os.sched_getaffinity(pid) for pid in entry.values]
                assert len(taken) == wanted
                assert all(len(cores) == 1 and cores < set(mine) for cores in taken) or len(mine) == 1
                chosen = starve.cores([process_of(target.pid)], 0.5, seed=4, occasion=0)
                assert sorted(core for cores in taken for core in cores) == chosen

    play(job())


def test_starve_nice_burners_are_nice() -> None:
    async def job() -> None:
        with victim() as target:
            os.sched_setaffinity(target.pid, {one_core()})
            async with Starve(nice=19).applied(scene(target, journal())) as entry:
                assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in entry.values] == [19]
                assert autogroup_nice(entry.values[0]) in ("19", None)

    play(job())


def test_starve_in_a_killed_runner_ends_with_it() -> None:
    with victim() as target:
        program = RUNNER.format(path=sys.path, pid=target.pid)
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as runner:
            assert runner.stdout is not None
            burners = [process_of(int(pid)) for pid in runner.stdout.readline().split()]
            assert len(burners) == 2 * len(os.sched_getaffinity(target.pid))
            assert all(burner.alive for burner in burners)

            runner.send_signal(signal.SIGKILL)
            runner.wait()

        until(lambda: [burner for burner in burners if burner.alive], lambda left: not left)
        assert target.ask("2") == "2"


def test_burner_whose_parent_is_another_does_not_begin() -> None:
    words = [sys.executable, "-I", "-S", str(starve.SCRIPT), str(os.getpid() + 1), str(one_core()), "0"]

    done = subprocess.run(words, capture_output=True, timeout=20, check=False)

    assert (done.returncode, done.stdout) == (1, b"")


def test_starve_cancelled_at_any_moment_leaves_no_burner(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[subprocess.Popen[bytes]] = []
    start = starve.start

    def remembered(core: int, nice: int) -> subprocess.Popen[bytes]:
        begun.append(start(core, nice))
        return begun[-1]

    monkeypatch.setattr(starve, "start", remembered)

    async def job() -> None:
        with victim() as target:
            os.sched_setaffinity(target.pid, {one_core()})
            for moment in range(10):
                task = asyncio.create_task(inflict(Starve(), scene(target, journal()), for_s=60))
                for _ in range(moment):
                    await asyncio.sleep(0.01)
                task.cancel()
                await asyncio.wait([task])
                assert all(burner.returncode is not None for burner in begun)

    play(job())
    assert len(begun) >= 8


def test_starve_block_that_fails_leaves_no_burner() -> None:
    async def job() -> None:
        with victim() as target:
            os.sched_setaffinity(target.pid, {one_core()})
            log = journal()
            with pytest.raises(ZeroDivisionError):
                async with Starve().applied(scene(target, log)):
                    raise ZeroDivisionError
            assert log.entries()[0].values
            assert {state(pid) for pid in log.entries()[0].values} == {"-"}
            assert log.entries()[-1].action == "healed"

    play(job())


def test_starve_that_cannot_start_its_burners_says_so_and_ends_the_rest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "burner.py"
    script.write_text("raise SystemExit(3)")
    monkeypatch.setattr(starve, "SCRIPT", script)

    with victim() as target, pytest.raises(starve.BurnerError, match="ended with exit code 3 at once"):
        play(inflict(Starve(burners_per_core=2), scene(target, journal()), for_s=1))


def test_starve_target_that_ends_meanwhile_is_healed_all_the_same() -> None:
    async def job() -> None:
        with victim() as target:
            log = journal()
            async with Starve().applied(scene(target, log)) as entry:
                target.process.kill()
                target.process.wait()
            assert {state(pid) for pid in entry.values} == {"-"}
            assert log.entries()[-1].action == "healed"

    play(job())


def test_starve_at_ratio_0_for_0_s_or_without_a_target_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(core: int, nice: int) -> subprocess.Popen[bytes]:
        raise AssertionError(core, nice)

    monkeypatch.setattr(starve, "start", never)
    with victim() as target:
        log = journal()
        play(inflict(Starve(), scene(target, log, ratio=0.0), for_s=1))
        play(inflict(Starve(), scene(target, log), for_s=0))
        target.process.kill()
        target.process.wait()

        play(inflict(Starve(), scene(target, log), for_s=1))

        assert [entry.note for entry in log.entries()] == ["ratio is 0", "for_s is 0", "no process of the target is left"]
        assert {entry.hits for entry in log.entries()} == {0}


def test_starve_with_too_many_burners_for_all_cores_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starve, "cores_of", lambda process: set(range(64)))
    with victim() as target, pytest.raises(UsageError, match="would start 320 processes"):
        play(inflict(Starve(burners_per_core=5), scene(target, journal()), for_s=1))
