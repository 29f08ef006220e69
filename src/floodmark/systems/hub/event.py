"""One event, built once and shared by reference with every subscription that receives it.

The JSON of `data` is kept as the text it came in and is never decoded or encoded again, except to test a filter. The `*_json` members
are what a selection puts together (`selection.py`).
"""

from __future__ import annotations

import itertools
import json
import os
import uuid
from typing import Any

import msgspec

encode_json = msgspec.json.Encoder().encode

_UNDECODED = object()


class Event(msgspec.Struct, eq=False, gc=False):  # HOT: made once per event; not the collector's business, since it is in no cycle
    """What the bus fans out. `offset` is the place in its channel, counted from 1; `timestamp_s` is unix time."""

    id: str
    event_type: str
    data: bytes
    """JSON text."""
    channel: str
    timestamp_s: float
    correlation_id: str | None
    received_ns: int = 0
    """Monotonic; for the delivery latency."""
    offset: int = 0
    _value: Any = _UNDECODED

    @property
    def value(self) -> Any:
        """The data as Python objects, decoded at most once, and only when a filter asks; None if Python cannot hold them."""
        if self._value is _UNDECODED:
            try:
                self._value = json.loads(self.data)
            except (ValueError, RecursionError):  # legal JSON beyond what Python takes: 4,300 digits, a thousand levels
                self._value = None
        return self._value

    def with_data(self, data: bytes) -> Event:
        """Copy the event with other data."""
        return msgspec.structs.replace(self, data=data, _value=_UNDECODED)

    @property
    def id_json(self) -> bytes:
        """The id; it needs no escapes."""
        return b'"%b"' % self.id.encode()

    @property
    def event_type_json(self) -> bytes:
        """The type, escaped."""
        return encode_json(self.event_type)

    @property
    def channel_json(self) -> bytes:
        """The channel, escaped."""
        return encode_json(self.channel)

    @property
    def timestamp_json(self) -> bytes:
        """Unix time, seconds."""
        return encode_json(self.timestamp_s)

    @property
    def correlation_id_json(self) -> bytes:
        """The correlation id or null."""
        return encode_json(self.correlation_id)

    @property
    def offset_json(self) -> bytes:
        """The offset, a plain integer."""
        return b"%d" % self.offset

    @property
    def typename_json(self) -> bytes:
        """What `__typename` answers."""
        return b'"Event"'


def json_equal(left: bytes, right: bytes) -> bool | None:
    """Tell if two JSON texts have the same value; None if one of them is no JSON."""
    try:
        return bool(json.loads(left) == json.loads(right))
    except ValueError:
        return None


class EventIds:
    """Unique UUID-shaped ids: a random prefix per process and a counter, an eighth of the cost of uuid4 per event."""

    __slots__ = ("_counter", "_prefix")

    def __init__(self) -> None:
        random = uuid.UUID(bytes=os.urandom(16), version=4)
        self._prefix = str(random)[:24]
        self._counter = itertools.count(1)

    def next(self) -> str:
        """Give an id that no other event has."""
        return f"{self._prefix}{next(self._counter):012x}"
