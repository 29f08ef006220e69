"""Many streams polled fairly: bounds, shares, overflow, throttle, ends."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.clock import ManualClock
from floodmark.systems.conductor.backend.base import Complete, Failed, TokenStream
from floodmark.systems.conductor.errors import StreamExistsError, StreamLimitError
from floodmark.systems.conductor.settings import Overflow, StreamSettings
from floodmark.systems.conductor.streams import (
    END_SLOTS,
    POLL_CHARS,
    BufferOverflow,
    Completed,
    Errored,
    StreamEvent,
    StreamManager,
    Tokens,
    shares,
)

PLENTY = 10_000


class Table:
    """A manager with streams that a test fills by hand."""

    def __init__(self, settings: StreamSettings | None = None, *, streams: int = 1, priority: int = 50) -> None:
        self.clock = ManualClock()
        self.woken = 0
        self.manager = StreamManager(settings or StreamSettings(), self.clock, self._wake)
        self.streams = {f"s{number}": TokenStream(capacity_count=5000) for number in range(streams)}
        for stream_id, stream in self.streams.items():
            self.manager.start(stream_id, stream, priority=priority)

    def _wake(self) -> None:
        self.woken += 1

    def poll(self, *, take: int = 256, slots: int = PLENTY, coalesced: bool = False) -> list[StreamEvent]:
        return self.manager.poll(take_limit=take, slots=slots, coalesced=coalesced)


def texts(events: list[StreamEvent], stream_id: str = "s0") -> list[str]:
    return [text for event in events if isinstance(event, Tokens) and event.stream_id == stream_id for text in event.texts]


def counted(events: list[StreamEvent]) -> int:
    tokens = [event for event in events if isinstance(event, Tokens)]
    return sum(len(event.texts) if event.counts is None else sum(event.counts) for event in tokens)


def numbers(count: int, start: int = 0) -> list[str]:
    return [f"{number};" for number in range(start, start + count)]


def test_poll_gives_what_has_arrived_and_no_more_than_its_limit() -> None:
    table = Table()
    table.streams["s0"].put(numbers(600))

    first, second, third, fourth = (table.poll() for _ in range(4))

    assert [len(texts(events)) for events in (first, second, third, fourth)] == [256, 256, 88, 0]
    assert texts(first) + texts(second) + texts(third) == numbers(600)
    assert fourth == []


def test_poll_takes_no_more_than_the_surface_has_room_for() -> None:
    table = Table()
    table.streams["s0"].put(numbers(100))

    events = table.poll(slots=7)

    assert texts(events) == numbers(7)
    assert table.streams["s0"].available_count == 93
    assert table.poll(slots=0) == []
    assert counted(table.poll(slots=1, coalesced=True)) == 93


def test_poll_of_long_tokens_moves_about_as_many_characters_as_it_may_and_one_token_at_least() -> None:
    table = Table()
    table.streams["s0"].put(["x" * 60_000] * 60)
    table.streams["s0"].put(["y" * (2 * POLL_CHARS)])

    sizes = [sum(map(len, texts(table.poll()))) for _ in range(60)]

    assert sum(sizes) == 60 * 60_000 + 2 * POLL_CHARS
    assert max(sizes[:-1]) <= 2 * POLL_CHARS + 60_000
    assert 0 < sizes[0] <= POLL_CHARS


def test_poll_shares_by_priority_and_doubles_for_the_focus() -> None:
    table = Table(streams=3)
    for stream in table.streams.values():
        stream.put(numbers(1000))
    table.manager.focus_id = "s1"

    events = table.poll(take=256)

    assert [len(texts(events, f"s{number}")) for number in range(3)] == [64, 128, 64]
    assert counted(events) == 256


def test_poll_of_one_slot_at_a_time_starves_nobody() -> None:
    table = Table(streams=5)
    for stream in table.streams.values():
        stream.put(numbers(100))

    seen = [event.stream_id for _ in range(50) for event in table.poll(slots=1) if isinstance(event, Tokens)]

    assert {stream_id: seen.count(stream_id) for stream_id in table.streams} == dict.fromkeys(table.streams, 10)


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 200)), min_size=1, max_size=16), st.integers(0, 2000))
def test_shares_use_the_whole_limit_and_give_nobody_more_than_wanted(lanes: list[tuple[int, int]], limit: int) -> None:
    wants, weights = [want for want, _ in lanes], [weight for _, weight in lanes]

    given_ = shares(wants, weights, limit)

    assert all(0 <= count <= want for count, want in zip(given_, wants, strict=True))
    assert sum(given_) == min(limit, sum(wants))
    for count, want, weight in zip(given_, wants, weights, strict=True):
        assert count >= min(want, limit * weight // sum(weights))


def test_seventeenth_stream_and_a_second_one_of_the_same_name_are_refused() -> None:
    table = Table(streams=16)

    with pytest.raises(StreamLimitError, match="16 answers are being streamed"):
        table.manager.start("s16", TokenStream())
    with pytest.raises(StreamExistsError, match="answered already"):
        table.manager.start("s3", TokenStream())
    table.streams["s3"].finish(Complete(token_count=0))
    table.poll()
    table.manager.start("s16", TokenStream())

    assert len(table.manager) == 16


def test_end_comes_after_the_last_token_once_and_the_stream_is_gone() -> None:
    table, done = Table(), Complete(token_count=300)
    table.streams["s0"].put(numbers(300))
    table.streams["s0"].finish(done)

    events = [event for _ in range(4) for event in table.poll()]

    assert texts(events) == numbers(300)
    assert events[-1] == Completed("s0", done)
    assert len(events) == 3
    assert "s0" not in table.manager


def test_end_waits_until_the_surface_has_room_for_it() -> None:
    table = Table()
    table.streams["s0"].finish(Failed(reason="broke"))

    assert table.poll(slots=END_SLOTS - 1) == []
    assert table.poll(slots=END_SLOTS) == [Errored("s0", "broke")]


def test_silent_stream_fails_after_the_idle_limit_and_one_that_speaks_does_not() -> None:
    async def main() -> None:
        table = Table(StreamSettings(idle_limit_s=5.0), streams=2)
        assert table.manager.next_due_s() == pytest.approx(5.0)
        for _ in range(4):
            await table.clock.advance(1.5)
            table.streams["s1"].put(["x"])
            events = table.poll()
        assert Errored("s0", "hung: the backend gave nothing for 5 s") in events
        assert table.streams["s0"].cancelled
        assert "s1" in table.manager

    asyncio.run(main())


def test_stream_that_waits_for_the_surface_has_not_hung() -> None:
    async def main() -> None:
        table = Table(StreamSettings(idle_limit_s=5.0))
        table.streams["s0"].put(["x"])
        for _ in range(10):
            await table.clock.advance(4)
            assert table.poll(slots=0) == []
        assert texts(table.poll()) == ["x"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("overflow", "kept"), [(Overflow.DROP_OLDEST, numbers(10, 20)), (Overflow.DROP_NEWEST, numbers(10)), (Overflow.HOLD, numbers(30))]
)
def test_full_buffer_does_what_was_declared(overflow: Overflow, kept: list[str]) -> None:
    table = Table(StreamSettings(buffer_count=10, overflow=overflow))
    table.streams["s0"].put(numbers(30))

    without_room = table.poll(slots=0)
    events = [event for _ in range(4) for event in table.poll()]

    assert texts(events) == kept
    dropped = 30 - len(kept)
    assert table.manager.dropped_count == dropped
    assert [event for event in without_room if isinstance(event, BufferOverflow)] == (
        [BufferOverflow("s0", dropped, overflow)] if dropped else []
    )


def test_concatenated_tokens_keep_their_text_their_order_and_their_count() -> None:
    table = Table(StreamSettings(buffer_count=10, overflow=Overflow.CONCATENATE))
    for start in range(0, 90, 30):
        table.streams["s0"].put(numbers(30, start))
        table.poll(slots=0)

    events = table.poll()

    assert "".join(texts(events)) == "".join(numbers(90))
    assert counted(events) == 90
    assert len(texts(events)) == 11
    assert (table.manager.dropped_count, table.manager.concatenated_count) == (0, 80)


@pytest.mark.parametrize("overflow", list(Overflow))
def test_buffer_with_as_many_characters_as_it_may_hold_makes_the_backend_wait(overflow: Overflow) -> None:
    table = Table(StreamSettings(buffer_count=100, overflow=overflow, buffer_chars=50))
    table.manager.throttled = True

    for start in range(0, 900, 30):
        table.streams["s0"].put(numbers(30, start))
        table.poll(take=30, slots=0)

    waiting = table.streams["s0"].available_count
    table.manager.throttled = False

    assert waiting > 700
    assert "".join(texts([event for _ in range(40) for event in table.poll()])) == "".join(numbers(900))


def test_throttle_holds_tokens_back_for_its_interval() -> None:
    async def main() -> None:
        table = Table()
        table.manager.throttled = True
        table.streams["s0"].put(["a"])
        assert texts(table.poll()) == ["a"]
        table.streams["s0"].put(["b"])
        assert table.poll() == []
        assert table.manager.next_due_s() == pytest.approx(0.033)
        table.streams["s0"].put(["c"])
        await table.clock.advance(0.034)
        assert texts(table.poll()) == ["b", "c"]

    asyncio.run(main())


@pytest.mark.parametrize("overflow", list(Overflow))
@pytest.mark.parametrize("terminal", [Complete(token_count=2), Failed(reason="broke")])
def test_tokens_held_by_the_throttle_come_before_the_end(overflow: Overflow, terminal: Complete | Failed) -> None:
    table = Table(StreamSettings(overflow=overflow))
    table.manager.throttled = True
    stream = table.streams["s0"]
    stream.put(["a"])
    table.poll()
    stream.put(["b"])
    held = table.poll()
    stream.put(["c"])
    stream.finish(terminal)

    events = table.poll()

    assert held == []
    assert texts(events) == ["b", "c"]
    assert isinstance(events[-1], Completed | Errored)


def test_end_waits_until_everything_that_was_held_back_has_gone_out_over_several_polls() -> None:
    table = Table()
    table.manager.throttled = True
    table.streams["s0"].put(["first"])
    table.poll()
    table.streams["s0"].put(numbers(600))
    held = [table.poll() for _ in range(3)]
    table.streams["s0"].finish(Complete(token_count=601))

    polls = [table.poll() for _ in range(3)]

    assert held == [[], [], []]
    assert [len(texts(events)) for events in polls] == [256, 256, 88]
    assert [any(isinstance(event, Completed) for event in events) for events in polls] == [False, False, True]


def test_full_buffer_is_released_before_the_throttle_is_due() -> None:
    table = Table(StreamSettings(buffer_count=100))
    table.manager.throttled = True
    table.streams["s0"].put(["first"])
    table.poll()

    table.streams["s0"].put(numbers(250))
    seen = [text for _ in range(3) for text in texts(table.poll())]

    assert len(seen) >= 100
    assert seen == numbers(250)[: len(seen)]


def test_throttle_that_is_switched_off_gives_what_it_held_first() -> None:
    table = Table()
    table.manager.throttled = True
    for text in ("a", "b"):
        table.streams["s0"].put([text])
        table.poll()
    table.manager.throttled = False
    table.streams["s0"].put(["c"])

    assert [text for _ in range(2) for text in texts(table.poll())] == ["b", "c"]


def test_cancelled_streams_are_gone_at_once_and_wake_nobody() -> None:
    table = Table(streams=3)
    for stream in table.streams.values():
        stream.put(["x"])

    assert table.manager.cancel("s1")
    assert not table.manager.cancel("s1")
    assert table.manager.cancel_all() == ["s0", "s2"]
    woken = table.woken
    table.streams["s0"].put(["late"])

    assert table.poll() == []
    assert table.woken == woken
    assert all(stream.cancelled for stream in table.streams.values())
    assert table.manager.next_due_s() is None


STEPS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), st.integers(0, 30), st.booleans()), max_size=40)


@given(STEPS, st.sampled_from([Overflow.HOLD, Overflow.CONCATENATE]), st.booleans())
def test_any_pattern_of_arrivals_and_room_loses_nothing_where_nothing_may_be_lost(
    steps: list[tuple[int, int, int, bool]], overflow: Overflow, throttled: bool
) -> None:
    async def main() -> None:
        table = Table(StreamSettings(buffer_count=8, overflow=overflow), streams=3)
        table.manager.throttled = throttled
        put = dict.fromkeys(table.streams, 0)
        seen: list[StreamEvent] = []
        for number, count, slots, coalesced in steps:
            stream_id = f"s{number}"
            table.streams[stream_id].put(numbers(count, put[stream_id]))
            put[stream_id] += count
            events = table.poll(take=20, slots=slots, coalesced=coalesced)
            used = sum(1 if coalesced else len(event.texts) for event in events if isinstance(event, Tokens))
            assert used <= slots
            assert counted(events) <= 20 or overflow is Overflow.CONCATENATE
            seen += events
            await table.clock.advance(0.01)
        for stream in table.streams.values():
            stream.finish(Complete(token_count=0))
        while len(table.manager):
            seen += table.poll()
        for stream_id, count in put.items():
            assert "".join(texts(seen, stream_id)) == "".join(numbers(count))
        assert counted(seen) == sum(put.values())
        assert sum(isinstance(event, Completed) for event in seen) == 3

    asyncio.run(main())


def test_stream_that_gathered_under_a_throttle_leaves_the_others_no_more_than_the_room_that_is_left() -> None:
    table = Table(streams=2)
    table.manager.throttled = True
    table.poll()  # the first one comes at once, what follows gathers
    table.streams["s0"].put(numbers(1))
    table.poll()
    table.streams["s0"].put(numbers(100, 1))
    table.poll()
    table.manager.throttled = False
    table.streams["s1"].put(numbers(200))

    polled = [table.poll(slots=150) for _ in range(4)]

    assert [counted(events) for events in polled] == [150, 150, 0, 0]
    assert [text for events in polled for text in texts(events, "s0")] == numbers(100, 1)
    assert [text for events in polled for text in texts(events, "s1")] == numbers(200)
