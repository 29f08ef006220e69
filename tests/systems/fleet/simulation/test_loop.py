"""The loop on virtual time: what it keeps of asyncio, and what its nodes can suffer."""

from __future__ import annotations

import asyncio
import time

import pytest

from floodmark.systems.fleet.simulation.loop import VirtualLoop, VirtualTimeError, current_node, run_virtual, virtual

HOUR_S = 3600.0


def the_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def test_loop_asked_to_sleep_an_hour_takes_no_time() -> None:
    async def sleeper() -> float:
        began_s = asyncio.get_running_loop().time()
        await asyncio.sleep(HOUR_S)
        return asyncio.get_running_loop().time() - began_s

    began_s = time.monotonic()
    slept_s = run_virtual(sleeper())

    assert slept_s == pytest.approx(HOUR_S)
    assert time.monotonic() - began_s < 20


@virtual
async def test_virtual_on_a_test_runs_it_on_virtual_time() -> None:
    the_loop()
    await asyncio.sleep(HOUR_S)


def test_loop_with_timeouts_tasks_and_events_behaves_as_asyncio_does() -> None:
    async def scene() -> list[str]:
        said: list[str] = []
        bell = asyncio.Event()

        async def waits() -> None:
            await bell.wait()
            said.append("woken")

        async def is_late() -> None:
            try:
                async with asyncio.timeout(2):
                    await asyncio.sleep(10)
            except TimeoutError:
                said.append("late")

        async with asyncio.TaskGroup() as group:
            group.create_task(waits())
            group.create_task(is_late())
            await asyncio.sleep(1)
            bell.set()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(5), 1)
        return said

    assert run_virtual(scene()) == ["woken", "late"]


def test_loop_sleeping_until_a_moment_finds_it_reached() -> None:
    async def scene() -> int:
        loop = asyncio.get_running_loop()
        rounds = 0
        for step in range(1, 1000):
            until_s = 1000.0 + step * 0.1
            while loop.time() < until_s:  # would never end if a timer could fire a rounding error early
                await asyncio.sleep(until_s - loop.time())
                rounds += 1
        return rounds

    assert run_virtual(scene()) == 999


def order_of(seed: int, *, nodes: int, each: int) -> list[tuple[str, int]]:
    async def scene() -> list[tuple[str, int]]:
        loop = the_loop()
        order: list[tuple[str, int]] = []

        async def count(name: str) -> None:
            for number in range(each):
                order.append((name, number))
                await asyncio.sleep(0)

        tasks = [loop.start_in(loop.node(f"n{k}"), count(f"n{k}")) for k in range(nodes)]
        await asyncio.gather(*tasks)  # the tasks are the scene's own, each in another context
        return order

    return run_virtual(scene(), seed=seed)


def test_loop_with_several_nodes_mixes_them_by_the_seed() -> None:
    orders = {tuple(order_of(seed, nodes=3, each=5)) for seed in range(20)}

    assert len(orders) > 15
    assert order_of(7, nodes=3, each=5) == order_of(7, nodes=3, each=5)


def test_loop_with_several_nodes_keeps_each_one_first_in_first_out() -> None:
    for seed in range(20):
        order = order_of(seed, nodes=3, each=5)
        assert all([number for name, number in order if name == node] == list(range(5)) for node in ("n0", "n1", "n2"))


async def ticks(into: list[float], *, count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(1)
        into.append(the_loop().now_s - 1000)


def test_freeze_of_a_node_holds_it_until_it_thaws() -> None:
    async def scene() -> tuple[list[float], list[float]]:
        loop = the_loop()
        frozen, free = loop.node("frozen"), loop.node("free")
        held: list[float] = []
        went: list[float] = []
        tasks = [loop.start_in(frozen, ticks(held, count=4)), loop.start_in(free, ticks(went, count=4))]
        await asyncio.sleep(1.5)
        loop.freeze(frozen)
        await asyncio.sleep(5)
        loop.thaw(frozen)
        await asyncio.gather(*tasks)
        return held, went

    held, went = run_virtual(scene())

    assert held == pytest.approx([1, 6.5, 7.5, 8.5])
    assert went == pytest.approx([1, 2, 3, 4])


def test_drop_of_a_node_runs_nothing_of_it_again() -> None:
    said: list[str] = []

    async def dies() -> None:
        try:
            await asyncio.sleep(2)
        finally:
            said.append("finally")
            await asyncio.sleep(1)
            said.append("never")

    async def scene() -> None:
        loop = the_loop()
        node = loop.node("dies")
        task = loop.start_in(node, dies())
        await asyncio.sleep(1)
        loop.drop(node)
        await asyncio.sleep(5)
        assert not task.done()
        assert said == []
        loop.bury(node)
        assert node.tasks_alive == []

    run_virtual(scene())

    assert said == ["finally"]


def test_clock_of_a_node_with_a_rate_runs_at_that_rate() -> None:
    async def scene() -> tuple[float, float]:
        loop = the_loop()
        node = loop.node("fast", clock_rate=1.01)

        async def waits() -> float:
            assert current_node() is node
            began_s = loop.time()
            await asyncio.sleep(101)
            return loop.time() - began_s

        began_s = loop.time()
        its = await loop.start_in(node, waits())
        return its, loop.time() - began_s

    its, ours = run_virtual(scene())

    assert its == pytest.approx(101)
    assert ours == pytest.approx(100)


def test_loop_with_nothing_to_wait_for_says_so() -> None:
    async def scene() -> None:
        with pytest.raises(VirtualTimeError, match="for ever"):
            raise_from_inside()
        await asyncio.sleep(0)

    def raise_from_inside() -> None:
        other = VirtualLoop()
        try:
            other._advance()
        finally:
            other.close()

    run_virtual(scene())


def test_run_virtual_of_a_coroutine_that_hangs_raises_instead_of_hanging() -> None:
    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return  # the runner cancels what the error left

    with pytest.raises(VirtualTimeError, match="nothing is ready and no timer is set"):
        run_virtual(hangs())


def test_run_virtual_with_a_callback_that_fails_raises() -> None:
    async def scene() -> None:
        asyncio.get_running_loop().call_later(1, lambda: 1 / 0)
        await asyncio.sleep(2)

    with pytest.raises(VirtualTimeError, match="ZeroDivisionError"):
        run_virtual(scene())


def test_loop_asked_for_a_thread_refuses() -> None:
    async def scene() -> None:
        await asyncio.to_thread(time.monotonic)

    with pytest.raises(VirtualTimeError, match="no threads"):
        run_virtual(scene())


def test_loop_with_many_cancelled_timers_keeps_few_of_them() -> None:
    async def scene() -> int:
        for _ in range(5000):
            async with asyncio.timeout(100):
                await asyncio.sleep(0.001)
        return len(the_loop()._timers)

    assert run_virtual(scene()) < 500
