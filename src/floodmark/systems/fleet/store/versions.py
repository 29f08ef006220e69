"""One version of a key as a JetStream bucket keeps it: a message, whose headers say whether it ends the key."""

from __future__ import annotations

from collections.abc import Container

from floodmark.systems.fleet.store.base import Entry

DELETE = {"KV-Operation": "DEL"}
_ENDS = ("KV-Operation", "Nats-Marker-Reason")  # headers of what ends a key: whoever deleted it, and the server itself


def entry_of(key: str, value: bytes, headers: Container[str], *, revision: int, written_s: float) -> Entry:
    """Make the entry; `headers`: the names of those that the message has."""
    deleted = any(name in headers for name in _ENDS)
    return Entry(key=key, value=b"" if deleted else value, revision=revision, deleted=deleted, written_s=written_s)


def names_of(headers: bytes) -> set[str]:
    """The names of headers as they stand in a message.

    >>> sorted(names_of(b"NATS/1.0\\r\\nKV-Operation: DEL\\r\\n\\r\\n"))
    ['KV-Operation']
    """
    return {line.partition(b":")[0].decode() for line in headers.split(b"\r\n") if b":" in line}
