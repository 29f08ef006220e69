"""The supervisor: restarts one for one, within a budget, and leaves no child behind."""

from __future__ import annotations

import asyncio
import logging
import pickle

import pytest

from floodmark.core.clock import ManualClock, settle
from floodmark.systems.pipeline.errors import RecoverableError, SupervisorNotFoundError
from floodmark.systems.pipeline.supervisor import GaveUpError, Supervisor, always


class Job:
    """Fails as often as it is told, then waits to be released."""

    def __init__(self, failures: int, error: type[Exception] = RecoverableError) -> None:
        self.failures = failures
        self.error = error
        self.started_count = 0
        self.released = asyncio.Event()
        self.was_cancelled = False

    async def __call__(self) -> None:
        self.started_count += 1
        if self.started_count <= self.failures:
            raise self.error(f"crash {self.started_count}")
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


def test_a_child_that_breaks_is_restarted_and_its_sibling_is_not() -> None:
    async def main() -> None:
        supervisor, broken, healthy = Supervisor(ManualClock()), Job(3), Job(0)
        tasks = [supervisor.start("broken", broken), supervisor.start("healthy", healthy)]
        await settle()

        assert (broken.started_count, healthy.started_count) == (4, 1)
        assert supervisor.restarted_count == 3
        broken.released.set()
        healthy.released.set()
        await asyncio.gather(*tasks)
        assert supervisor.children == frozenset()

    asyncio.run(main())


def test_ten_restarts_are_made_and_the_eleventh_crash_is_final(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        supervisor, job = Supervisor(ManualClock(), restarts_max=10, window_s=60), Job(99)

        with pytest.raises(
            GaveUpError, match="child broke again after 10 restarts within 60 s, last with RecoverableError: crash 11"
        ) as raised:
            await supervisor.start("child", job)

        assert job.started_count == 11
        assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert "child broke and is started again (10 of 10)" in caplog.text


def test_restarts_outside_the_window_do_not_count() -> None:
    async def main() -> None:
        clock = ManualClock()
        supervisor = Supervisor(clock, restarts_max=2, window_s=60)
        crash = asyncio.Event()
        started: list[float] = []

        async def job() -> None:
            started.append(clock.now_s())
            await crash.wait()
            crash.clear()
            raise RecoverableError("again")

        task = supervisor.start("child", job)
        for _ in range(6):
            await clock.advance(31)
            crash.set()
            await settle()
        assert len(started) == 7
        assert not task.done()
        for _ in range(2):
            crash.set()
            await settle()

        assert isinstance(task.exception(), GaveUpError)

    asyncio.run(main())


def test_an_error_that_no_restart_cures_comes_out_as_it_is() -> None:
    async def main() -> None:
        supervisor, job = Supervisor(ManualClock()), Job(1, ValueError)

        with pytest.raises(ValueError, match="crash 1"):
            await supervisor.start("child", job)

        assert job.started_count == 1

    asyncio.run(main())


def test_a_service_is_restarted_after_anything() -> None:
    async def main() -> None:
        supervisor, job = Supervisor(ManualClock()), Job(2, ZeroDivisionError)
        supervisor.start("service", job, restart=always)
        await settle()

        assert job.started_count == 3
        await supervisor.aclose()

    asyncio.run(main())


def test_close_cancels_and_awaits_every_child_and_takes_no_more() -> None:
    async def main() -> None:
        supervisor, jobs = Supervisor(ManualClock()), [Job(0) for _ in range(5)]
        for job in jobs:
            supervisor.start("child", job)
        await settle()

        await supervisor.aclose()

        assert all(job.was_cancelled for job in jobs)
        assert supervisor.children == frozenset()
        with pytest.raises(SupervisorNotFoundError):
            supervisor.start("late", Job(0))

    asyncio.run(main())


def test_stop_a_child_that_does_not_end_is_left_after_its_time_and_told(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        supervisor, released = Supervisor(ManualClock(), shutdown_s=0.02), asyncio.Event()

        async def stubborn() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await released.wait()

        task = supervisor.start("stubborn child", stubborn)
        await settle()
        await supervisor.stop(task)

        assert not task.done()
        released.set()
        await task

    asyncio.run(main())
    assert "stubborn child did not end within 0.02 s" in caplog.text
