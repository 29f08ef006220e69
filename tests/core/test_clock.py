"""Waiting on a clock, the real one and the one that is moved by hand."""

from __future__ import annotations

import asyncio
import time

import pytest

from floodmark.core.clock import ManualClock, RealClock, limit, settle, sleep


def test_manual_clock_stands_still_until_it_is_advanced() -> None:
    async def main() -> list[float]:
        clock, woken_s = ManualClock(start_s=0.0), []

        async def waits(seconds: float) -> None:
            await sleep(clock, seconds)
            woken_s.append(clock.now_s())

        tasks = [asyncio.create_task(waits(seconds)) for seconds in (4.0, 1.0, 2.0)]
        await clock.advance(0.5)
        assert woken_s == []
        await clock.advance(10)
        await asyncio.gather(*tasks)
        return woken_s

    assert asyncio.run(main()) == [1.0, 2.0, 4.0]


def test_manual_clock_what_a_woken_task_waits_for_next_falls_due_in_the_same_advance() -> None:
    async def main() -> list[float]:
        clock, at_s = ManualClock(start_s=0.0), []

        async def retries() -> None:
            for seconds in (1, 2, 4):
                await sleep(clock, seconds)
                at_s.append(clock.now_s())

        task = asyncio.create_task(retries())
        await clock.advance(7)
        await task
        assert clock.sleeps_s == [1, 2, 4]
        return at_s

    assert asyncio.run(main()) == [1.0, 3.0, 7.0]


def test_sleep_cancelled_half_way_leaves_no_timer() -> None:
    async def main() -> int:
        clock = ManualClock()
        task = asyncio.create_task(sleep(clock, 5))
        await settle()
        task.cancel()
        await asyncio.wait({task})
        return clock.waiting_count

    assert asyncio.run(main()) == 0


def test_limit_passed_raises_timeout_and_says_that_it_expired() -> None:
    async def main() -> None:
        clock = ManualClock()

        async def hangs() -> bool:
            try:
                async with limit(clock, 3) as scope:
                    await asyncio.Event().wait()
            except TimeoutError:
                return scope.expired()
            return False

        task = asyncio.create_task(hangs())
        await clock.advance(2.9)
        assert not task.done()
        await clock.advance(0.1)
        assert await task

    asyncio.run(main())


def test_limit_kept_or_none_does_nothing() -> None:
    async def main() -> int:
        clock = ManualClock()
        async with limit(clock, 3):
            pass
        async with limit(clock, None):
            pass
        await clock.advance(10)
        return clock.waiting_count

    assert asyncio.run(main()) == 0


def test_real_clock_sleeps_and_goes_on() -> None:
    async def main() -> float:
        clock = RealClock()
        started_s = clock.now_s()
        await sleep(clock, 0.01)
        return clock.now_s() - started_s

    assert 0.009 <= asyncio.run(main()) < 10
    assert abs(RealClock().wall_s() - time.time()) < 60


def test_real_clock_limit_expires() -> None:
    async def main() -> None:
        async with limit(RealClock(), 0.01):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        asyncio.run(main())
