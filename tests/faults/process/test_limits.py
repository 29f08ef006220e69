"""Memory and descriptor limits on live processes: what fails with them, what goes on, and that everything is given back."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from typing import Literal

import pytest

from floodmark.core.errors import UsageError
from floodmark.faults.process import Descriptors, Journal, Memory, Scene, inflict
from floodmark.faults.process.spec import ProcessFault
from floodmark.faults.process.tree import ForeignProcessError

from .victim import Victim, journal, play, state, until, victim

MIB = 1 << 20
WHICH = {"data": resource.RLIMIT_DATA, "address_space": resource.RLIMIT_AS}
LIMITS: list[ProcessFault] = [Memory(extra_bytes=64 * MIB), Memory(extra_bytes=64 * MIB, area="address_space"), Descriptors()]


def scene(target: Victim, log: Journal, ratio: float = 1.0) -> Scene:
    """A scene without a restarter."""
    return Scene(tree=target.tree, journal=log, ratio=ratio)


def limits(pid: int) -> list[tuple[int, int]]:
    """All limits that the faults may move."""
    return [resource.prlimit(pid, which) for which in (resource.RLIMIT_DATA, resource.RLIMIT_AS, resource.RLIMIT_NOFILE)]


@pytest.mark.parametrize("area", ["data", "address_space"])
def test_memory_limit_fails_the_allocation_beyond_it_and_nobody_elses(area: Literal["data", "address_space"]) -> None:
    async def job() -> None:
        with victim() as target, victim() as stranger:
            log = journal()
            before = limits(target.pid)
            async with Memory(extra_bytes=64 * MIB, area=area).applied(scene(target, log)) as entry:
                assert entry.pids == (target.pid,)
                assert entry.values == (resource.prlimit(target.pid, WHICH[area])[0],)
                assert target.ask(f"take({128 * MIB})") == "ENOMEM"
                assert target.ask(f"take({32 * MIB})") == str(32 * MIB)
                assert target.ask(f"bytearray({512 * MIB})") == "MemoryError"
                assert stranger.ask(f"take({128 * MIB})") == str(128 * MIB)
            assert limits(target.pid) == before
            assert target.ask(f"take({128 * MIB})") == str(128 * MIB)
            assert log.entries()[-1].pids == (target.pid,)

    play(job())


def test_memory_factor_leaves_room_in_proportion_to_what_the_process_has() -> None:
    async def job() -> None:
        with victim() as target:
            target.ask(f"take({200 * MIB})")
            async with Memory(factor=1.5).applied(scene(target, journal())):
                assert target.ask(f"take({50 * MIB})") == str(50 * MIB)
                assert target.ask(f"take({100 * MIB})") == "ENOMEM"

    play(job())


@pytest.mark.parametrize("extra", [0, 1, 5])
def test_descriptor_limit_allows_exactly_that_many_more_whatever_the_numbers(extra: int) -> None:
    async def job() -> None:
        with victim() as target, victim() as stranger:
            for _ in range(6):
                target.ask("opened()")
            target.ask("kept.pop(1).close()")  # leaves gaps among the numbers
            target.ask("kept.pop(2).close()")
            before = limits(target.pid)
            log = journal()
            async with Descriptors(extra=extra).applied(scene(target, log)) as entry:
                assert entry.hits == 1
                answers = [target.ask("opened()") for _ in range(extra + 2)]
                assert [answer.isdigit() for answer in answers] == [True] * extra + [False] * 2
                assert set(answers[extra:]) == {"EMFILE"}
                assert stranger.ask("opened()").isdigit()
            assert limits(target.pid) == before
            assert target.ask("opened()").isdigit()

    play(job())


@pytest.mark.parametrize("fault", LIMITS)
def test_limit_covers_the_whole_tree_and_is_healed_for_heirs_as_well(fault: ProcessFault) -> None:
    async def job() -> None:
        with victim() as target:
            worker = target.worker()
            before = limits(target.pid)
            log = journal()
            async with fault.applied(scene(target, log)) as entry:
                assert entry.pids == (target.pid, worker)
                held = limits(target.pid)
                assert held != before
                assert [hard for _, hard in held] == [hard for _, hard in before]
                heir = int(target.ask("fork_idle()"))
                assert limits(heir) == held
            assert limits(target.pid) == limits(worker) == limits(heir) == before
            assert sorted(log.entries()[-1].pids) == sorted([target.pid, worker, heir])

    play(job())


@pytest.mark.parametrize("fault", LIMITS)
def test_limit_process_gone_meanwhile_is_told_and_the_others_are_healed(fault: ProcessFault) -> None:
    async def job() -> None:
        with victim() as target:
            worker = target.worker()
            before = limits(target.pid)
            log = journal()
            async with fault.applied(scene(target, log)):
                os.kill(worker, signal.SIGKILL)
                until(lambda: state(worker), lambda letter: letter == "Z")
            assert limits(target.pid) == before
            assert log.entries()[-1].pids == (target.pid,)
            assert log.entries()[-1].note == "1 had ended or changed the limit themselves"

    play(job())


def test_limit_refused_by_one_of_the_tree_stays_on_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with victim() as target:
        worker = target.worker()
        before = limits(target.pid)
        real = resource.prlimit
        refused: list[tuple[int, int]] = []

        def foreign(pid: int, which: int, wanted: tuple[int, int] | None = None) -> tuple[int, int]:
            if pid == worker and wanted is not None:
                refused.append(real(target.pid, which))
                raise PermissionError
            return real(pid, which) if wanted is None else real(pid, which, wanted)

        log = journal()
        with monkeypatch.context() as patch:
            patch.setattr(resource, "prlimit", foreign)
            with pytest.raises(ForeignProcessError, match=f"process {worker} .* change its limits"):
                play(inflict(Descriptors(), scene(target, log), for_s=1))

        assert refused[0] not in before  # the root had it already
        assert limits(target.pid) == limits(worker) == before
        assert log.entries() == ()
        assert target.ask("1") == "1"


def test_limit_that_cannot_be_given_back_is_an_error_once_the_others_are_healed(monkeypatch: pytest.MonkeyPatch) -> None:
    with victim() as target:
        worker = target.worker()
        before = limits(target.pid)
        real = resource.prlimit
        set_count = 0

        def foreign(pid: int, which: int, wanted: tuple[int, int] | None = None) -> tuple[int, int]:
            nonlocal set_count
            if pid == worker and wanted is not None:
                set_count += 1
                if set_count > 1:  # it changed its user since
                    raise PermissionError
            return real(pid, which) if wanted is None else real(pid, which, wanted)

        log = journal()
        with monkeypatch.context() as patch:
            patch.setattr(resource, "prlimit", foreign)
            with pytest.raises(ForeignProcessError, match=f"process {worker} .* give it back its limits"):
                play(inflict(Descriptors(), scene(target, log), for_s=0.05))

        assert limits(target.pid) == before
        assert limits(worker) != before
        assert [(entry.action, entry.pids) for entry in log.entries()][-1] == ("healed", (target.pid,))


def test_limit_that_the_target_changed_itself_is_left_as_it_is() -> None:
    async def job() -> None:
        with victim() as target:
            log = journal()
            async with Descriptors().applied(scene(target, log)):
                resource.prlimit(target.pid, resource.RLIMIT_NOFILE, (777, 777))
            assert resource.prlimit(target.pid, resource.RLIMIT_NOFILE) == (777, 777)
            assert log.entries()[-1].hits == 0

    play(job())


def test_limit_below_the_wanted_one_is_no_hit_and_is_not_raised() -> None:
    async def job() -> None:
        with victim() as target:
            resource.prlimit(target.pid, resource.RLIMIT_NOFILE, (10, 4000))
            async with Descriptors(extra=100).applied(scene(target, journal())) as entry:
                assert (entry.hits, entry.note) == (0, "no limit was above the wanted one")
                assert resource.prlimit(target.pid, resource.RLIMIT_NOFILE) == (10, 4000)

    play(job())


@pytest.mark.parametrize("fault", LIMITS)
def test_limit_cancelled_at_any_moment_is_given_back_and_the_tree_runs(fault: ProcessFault) -> None:
    async def job() -> None:
        with victim() as target:
            before = limits(target.pid)
            for moment in range(24):
                task = asyncio.create_task(inflict(fault, scene(target, journal()), for_s=60))
                for _ in range(moment // 3):
                    await asyncio.sleep(0.0002)
                task.cancel()
                await asyncio.wait([task])
                assert limits(target.pid) == before
                assert target.ask("1") == "1"

    play(job())


@pytest.mark.parametrize("fault", LIMITS)
def test_limit_at_ratio_0_or_for_0_s_touches_nobody(fault: ProcessFault) -> None:
    with victim() as target:
        before = limits(target.pid)
        log = journal()

        first = play(inflict(fault, scene(target, log, ratio=0.0), for_s=0.01))
        second = play(inflict(fault, scene(target, log), for_s=0))

        assert [(entry.hits, entry.note) for entry in (first, second)] == [(0, "ratio is 0"), (0, "for_s is 0")]
        assert log.entries() == (first, second)
        assert limits(target.pid) == before


@pytest.mark.parametrize("fault", LIMITS)
def test_limit_on_a_target_that_is_gone_hits_nobody(fault: ProcessFault) -> None:
    with victim() as target:
        target.process.kill()
        target.process.wait()

        entry = play(inflict(fault, scene(target, journal()), for_s=5))

        assert (entry.hits, entry.note) == (0, "no process of the target is left")


def test_limits_of_one_kind_that_overlap_are_refused_and_others_are_not() -> None:
    async def job() -> None:
        with victim() as target:
            before = limits(target.pid)
            async with Memory().applied(scene(target, journal())), Descriptors().applied(scene(target, journal())) as other:
                assert other.hits == 1
                with pytest.raises(UsageError, match="limit of its memory is still held"):
                    await inflict(Memory(), scene(target, journal()), for_s=1)
            assert limits(target.pid) == before

    play(job())
