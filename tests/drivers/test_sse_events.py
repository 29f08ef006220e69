"""Cutting a body into events: the standard's rules, cut at any byte, against a slow and obvious reader."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.drivers.sse_events import BYTE_ORDER_MARK, Event, EventCutter, EventTooLongError


def slowly(body: bytes) -> list[Event]:
    """The standard, word by word, on a whole body."""
    events: list[Event] = []
    name, data, has_data = b"", b"", False
    text = body.removeprefix(BYTE_ORDER_MARK)
    lines = re.split(rb"\r\n|\r|\n", text)
    for line in lines[:-1]:  # what follows the last line's end is not a line
        if not line:
            if has_data:
                events.append((name, data[:-1]))
            name, data, has_data = b"", b"", False
            continue
        if line.startswith(b":"):
            continue
        field, colon, value = line.partition(b":")
        if colon and value.startswith(b" "):
            value = value[1:]
        if field == b"event":
            name = value
        elif field == b"data":
            data, has_data = data + value + b"\n", True
    return events


PIECES = st.sampled_from(
    [
        b"data: one",
        b"data:two",
        b"data",
        b"data:",
        b"data:  x",
        b"event: add",
        b"event",
        b"id: 7",
        b": talk",
        b"other: y",
        b"data: \xc3\xa9",
        b"\n",
    ]
)
BODIES = st.builds(
    lambda mark, parts, end: mark + b"".join(piece + eol for piece, eol in parts) + end,
    st.sampled_from([b"", BYTE_ORDER_MARK]),
    st.lists(st.tuples(PIECES, st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b"\r\r"])), max_size=12),
    st.sampled_from([b"", b"data: cut"]),
)


@given(body=BODIES, cuts=st.lists(st.integers(0, 200), max_size=8))
def test_events_cut_at_any_byte_are_those_of_the_standard(body: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    cutter = EventCutter()

    events = [event for a, b in itertools.pairwise(places) for event in cutter.feed(body[a:b])]

    assert events == slowly(body)


@given(body=BODIES)
def test_events_fed_byte_by_byte_are_those_of_the_standard(body: bytes) -> None:
    cutter = EventCutter()

    events = [event for at in range(len(body)) for event in cutter.feed(body[at : at + 1])]

    assert events == slowly(body)


def test_events_with_an_id_and_a_retry_are_remembered() -> None:
    cutter = EventCutter()

    cutter.feed(b"id: 7\nretry: 250\ndata: x\n\nid: a\0b\nretry: soon\ndata: y\n\n")

    assert (cutter.last_id, cutter.retry_ms) == (b"7", 250)


def test_event_without_data_is_none() -> None:
    assert EventCutter().feed(b"event: ping\n\n: talk\n\nid: 3\n\n") == []


@pytest.mark.parametrize("step", [1, 7, 100])
def test_event_without_an_end_is_refused_at_the_limit(step: int) -> None:
    cutter = EventCutter(limit_bytes=100 // step * step)

    for _ in range(100 // step):
        assert cutter.feed(b"x" * step) == []
    with pytest.raises(EventTooLongError, match="an event of more than"):
        cutter.feed(b"x" * step)
