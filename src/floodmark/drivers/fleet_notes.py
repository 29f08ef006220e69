"""One entry of a fleet's record: which key it is of, or which word or mark, and what it says. Pure.

What is read of a key: assignment {epoch, version, lifecycle, partitions[{keys, weight}]}, heartbeat {token, epoch, version}: what the
worker has applied, leader {worker, token, epoch}, stable id {token}. Other fields are ignored, keys of other shapes too. Times are seconds.
What all of them together say is for `fleet_record.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

ASSIGNMENT, HEARTBEAT, ELECTION, STABLE_ID = "assignment", "heartbeat", "election", "stableid"
BUCKETS = {name: f"parti-{name}" for name in (STABLE_ID, ELECTION, HEARTBEAT, ASSIGNMENT)}
DONE, MARK = "done", "mark"
BEGIN_MARK = "begin"
LOAD_MARK, MEMORY_MARK, FAILED_MARK, LATE_MARK, SOURCE_MARK, SAID_MARK = "load", "memory", "failed", "late", "source", "said"
ENDED_MARK = "ended"
"""That the script came to no end of its own, and why."""
_OF_BUCKET = {f"$KV.{bucket}.": name for name, bucket in BUCKETS.items()}
_DELETED = (b"DEL", b"PURGE", b"MaxAge", b"Purge", b"Remove")
"""The operations of a bucket that end a key, and the reasons that the server gives in a marker of its own for a key that is gone."""


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """A partition of an assignment."""

    keys: tuple[str, ...] = ()
    weight: int = 100


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of any key of the buckets."""

    token: str = ""
    epoch: int = 0
    version: int = 0
    lifecycle: str = ""
    partitions: tuple[_Part, ...] = ()


class Note(NamedTuple):
    """One entry of the record. `kind` is one of the buckets, DONE or MARK; `value` is None where a key was deleted."""

    at_s: float
    kind: str
    key: str
    value: Mapping[str, Any] | None


def decode(subject: str, data: bytes, operation: bytes | None, at_s: float) -> Note | None:
    """Read one message of the record's stream; None for what is no part of it."""
    for prefix, kind in _OF_BUCKET.items():
        if subject.startswith(prefix):
            return Note(at_s, kind, subject[len(prefix) :], None if operation in _DELETED else _entry(data))
    head, _, key = subject.partition(".")
    return Note(at_s, head, key, _value(data)) if head in (DONE, MARK) else None


def _value(data: bytes) -> dict[str, Any]:
    """A value that is no JSON object says nothing, but that it was written is known."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # no UTF-8 inside, or nested too deeply
        return {}
    return value if isinstance(value, dict) else {}


def _entry(data: bytes) -> dict[str, Any]:
    """A value whose fields are of other types than a fleet's says no more than one that is no object."""
    value = _value(data)
    try:
        msgspec.convert(value, _Entry)
    except msgspec.ValidationError:
        return {}
    return value


def partitions_of(value: Mapping[str, Any] | None) -> dict[str, int]:
    """The partitions of an assignment: name -> weight."""
    found: dict[str, int] = {}
    for one in (value or {}).get("partitions", ()):
        found["-".join(map(str, one.get("keys", ())))] = int(one.get("weight", 100))
    return found


def place_of(value: Mapping[str, Any] | None) -> tuple[int, int]:
    """(epoch, version) of an assignment, or of what a heartbeat says was applied."""
    value = value or {}
    return int(value.get("epoch", 0)), int(value.get("version", 0))


def worker_of(key: str) -> str:
    """The worker in a key such as `heartbeat.worker-3`."""
    return key.partition(".")[2] or key
