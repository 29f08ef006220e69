"""The frames of a conductor's socket, read and written by the harness itself: a bug in the conductor's own must not hide here.

A frame is a length (4 bytes, big-endian) of the JSON, its CRC-32 (likewise) and the JSON: one event or an array of events. Pure. Memory:
one frame, at most FRAME_BYTES_MAX.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping

import msgspec

from floodmark.core.errors import FloodmarkError

FRAME_BYTES_MAX = 10 * 1024 * 1024
_HEAD = struct.Struct(">II")


class BadFrameError(FloodmarkError):
    """What came is no frame, or holds no events."""


class Metadata(msgspec.Struct, frozen=True, gc=False):
    """What the end of an answer tells of it; -1: it does not say."""

    token_count: int = -1


class Event(msgspec.Struct, frozen=True):
    """The fields of all kinds of events that are needed here; an event has those of its kind, and the others are skipped unread."""

    kind: str
    message_id: str | None = None
    text: str = ""
    count: int = 1
    conversation_id: str | None = None
    event_id: str = ""
    reason: str = ""
    rejection_reason: str = ""
    message: str = ""
    accepted: bool = False
    seq: int = 0
    metadata: Metadata | None = None
    figures: dict[str, float] | None = None


_decoder = msgspec.json.Decoder(Event | list[Event])


def frame(event: Mapping[str, object]) -> bytes:
    """Write one event."""
    body = msgspec.json.encode(event)
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


class Frames:
    """Cuts what a conductor sends.

    >>> frames = Frames()
    >>> sent = frame({"kind": "token", "message_id": "msg_1", "text": "hi"})
    >>> [*frames.feed(sent[:9])], [event.text for events in frames.feed(sent[9:]) for event in events]
    ([], ['hi'])
    """

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[list[Event]]:
        """HOT: give the events of each frame that is complete now. Raises: BadFrameError for what is none."""
        rest = self._rest
        rest += data
        at = 0
        with memoryview(rest) as view:
            while len(rest) - at >= _HEAD.size:
                length, checksum = _HEAD.unpack_from(rest, at)
                end = at + _HEAD.size + length
                if not 0 < length <= FRAME_BYTES_MAX:
                    raise BadFrameError(f"a frame of {length:,} bytes")
                if end > len(rest):
                    break
                with view[at + _HEAD.size : end] as body:
                    if zlib.crc32(body) != checksum:
                        raise BadFrameError("a frame whose checksum is wrong")
                    try:
                        events = _decoder.decode(body)
                    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
                        raise BadFrameError(str(exc)) from exc
                yield events if isinstance(events, list) else [events]
                at = end
        del rest[:at]
