"""Frames: read back what was written, cut anywhere, and refused when they are none."""

from __future__ import annotations

import struct
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.systems.conductor.host.wire import FRAME_BYTES_MAX, BrokenProtocolError, FrameReader, frame, frames
from floodmark.systems.conductor.vocabulary import (
    ConductorState,
    Message,
    QuitRequested,
    ResponseMetadata,
    Role,
    StateSnapshot,
    StreamEnd,
    Token,
    UserMessage,
)

EVENTS = [UserMessage(event_id="evt_1", text="é" * 100), QuitRequested(event_id="evt_2"), UserMessage(text="x", conversation_id="c")]
encode = msgspec.json.encode


def opened(data: bytes) -> list[dict[str, object]]:
    """The events of a frame, its head checked."""
    length, checksum = struct.unpack_from(">II", data)
    assert length == len(data) - 8
    assert checksum == zlib.crc32(data[8:])
    events: list[dict[str, object]] = msgspec.json.decode(data[8:])
    return events


@given(cuts=st.lists(st.integers(0, 600), max_size=6))
def test_frames_cut_anywhere_are_read_in_order(cuts: list[int]) -> None:
    data = frame(encode(EVENTS[0])) + frame(encode(EVENTS[1:]))
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    reader = FrameReader()

    events = [event for at, until in zip(places, places[1:] or [0], strict=False) for event in reader.feed(data[at:until])]

    assert events == EVENTS


@pytest.mark.parametrize(
    ("data", "word"),
    [
        pytest.param(struct.pack(">II", 0, 0), "0 bytes", id="empty"),
        pytest.param(struct.pack(">II", FRAME_BYTES_MAX + 1, 0), "bytes", id="too-long"),
        pytest.param(struct.pack(">II", 2, 7) + b"{}", "checksum", id="checksum"),
        pytest.param(frame(b"{"), "holds no event", id="no-json"),
        pytest.param(frame(b'{"kind":"dance"}'), "holds no event", id="unknown-kind"),
        pytest.param(frame(b'{"kind":"user_message"}'), "holds no event", id="missing-field"),
        pytest.param(frame(b'{"kind":"user_message","text":"\xff"}'), "holds no event", id="no-utf-8"),
    ],
)
def test_frame_that_is_none_is_refused(data: bytes, word: str) -> None:
    with pytest.raises(BrokenProtocolError, match=word):
        FrameReader().feed(data)


def test_events_are_one_frame() -> None:
    tokens = [Token(message_id="msg_1", text=str(number)) for number in range(3)]

    written = frames(tokens)

    assert [[event["text"] for event in opened(data)] for data in written] == [["0", "1", "2"]]


def test_events_too_long_for_one_frame_are_several() -> None:
    tokens = [Token(message_id="msg_1", text=str(number) * 3_000_000) for number in range(7)]

    written = frames(tokens)

    assert len(written) > 2
    assert max(len(data) for data in written) <= FRAME_BYTES_MAX + 8
    assert [str(event["text"])[0] for data in written for event in opened(data)] == list("0123456")


def test_end_too_long_for_a_frame_keeps_its_newest_part() -> None:
    end = StreamEnd(message_id="msg_1", final_content="\x01" * 3_000_000 + "end", metadata=ResponseMetadata())

    (written,) = frames([end])
    (event,) = opened(written)

    assert str(event["final_content"]).endswith("\x01end")
    assert event["truncated"] is True


def test_snapshot_too_long_for_a_frame_keeps_its_newest_messages() -> None:
    messages = tuple(Message(id=f"msg_{number}", role=Role.USER, content="x" * 2_000_000) for number in range(20))

    (written,) = frames([StateSnapshot(state=ConductorState.READY, messages=messages)])
    (event,) = opened(written)

    assert [message["id"] for message in event["messages"]][-1] == "msg_19"  # type: ignore[attr-defined]


def test_tokens_made_one_that_is_too_long_for_a_frame_are_parted_and_counted() -> None:
    text = "\x01" * 2_000_000 + "\x02" * 2_000_000

    written = frames([Token(message_id="msg_1", text=text, count=5)])
    events = [event for data in written for event in opened(data)]

    assert max(len(data) for data in written) <= FRAME_BYTES_MAX + 8
    assert "".join(str(event["text"]) for event in events) == text
    assert sum(int(str(event.get("count", 1))) for event in events) == 5


def test_token_too_long_for_a_frame_is_an_error() -> None:
    with pytest.raises(ValueError, match="fits in no frame"):
        frames([Token(message_id="msg_1", text="x" * (FRAME_BYTES_MAX + 1))])
