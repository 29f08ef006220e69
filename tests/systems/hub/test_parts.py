"""The pure parts, against slow and obvious models: the channel log, filters, frames, selections, retries and the breaker."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.breaker import BreakerState, CircuitBreaker
from floodmark.systems.hub.bus.base import Retry, end, tell_failure
from floodmark.systems.hub.bus.jetstream import channel_of, subject_of
from floodmark.systems.hub.errors import OffsetExpired
from floodmark.systems.hub.event import Event, EventIds
from floodmark.systems.hub.filters import MISSING, Operator, holds, lookup
from floodmark.systems.hub.log import ChannelLog
from floodmark.systems.hub.selection import Selection
from floodmark.systems.hub.subscription import Subscription
from floodmark.systems.hub.wire import MODERN, frame


def event(data: Any = None, offset: int = 1, **changes: Any) -> Event:
    made = Event(
        id="i", event_type=changes.get("event_type", "t"), data=json.dumps(data).encode(), channel="c", timestamp_s=1.5,
        correlation_id=None,
    )  # fmt: skip
    made.offset = offset
    return made


class FakeLaggard:
    """As much of a subscription as the log looks at."""

    def __init__(self, log: ChannelLog, cursor: int) -> None:
        self.log, self.cursor = log, cursor

    def queue_start(self) -> int:
        return self.cursor

    def queue_start_bytes(self) -> int:
        return self.log.bytes_before(self.cursor)


@given(
    steps=st.lists(
        st.one_of(st.integers(1, 30).map(lambda size: ("append", size)), st.tuples(st.just("move"), st.integers(0, 9))), max_size=120
    ),
    history=st.sampled_from([0, 3, 70]),
    laggards=st.integers(0, 3),
)
def test_log_keeps_what_laggards_and_history_need_and_knows_its_room(steps: list[tuple[str, int]], history: int, laggards: int) -> None:
    log = ChannelLog("c", history_events=history, history_bytes=10**9)
    everything: list[Event] = []
    slow = [FakeLaggard(log, 1) for _ in range(laggards)]
    for each in slow:
        log.add_laggard(cast("Subscription", each))
    for kind, value in steps:
        if kind == "append":
            fits = all(len(everything) + 1 - each.cursor < 20 for each in slow)
            assert log.room(1, 20, 10**9) == (fits if slow else True)
            made = event("x" * value, offset=len(everything) + 1)
            everything.append(made)
            log.append(made)
            log.flushed = log.head
        elif slow:
            each = slow[value % len(slow)]
            each.cursor = min(each.cursor + value, log.head + 1)
        log.trim()

        assert log.head == len(everything)
        assert log.entries == everything[log.first - 1 :]
        assert log.end_bytes == sum(len(made.data) for made in everything)
        if slow:
            assert log.first <= min(each.cursor for each in slow)
        assert log.first <= max(1, len(everything) + 1 - history)
        assert log.gone_offset == log.first - 1
        for position in range(log.first, log.head + 2):
            assert log.bytes_before(position) == sum(len(made.data) for made in everything[: position - 1])


@given(offsets=st.sets(st.integers(1, 60), min_size=1, max_size=25), gone=st.integers(0, 20), after=st.integers(-2, 70))
def test_log_resume_gives_exactly_the_events_behind_an_offset_or_refuses(offsets: set[int], gone: int, after: int) -> None:
    every = sorted(offsets)
    gone = min(gone, len(every))
    log = ChannelLog("c", history_events=1000, history_bytes=10**9)
    for number in every:
        log.append(event(offset=number))
    if gone:
        log.gone_offset = log.entries[gone - 1].offset
        del log.entries[:gone], log.ends[:gone]
        log.first += gone
    lost = every[:gone]
    possible = after == every[-1] or (0 <= after <= every[-1] and not any(number > after for number in lost))

    if possible:
        cursor = log.cursor_after(after, every[-1])
        assert [made.offset for made in log.entries[cursor - log.first :]] == [number for number in every if number > after]
    else:
        with pytest.raises(OffsetExpired):
            log.cursor_after(after, every[-1])


@pytest.mark.parametrize(
    ("op", "found", "value", "result"),
    [
        (Operator.EQUALS, 1, 1, True),
        (Operator.EQUALS, 1, True, False),
        (Operator.EQUALS, 1.0, 1, True),
        (Operator.EQUALS, MISSING, None, False),
        (Operator.EQUALS, None, None, True),
        (Operator.NOT_EQUALS, MISSING, 1, True),
        (Operator.NOT_EQUALS, 1, 1, False),
        (Operator.GREATER_THAN, 2, 1, True),
        (Operator.GREATER_THAN, "b", "a", True),
        (Operator.GREATER_THAN, "2", 1, False),
        (Operator.GREATER_THAN, True, 0, False),
        (Operator.GREATER_THAN, MISSING, 0, False),
        (Operator.LESS_THAN, 1, 2, True),
        (Operator.LESS_THAN, None, 2, False),
        (Operator.EXISTS, None, None, True),
        (Operator.EXISTS, MISSING, None, False),
        (Operator.NOT_EXISTS, MISSING, None, True),
        (Operator.CONTAINS, "flood", "loo", True),
        (Operator.CONTAINS, [1, "a"], "a", True),
        (Operator.CONTAINS, [1], True, False),
        (Operator.CONTAINS, {"k": 1}, "k", True),
        (Operator.CONTAINS, 7, 7, False),
        (Operator.IN, 2, [1, 2], True),
        (Operator.IN, MISSING, [None], False),
        (Operator.NOT_IN, 3, [1, 2], True),
        (Operator.NOT_IN, MISSING, [1], True),
    ],
)
def test_filter_operator(op: Operator, found: Any, value: Any, result: bool) -> None:
    assert holds(op, found, value) is result


def test_lookup_walks_dicts_and_lists() -> None:
    made = event({"a": {"b": [10, {"c": None}]}}, event_type="kind")

    assert lookup(made, "data.a.b.0") == 10
    assert lookup(made, "data.a.b.1.c") is None
    assert [lookup(made, field) for field in ("data.a.b.2", "data.a.x", "data.a.b.c", "data.a.b.0.z")] == [MISSING] * 4
    assert (lookup(made, "event_type"), lookup(made, "channel")) == ("kind", "c")


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 70000])
def test_frame_head_is_the_one_of_rfc_6455(size: int) -> None:
    made = frame(b"x" * size)
    length = made[1]
    start = 2
    if length == 126:
        length, start = int.from_bytes(made[2:4], "big"), 4
    elif length == 127:
        length, start = int.from_bytes(made[2:10], "big"), 10

    assert made[0] == 0x81
    assert length == size
    assert made[start:] == b"x" * size


@given(st.text(min_size=1, max_size=40), st.text(max_size=40), st.one_of(st.none(), st.text(max_size=20)))
def test_next_message_is_json_whatever_the_texts_are(operation_id: str, channel: str, correlation_id: str | None) -> None:
    made = Event(
        id="i", event_type=channel, data=b'{"k": [1]}', channel=channel, timestamp_s=2.25, correlation_id=correlation_id
    )  # fmt: skip
    fields = [(name, name) for name in ("id", "eventType", "data", "channel", "timestamp", "correlationId", "offset", "__typename")]
    text = MODERN.next_prefix(operation_id) + Selection("events", fields).render(made) + b"}"

    assert json.loads(text) == {
        "id": operation_id,
        "type": "next",
        "payload": {
            "data": {
                "events": {
                    "id": "i", "eventType": channel, "data": {"k": [1]}, "channel": channel, "timestamp": 2.25,
                    "correlationId": correlation_id, "offset": 0, "__typename": "Event",
                }
            }
        },
    }  # fmt: skip


def test_event_ids_are_unique_and_shaped_like_uuids() -> None:
    import uuid

    first, second = EventIds(), EventIds()
    made = [first.next() for _ in range(1000)] + [second.next() for _ in range(1000)]

    assert len(set(made)) == 2000
    assert str(uuid.UUID(made[0])) == made[0]


@given(st.text(min_size=1, max_size=100))
def test_subject_of_any_channel_is_one_safe_token_and_comes_back(channel: str) -> None:
    subject = subject_of(channel)

    assert channel_of(subject) == channel
    assert subject.count(".") == 3
    assert not set(subject) & set(" *>\r\n\t")


def test_retry_doubles_up_to_its_longest_with_jitter() -> None:
    pauses = list(Retry(attempts=10, jitter=0.0).pauses(random.Random(1)))
    shaken = list(Retry(attempts=10).pauses(random.Random(1)))

    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]
    assert all(0.9 * plain <= pause <= 1.1 * plain for plain, pause in zip(pauses, shaken, strict=True))
    assert shaken != pauses


def test_breaker_opens_after_failures_in_a_row_and_closes_after_successes() -> None:
    breaker = CircuitBreaker(failure_limit=3, success_limit=2, open_s=0.5)
    for _ in range(2):
        breaker.failed(0.0)
    breaker.succeeded()
    for _ in range(3):
        assert breaker.allows(1.0)
        breaker.failed(1.0)

    assert breaker.state is BreakerState.OPEN
    assert [breaker.allows(1.1) for _ in range(5)] == [False] * 5
    assert breaker.rejected_count == 5
    assert breaker.allows(1.6)
    states: list[BreakerState] = [breaker.state]
    for _ in range(2):
        breaker.succeeded()
        states.append(breaker.state)
    assert states == [BreakerState.HALF_OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED]


def test_breaker_half_open_fails_once_and_is_open_again() -> None:
    breaker = CircuitBreaker(failure_limit=1, open_s=1.0)
    breaker.failed(0.0)
    assert breaker.allows(1.0)
    breaker.failed(1.0)

    assert breaker.state is BreakerState.OPEN
    assert not breaker.allows(1.9)


def test_job_of_a_bus_that_fails_is_told_when_it_does_and_one_that_is_ended_is_not(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise KeyError("planted")

    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    async def play() -> list[str]:
        tasks = [asyncio.create_task(fail()), asyncio.create_task(wait())]
        for task in tasks:
            task.add_done_callback(tell_failure)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0)
        told = [record.getMessage() for record in caplog.records]
        await end(tasks)
        return told

    with caplog.at_level(logging.ERROR, "floodmark.hub.bus"):
        told = asyncio.run(play())

    assert told == ["a job of the bus has failed, and is not done any more: KeyError: 'planted'"]
    assert len(caplog.records) == 1
