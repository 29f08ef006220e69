"""The harness's frames against the system's: written by one, read by the other, cut anywhere, and refused when they are none."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.drivers.conductor_wire import FRAME_BYTES_MAX, BadFrameError, Event, Frames, frame
from floodmark.systems.conductor.host.wire import FrameReader, frames
from floodmark.systems.conductor.vocabulary import ResponseMetadata, StreamEnd, StreamError, StreamToken, Token, UserMessage

TEXTS = st.text(max_size=20)
SAID = st.lists(
    st.one_of(
        st.builds(lambda text, count: Token(message_id="msg_1", text=text, count=count), TEXTS, st.integers(1, 9)),
        st.builds(lambda text: StreamToken(conversation_id="c", message_id="msg_2", text=text), TEXTS),
        st.builds(lambda text: StreamEnd(message_id="msg_1", final_content=text, metadata=ResponseMetadata(token_count=7)), TEXTS),
        st.builds(lambda reason: StreamError(message_id="msg_1", reason=reason), TEXTS),
    ),
    min_size=1,
    max_size=8,
)


def told(event: Event) -> tuple[str, str | None, str, int]:
    return (
        event.kind,
        event.message_id,
        event.text or event.reason,
        event.metadata.token_count if event.metadata is not None else event.count,
    )


@given(batches=st.lists(SAID, max_size=4), cuts=st.lists(st.integers(0, 900), max_size=8))
def test_frames_of_a_conductor_are_read_wherever_they_are_cut(batches: list[list[Token]], cuts: list[int]) -> None:
    data = b"".join(part for batch in batches for part in frames(batch))
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    reader = Frames()

    read = [told(event) for at, until in itertools.pairwise(places) for events in reader.feed(data[at:until]) for event in events]

    kinds = {Token: "token", StreamToken: "stream_token", StreamEnd: "stream_end", StreamError: "stream_error"}
    said = [
        (
            kinds[type(event)],
            event.message_id,
            getattr(event, "text", "") or getattr(event, "reason", ""),
            7 if isinstance(event, StreamEnd) else getattr(event, "count", 1),
        )
        for batch in batches
        for event in batch
    ]
    assert read == said


@given(text=st.text(max_size=50))
def test_frame_of_the_harness_is_read_by_the_system(text: str) -> None:
    sent = frame({"kind": "user_message", "event_id": "evt_1", "text": text})

    assert FrameReader().feed(sent) == [UserMessage(event_id="evt_1", text=text)]


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (struct.pack(">II", 0, 0), "0 bytes"),
        (struct.pack(">II", FRAME_BYTES_MAX + 1, 0), "bytes"),
        (struct.pack(">II", 2, 7) + b"{}", "checksum"),
        (frame({"no": "kind"}), "kind"),
        (frame({"kind": "token", "text": 5}), "text"),
    ],
)
def test_frame_that_is_none_is_refused(data: bytes, word: str) -> None:
    with pytest.raises(BadFrameError, match=word):
        list(Frames().feed(data))
