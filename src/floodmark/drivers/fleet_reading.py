"""Reads the record of a fleet at the end of a run, once there is something to judge.

The load may be over before the script is, and the fleet has its time after the last word: both are waited for, so that the end of the
record is a settled point, or the script is late beyond its limit and the figures of the end are missing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

import msgspec

from floodmark.drivers.base import RefusedError
from floodmark.drivers.fleet_desk import IN, OUT, RECORD, Desk, note_of
from floodmark.drivers.fleet_figures import said_of
from floodmark.drivers.fleet_notes import BEGIN_MARK, BUCKETS, ENDED_MARK, HEARTBEAT, MARK
from floodmark.drivers.fleet_record import Delivery, Record
from floodmark.drivers.nats_desk import Message, header_of

READ_LIMIT_S = 60.0
SCRIPT_LIMIT_S = 30.0
REST_S = 1.0  # beyond the time that the fleet has, so that the last stretch is longer than the writes of a round
WORKER_HEADER = b"Fm-Worker"
SOURCE_HEADER = b"Nats-Stream-Source"
COPIED_LIMIT_S = 3.0
_POLL_S = 0.5


async def read_record(desk: Desk, *, partitions_count: int, settle_s: float, script_count: int) -> Record | None:
    """Wait until the script is over and the fleet had its time, then read everything; None where no record is kept.

    Raises: RefusedError.
    """
    if await desk.stream(RECORD) is None:
        return None
    bucket = await desk.stream(f"KV_{BUCKETS[HEARTBEAT]}")
    heartbeat_ttl_s = int(bucket["config"]["max_age"]) / 1e9 if bucket is not None else 0.0

    def record_of(
        messages: list[Message], given: list[Message], queued_count: int | None = None, newest: dict[str, int] | None = None
    ) -> Record:
        return Record(
            [note for note in map(note_of, messages) if note is not None],
            end_s=messages[-1].at_s,
            partitions_count=partitions_count,
            settle_s=settle_s,
            heartbeat_ttl_s=heartbeat_ttl_s,
            deliveries=[_delivery(one) for one in given if one.at_s >= messages[0].at_s],  # not those of an earlier run
            script_count=script_count,
            queued_count=queued_count,
            missed_count=missed(messages, newest) if newest is not None else None,
        )

    async def read() -> list[Message]:
        await desk.note("end")
        messages = await desk.read(RECORD, limit_s=READ_LIMIT_S)
        if not messages:
            raise RefusedError(desk.url, f"has lost the stream {RECORD}")
        return messages

    until_s = time.monotonic() + SCRIPT_LIMIT_S
    record = record_of(await read(), [])
    while words_left(record) and time.monotonic() < until_s:
        await asyncio.sleep(_POLL_S)  # whoever says them tells nobody but the record
        record = record_of(await read(), [])
    changed_s = max((word.done_s for word in record.changes), default=0.0)
    await asyncio.sleep(max(0.0, min(changed_s - record.end_s, 0.0) + settle_s + REST_S))
    queue = await desk.stream(IN)
    queued_count = int(queue["state"]["messages"]) if queue is not None else None
    newest = await desk.newest()
    messages = await read()
    until_s = time.monotonic() + COPIED_LIMIT_S
    while missed(messages, newest) and time.monotonic() < until_s:
        await asyncio.sleep(_POLL_S)  # the newest entries may still be on their way
        messages = await read()
    return record_of(messages, await desk.read(OUT, headers_only=True, limit_s=READ_LIMIT_S), queued_count, newest)


def missed(messages: Sequence[Message], newest: Mapping[str, int]) -> int | None:
    """How many entries of the buckets are not in the record, of all since it began; None where its beginning is not known.

    Each copy says in a header where it is from: `KV_parti-election 17 > > $KV.parti-election.leader`.
    """
    begin: dict[str, int] | None = None
    found: dict[str, set[int]] = {stream: set() for stream in newest}
    for message in messages:
        if message.subject == f"{MARK}.{BEGIN_MARK}" and begin is None:
            begin = msgspec.json.decode(message.payload, type=dict[str, int])
        stream, _, rest = (header_of(message.headers, SOURCE_HEADER) or b"").decode().partition(" ")
        if stream in found:
            found[stream].add(int(rest.partition(" ")[0]))
    if begin is None:
        return None
    return sum(
        newest[stream] - begin.get(stream, 0) - sum(begin.get(stream, 0) < place <= newest[stream] for place in places)
        for stream, places in found.items()
    )


def words_left(record: Record) -> int:
    """How many words of the script are still to be tried; a look of our own that failed is none of them."""
    if any(note.key == ENDED_MARK for note in record.of(MARK)):
        return 0  # nobody says the others any more
    said = said_of(record)
    return max(0, (record.script_count or 0) - said.said_count - said.failed_here_count)


def _delivery(message: Message) -> Delivery:
    worker = header_of(message.headers, WORKER_HEADER) or b""
    return Delivery(message.at_s, message.subject.partition(".")[2], worker.decode())
