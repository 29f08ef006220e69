"""The publisher of an agent with a driver that batches: how messages are grouped, and what an answer to a batch resolves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from floodmark.drivers.base import Encoding
from floodmark.ledger.stamp import Stamp, read
from floodmark.model.arrival import Burst, Constant
from floodmark.model.scenario import Phase, Population
from floodmark.runner.agent.publishing import BATCHED_COUNT, Outlet, Publisher

CHANNELS = 50


class Line:
    """A publisher connection that keeps what it is given."""

    def __init__(self) -> None:
        self.writable = True
        self.batches: list[tuple[int, list[tuple[str, bytes]]]] = []
        self.singles: list[tuple[int, str, bytes]] = []

    def publish(self, channel: str, payload: bytes, token: int) -> None:
        self.singles.append((token, channel, payload))

    def publish_batch(self, items: Sequence[tuple[str, bytes]], token: int) -> None:
        self.batches.append((token, list(items)))

    def stamps(self) -> list[Stamp]:
        """Every stamp sent in batches, in order."""
        found = [read(payload, "text") for _, items in self.batches for _, payload in items]
        return [stamp for stamp in found if stamp is not None]


class Driver:
    """The part of a driver that the publisher looks at."""

    encoding: Encoding = "text"
    resumes = False

    def __init__(self, *, batches: bool, acknowledges: bool = True) -> None:
        self.batches, self.acknowledges = batches, acknowledges


def publisher_of(*lines: Line, batches: bool = True, acknowledges: bool = True) -> Publisher:
    population = Population(connections=CHANNELS, channels=CHANNELS, publishers=len(lines))
    publisher = Publisher(
        population=population,
        owned=np.arange(population.sources),
        driver=Driver(batches=batches, acknowledges=acknowledges),  # type: ignore[arg-type]
        run=7,
        seed=1,
        channel_names=[f"c{number}" for number in range(CHANNELS)],
    )
    publisher.outlets = {number: Outlet(line) for number, line in enumerate(lines)}  # type: ignore[arg-type]
    return publisher


def at_once(messages: int) -> Phase:
    return Phase(arrival=Burst(count=messages, every_s=3600.0), messages=messages, payload_bytes=100)


def played(publisher: Publisher, phase: Phase) -> None:
    asyncio.run(publisher.play(phase, 1))


def test_batches_hold_at_most_their_count_and_every_message_once_in_order() -> None:
    line = Line()
    publisher = publisher_of(line)
    played(publisher, at_once(1000))

    stamps = line.stamps()
    assert [len(items) for _, items in line.batches] == [256, 256, 256, 232]
    assert BATCHED_COUNT == 256
    assert line.singles == []
    assert [(stamp.publisher, stamp.seq) for stamp in stamps] == [(number % CHANNELS, number // CHANNELS) for number in range(1000)]
    assert all(stamp.intact for stamp in stamps)
    assert [channel for _, items in line.batches for channel, _ in items] == [f"c{number % CHANNELS}" for number in range(1000)]
    assert (publisher.published_count, publisher.pending_count) == (1000, 1000)


def test_batches_stay_with_the_connection_of_their_publisher() -> None:
    lines = Line(), Line()
    played(publisher_of(*lines), at_once(600))

    for number, line in enumerate(lines):
        assert {stamp.publisher % 2 for stamp in line.stamps()} == {number}
        assert len(line.stamps()) == 300


def test_batches_in_a_paced_phase_carry_the_intended_times_of_the_schedule() -> None:
    line = Line()
    played(publisher_of(line), Phase(arrival=Constant(rate_hz=5000), messages=500, payload_bytes=100))

    intended = np.array([stamp.intended_ns for stamp in line.stamps()])
    assert len(intended) == 500
    assert (np.diff(intended) == 200_000).all()
    assert 1 < len(line.batches) < 60  # what is due in one turn goes together, not one by one and not all at the end
    assert all(stamp.sent_ns >= stamp.intended_ns for stamp in line.stamps())


def test_acknowledged_batch_resolves_all_of_its_messages_and_no_other() -> None:
    line = Line()
    publisher = publisher_of(line)
    played(publisher, at_once(300))
    publisher.acknowledged(line.batches[0][0])
    publisher.acknowledged(line.batches[0][0])  # said twice: counted once
    publisher.settle_times()

    assert publisher.pending_count == 44
    assert publisher.publications.acknowledged_count == 256
    assert publisher.publications.ignored_count == 0
    assert publisher.ack.count == 256


def test_refused_batch_fails_all_of_its_messages_with_its_reason() -> None:
    line = Line()
    publisher = publisher_of(line)
    played(publisher, at_once(300))
    publisher.refuse(line.batches[1][0], "full")

    assert publisher.refused == {"full": 44}
    assert (publisher.publications.failed_count, publisher.pending_count) == (44, 256)


def test_connection_lost_leaves_its_batches_unanswered_and_those_of_others_pending() -> None:
    lines = Line(), Line()
    publisher = publisher_of(*lines)
    played(publisher, at_once(600))
    publisher.gone(lines[0], returning=False)  # type: ignore[arg-type]

    assert (publisher.unanswered_count, publisher.publications.failed_count, publisher.pending_count) == (300, 300, 300)
    publisher.acknowledged(lines[0].batches[0][0])
    assert publisher.publications.acknowledged_count == 0


def test_give_up_leaves_no_batch_pending() -> None:
    line = Line()
    publisher = publisher_of(line)
    played(publisher, at_once(300))
    publisher.acknowledged(line.batches[1][0])
    publisher.give_up()

    assert (publisher.unanswered_count, publisher.publications.failed_count, publisher.pending_count) == (256, 256, 0)


def test_batch_without_acknowledgements_counts_as_acknowledged_when_sent() -> None:
    line = Line()
    publisher = publisher_of(line, acknowledges=False)
    played(publisher, at_once(300))

    assert (publisher.publications.acknowledged_count, publisher.pending_count) == (300, 0)


@pytest.mark.parametrize("messages", [1, 300])
def test_driver_that_does_not_batch_gets_messages_one_by_one(messages: int) -> None:
    line = Line()
    played(publisher_of(line, batches=False), at_once(messages))

    assert line.batches == []
    assert [token for token, _, _ in line.singles] == list(range(1, messages + 1))


def test_batches_wait_while_the_connection_takes_no_more() -> None:
    line = Line()
    publisher = publisher_of(line)

    async def play() -> None:
        line.writable = False
        async with asyncio.TaskGroup() as group:
            task = group.create_task(publisher.play(at_once(300), 1))
            while not publisher.outlets[0].blocked_ns:  # noqa: ASYNC110  nothing signals it
                await asyncio.sleep(0.001)
            assert line.batches == []
            line.writable = True
            await task

    asyncio.run(asyncio.wait_for(play(), 30.0))

    assert len(line.stamps()) == 300
    assert publisher.lag.count == 0  # held up by the target, not late by our doing
