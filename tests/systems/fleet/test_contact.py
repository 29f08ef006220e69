"""The line to the store: limits, outcomes, and what is told of them; and pauses that grow."""

from __future__ import annotations

import asyncio
import random

import pytest

from floodmark.systems.fleet.contact import RETRY_MOST_S, Contact, Retry
from floodmark.systems.fleet.errors import ConnectivityError
from floodmark.systems.fleet.metrics import Counters, Metric
from floodmark.systems.fleet.settings import Settings
from floodmark.systems.fleet.simulation.loop import virtual
from floodmark.systems.fleet.store.base import KeyExistsError, StoreUnavailableError


class Line:
    """One contact and what it told."""

    def __init__(self) -> None:
        self.told: list[Exception] = []
        self.metrics = Counters()
        self.contact = Contact(Settings(operation_limit_s=2.0), self.metrics, self.told.append)


async def answer(value: int, *, after_s: float = 0.0, error: Exception | None = None) -> int:
    await asyncio.sleep(after_s)
    if error is not None:
        raise error
    return value


@virtual
async def test_ask_gives_the_answer_and_notes_how_long_it_took() -> None:
    line = Line()

    assert await line.contact.ask("get", answer(7, after_s=0.5)) == 7

    assert line.metrics.durations[Metric.STORE_OPERATION_S, "get"].max_s == pytest.approx(0.5)
    assert line.contact.health.answering


@virtual
async def test_ask_without_an_answer_ends_at_its_limit_or_at_that_of_all_operations() -> None:
    line = Line()
    loop = asyncio.get_running_loop()
    for limit_s, expected_s in ((0.5, 0.5), (None, 2.0), (9.0, 2.0)):
        began_s = loop.time()

        with pytest.raises(StoreUnavailableError, match=f"get: no answer within {expected_s:g} s; it may have been done"):
            await line.contact.ask("get", answer(7, after_s=60.0), limit_s=limit_s)

        assert loop.time() - began_s == pytest.approx(expected_s)
    assert not line.contact.health.answering


@virtual
async def test_ask_that_is_refused_was_answered() -> None:
    line = Line()
    line.contact.health.disconnected(0.0)

    with pytest.raises(KeyExistsError):
        await line.contact.ask("create", answer(7, error=KeyExistsError("bucket", "key")))

    assert line.contact.health.answering
    assert line.told == []


@virtual
async def test_failures_in_a_row_are_told_once_and_again_after_an_answer() -> None:
    line = Line()

    async def fail() -> None:
        with pytest.raises(StoreUnavailableError):
            await line.contact.ask("get", answer(7, error=StoreUnavailableError("get", "planted")))

    await fail()
    await fail()
    assert [str(error) for error in line.told] == ["the store did not answer when asked to get: planted"]
    await line.contact.ask("get", answer(7))
    line.contact.health.disconnected(0.0)  # the monitor was first to see it
    await fail()

    assert [type(error) for error in line.told] == [ConnectivityError, ConnectivityError]


def test_pauses_grow_to_their_most_and_begin_anew_after_a_success() -> None:
    retry = Retry(random.Random(1).random)

    pauses_s = [retry.pause_s() for _ in range(12)]

    for number, pause_s in enumerate(pauses_s):
        whole_s = min(0.05 * 2**number, RETRY_MOST_S)
        assert whole_s / 2 <= pause_s <= whole_s
    retry.reset()
    assert retry.pause_s() <= 0.05


def test_pauses_of_two_workers_differ() -> None:
    one, another = Retry(random.Random(1).random), Retry(random.Random(2).random)

    assert [one.pause_s() for _ in range(5)] != [another.pause_s() for _ in range(5)]
