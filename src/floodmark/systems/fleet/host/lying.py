"""A store whose leader lies about assignments: what it writes is not what it decided, or is written once more as of a time that is over.

`lose=N` leaves the partitions p0 to pN-1 out of every record, `share=N` has them in every record; `stale=N` writes N records once more as
of the epoch before, `back=N` as of the version before, and then as they were. Everything else goes straight through.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from floodmark.systems.fleet.host.around import BucketAround, StoreAround, Write
from floodmark.systems.fleet.host.options import named
from floodmark.systems.fleet.records import ASSIGNMENT_PREFIX, AssignmentRecord, decode, encode
from floodmark.systems.fleet.store.base import Bucket, Store

OF_LEADERS = ("lose", "share", "stale", "back")


class LyingStore(StoreAround):
    """Around the store of one process, shared by its workers."""

    def __init__(self, inner: Store, bucket: str, lies: Mapping[str, int]) -> None:
        super().__init__(inner, bucket, lambda opened: LyingBucket(opened, lies))


class LyingBucket(BucketAround):
    """The assignments."""

    def __init__(self, inner: Bucket, lies: Mapping[str, int]) -> None:
        super().__init__(inner)
        self._lost = {named(number).id for number in range(lies.get("lose", 0))}
        self._shared = [named(number) for number in range(lies.get("share", 0))]
        self._again = {"epoch": lies.get("stale", 0), "version": lies.get("back", 0)}

    async def written(self, key: str, value: bytes, write: Write) -> int:
        """Lie, then as the inner one."""
        value = self._told(key, value)
        return await self._once_more(key, value, await write(value))

    def _told(self, key: str, value: bytes) -> bytes:
        """What is written for what was decided."""
        if not key.startswith(ASSIGNMENT_PREFIX) or not (self._lost or self._shared):
            return value
        record = decode(AssignmentRecord, key, value)
        kept = [one for one in record.partitions if one.id not in self._lost]
        held = {one.id for one in kept}
        return encode(msgspec.structs.replace(record, partitions=[*kept, *(one for one in self._shared if one.id not in held)]))

    async def _once_more(self, key: str, value: bytes, revision: int) -> int:
        """Write it as of before, and again as it is, as long as there are lies left."""
        for name, left in self._again.items():
            if left and key.startswith(ASSIGNMENT_PREFIX):
                record = decode(AssignmentRecord, key, value)
                self._again[name] -= 1
                await self._inner.put(key, encode(msgspec.structs.replace(record, **{name: getattr(record, name) - 1})))
                revision = await self._inner.put(key, value)
        return revision
