"""The bytes on the wire: messages of the two sub-protocols, and WebSocket frames around them.

Server frames carry no mask, so a frame is plain bytes: built once, written to any number of sockets. Everything that leaves the hub
is built here; everything that arrives is decoded here, and what does not fit raises `msgspec.ValidationError` or `DecodeError`.
"""

from __future__ import annotations

import enum
import functools
from typing import Annotated, Any

import msgspec

from floodmark.systems.hub.event import encode_json

CHANNEL_NAME_MAX = 512  # characters

OperationId = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


class SubscribePayload(msgspec.Struct):
    """What a client wants executed; variables stay raw, so that event data passes through untouched."""

    query: str
    operationName: str | None = None  # noqa: N815  the protocol's own spelling
    variables: dict[str, msgspec.Raw] | None = None
    extensions: msgspec.Raw = msgspec.Raw(b"null")


class ConnectionInit(msgspec.Struct, tag="connection_init"):
    """The first message of every connection."""

    payload: dict[str, Any] | None = None


class Subscribe(msgspec.Struct, tag="subscribe"):
    """Start an operation of any kind."""

    id: OperationId
    payload: SubscribePayload


class LegacyStart(msgspec.Struct, tag="start"):
    """`subscribe` of the legacy protocol."""

    id: OperationId
    payload: SubscribePayload


class Complete(msgspec.Struct, tag="complete"):
    """The client wants no more of an operation."""

    id: OperationId


class LegacyStop(msgspec.Struct, tag="stop"):
    """`complete` of the legacy protocol."""

    id: OperationId


class Ping(msgspec.Struct, tag="ping"):
    """Answered with a pong that carries the same payload."""

    payload: msgspec.Raw = msgspec.Raw()  # empty: there was none


class Pong(msgspec.Struct, tag="pong"):
    """The client is alive."""

    payload: msgspec.Raw = msgspec.Raw()  # empty: there was none


class LegacyTerminate(msgspec.Struct, tag="connection_terminate"):
    """The legacy way to say goodbye."""


ModernMessage = ConnectionInit | Subscribe | Complete | Ping | Pong
LegacyMessage = ConnectionInit | LegacyStart | LegacyStop | LegacyTerminate


class EventInput(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One event of `publishEach`; its data stays raw."""

    channel: Annotated[str, msgspec.Meta(min_length=1, max_length=CHANNEL_NAME_MAX)]
    data: msgspec.Raw
    eventType: str | None = None  # noqa: N815  names of the schema
    correlationId: str | None = None  # noqa: N815


decode_inputs = msgspec.json.Decoder(list[EventInput]).decode
decode_modern = msgspec.json.Decoder(ModernMessage).decode
decode_legacy = msgspec.json.Decoder(LegacyMessage).decode


class Opcode(enum.IntEnum):
    """Frame types of RFC 6455 that the hub sends itself."""

    TEXT = 0x1
    PING = 0x9


def frame(payload: bytes, opcode: int = Opcode.TEXT) -> bytes:
    """Wrap one whole message in an unmasked frame.

    >>> frame(b"hi")
    b'\\x81\\x02hi'
    """
    return header(len(payload), opcode) + payload


@functools.lru_cache(maxsize=4096)  # HOT: frames of one system have a few lengths
def header(size_bytes: int, opcode: int = Opcode.TEXT) -> bytes:
    """Give the head of an unmasked, unfragmented frame."""
    if size_bytes < 126:
        return bytes((0x80 | opcode, size_bytes))
    if size_bytes < 65536:
        return bytes((0x80 | opcode, 126)) + size_bytes.to_bytes(2, "big")
    return bytes((0x80 | opcode, 127)) + size_bytes.to_bytes(8, "big")


class Dialect:
    """How one sub-protocol spells the messages that the hub sends."""

    __slots__ = ("ack_frame", "name", "next_type", "ping_frame")

    def __init__(self, name: str, next_type: bytes, ping_frame: bytes) -> None:
        self.name = name
        self.next_type = next_type
        self.ack_frame = frame(b'{"type":"connection_ack"}')
        self.ping_frame = ping_frame

    def next_prefix(self, operation_id: str) -> bytes:
        """Everything of a `next` message that stands before its payload; after the payload comes one closing brace."""
        return b'{"id":' + encode_json(operation_id) + b',"type":"' + self.next_type + b'","payload":'

    def next_frame(self, operation_id: str, payload: bytes) -> bytes:
        """A result of an operation."""
        return frame(self.next_prefix(operation_id) + payload + b"}")

    def error_frame(self, operation_id: str, errors: list[dict[str, Any]]) -> bytes:
        """An operation ends with errors; the legacy protocol carries the first one only."""
        payload: Any = errors if self is MODERN else errors[0]
        return frame(b'{"id":' + encode_json(operation_id) + b',"type":"error","payload":' + encode_json(payload) + b"}")

    def complete_frame(self, operation_id: str) -> bytes:
        """An operation ends well."""
        return frame(b'{"id":' + encode_json(operation_id) + b',"type":"complete"}')


# The legacy protocol has no ping message: a keep-alive and a WebSocket ping, which every client library answers by itself, replace it.
MODERN = Dialect("graphql-transport-ws", b"next", frame(b'{"type":"ping"}'))
LEGACY = Dialect("graphql-ws", b"data", frame(b'{"type":"ka"}') + frame(b"", Opcode.PING))
DIALECTS: dict[str, Dialect] = {MODERN.name: MODERN, LEGACY.name: LEGACY}
