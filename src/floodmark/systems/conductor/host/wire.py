"""Frames on the socket: 4 bytes of length and 4 bytes of CRC-32 of the JSON, both big-endian, and the JSON, one event or an array of them.

Both directions are the same. A frame of more than FRAME_BYTES_MAX, one with a wrong checksum and one that holds no event that is known
break the protocol: there is no way to find the next frame again, so whoever reads one hangs up. Pure.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from floodmark.core.errors import FloodmarkError
from floodmark.systems.conductor.vocabulary import (
    ConductorEvent,
    ConversationStreamEnd,
    FromSurface,
    StateSnapshot,
    StreamEnd,
    StreamToken,
    SurfaceEvent,
    Token,
)

FRAME_BYTES_MAX: Final = 10 * 1024 * 1024
TEXT_CHARS_MAX: Final = FRAME_BYTES_MAX // 8  # a character takes 6 bytes of JSON at most
_HEAD = struct.Struct(">II")
_decoder = msgspec.json.Decoder(FromSurface)
_encoder = msgspec.json.Encoder()


class BrokenProtocolError(FloodmarkError):
    """A surface sent what is no frame, or holds no event."""


class FrameReader:
    """Cuts what a surface sends into events.

    >>> reader = FrameReader()
    >>> sent = frame(b'{"kind":"quit_requested","event_id":"evt_1"}')
    >>> reader.feed(sent[:5]), reader.feed(sent[5:])
    ([], [QuitRequested(event_id='evt_1')])
    """

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[SurfaceEvent]:
        """Give the events that are complete now. Raises: BrokenProtocolError."""
        rest = self._rest
        rest += data
        events: list[SurfaceEvent] = []
        at = 0
        with memoryview(rest) as view:
            while len(rest) - at >= _HEAD.size:
                length, checksum = _HEAD.unpack_from(rest, at)
                end = at + _HEAD.size + length
                if not 0 < length <= FRAME_BYTES_MAX:
                    raise BrokenProtocolError(f"a frame of {length:,} bytes; from 1 to {FRAME_BYTES_MAX:,} are allowed")
                if end > len(rest):
                    break
                with view[at + _HEAD.size : end] as body:
                    if zlib.crc32(body) != checksum:
                        raise BrokenProtocolError("a frame whose checksum is wrong")
                    try:
                        decoded = _decoder.decode(body)
                    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
                        raise BrokenProtocolError(f"a frame that holds no event: {exc}") from exc
                events += decoded if isinstance(decoded, list) else [decoded]
                at = end
        del rest[:at]
        return events


def frame(body: bytes) -> bytes:
    """Put the head before a body."""
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def frames(events: Sequence[ConductorEvent]) -> list[bytes]:
    """HOT: write events as one frame, or as several when they are too long for one. Raises: ValueError for a single token that is.

    What repeats what the surface has had already, the end of an answer and a snapshot, is shortened to its newest part where it must be.
    Args: events: at least one.
    """
    body = _encoder.encode(events)
    if len(body) <= FRAME_BYTES_MAX:
        return [frame(body)]
    if len(events) == 1:
        match events[0]:
            case (Token() | StreamToken()) as token if token.count > 1:
                events = _parted(token)
            case long:
                return frames([_shortened(long)])
    half = len(events) // 2
    return [*frames(events[:half]), *frames(events[half:])]


def _parted(token: Token | StreamToken) -> list[ConductorEvent]:
    """Make two of several tokens that were made one."""
    middle, count = len(token.text) // 2, token.count // 2
    return [replace(token, text=token.text[:middle], count=count), replace(token, text=token.text[middle:], count=token.count - count)]


def _shortened(event: ConductorEvent) -> ConductorEvent:
    """A shorter event in place of one that fits in no frame."""
    match event:
        case StreamEnd() | ConversationStreamEnd() if len(event.final_content) > TEXT_CHARS_MAX:
            return replace(event, final_content=event.final_content[-TEXT_CHARS_MAX:], truncated=True)
        case StateSnapshot() if len(event.messages) > 1:
            return replace(event, messages=event.messages[len(event.messages) // 2 :])
        case StateSnapshot() if event.messages:
            return replace(event, messages=())
        case _:
            raise ValueError(f"an event of more than {FRAME_BYTES_MAX:,} bytes fits in no frame ({type(event).__name__})")
