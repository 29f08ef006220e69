"""Every fault on processes held to the same words: seeded, journalled, atomic, healed, and nothing at all at ratio 0.

Each test runs over the table of faults, so a new one fails here until CASES says how it is felt. Effects are taken from real processes:
a root that obeys, and workers that sleep. What only one fault promises is in tests/faults/process/.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import numpy as np
import pytest

from floodmark.core.errors import FloodmarkError
from floodmark.faults.process import (
    PROCESS_FAULTS,
    Descriptors,
    Entry,
    Journal,
    Kill,
    Memory,
    Pause,
    ProcessFault,
    Restart,
    Scene,
    Starve,
    Terminate,
    inflict,
    starve,
)
from floodmark.faults.process.spec import drawn
from floodmark.faults.process.tree import ForeignProcessError, Process
from tests.faults.process.victim import Victim, journal, play, process_of, state, until, victim

KINDS = list(PROCESS_FAULTS)
MIB = 1 << 20
WORKERS = 3


class Again:
    """Stands for the runner: counts how often it was to start the target again."""

    def __init__(self) -> None:
        self.count = 0

    async def restart(self) -> None:
        """Count."""
        self.count += 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A target with workers, and all its processes by age."""

    root: Victim
    pids: tuple[int, ...]
    again: Again

    def scene(self, log: Journal, *, ratio: float = 1.0, seed: int = 1) -> Scene:
        """A scene on it."""
        return Scene(tree=self.root.tree, journal=log, ratio=ratio, seed=seed, restarter=self.again)

    def all_in(self, letters: str) -> bool:
        """Whether each of them is in one of these states; a zombie that its parent has not waited for is gone."""
        return all(state(pid) in letters for pid in self.pids)


GONE, STOPPED, RUNS = "-ZX", "T", "RSD"


@contextmanager
def family(workers: int = WORKERS) -> Iterator[Family]:
    """Start one; end all of it at the exit."""
    with victim() as root:
        others = tuple(root.worker() for _ in range(workers))
        yield Family(root=root, pids=(root.pid, *others), again=Again())


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A fault so strong that it is felt; what shows it while it is on, and that it is gone."""

    fault: ProcessFault
    felt: Callable[[Family, Entry], bool]
    healed: Callable[[Family, Entry], bool]
    ends: bool = False  # its victims, for good
    whole: bool = False  # it takes no share of the target


def answers(target: Family, _: Entry) -> bool:
    """It is there, nobody of it is stopped, and the root does what it is asked."""
    return target.all_in(RUNS) and target.root.ask("40 + 2") == "42"


CASES: dict[str, Case] = {
    "kill": Case(fault=Kill(), felt=lambda it, _: it.all_in(GONE), healed=lambda it, _: it.all_in(GONE), ends=True),
    "terminate": Case(fault=Terminate(whom="tree"), felt=lambda it, _: it.all_in(GONE), healed=lambda it, _: it.all_in(GONE), ends=True),
    "pause": Case(fault=Pause(), felt=lambda it, _: it.all_in(STOPPED), healed=answers),
    "memory": Case(
        fault=Memory(extra_bytes=16 * MIB),
        felt=lambda it, _: it.root.ask(f"take({64 * MIB})") == "ENOMEM",
        healed=lambda it, _: it.root.ask(f"take({64 * MIB})") == str(64 * MIB),
    ),
    "descriptors": Case(
        fault=Descriptors(),
        felt=lambda it, _: it.root.ask("opened()") == "EMFILE",
        healed=lambda it, _: it.root.ask("opened()").isdigit(),
    ),
    "starve": Case(
        fault=Starve(burners_per_core=2),
        felt=lambda _, entry: len(entry.values) >= 2 and all(process_of(pid).alive for pid in entry.values),
        healed=lambda _, entry: {state(pid) for pid in entry.values} == {"-"},
    ),
    "restart": Case(fault=Restart(), felt=lambda it, _: it.all_in(GONE), healed=lambda it, _: it.again.count == 1, ends=True, whole=True),
}


def test_cases_cover_every_fault() -> None:
    assert set(CASES) == set(KINDS)


# healed


@pytest.mark.parametrize("kind", KINDS)
def test_effect_is_felt_while_the_fault_is_on_and_put_right_when_it_is_off(kind: str) -> None:
    case = CASES[kind]

    async def job() -> None:
        with family() as target:
            async with case.fault.applied(target.scene(journal())) as entry:
                assert entry.hits == len(target.pids)
                until(lambda: case.felt(target, entry), bool)
            until(lambda: case.healed(target, entry), bool)

    play(job())


@pytest.mark.parametrize("kind", KINDS)
def test_fault_cancelled_at_any_moment_has_hit_all_or_nobody_and_leaves_nobody_in_its_hands(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moments are milliseconds, from before the first step to long after it was applied."""
    case = CASES[kind]
    send = Process.send
    ended: set[int] = set()

    def note(process: Process, number: signal.Signals) -> bool:
        if number in (signal.SIGTERM, signal.SIGKILL):
            ended.add(process.pid)
        return send(process, number)

    monkeypatch.setattr(Process, "send", note)

    async def job() -> set[tuple[str, ...]]:
        outcomes: set[tuple[str, ...]] = set()
        for moment in (0, 1, 2, 3, 5, 8, 40):
            with family(1) as target:
                log = journal()
                task = asyncio.create_task(inflict(case.fault, target.scene(log), for_s=60))
                for _ in range(moment):
                    await asyncio.sleep(0.001)
                if moment == 40:
                    while not log.entries():  # noqa: ASYNC110  nobody tells us
                        await asyncio.sleep(0.001)
                task.cancel()
                await asyncio.wait([task])
                entries = log.entries()
                outcomes.add(tuple(entry.action for entry in entries))
                assert entries == () or entries[0].hits == 2
                assert target.again.count == 0
                assert ended in (set(), set(target.pids))
                if not ended:
                    assert target.all_in(RUNS)
                    assert target.root.ask("40 + 2") == "42"
                if entries and not case.ends:
                    assert case.healed(target, entries[0])
            ended.clear()
        return outcomes

    outcomes = play(job())

    assert outcomes <= {(), ("applied",)} if case.ends else outcomes <= {(), ("applied", "healed")}
    assert () in outcomes
    assert len(outcomes) == 2


