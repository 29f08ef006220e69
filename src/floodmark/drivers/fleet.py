"""A fleet under load: each channel is a partition, each message goes in through a work queue and comes out of the worker that holds it.

What is published to channel n goes to the subject `in.pN` of JetStream, which acknowledges it; a worker takes it from there and publishes
it again on `out.pN`, and a subscription of channel n reads that, from the stream FM_OUT where there is one, so that nothing is missed while
a connection is away. So what is lost, doubled or out of order on a partition is in the ledger, whatever is done to the workers meanwhile.

The script says what is done to them (`fleet_script.py`). The record, which the server writes, says who held what when: `statistics` reads
it at the end and gives its figures (`fleet_figures.py`), which criteria name as `target.NAME`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from floodmark.core.errors import SystemUnderTestError, UsageError
from floodmark.drivers.base import Connection, Encoding, Options, RefusedError, Sink, Wanted, take_options
from floodmark.drivers.fleet_desk import OUT, open_desk, show_played
from floodmark.drivers.fleet_figures import figures_of
from floodmark.drivers.fleet_play import Play
from floodmark.drivers.fleet_probes import Probes
from floodmark.drivers.fleet_reading import READ_LIMIT_S, read_record
from floodmark.drivers.fleet_script import parse_script
from floodmark.drivers.fleet_undone import shortfall_of
from floodmark.drivers.nats_address import ADDRESS_DEFAULTS, ADDRESS_MEANINGS, Address, address_of
from floodmark.drivers.nats_desk import consume
from floodmark.drivers.nats_place import place_of_reply
from floodmark.drivers.nats_socket import Answer, Inlet, NatsSocket, open_nats
from floodmark.ledger.block import Block
from floodmark.model.shortfall import Shortfall

NAME = "fleet"
TIDY_LIMIT_S = 5.0
DEFAULTS: Options = {"script": "", "partitions": 10, "settle_s": 5.0, "rest_s": 0.0, **ADDRESS_DEFAULTS}
MEANINGS: dict[str, str] = {
    "script": "what is done to the fleet, such as `0 start 3; 5 kill leader; 20 refresh add=20`: seconds from the first message, a word, "
    "its arguments; the words at 0 come before the load, which waits until the fleet stands",
    "partitions": "how many partitions the fleet has at first, as its `--partitions` says; channel n is the partition pN",
    "settle_s": "how long the fleet may take after a word until it is judged: more than its longest window",
    "rest_s": "how long nothing may have been published any more before the load begins: more than the window of the start",
    **ADDRESS_MEANINGS,
}


class FleetConnection(NatsSocket):
    """One connection with load; see `drivers.base.Connection` for the contract."""

    def __init__(self, driver: FleetDriver, address: Address, sink: Sink) -> None:
        super().__init__(address, sink)
        self._driver = driver
        self._heads: dict[str, bytes] = {}
        self._sorter = Sorter(sink, driver.probes)
        self.sink = self._sorter
        self.answers[b"a"] = self._on_answered
        self._from_stream = False
        self._reading = False

    async def get_ready(self, run: str) -> None:
        """Listen for acknowledgements, show that this run is played, find out where to read. Raises: RefusedError."""
        show_played(self, run)
        self.send(b"SUB %b.a.* a\r\n" % self.inbox)
        answer = await self.request(f"$JS.API.STREAM.INFO.{OUT}")
        self._from_stream = b'"error"' not in answer.payload
        await self.settled()

    async def subscribe(self, wanted: Sequence[Wanted]) -> None:
        """Read what the partitions give, from now on or after where it was.

        Raises: RefusedError, also when it reads on already and shall go back: that takes a connection of its own.
        """
        if self._reading and any(one.after is not None for one in wanted):
            raise RefusedError(self.url, "is being read on this connection already; resume on a new one")
        for one in wanted:
            self._sorter.add(f"out.{partition_of(one.channel)}".encode(), one.slot, one.after or 0)
        after = [one.after for one in wanted if one.after is not None]
        if self._reading:
            return
        self._reading = True
        if self._from_stream:
            await consume(self, OUT, from_sequence=min(after) + 1 if after else None)
        else:
            self.listen_out()
            await self.settled()

    def listen_out(self) -> None:
        """Read as it comes, where no stream keeps it."""
        self.listen(b"d", Inlet(0))
        self.send(b"SUB out.* d\r\n")

    async def unsubscribe(self, slots: Iterable[int]) -> None:
        """Read it no more."""
        self.require_open()
        self._sorter.drop(set(slots))

    def publish(self, channel: str, payload: bytes, token: int) -> None:
        """HOT: one message to its partition."""
        head = self._heads.get(channel)
        if head is None:
            head = self._heads[channel] = f"PUB in.{partition_of(channel)} ".encode()
        if token:
            self._driver.load_begins()
            self.send(b"%b%b.a.%d %d\r\n%b\r\n" % (head, self.inbox, token, len(payload), payload))
        elif self._driver.probes.due(channel, time.monotonic_ns()):
            self.send(b"%b%d\r\n%b\r\n" % (head, len(payload), payload))

    def _on_answered(self, answer: Answer) -> None:
        """HOT: JetStream took a message, or did not."""
        token = int(answer.subject[answer.subject.rindex(b".") + 1 :])
        if answer.status == 0 and b'"error"' not in answer.payload:
            self._sorter.sink.acknowledged(token)
        else:
            reason = "has no stream for it" if answer.status == 503 else answer.payload.decode("utf-8", "replace")[:200]
            self._sorter.sink.refused(token, f"refused: {reason}")

    def resume_point(self, frame: bytes) -> int | None:
        """The place of a message in FM_OUT."""
        words = frame.partition(b"\r\n")[0].split(b" ")
        if not self._from_stream or len(words) < 5 or not words[3].startswith(b"$JS.ACK."):
            return None
        return place_of_reply(words[3]).sequence

    async def close(self) -> None:
        """Leave; the script ends with the last connection that does."""
        self._driver.left(self)
        await super().close()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._driver.left(self)
        super().abort()


class Sorter:
    """Between a connection and its sink: finds the subscriptions of a message by its subject, and drops what one has had before."""

    takes_blocks = False

    def __init__(self, sink: Sink, probes: Probes) -> None:
        self.sink = sink
        self._probes = probes
        self._slots: dict[bytes, list[tuple[int, int]]] = {}
        self.put: Callable[[tuple[int, bytes, int]], None] = self._put
        self.turn = sink.turn

    def add(self, subject: bytes, slot: int, after: int) -> None:
        """Send what comes for this subject behind that sequence to this slot."""
        self._slots.setdefault(subject, []).append((slot, after))

    def drop(self, slots: set[int]) -> None:
        """Send nothing to these any more."""
        for subject, kept in self._slots.items():
            self._slots[subject] = [one for one in kept if one[0] not in slots]

    def _put(self, frame: tuple[int, bytes, int]) -> None:
        """HOT: pass one message on."""
        _, data, received_ns = frame
        self._probes.heard_ns = received_ns
        words = data.split(b" ", 4)
        for slot, after in self._slots.get(words[1], ()):
            if after and place_of_reply(words[3]).sequence <= after:
                continue
            self.sink.put((slot, data, received_ns))

    def put_block(self, block: Block) -> None:
        """Never called: it takes none."""

    def acknowledged(self, token: int) -> None:
        """Pass it on."""
        self.sink.acknowledged(token)

    def refused(self, token: int, reason: str) -> None:
        """Pass it on."""
        self.sink.refused(token, reason)

    def ended(self, slot: int, reason: str) -> None:
        """Pass it on."""
        self.sink.ended(slot, reason)

    def closed(self, connection: Connection, reason: str) -> None:
        """Pass it on."""
        self.sink.closed(connection, reason)


class FleetDriver:
    """Reads the options once; see `DEFAULTS` and `MEANINGS`."""

    name: ClassVar[str] = NAME
    encoding: Encoding = "binary"
    acknowledges = True
    resumes = True

    def __init__(self, options: Options) -> None:
        self._options = take_options(NAME, options, DEFAULTS)
        self._lines = parse_script(str(self._options["script"]))
        self._partitions_count = int(self._options["partitions"])
        self._settle_s = float(self._options["settle_s"])
        self._rest_s = float(self._options["rest_s"])
        if not 0 <= self._rest_s < float("inf"):
            raise UsageError(f"option 'rest_s' of driver {NAME!r} must be 0 or more, got {self._rest_s!r}")
        if self._partitions_count < 1:
            raise UsageError(f"option 'partitions' of driver {NAME!r} must be at least 1, got {self._partitions_count}")
        if not 0 < self._settle_s < float("inf"):
            raise UsageError(f"option 'settle_s' of driver {NAME!r} must be above 0, got {self._settle_s!r}")
        self.shortfall: Shortfall | None = None
        self.probes = Probes()
        self._play: Play | None = None
        self._playing: asyncio.Task[None] | None = None
        self._ready: asyncio.Lock = asyncio.Lock()
        self._open: set[FleetConnection] = set()

    async def connect(self, url: str, channel: str, sink: Sink, *, limit_s: float, local_host: str | None = None) -> Connection:
        """Open a connection; the first one brings the fleet up and waits until it stands. Raises: RefusedError."""
        address = address_of(NAME, url, self._options)
        run = channel.partition(".")[0]
        async with self._ready:
            if self._play is None:
                play = Play(address, self._lines, partitions_count=self._partitions_count, rest_s=self._rest_s)
                try:
                    await play.set_up(run, limit_s=limit_s)
                except BaseException:
                    play.close()
                    raise
                self._play = play
        made = await open_nats(
            lambda: FleetConnection(self, address, sink), address, name="floodmark", limit_s=limit_s, local_host=local_host
        )
        try:
            async with asyncio.timeout(limit_s):
                await made.get_ready(run)
        except TimeoutError as exc:
            made.abort()
            raise RefusedError(address.shown, f"did not answer within {limit_s:g} s") from exc
        except BaseException:
            made.abort()
            raise
        self._open.add(made)
        return made.hand_over()

    def load_begins(self) -> None:
        """HOT: once per message; the first one starts the script."""
        if self._playing is None and self._play is not None:
            # Its parent is this driver; see `left`. What it runs into it notes in the record, where `statistics` finds it.
            self._playing = asyncio.create_task(self._play.play(time.monotonic_ns()))

    def left(self, connection: FleetConnection) -> None:
        """One of its connections was left by us: with the last one the script ends."""
        self._open.discard(connection)
        if not self._open:
            if self._playing is not None:
                self._playing.cancel()
            if self._play is not None:
                self._play.close()

    async def statistics(self, url: str) -> dict[str, float] | None:
        """The figures of the record; None when there is none, or it cannot be read. `shortfall` says what of the script was not done."""
        self.shortfall = None
        try:
            desk = await open_desk(address_of(NAME, url, self._options), limit_s=READ_LIMIT_S)
        except SystemUnderTestError as exc:
            self.shortfall = self._unread(str(exc))
            return None
        try:
            record = await read_record(
                desk,
                partitions_count=self._partitions_count,
                settle_s=self._settle_s,
                script_count=sum(line.word != "measure" for line in self._lines),
            )
        except SystemUnderTestError as exc:
            self.shortfall = self._unread(str(exc))
            return None
        finally:
            desk.abort()
        if record is None:
            self.shortfall = self._unread("there is none")
            return None
        self.shortfall = shortfall_of(record)
        return figures_of(record)

    def _unread(self, why: str) -> Shortfall | None:
        """Without the record nobody knows whether the script was played, if there is one."""
        return Shortfall(why=f"the record, which says whether the script was played, was not read ({why})") if self._lines else None

    async def tidy(self, url: str, channels: Sequence[str]) -> None:
        """Remove the record of the run with these channels; the other streams are the host's. Raises: SystemUnderTestError."""
        desk = await open_desk(address_of(NAME, url, self._options), limit_s=TIDY_LIMIT_S)
        try:
            for run in sorted({channel.partition(".")[0] for channel in channels}):
                await desk.remove_record(run)
        finally:
            desk.abort()


def partition_of(channel: str) -> str:
    """The partition of a channel: that of its number.

    >>> partition_of("fm1a2b.17")
    'p17'
    """
    return f"p{channel.rpartition('.')[2]}"
