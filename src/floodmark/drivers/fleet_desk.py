"""The fleet's driver beside the load: it makes the record's stream, writes notes into it, and looks whether another run is played.

The record is a stream that is fed by the streams of the fleet's buckets: the server itself writes down every version of every key. It has
to be made after those streams and before the first worker: a stream that did not exist then is not found later. Every connection of a run
that is played listens on a subject with the run's name, where nobody answers: so another run learns from the server whether somebody is
there, before it takes the record away. Not here: what the notes mean (`fleet_notes.py`), the load (`fleet.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from floodmark.drivers.base import RefusedError
from floodmark.drivers.fleet_notes import BEGIN_MARK, BUCKETS, MARK, Note, decode
from floodmark.drivers.nats_address import Address
from floodmark.drivers.nats_desk import CALL_LIMIT_S, Message, NatsDesk, header_of
from floodmark.drivers.nats_socket import NOBODY, NatsSocket, open_nats

RECORD, IN, OUT = "FM_RECORD", "FM_IN", "FM_OUT"
CONTROL, PLAYED = "fleet.control", "fleet.played"
BUCKETS_LIMIT_S = 10.0
PLAYED_LIMIT_S = 1.0
PLAYED_LOOKS = 3  # whoever plays may be on the way back to a server that was started again
_POLL_S = 0.05


class Desk(NatsDesk):
    """A connection that keeps the record of a fleet."""

    async def make_record(self, run: str) -> None:
        """Make the record's stream, unless this run has it; one of an earlier run is deleted.

        Raises: RefusedError, also while the run whose record is there is being played.
        """
        await self._wait_for_buckets()
        there = await self.stream(RECORD)
        if there is not None and (other := str(there["config"].get("description", ""))) != run:
            if await self._is_played(other):
                raise RefusedError(self.url, f"is played by the run {other} now, whose record would be lost; wait for its end")
            await self.call(f"$JS.API.STREAM.DELETE.{RECORD}")
            there = None
        if there is None:
            config = {
                "name": RECORD,
                "description": run,
                "subjects": [f"{MARK}.>", "done.>"],
                "storage": "file",
                "retention": "limits",
                "max_msgs": -1,
                "max_bytes": -1,
                "max_consumers": -1,
                "num_replicas": 1,
                "sources": [{"name": f"KV_{bucket}"} for bucket in BUCKETS.values()],
            }
            begin = await self.newest()
            said = await self.call(f"$JS.API.STREAM.CREATE.{RECORD}", config)
            if "error" in said:
                raise RefusedError(self.url, f"does not make the stream {RECORD}: {said['error'].get('description')}")
            await self.note(BEGIN_MARK, begin, first=True)

    async def remove_record(self, run: str) -> None:
        """Delete the record's stream if it is this run's. Raises: RefusedError."""
        there = await self.stream(RECORD)
        if there is None or there["config"].get("description") != run:
            return
        said = await self.call(f"$JS.API.STREAM.DELETE.{RECORD}")
        if "error" in said:
            raise RefusedError(self.url, f"does not delete the stream {RECORD}: {said['error'].get('description')}")

    async def _is_played(self, run: str) -> bool:
        """Whether a connection of this run is there. The server says at once that nobody listens, and nothing when somebody does."""
        if not run.isalnum():
            return False  # no name of a run
        for look in range(PLAYED_LOOKS):
            if look:
                await asyncio.sleep(PLAYED_LIMIT_S / PLAYED_LOOKS)
            try:
                async with asyncio.timeout(PLAYED_LIMIT_S):
                    answer = await self.ask(f"{PLAYED}.{run}")
            except TimeoutError:
                return True
            if answer.status != NOBODY:
                return True
        return False

    async def newest(self) -> dict[str, int]:
        """Of each stream that feeds the record: the sequence of its newest entry. Raises: RefusedError."""
        found = {}
        for bucket in BUCKETS.values():
            there = await self.stream(f"KV_{bucket}")
            if there is None:
                raise RefusedError(self.url, f"has no stream KV_{bucket} any more")
            found[f"KV_{bucket}"] = int(there["state"]["last_seq"])
        return found

    async def _wait_for_buckets(self) -> None:
        waiting = [f"KV_{bucket}" for bucket in BUCKETS.values()]
        try:
            async with asyncio.timeout(BUCKETS_LIMIT_S):
                while waiting:
                    waiting = [name for name in waiting if await self.stream(name) is None]
                    if waiting:
                        await asyncio.sleep(_POLL_S)
        except TimeoutError as exc:
            raise RefusedError(self.url, f"has no stream {', '.join(waiting)}, so no fleet keeps its keys there") from exc

    async def note(self, key: str, value: object = None, *, first: bool = False) -> bool:
        """Put a mark into the record; with `first` only when nobody has put this one. Returns whether it was put."""
        headers = b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 0\r\n\r\n" if first else b""
        try:
            async with asyncio.timeout(CALL_LIMIT_S):
                answer = await self.ask(f"{MARK}.{key}", msgspec.json.encode(value or {}), headers)
        except TimeoutError as exc:
            raise RefusedError(self.url, f"did not take a note within {CALL_LIMIT_S:g} s") from exc
        put = answer.status == 0 and b'"error"' not in answer.payload
        if not put and not (first and answer.status == 0):
            raise RefusedError(
                self.url, f"did not take a note: {answer.payload[:200].decode('utf-8', 'replace') or 'it has no stream for it'}"
            )
        return put

    async def noted(self, key: str) -> bool:
        """Whether somebody has put this mark."""
        said = await self.call(f"$JS.API.STREAM.MSG.GET.{RECORD}", {"last_by_subj": f"{MARK}.{key}"})
        return "error" not in said

    async def follow_notes(self, take: Callable[[Note], None], content: Callable[[], bool], *, limit_s: float) -> bool:
        """Read the record as it grows until somebody is content; returns whether that was in time."""

        def on_message(message: Message) -> None:
            note = note_of(message)
            if note is not None:
                take(note)

        return await self.follow(RECORD, on_message, content, limit_s=limit_s)


async def open_desk(address: Address, *, limit_s: float) -> Desk:
    """Connect. Raises: RefusedError."""
    return await open_nats(lambda: Desk(address), address, name="floodmark fleet", limit_s=limit_s, local_host=None)


def show_played(socket: NatsSocket, run: str) -> None:
    """Listen where another run looks whether this one is played."""
    socket.send(f"SUB {PLAYED}.{run} played\r\n".encode())


def note_of(message: Message) -> Note | None:
    """What a message of the record says."""
    operation = header_of(message.headers, b"KV-Operation") or header_of(message.headers, b"Nats-Marker-Reason")
    return decode(message.subject, message.payload, operation, message.at_s)
