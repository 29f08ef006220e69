"""What a fleet needs of a key-value store: buckets with a time to live, writes fenced by revision, and watches.

Contract: a bucket's revisions only rise, also over the expiry and the re-creation of a key, so that what was created later always carries
the larger revision. A key of a bucket with `ttl_s` is gone exactly so long after its last write. An operation that cannot be answered
raises `StoreUnavailableError`: it may have been done, and who retries must be fenced by a revision. Expiry is not told to watches: readers
time it.
Left to others: what the keys and values mean (`records.py`), and any retry.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from floodmark.core.errors import FloodmarkError


class StoreError(FloodmarkError):
    """Root of what a store raises on purpose."""


class KeyExistsError(StoreError):
    """`create` found the key alive: somebody else holds it."""

    def __init__(self, bucket: str, key: str) -> None:
        super().__init__(bucket, key)
        self.bucket, self.key = bucket, key

    def __str__(self) -> str:
        return f"the key {self.key!r} of bucket {self.bucket} exists already"


class WrongRevisionError(StoreError):
    """A write that was fenced by a revision found another one: somebody else wrote since."""

    def __init__(self, bucket: str, key: str, revision: int) -> None:
        super().__init__(bucket, key, revision)
        self.bucket, self.key, self.revision = bucket, key, revision

    def __str__(self) -> str:
        return f"the key {self.key!r} of bucket {self.bucket} is no longer at revision {self.revision}; read it again before writing"


class KeyNotFoundError(WrongRevisionError):
    """A write that was fenced by a revision found the key gone: deleted, or expired."""

    def __str__(self) -> str:
        return f"the key {self.key!r} of bucket {self.bucket} is gone, revision {self.revision} was expected; create it anew"


class BucketMismatchError(StoreError):
    """A bucket exists, with another time to live than the one asked for."""

    def __init__(self, bucket: str, ttl_s: float, asked_s: float) -> None:
        super().__init__(bucket, ttl_s, asked_s)
        self.bucket, self.ttl_s, self.asked_s = bucket, ttl_s, asked_s

    def __str__(self) -> str:
        return (
            f"the bucket {self.bucket} exists with a time to live of {self.ttl_s:g} s, {self.asked_s:g} s was asked for; "
            "give all workers of a fleet the same settings, or use another bucket name"
        )


class StoreUnavailableError(StoreError):
    """The store did not answer: not connected, or too late. What was asked may have been done."""

    def __init__(self, operation: str, reason: str) -> None:
        super().__init__(operation, reason)
        self.operation, self.reason = operation, reason

    def __str__(self) -> str:
        return f"{self.operation}: {self.reason}; it may have been done"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one key; `deleted` marks the end of a key, with no value.

    `written_s` is when it was written, by the clock of the reader's event loop: exact in memory, over NATS as well as the two clocks
    compare. Who begins to watch a key with a time to live so knows how much of that is left.
    """

    key: str
    value: bytes
    revision: int
    deleted: bool = False
    written_s: float = 0.0


class Watch(Protocol):
    """The live entries of a prefix, sorted by key; then one None: caught up; then each change, in the order of its writing.

    What a slow reader has not taken is bounded. When that bound is passed, or the connection was lost, or the store cannot tell all that
    happened, the reader gets `StoreUnavailableError` and opens a new watch: a watch never leaves anything out in silence.
    """

    def __aiter__(self) -> AsyncIterator[Entry | None]: ...

    async def __anext__(self) -> Entry | None: ...

    async def aclose(self) -> None:
        """Stop; a reader that waits ends its loop. Twice is once."""
        ...


class Bucket(Protocol):
    """Keys of one kind.

    A `prefix` is made of whole words between dots: "" is everything, "heartbeat" is that key and all below it ("heartbeat.worker-1", but
    not "heartbeats"), and so "assignment.worker-1" is that key and not "assignment.worker-10". A dot at its end leaves the key itself out.
    """

    @property
    def name(self) -> str: ...

    @property
    def ttl_s(self) -> float:
        """Seconds from a key's last write to its end; 0: it has none."""
        ...

    async def get(self, key: str) -> Entry | None:
        """The live entry; None when it is absent, deleted or expired."""
        ...

    async def create(self, key: str, value: bytes) -> int:
        """Write a key that must not be alive. Returns: its revision. Raises: KeyExistsError; of several at once one wins."""
        ...

    async def put(self, key: str, value: bytes) -> int:
        """Write without a fence. Returns: the revision."""
        ...

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Write if the live revision is this one; 0: if the key is not alive.

        Returns: the new revision. Raises: WrongRevisionError, as KeyNotFoundError when the key is gone.
        """
        ...

    async def delete(self, key: str, revision: int | None = None) -> None:
        """End a key; an absent one is no error. Raises: WrongRevisionError when it is alive at another revision than the one given."""
        ...

    async def entries(self, prefix: str = "") -> list[Entry]:
        """The live entries, sorted by key."""
        ...

    async def watch(self, prefix: str = "") -> Watch:
        """Begin to watch; nothing written after this returns is missed."""
        ...

    async def history(self, key: str) -> list[Entry]:
        """The versions of a key that are kept, deletions too, oldest first."""
        ...


class Store(Protocol):
    """A connection to where the buckets are."""

    @property
    def connected(self) -> bool:
        """Whether the last that was heard of the server is that it is there."""
        ...

    async def bucket(self, name: str, *, ttl_s: float = 0.0, history: int = 1, memory: bool = False) -> Bucket:
        """Open a bucket, made if there is none. A bucket that exists keeps what it was made with; `ttl_s` 0 takes it as it is.

        Raises: BucketMismatchError when it exists with another time to live.
        """
        ...

    async def aclose(self) -> None:
        """Let go of the connection. What is in the store stays."""
        ...


def is_below(key: str, prefix: str) -> bool:
    """Whether a prefix, in whole words, names this key.

    >>> is_below("heartbeat.worker-1", "heartbeat"), is_below("heartbeat.worker-10", "heartbeat.worker-1"), is_below("x", "")
    (True, False, True)
    """
    if not prefix or key == prefix:
        return True
    return key.startswith(prefix) and (prefix[-1] == "." or key[len(prefix)] == ".")
