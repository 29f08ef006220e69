"""Systems that are pulled: a stream gives records only to those who ask for them.

A channel is a stream's place: what is published to it is offered to the stream's source, and acknowledged when the system has taken it on;
a subscription drains what the stream gives. The system runs in a host process that feeds and drains it over TCP. The protocol, frames of
a length (u32), a kind (u8) and a body, all little-endian:

    to the host    1 OPEN handle, JSON   2 CLOSE handle   3 ASK handle, count   4 NAME handle, name
                   5 OFFER token u64, count, handles, lengths, records   6 REPORT unasked, groups checked, groups wrong   7 STATISTICS
                   8 SEEN what u8, number u64 (of `Seen`)
    from the host  65 OPENED handle   66 REJECTED handle, why   67 CLOSED handle   68 ENDED handle, why   69 ROWS handle, length, records
                   70 GROUPS handle, JSON   71 TAKEN tokens u64   72 REFUSED token u64, why   7 STATISTICS JSON

Numbers without a type are u32; handles are each connection's own. What the stream must not do is checked here, outside of it: `demand`
records are asked for, and again when all of them have come, so that every record beyond is known to be unasked; and the groups of a stream
that has ended are compared with what follows from the number of its records (row i has `value` 10 i and belongs to group i modulo
`groups`). How long a stream's first record takes from the asking is timed here too, and with `watch` what the host acknowledges is compared
with what was asked for and what has come (`drained.py`). What was found goes back to the host, where `statistics` reads it together with
the host's own figures.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec

from floodmark.core.errors import UsageError
from floodmark.drivers.asking import in_turn
from floodmark.drivers.base import BaseDriver, Connection, Encoding, Options, RefusedError, Sink, Wanted, take_options
from floodmark.drivers.drained import Groups, Watch, wrong_groups
from floodmark.drivers.streams import TcpConnection, open_tcp, statistics_of
from floodmark.ledger.block import Block

FRAME_BYTES_MAX = 64 * 1024 * 1024
STATISTICS_LIMIT_S = 90.0


class Kind:
    """What a frame is."""

    OPEN, CLOSE, ASK, NAME, OFFER, REPORT, STATISTICS, SEEN = range(1, 9)
    OPENED, REJECTED, CLOSED, ENDED, ROWS, GROUPS, TAKEN, REFUSED = range(65, 73)


_HEAD = struct.Struct("<IB")
_ONE, _TWO, _THREE = struct.Struct("<I"), struct.Struct("<II"), struct.Struct("<III")
_OFFER = struct.Struct("<QI")
_SEEN = struct.Struct("<BQ")

DEFAULTS: Options = {
    "demand": 1000,
    "records": "1000",
    "groups": 10,
    "store": "memory",
    "network": "",
    "pager": "keyset",
    "chunk_size": 1000,
    "max_demand": 500,
    "min_demand": -1,
    "buffer_size": 1000,
    "transform": False,
    "fail_id": -1,
    "query_failures": 0,
    "query_failures_of": 5,
    "pause_s": 0.0,
    "watch": False,
    "measure_records": 0,
    "measure_chunk": 1000,
    "measure_groups": 1000,
}
MEANINGS: dict[str, str] = {
    "demand": "records that a drain asks for at once; it asks again when all of them have come",
    "records": "records of each stream; a channel runs one stream after another. `2x100 5x1000` gives channels in "
    "turn streams of differing lengths",
    "groups": "groups that the records of a stream fall into",
    "store": "`memory`: the stream takes records as they are offered; `sqlite`: they go into a table, which is queried once all are there; "
    "`http`: the same, and the rows come page by page over HTTP from a process of its own, through the fault proxy",
    "network": "with the store `http`: faults of the [proxy](proxy.md) on the way of the pages, such as `limit=60KB,direction=downstream`; "
    "several with blanks between them",
    "pager": "`keyset` or `offset`: how a table is paged",
    "chunk_size": "rows of one query",
    "max_demand": "records that a stage asks of the one before at once",
    "min_demand": "it asks again when no more are on their way; -1: the system's default",
    "buffer_size": "records that wait for the drain",
    "transform": "whether each record goes through a function in Python",
    "fail_id": "the record that this function fails for; -1: none",
    "query_failures": "so many of every `query_failures_of` queries fail",
    "query_failures_of": "see there",
    "pause_s": "seconds that the drain takes over each batch",
    "watch": "whether what is acknowledged is compared with what was asked for and what has come, by the agent that both publishes to a "
    "channel and drains it",
    "measure_records": "rows of one stream beside the others whose speed is measured inside the host; 0: none",
    "measure_chunk": "rows of one query of that stream",
    "measure_groups": "its groups",
}


class Seen:
    """What a SEEN frame tells."""

    FIRST_NS = 1
    """Of one stream: from the asking to its first record."""
    AHEAD = 2
    """Records taken on beyond those asked for: the most so far of a channel."""
    IN_FLIGHT = 3
    """Records taken on that have not come out: the most so far of a channel."""


class _Drain:
    """What is known of a channel that is drained."""

    __slots__ = ("channel", "outstanding_count", "slot", "watch")

    def __init__(self, slot: int, channel: str, watch: Watch) -> None:
        self.slot = slot
        self.channel = channel
        self.watch = watch
        self.outstanding_count = 0


class PulledConnection(TcpConnection):
    """One TCP connection to a host; see the module's docstring."""

    def __init__(self, driver: PulledDriver, url: str, sink: Sink | None) -> None:
        super().__init__(url, sink)
        self._driver = driver
        self._sink = sink
        self._rest = bytearray()
        self._handles: dict[str, int] = {}
        self._drains: dict[int, _Drain] = {}
        self._offered: dict[int, Counter[str]] = {}
        self._answers: dict[tuple[int, int], asyncio.Future[str]] = {}
        self._next_handle = 1
        self._statistics: asyncio.Future[dict[str, float]] | None = None

    # -- driver's side

    async def subscribe(self, wanted: Sequence[Wanted]) -> None:
        """Open a drain for each, and ask for the first records."""
        waiting = []
        for one in wanted:
            handle = self._next_handle
            self._next_handle += 1
            self._drains[handle] = _Drain(one.slot, one.channel, self._driver.watch(one.channel))
            waiting.append((handle, self._answer(Kind.OPENED, handle)))
            options = self._driver.stream_options(one.channel)
            self._send(Kind.OPEN, _ONE.pack(handle), msgspec.json.encode({"channel": one.channel, "options": options}))
        refusal = ""
        for handle, answer in waiting:
            why = await answer
            if why:
                refusal = refusal or why
                self._forget(handle)
            else:
                self._ask(handle, self._drains[handle])
        if refusal:
            raise RefusedError(self.url, f"refused a stream: {refusal}")

    async def unsubscribe(self, slots: Iterable[int]) -> None:
        """Stop streams; returns once nothing of them is left."""
        chosen = set(slots)
        handles = [handle for handle, drain in self._drains.items() if drain.slot in chosen]
        waiting = [self._answer(Kind.CLOSED, handle) for handle in handles]
        for handle in handles:
            self._driver.unwatch(self._drains[handle].channel)  # what is offered from now on is taken on and dropped
            self._send(Kind.CLOSE, _ONE.pack(handle))
        for handle, answer in zip(handles, waiting, strict=True):
            await answer
            self._forget(handle)

    def publish(self, channel: str, payload: bytes, token: int) -> None:
        """HOT: offer one record."""
        if self._driver.watches and token:
            self._offered[token] = Counter((channel,))
        self._send(Kind.OFFER, _OFFER.pack(token, 1), _TWO.pack(self._handle(channel), len(payload)), payload)

    def publish_batch(self, items: Sequence[tuple[str, bytes]], token: int) -> None:
        """HOT: offer many; they are acknowledged when all of them were taken on."""
        if self._driver.watches:
            self._offered[token] = Counter(channel for channel, _ in items)
        handle = self._handle
        handles = [handle(channel) for channel, _ in items]
        payloads = [payload for _, payload in items]
        numbers = struct.pack(f"<{2 * len(items)}I", *handles, *map(len, payloads))
        self._send(Kind.OFFER, _OFFER.pack(token, len(items)), numbers, *payloads)

    async def statistics(self) -> dict[str, float]:
        """Ask for the host's figures."""
        self._statistics = asyncio.get_running_loop().create_future()
        self._send(Kind.STATISTICS)
        return await self._statistics

    def _handle(self, channel: str) -> int:
        known = self._handles.get(channel)
        if known is None:
            known = self._handles[channel] = self._next_handle
            self._next_handle += 1
            self._send(Kind.NAME, _ONE.pack(known), channel.encode())
        return known

    def _ask(self, handle: int, drain: _Drain) -> None:
        drain.outstanding_count = self._driver.demand
        drain.watch.asked(drain.outstanding_count, time.monotonic_ns())
        self._send(Kind.ASK, _TWO.pack(handle, drain.outstanding_count))

    def _forget(self, handle: int) -> None:
        drain = self._drains.pop(handle, None)
        if drain is not None:
            self._driver.unwatch(drain.channel)

    def _answer(self, kind: int, handle: int) -> asyncio.Future[str]:
        self.require_open()
        answer = self._answers[kind, handle] = asyncio.get_running_loop().create_future()
        return answer

    def _send(self, kind: int, *parts: bytes) -> None:
        if self._transport is not None:
            self._transport.write(b"".join((_HEAD.pack(1 + sum(map(len, parts)), kind), *parts)))

    # -- what comes in

    def data_received(self, data: bytes) -> None:
        """HOT: once per read."""
        received_ns = time.monotonic_ns()
        rest = self._rest
        rest += data
        at = 0
        try:
            while len(rest) - at >= _HEAD.size:
                length, kind = _HEAD.unpack_from(rest, at)
                if not 0 < length <= FRAME_BYTES_MAX:
                    raise ValueError(f"a frame of {length} bytes")
                end = at + 4 + length
                if end > len(rest):
                    break
                self._take(kind, bytes(memoryview(rest)[at + _HEAD.size : end]), received_ns)
                at = end
        except (ValueError, KeyError, struct.error, msgspec.MsgspecError) as exc:
            self.fail(f"sent a frame that its driver could not read ({type(exc).__name__}: {exc})")
            return
        del rest[:at]
        if self._sink is not None:
            self._sink.turn()

    def _take(self, kind: int, body: bytes, received_ns: int) -> None:
        match kind:
            case Kind.ROWS:
                self._rows(body, received_ns)
            case Kind.TAKEN:
                assert self._sink is not None
                for (token,) in struct.iter_unpack("<Q", body):
                    self._sink.acknowledged(token)
                    if token in self._offered:
                        self._watch_taken(self._offered.pop(token))
            case Kind.REFUSED:
                assert self._sink is not None
                (token,) = struct.unpack_from("<Q", body)
                self._offered.pop(token, None)
                self._sink.refused(token, body[8:].decode(errors="replace"))
            case Kind.OPENED | Kind.CLOSED:
                self._settle(kind, _ONE.unpack(body)[0], "")
            case Kind.REJECTED:
                self._settle(Kind.OPENED, _ONE.unpack_from(body)[0], body[4:].decode(errors="replace") or "without a reason")
            case Kind.ENDED:
                assert self._sink is not None
                self._sink.ended(self._drains[_ONE.unpack_from(body)[0]].slot, body[4:].decode(errors="replace"))
            case Kind.GROUPS:
                told = msgspec.json.decode(body[4:], type=Groups)
                self._report(checked=told.groups, wrong=wrong_groups(told, without=self._driver.fail_id))
            case Kind.STATISTICS:
                if self._statistics is not None and not self._statistics.done():
                    self._statistics.set_result(msgspec.json.decode(body, type=dict[str, float]))
            case _:
                raise ValueError(f"an unknown kind, {kind}")

    def _rows(self, body: bytes, received_ns: int) -> None:
        """HOT: once per frame of rows."""
        handle, length = _TWO.unpack_from(body)
        drain = self._drains[handle]
        sink = self._sink
        assert sink is not None
        data = body[_TWO.size :]
        if not length:
            raise ValueError("rows without a length")
        count, odd = divmod(len(data), length)
        if odd:
            raise ValueError("rows whose length does not add up")
        if sink.takes_blocks:
            sink.put_block(Block(drain.slot, data, length, 0, received_ns))
        else:
            for at in range(0, len(data), length):
                sink.put((drain.slot, data[at : at + length], received_ns))
        first_ns = drain.watch.received(count, received_ns)
        if first_ns is not None:
            self._seen(Seen.FIRST_NS, first_ns)
        drain.outstanding_count -= count
        if drain.outstanding_count <= 0:
            if drain.outstanding_count < 0:
                self._report(unasked=-drain.outstanding_count)
            self._ask(handle, drain)

    def _report(self, *, unasked: int = 0, checked: int = 0, wrong: int = 0) -> None:
        self._send(Kind.REPORT, _THREE.pack(unasked, checked, wrong))

    def _watch_taken(self, counts: Counter[str]) -> None:
        for channel, count in counts.items():
            watch = self._driver.watched(channel)
            if watch is not None and watch.taken(count):
                self._seen(Seen.AHEAD, watch.ahead_max)
                self._seen(Seen.IN_FLIGHT, watch.in_flight_max)

    def _seen(self, what: int, number: int) -> None:
        self._send(Kind.SEEN, _SEEN.pack(what, number))

    def _settle(self, kind: int, handle: int, reason: str) -> None:
        answer = self._answers.pop((kind, handle), None)
        if answer is not None and not answer.done():
            answer.set_result(reason)

    def on_lost(self, reason: str) -> None:
        """End every wait; nothing that this connection drains is watched any more."""
        for waiting in (*self._answers.values(), self._statistics):
            if waiting is not None and not waiting.done():
                waiting.set_exception(RefusedError(self.url, reason))
        self._answers.clear()
        for drain in self._drains.values():
            self._driver.unwatch(drain.channel)


