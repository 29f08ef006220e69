"""What the fleet writes into its buckets: four records, each JSON under a key of its own.

Unknown JSON fields are ignored, so that a newer worker may say more than an older one reads. A value that is none of ours raises
`RecordError`, naming the key: a leader passes over one bad record instead of dying of it. `(epoch, version)` orders assignments over the
life of a fleet: an epoch is one leader's time in office, a version one round of its publishing.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from floodmark.systems.fleet.partition import Partition, PartitionError
from floodmark.systems.fleet.store.base import StoreError

LEADER_KEY = "leader"
HEARTBEAT_PREFIX = "heartbeat."
ASSIGNMENT_PREFIX = "assignment."

Record = TypeVar("Record")


class RecordError(StoreError):
    """A value that cannot be read as the record its key stands for."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key, self.reason = key, reason

    def __str__(self) -> str:
        return f"the value of the key {self.key!r} is no record of a fleet: {self.reason}"


class StableIdRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds an id: the token tells two processes apart that both believe they do."""

    worker: str
    token: str


class LeaderRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Who leads, and in which epoch; 0 while it is being found out, and nothing is published under it."""

    worker: str
    token: str
    epoch: int = 0


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """That a worker is there, and how far it has come.

    `epoch` and `version` are those of the assignment that it works by; `applied` says that its consumer does so already.
    `seen_epoch` and `seen_version` are the highest it has ever seen, refused ones too: a new leader goes above them.
    """

    worker: str
    token: str
    epoch: int = 0
    version: int = 0
    applied: bool = False
    seen_epoch: int = 0
    seen_version: int = 0


class AssignmentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker shall work on, as of one round of one leader."""

    epoch: int
    version: int
    lifecycle: str
    partitions: list[Partition]


def heartbeat_key(worker: str) -> str:
    """The key of a worker's heartbeat.

    >>> heartbeat_key("worker-3"), assignment_key("worker-3")
    ('heartbeat.worker-3', 'assignment.worker-3')
    """
    return HEARTBEAT_PREFIX + worker


def assignment_key(worker: str) -> str:
    """The key of a worker's assignment."""
    return ASSIGNMENT_PREFIX + worker


def worker_of(key: str) -> str:
    """The worker whose heartbeat or assignment a key is.

    >>> worker_of("assignment.worker-3")
    'worker-3'
    """
    return key.partition(".")[2]


_encoder = msgspec.json.Encoder()
_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (StableIdRecord, LeaderRecord, Heartbeat, AssignmentRecord)
}


def encode(record: StableIdRecord | LeaderRecord | Heartbeat | AssignmentRecord) -> bytes:
    """The JSON of a record."""
    return _encoder.encode(record)


def decode(kind: type[Record], key: str, value: bytes) -> Record:
    """Read the value of a key. Raises: RecordError.

    >>> decode(LeaderRecord, "leader", b'{"worker": "worker-0", "token": "a", "epoch": 7, "new": 1}').epoch
    7
    """
    try:
        record: Record = _decoders[kind].decode(value)
    except (msgspec.MsgspecError, PartitionError, UnicodeDecodeError, RecursionError) as exc:  # no UTF-8 inside, or nested too deeply
        raise RecordError(key, str(exc)) from exc
    return record
