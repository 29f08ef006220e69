"""A store with one planted failure: in a leader's n-th round, the k-th assignment that it writes is not written, once.

Everything else goes straight through. A round is known by the epoch and version in its records. Reads and other buckets are not touched.
"""

from __future__ import annotations

from collections.abc import Callable

from floodmark.systems.fleet.host.around import BucketAround, StoreAround, Write
from floodmark.systems.fleet.host.options import FailPut
from floodmark.systems.fleet.records import ASSIGNMENT_PREFIX, AssignmentRecord, decode
from floodmark.systems.fleet.store.base import Bucket, Store, StoreUnavailableError

FELT = "fail_put"


class FaultyStore(StoreAround):
    """Around the store of one process, shared by its workers."""

    def __init__(self, inner: Store, bucket: str, at: FailPut, felt: Callable[[str], None]) -> None:
        super().__init__(inner, bucket, lambda opened: FaultyBucket(opened, self._maybe_fail))
        self._at = at
        self._felt = felt
        self._rounds: dict[tuple[int, int], int] = {}  # records written in each round
        self._struck = False

    def _maybe_fail(self, key: str, value: bytes) -> None:
        if self._struck or not key.startswith(ASSIGNMENT_PREFIX):
            return
        record = decode(AssignmentRecord, key, value)
        written = self._rounds.setdefault((record.epoch, record.version), 0) + 1
        self._rounds[record.epoch, record.version] = written
        if len(self._rounds) == self._at.round and written == self._at.k:
            self._struck = True
            self._felt(FELT)
            raise StoreUnavailableError(f"write {key}", "a failure that was planted")


class FaultyBucket(BucketAround):
    """The assignments."""

    def __init__(self, inner: Bucket, maybe_fail: Callable[[str, bytes], None]) -> None:
        super().__init__(inner)
        self._maybe_fail = maybe_fail

    async def written(self, key: str, value: bytes, write: Write) -> int:
        """Fail, or as the inner one."""
        self._maybe_fail(key, value)
        return await write(value)