class PulledDriver(BaseDriver):
    """Speaks to a host; `DEFAULTS` and `MEANINGS` hold its options, which are those of the streams it opens."""

    DEFAULTS: ClassVar[Options] = DEFAULTS
    encoding: Encoding = "binary"
    acknowledges = True
    batches = True

    def __init__(self, options: Options) -> None:
        self.options = take_options("pulled", options, DEFAULTS)
        self.demand = int(self.options["demand"])
        if self.demand < 1:
            raise UsageError(f"option 'demand' of driver 'pulled' must be at least 1, got {self.demand}")
        self.fail_id = int(self.options["fail_id"])
        self.watches = bool(self.options["watch"])
        self._records = in_turn("records", str(self.options["records"]))
        self._watched: dict[str, Watch] = {}

    def stream_options(self, channel: str) -> dict[str, Any]:
        """The options of a channel's streams, for the host."""
        number = _number(channel)
        given: dict[str, Any] = {
            name: value
            for name, value in self.options.items()
            if name not in ("demand", "records", "watch", "measure_records", "measure_chunk", "measure_groups")
            and not (name in ("min_demand", "fail_id") and value == -1)
        }
        if not number and self.options["measure_records"]:
            given |= {name: self.options[name] for name in ("measure_records", "measure_chunk", "measure_groups")}
        given["records"] = self.records_of(channel)
        return given

    def records_of(self, channel: str) -> int:
        """How long the streams of a channel are."""
        return self._records[_number(channel) % len(self._records)]

    def watch(self, channel: str) -> Watch:
        """Begin to watch a channel, which this agent drains. Streams that leave out a record cannot be told apart by counting."""
        watch = Watch(self.records_of(channel) if self.fail_id < 0 else 0)
        if self.watches:
            self._watched[channel] = watch
        return watch

    def watched(self, channel: str) -> Watch | None:
        """The watch of a channel; None where nobody of this agent drains it, and what is taken on cannot be compared."""
        return self._watched.get(channel)

    def unwatch(self, channel: str) -> None:
        """The drain has gone."""
        self._watched.pop(channel, None)

    async def connect(self, url: str, channel: str, sink: Sink, *, limit_s: float, local_host: str | None = None) -> Connection:
        """Open a connection. `channel` is not needed: frames name their channels."""
        return (await self._connect(url, sink, limit_s=limit_s, local_host=local_host)).hand_over()

    async def statistics(self, url: str) -> dict[str, float] | None:
        """The host's figures, and what the drains have reported to it."""
        connecting = self._connect(url, None, limit_s=STATISTICS_LIMIT_S, local_host=None)
        return await statistics_of(connecting, limit_s=STATISTICS_LIMIT_S)

    async def _connect(self, url: str, sink: Sink | None, *, limit_s: float, local_host: str | None) -> PulledConnection:
        return await open_tcp("'pulled'", url, lambda: PulledConnection(self, url, sink), limit_s=limit_s, local_host=local_host)


def _number(channel: str) -> int:
    """The number that ends a channel's name."""
    digits = channel.rpartition(".")[2]
    return int(digits) if digits.isdecimal() else 0
