"""The shape of an answer: what is proper, and every anomaly planted once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.drivers.sse_events import Event
from floodmark.drivers.sse_shape import OpenAIShape, PlainRules, PlainShape, Shape, marker, path_of

DONE: Event = (b"", b"[DONE]")


def chunk(content: str | None = None, *, finish: str | None = None, index: int = 0, **more: Any) -> Event:
    delta = {} if content is None else {"content": content}
    return b"", json.dumps({"id": "a", "choices": [{"index": index, "delta": delta, "finish_reason": finish}], **more}).encode()


def usage(count: int | None) -> Event:
    return b"", json.dumps({"choices": [], "usage": {"completion_tokens": count}}).encode()


def error(message: str, name: bytes = b"") -> Event:
    return name, json.dumps({"error": {"message": message, "type": "server_error"}}).encode()


def told(shape: Shape, *events: Event) -> list[bytes]:
    """Feed events one read each; give all texts."""
    return [text for event in events for text in shape.take([event])]


def test_shape_of_a_proper_answer_is_finished_with_its_usage() -> None:
    shape = OpenAIShape()

    texts = told(shape, chunk(""), chunk("a b"), chunk("é"), chunk(finish="stop"), usage(2), DONE)
    shape.end()

    assert texts == [b"a b", "é".encode()]
    assert (shape.settled, shape.failure, shape.told, shape.odd) == (True, "", 2, [])


def test_shape_of_a_proper_answer_in_one_read_is_the_same() -> None:
    shape = OpenAIShape()

    texts = shape.take([chunk("a"), chunk("b", finish="stop"), DONE])

    assert texts == [b"a", b"b"]
    assert (shape.settled, shape.failure, shape.told, shape.odd) == (True, "", -1, [])


@pytest.mark.parametrize(
    ("events", "failure"),
    [
        pytest.param([chunk("a")], "ended without its terminal event", id="nothing"),
        pytest.param([chunk("a"), DONE], "ended without its terminal event", id="done-without-reason"),
        pytest.param([chunk("a"), chunk(finish="stop"), usage(1)], "ended without its terminal event", id="reason-without-done"),
        pytest.param([chunk("a"), error("no room")], "error event: no room", id="error-object"),
        pytest.param([chunk("a"), error("no room", b"error")], "error event: no room", id="error-by-name"),
        pytest.param([(b"error", b"it broke\xff")], "error event: it broke?", id="error-in-words"),
        pytest.param([(b"", b'{"error":"flat"}')], "error event: flat", id="error-flat"),
    ],
)
def test_shape_of_an_answer_that_does_not_end_properly_is_failed(events: list[Event], failure: str) -> None:
    shape = OpenAIShape()

    told(shape, *events)
    shape.end()

    assert (shape.settled, shape.failure.replace("\ufffd", "?")) == (True, failure)
    assert shape.odd == []


def test_shape_of_an_answer_cut_off_says_why() -> None:
    shape = OpenAIShape()

    told(shape, chunk("a"))
    shape.end("closed the connection")

    assert shape.failure == "cut off: closed the connection"


@pytest.mark.parametrize(
    ("after", "what"),
    [
        pytest.param([DONE], ["a second [DONE]"], id="done-twice"),
        pytest.param([chunk("b")], ["text after the end: b"], id="text-after-done"),
        pytest.param([usage(1)], ["the usage after the end"], id="usage-after-done"),
        pytest.param([error("x")], ["an error after the end"], id="error-after-done"),
        pytest.param([chunk(finish="stop")], ["an empty chunk after the end"], id="reason-after-done"),
        pytest.param([(b"", b"{")], ["an event after the end: {"], id="rubbish-after-done"),
        pytest.param([chunk("b"), DONE], ["text after the end: b", "a second [DONE]"], id="both"),
    ],
)
def test_shape_of_what_follows_the_end_is_odd_and_no_text(after: list[Event], what: list[str]) -> None:
    shape = OpenAIShape()

    texts = told(shape, chunk("a"), chunk(finish="stop"), DONE, *after)
    shape.end()

    assert texts == [b"a"]
    assert shape.failure == ""
    assert shape.odd == what


@pytest.mark.parametrize(
    ("event", "what"),
    [
        pytest.param(chunk("b"), "text after the finish_reason: b", id="text"),
        pytest.param(chunk(finish="length"), "a second finish_reason: length", id="reason"),
    ],
)
def test_shape_of_what_follows_the_finish_reason_is_odd(event: Event, what: str) -> None:
    shape = OpenAIShape()

    texts = told(shape, chunk("a"), chunk(finish="stop"), event, DONE)

    assert texts == [b"a"]
    assert (shape.failure, shape.odd) == ("", [what])


@pytest.mark.parametrize("data", [b"{", b"", b"null", b'{"choices":5}', b'{"choices":[{"delta":{"content":"\xff"}}]}', b"[DONE"])
def test_shape_of_an_unreadable_event_is_odd_and_the_answer_goes_on(data: bytes) -> None:
    shape = OpenAIShape()

    texts = told(shape, chunk("a"), (b"", data), chunk("b"), chunk(finish="stop"), DONE)

    assert texts == [b"a", b"b"]
    assert shape.failure == ""
    assert [odd[:29] for odd in shape.odd] == ["an event that cannot be read:"]


def test_shape_done_after_an_error_is_what_servers_do() -> None:
    shape = OpenAIShape()

    told(shape, error("x"), DONE)
    once = list(shape.odd)
    told(shape, DONE)

    assert once == []
    assert shape.odd == ["a second [DONE]"]


def test_shape_of_other_answers_to_the_prompt_is_not_read() -> None:
    shape = OpenAIShape()

    texts = told(shape, chunk("a"), chunk("other", index=1), chunk(finish="stop", index=1), chunk("b"), chunk(finish="stop"), DONE)

    assert texts == [b"a", b"b"]
    assert (shape.failure, shape.odd) == ("", [])


def test_shape_of_chunks_with_running_usage_keeps_the_last() -> None:
    shape = OpenAIShape()

    texts = told(shape, chunk("a", usage={"completion_tokens": 1}), chunk("b", usage={"completion_tokens": 2}), chunk(finish="stop"), DONE)

    assert texts == [b"a", b"b"]
    assert shape.told == 2


@pytest.mark.parametrize("event", [(b"", b'{"choices":null}'), (b"", b'{"choices":[{"index":0,"delta":null}]}')])
def test_shape_of_empty_chunks_is_proper(event: Event) -> None:
    shape = OpenAIShape()

    told(shape, event, chunk(finish="stop"), DONE)

    assert (shape.settled, shape.failure, shape.odd) == (True, "", [])


# -- plain streams -----------------------------------------------------------------------------------------------------------------------


def plain(done: str = "[DONE]", failing: str = "event:error", text: str = "", count: str = "") -> PlainShape:
    return PlainShape(
        PlainRules(
            text_path=path_of(text, option="text_path"),
            usage_path=path_of(count, option="usage_path"),
            done=marker(done),
            error=marker(failing),
        )
    )


def test_plain_shape_takes_the_data_as_text() -> None:
    shape = plain()

    texts = told(shape, (b"", b"one "), (b"add", b"two"), DONE)

    assert texts == [b"one ", b"two"]
    assert (shape.settled, shape.failure) == (True, "")


def test_plain_shape_finds_text_usage_and_end_where_the_options_say() -> None:
    shape = plain(done="event:done", text="out.0.text", count="stats.tokens")

    texts = told(shape, (b"", b'{"out":[{"text":"a"}]}'), (b"", b'{"other":1}'), (b"done", b'{"stats":{"tokens":7}}'))

    assert texts == [b"a"]
    assert (shape.settled, shape.failure, shape.told, shape.odd) == (True, "", 7, [])


@pytest.mark.parametrize(
    ("events", "failure", "odd_count"),
    [
        pytest.param([(b"", b"x")], "ended without its terminal event", 0, id="no-end"),
        pytest.param([(b"error", b"broken")], "error event: broken", 0, id="error"),
        pytest.param([DONE, DONE], "", 1, id="twice"),
        pytest.param([DONE, (b"", b"x")], "", 1, id="after"),
    ],
)
def test_plain_shape_of_an_improper_answer_is_told(events: list[Event], failure: str, odd_count: int) -> None:
    shape = plain()

    told(shape, *events)
    shape.end()

    assert (shape.failure, len(shape.odd)) == (failure, odd_count)


def test_plain_shape_of_json_that_cannot_be_read_is_odd() -> None:
    shape = plain(text="t")

    told(shape, (b"", b"{"), DONE)

    assert (shape.failure, len(shape.odd)) == ("", 1)


# -- whatever comes ----------------------------------------------------------------------------------------------------------------------

BITS = st.sampled_from(
    [
        chunk("a"),
        chunk(""),
        chunk(finish="stop"),
        usage(3),
        usage(None),
        error("x"),
        error("y", b"error"),
        DONE,
        (b"", b"{"),
        (b"ping", b"{}"),
    ]
)


@given(events=st.lists(BITS, max_size=12), reads=st.lists(st.integers(1, 4), max_size=12), cut=st.sampled_from(["", "gone"]))
def test_shape_of_whatever_comes_settles_once_and_like_the_slow_reading(events: list[Event], reads: list[int], cut: str) -> None:
    shape, at, texts, settled = OpenAIShape(), 0, list[bytes](), list[tuple[str, int]]()
    for count in [*reads, len(events)]:
        texts += shape.take(events[at : at + count])
        at += count
        if shape.settled:
            settled.append((shape.failure, shape.told))
    shape.end(cut)

    before = events[: next((at for at, (_, data) in enumerate(events) if data == b"[DONE]" or b"error" in data), len(events))]
    finish = next((at for at, (_, data) in enumerate(before) if b'"stop"' in data), len(before))
    assert texts == [b"a"] * before[:finish].count(chunk("a"))
    assert shape.settled
    assert len({failure for failure, _ in settled} | {shape.failure}) == 1
    assert (shape.failure == "") == (finish < len(before) and DONE in events and events[len(before)] == DONE)


@given(data=st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=40)), max_size=6))
def test_shape_of_any_bytes_is_settled_at_the_end_without_an_exception(data: list[Event]) -> None:
    for shape in (OpenAIShape(), plain(), plain(text="a.0.b", count="c", done="event:d")):
        shape.take(data)
        shape.end()

        assert shape.settled
        assert shape.failure.isprintable()
