"""What a watch sees of a channel, against the whole history of it and a system that is honest or is not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.drivers.drained import UNKNOWN, Watch

STEPS = st.lists(st.tuples(st.sampled_from(["asked", "taken", "received"]), st.integers(1, 50)), max_size=60)


def after(steps: Sequence[tuple[str, int]]) -> Watch:
    watch = Watch(records=0)
    for what, count in steps:
        match what:
            case "asked":
                watch.asked(count, 1)
            case "taken":
                watch.taken(count)
            case _:
                watch.received(count, 1)
    return watch


@given(STEPS)
def test_watch_keeps_the_most_that_was_ever_ahead_and_in_flight(steps: list[tuple[str, int]]) -> None:
    watch = after(steps)

    moments = [
        {what: sum(count for name, count in steps[: end + 1] if name == what) for what in ("asked", "taken", "received")}
        for end, (name, _) in enumerate(steps)
        if name == "taken"
    ]
    assert watch.ahead_max == max((max(0, now["taken"] - now["asked"]) for now in moments), default=UNKNOWN)
    assert watch.in_flight_max == max((max(0, now["taken"] - now["received"]) for now in moments), default=UNKNOWN)


def test_watch_says_when_a_maximum_is_new_and_only_then() -> None:
    watch = Watch(records=100)
    watch.asked(10, 1)

    said = [watch.taken(10), watch.taken(5), watch.received(15, 1), watch.taken(1), watch.taken(20)]

    assert said == [True, True, None, True, True]  # none ahead yet, 5 ahead, -, 6 ahead, 26 ahead
    assert (watch.ahead_max, watch.in_flight_max) == (26, 21)


def test_watch_that_is_not_passed_says_nothing_new() -> None:
    watch = Watch(records=100)
    watch.asked(100, 1)

    said = [watch.taken(10), watch.received(10, 1), watch.taken(10), watch.received(10, 1), watch.taken(9)]

    assert said == [True, None, False, None, False]


@pytest.mark.parametrize(
    ("records", "demand", "timed"),
    [
        (20, 20, [5, 5, 5, 5]),
        (20, 10, [5, 5, 5, 5]),
        (20, 40, [5, 5]),  # a demand over two streams times the first of them
        (30, 20, [5]),  # only where an ask begins a stream
        (0, 20, []),  # streams that cannot be told apart
    ],
)
def test_watch_times_streams_whose_first_records_are_asked_for_by_themselves(records: int, demand: int, timed: list[int]) -> None:
    watch, now_ns, found = Watch(records), 1000, []
    watch.asked(demand, now_ns)

    for number in range(1, 101):
        now_ns += 5
        found.append(watch.received(1, now_ns))
        if number % demand == 0:
            watch.asked(demand, now_ns)

    assert [first for first in found if first is not None] == timed
