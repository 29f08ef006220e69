"""Where a message stands in its stream, by the reply subject of its delivery.

The server writes `$JS.ACK.STREAM.CONSUMER.DELIVERED.SEQUENCE.CONSUMER_SEQUENCE.TIME_NS.PENDING`, nine words, or eleven and more with a
domain and an account's hash in front of the stream's name. The time is the one at which this stream has stored the message.
"""

from __future__ import annotations

from typing import NamedTuple

_SHORT_COUNT, _LONG_COUNT = 9, 11


class Place(NamedTuple):
    """The sequence of a message in its stream, and its time there, seconds since 1970 by the server's clock."""

    sequence: int
    at_s: float


def place_of_reply(reply: bytes) -> Place:
    """Read it. Raises: ValueError for the reply subject of no delivery.

    >>> place_of_reply(b"$JS.ACK.orders.c1.1.42.7.1500000000.0")
    Place(sequence=42, at_s=1.5)
    """
    words = reply.split(b".")
    at = _sequence_at(words)
    return Place(int(words[at]), int(words[at + 2]) / 1e9)


def sequence_of_reply(reply: bytes) -> int:  # HOT: once per message of some consumers
    """Read the sequence alone. Raises: ValueError for the reply subject of no delivery."""
    words = reply.split(b".")
    return int(words[_sequence_at(words)])


def _sequence_at(words: list[bytes]) -> int:
    """The one rule: which word is the sequence."""
    count = len(words)
    if count == _SHORT_COUNT:
        return 5
    if count < _LONG_COUNT:
        raise ValueError(f"{b'.'.join(words)[:80]!r} is the reply subject of no delivery")
    return 7
