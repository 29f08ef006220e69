"""Bytes to tokens: events and lines cut at any byte, every kind of line end, and ends that are none."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.systems.conductor.backend.base import Complete, Failed
from floodmark.systems.conductor.backend.ollama import LINE_BYTES, LineReader
from floodmark.systems.conductor.backend.openai import ChatReader
from floodmark.systems.conductor.backend.sse import EVENT_BYTES, SseError, SseReader
from tests.systems.conductor.serving import DONE, event

CUTS = st.lists(st.integers(0, 2000), max_size=30)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """Data in pieces, cut at these places."""
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in at)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def usage(count: int) -> bytes:
    return b"data: " + json.dumps({"choices": [], "usage": {"completion_tokens": count}, "model": "m"}).encode() + b"\n\n"


# ---- server-sent events

STREAM = b": a comment\n\ndata: one\nid: 7\n\nevent: error\ndata:two\ndata:  lines\ndata\n\n\n"
STREAM += b"retry: 5\ndata: gr\xc3\xbc\xc3\x9fe \xf0\x9f\x8c\x8a\n\n"
EVENTS = [("", b"one"), ("error", b"two\n lines\n"), ("", "grüße 🌊".encode())]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@given(at=CUTS, mark=st.booleans())
def test_sse_cut_anywhere_gives_the_same_events(line_end: bytes, at: list[int], mark: bool) -> None:
    data = (b"\xef\xbb\xbf" if mark else b"") + STREAM.replace(b"\n", line_end)
    reader = SseReader()

    assert [found for piece in cut(data, at) for found in reader.feed(piece)] == EVENTS
    assert reader.finish() == b""


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_sse_byte_by_byte_gives_each_event_with_its_last_byte(line_end: bytes) -> None:
    reader = SseReader()
    data = b"data: x" + line_end + line_end[:1]

    assert [reader.feed(data[at : at + 1]) for at in range(len(data))] == [*[[]] * (len(data) - 1), [("", b"x")]]


def test_sse_event_without_its_empty_line_is_none_but_can_be_asked_for() -> None:
    reader = SseReader()

    assert reader.feed(b"data: x\n\ndata: y\n") == [("", b"x")]
    assert reader.finish() == b"y"


@pytest.mark.parametrize("piece", [b"x" * 10_000, b"data: " + b"x" * 10_000 + b"\n"])
def test_sse_event_without_end_is_refused_at_its_bound(piece: bytes) -> None:
    reader = SseReader()
    for _ in range(EVENT_BYTES // len(piece)):
        assert reader.feed(piece) == []

    with pytest.raises(SseError, match="more than 1048576 bytes"):
        reader.feed(piece)


@pytest.mark.parametrize("piece_bytes", [1000, 65_536, EVENT_BYTES])
def test_sse_event_within_its_bound_is_read_however_it_is_cut(piece_bytes: int) -> None:
    reader = SseReader()
    text = b"x" * (EVENT_BYTES - 100)
    data = b": a comment, which is none of the event's\n" * 50_000 + b"data: " + text + b"\n\n"

    assert [found for at in range(0, len(data), piece_bytes) for found in reader.feed(data[at : at + piece_bytes])] == [("", text)]


def test_sse_many_events_are_no_long_event() -> None:
    reader = SseReader()

    for _ in range(3):
        assert len(reader.feed(b"data: " + b"x" * (EVENT_BYTES // 2) + b"\n\n")) == 1


# ---- chat completions

ANSWER = event("", role="assistant") + event("grüße ") + event("🌊 ") + event("end") + usage(9) + DONE


@given(at=CUTS)
def test_chat_cut_anywhere_gives_the_same_text_and_end(at: list[int]) -> None:
    reader = ChatReader()

    texts = [text for piece in cut(ANSWER, at) for text in reader.feed(piece)]

    assert texts == ["grüße ", "🌊 ", "end"]
    assert reader.terminal == Complete(token_count=9, usage=9, model="m")


@given(st.integers(0, len(ANSWER) - 1))
def test_chat_cut_off_at_any_byte_is_not_complete_unless_done_was_whole(length: int) -> None:
    reader = ChatReader()

    reader.feed(ANSWER[:length])
    reader.finish()

    assert (reader.terminal is not None) == (length >= len(ANSWER) - 1)  # all but the empty line after [DONE]


def test_chat_without_usage_counts_its_pieces() -> None:
    reader = ChatReader()

    reader.feed(event("a") + event("b"))
    reader.feed(event("c") + DONE)

    assert reader.terminal == Complete(token_count=3, usage=None)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'data: {"error": {"message": "out of memory", "code": 500}}\n\n', "error event: out of memory"),
        (b'data: {"error": "busy"}\n\n', "error event: busy"),
        (b'data: {"object": "error", "message": "gone", "code": 400}\n\n', "error event: gone"),
        (b"event: error\ndata: something\n\n", "error event: something"),
        (b"data: {oops\n\n", "error event: an event cannot be read"),
        (b'data: {"choices": [{"delta": {"content": 7}}]}\n\n', "error event: an event cannot be read"),
        (b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n', "error event: an event cannot be read"),
    ],
)
def test_chat_error_in_mid_stream_fails_and_nothing_after_it_counts(bad: bytes, reason: str) -> None:
    reader = ChatReader()

    texts = reader.feed(event("a") + bad + event("b") + DONE)
    reader.feed(DONE)

    assert texts == ["a"]
    assert isinstance(reader.terminal, Failed)
    assert reader.terminal.reason.startswith(reason)


def test_chat_after_its_end_hears_nothing_more() -> None:
    reader = ChatReader()

    assert reader.feed(event("a") + DONE + event("b")) == ["a"]
    assert reader.terminal == Complete(token_count=1)


def test_chat_empty_answer_is_complete() -> None:
    reader = ChatReader()

    assert reader.feed(b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n' + DONE) == []
    assert reader.terminal == Complete(token_count=0)


# ---- Ollama

LINES = "".join(json.dumps({"model": "m", "response": text, "done": False}, ensure_ascii=False) + "\n" for text in ("grüße ", "🌊 ", "end"))
LAST = json.dumps({"model": "m", "response": "", "done": True, "eval_count": 5}) + "\n"


@given(at=CUTS, line_end=st.sampled_from(["\n", "\r\n", ""]))
def test_lines_cut_anywhere_give_the_same_text_and_end(at: list[int], line_end: str) -> None:
    reader = LineReader()
    data = (LINES + LAST.rstrip("\n") + line_end).encode()

    texts = [text for piece in cut(data, at) for text in reader.feed(piece)]
    texts += reader.finish()

    assert texts == ["grüße ", "🌊 ", "end"]
    assert reader.terminal == Complete(token_count=5, usage=5, model="m")


@given(st.integers(0, len((LINES + LAST).encode()) - 2))
def test_lines_cut_off_at_any_byte_are_not_complete(length: int) -> None:
    reader = LineReader()

    reader.feed((LINES + LAST).encode()[:length])
    reader.finish()

    assert not isinstance(reader.terminal, Complete)


@pytest.mark.parametrize(("bad", "reason"), [(b'{"error": "no such model"}\n', "no such model"), (b"oops\n", "a line cannot be read")])
def test_lines_error_fails(bad: bytes, reason: str) -> None:
    reader = LineReader()

    assert reader.feed(b'{"response": "a"}\n' + bad + LAST.encode()) == ["a"]
    assert isinstance(reader.terminal, Failed)
    assert reason in reader.terminal.reason


def test_lines_without_end_are_refused_at_their_bound() -> None:
    reader = LineReader()

    for _ in range(LINE_BYTES // 10_000 + 2):
        reader.feed(b"x" * 10_000)

    assert isinstance(reader.terminal, Failed)