# seeded


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_hits_the_same_victims_and_another_hits_others(kind: str) -> None:
    case = CASES[kind]
    if case.whole:
        pytest.skip("takes the whole target or nothing: there is nothing to draw")
    of_cores = kind == "starve"
    count = len(os.sched_getaffinity(0)) if of_cores else WORKERS + 1
    if of_cores and count < 2:
        pytest.skip("with one core there is no share of them")
    places = drawn(count, 0.5, seed=1, occasion=0)
    another = next(seed for seed in range(2, 1000) if drawn(count, 0.5, seed=seed, occasion=0) != places)

    async def hit(seed: int) -> set[int]:
        with family() as target:
            async with case.fault.applied(target.scene(journal(), ratio=0.5, seed=seed)) as entry:
                if of_cores:
                    return {core for pid in entry.values for core in os.sched_getaffinity(pid)}
                return {target.pids.index(pid) for pid in entry.pids}

    first, again, other = play(hit(1)), play(hit(1)), play(hit(another))

    assert len(first) == round(0.5 * count)
    assert first == again
    assert first != other


# journalled


@pytest.mark.parametrize("kind", KINDS)
def test_journal_tells_who_was_touched_when_and_that_it_was_healed(kind: str) -> None:
    case = CASES[kind]

    async def job() -> tuple[Family, tuple[Entry, ...], tuple[float, ...]]:
        with family() as target:
            log = journal()
            before_s = time.monotonic()
            async with case.fault.applied(target.scene(log)):
                on_s = time.monotonic()
            return target, log.entries(), (before_s, on_s, time.monotonic())

    target, entries, (before_s, on_s, after_s) = play(job())

    assert [entry.action for entry in entries] == ["applied", "healed"] if case.fault.LASTS else ["applied"]
    assert [sorted(entry.pids) for entry in entries] == [sorted(target.pids)] * len(entries)
    assert {(entry.kind, entry.number, entry.hits) for entry in entries} == {(kind, 1, len(target.pids))}
    assert before_s <= entries[0].at_s <= on_s <= entries[-1].at_s + (0 if case.fault.LASTS else after_s) <= 2 * after_s


# atomic


@pytest.mark.parametrize("kind", KINDS)
def test_fault_that_fails_half_way_has_hit_nobody(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process of the tree obeys nobody; or, where processes are started, the second one does not come up."""
    case = CASES[kind]
    send, start = Process.send, starve.start
    burners: list[subprocess.Popen[bytes]] = []

    async def job() -> None:
        with family() as target:

            def disobey(process: Process, number: signal.Signals) -> bool:
                if process.pid == target.pids[2]:
                    raise ForeignProcessError(process.pid, f"send it {number.name}")
                return send(process, number)

            def start_one(core: int, nice: int) -> subprocess.Popen[bytes]:
                if burners:
                    raise starve.BurnerError("did not come up")
                burners.append(start(core, nice))
                return burners[0]

            log = journal()
            with monkeypatch.context() as patch:
                patch.setattr(Process, "send", disobey)
                patch.setattr(starve, "start", start_one)
                with pytest.raises(FloodmarkError):
                    await inflict(case.fault, target.scene(log), for_s=60)
            assert log.entries() == ()
            assert target.again.count == 0
            assert target.all_in(RUNS)
            assert target.root.ask(f"take({64 * MIB})") == str(64 * MIB)
            assert target.root.ask("opened()").isdigit()
            assert [burner.poll() for burner in burners] == [-signal.SIGKILL] * len(burners)

    play(job())

    assert bool(burners) == (kind == "starve")


# ratio 0


@pytest.mark.parametrize("kind", KINDS)
def test_ratio_0_signals_nobody_draws_nothing_and_says_so(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[kind]

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("ratio 0 is to do nothing at all")

    with family() as target:
        log = journal()
        with monkeypatch.context() as patch:
            patch.setattr(np.random, "default_rng", refuse)
            patch.setattr(Process, "send", refuse)
            patch.setattr(starve, "start", refuse)
            entry = play(inflict(case.fault, target.scene(log, ratio=0.0), for_s=60))

        assert (entry.hits, entry.pids, entry.note) == (0, (), "ratio is 0")
        assert log.entries() == (entry,)
        assert target.again.count == 0
        assert answers(target, entry)
        assert target.root.ask(f"take({64 * MIB})") == str(64 * MIB)
        assert target.root.ask("opened()").isdigit()
