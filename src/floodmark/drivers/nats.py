"""NATS, core publish and subscribe: any server, at most once.

A subscription of the ledger is a subscription of NATS, or with `queue_members` a queue group of that many on connections of their own: the
server gives each message to one of the members, and what is accounted for is the group, so that a message that went to two of them is
duplicated and one that went to none is lost. The server keeps no order among members: such a scenario has `order = "none"`.

Acknowledgement: a PING behind the publishes of a turn of the event loop. The server works off what it reads in order, so that its PONG says
that it has taken them and handed them to the outgoing buffers of who subscribes; what was on its way when a server died is then
indeterminate and nobody's loss. With `confirm = "none"` whatever was handed to an open connection counts as acknowledged.
What the protocol does not promise stands: the server may cut off a subscriber that is slow, and what it had for that one is gone.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import msgspec

from floodmark.core.errors import SystemUnderTestError, UsageError
from floodmark.drivers.base import Connection, Encoding, Options, Sink, Wanted, json_headers, take_options
from floodmark.drivers.nats_address import ADDRESS_DEFAULTS, ADDRESS_MEANINGS, Address, address_of
from floodmark.drivers.nats_socket import Inlet, NatsSocket, open_nats, subject_bytes
from floodmark.ledger.block import Block

STATISTICS_LIMIT_S = 3.0
STATISTICS_SUBJECT = "$SYS.REQ.ACCOUNT.PING.STATZ"  # which a server answers for one's own account, without a monitoring port
DEFAULTS: Options = {
    "subject": "$channel",
    "encoding": "binary",
    "confirm": "ping",
    "queue_members": 0,
    "headers": "",
    **ADDRESS_DEFAULTS,
}
MEANINGS = {
    "subject": "The subject of a channel, for accounts that may use some subjects only, such as `stress.$channel`.",
    "encoding": "`binary` or `text`: how payloads and their stamps are written.",
    "confirm": "`ping`: a publish is acknowledged once the server has worked it off, as a PING behind it tells; `none`: once handed over.",
    "queue_members": "Each subscription of the ledger is a queue group of so many members, each on a connection of its own; 0: no group.",
    "headers": "NATS headers of every publish, a JSON object of text; they make it an HPUB.",
    **ADDRESS_MEANINGS,
}


class NatsConnection(NatsSocket):
    """One connection, with those of its queue groups' further members. See `drivers.base.Connection` for the contract."""

    def __init__(self, driver: NatsDriver, address: Address, sink: Sink) -> None:
        super().__init__(address, sink)
        self._driver = driver
        self._others: list[NatsSocket] = []
        self._slots: set[int] = set()
        self._max_payload_bytes = 0
        self._unconfirmed: list[tuple[int, str]] = []
        self._asked: deque[list[tuple[int, str]]] = deque()

    # -- subscriptions -------------------------------------------------------------------------------------------------------------------

    async def subscribe(self, wanted: Sequence[Wanted]) -> None:
        members = self._driver.queue_members
        if members and len(self._others) < members - 1:
            await self._gather(members - 1)
        for want in wanted:
            subject, sid = self._driver.subject_of(want.channel), b"%d" % want.slot
            queue = b"" if not members else b"%b.%d " % (self._driver.mark, want.slot)
            for member in (self, *self._others):
                member.listen(sid, Inlet(want.slot))
                member.send(b"SUB %b %b%b\r\n" % (subject, queue, sid))
            self._slots.add(want.slot)
        for member in (self, *self._others):
            await member.settled()

    async def unsubscribe(self, slots: Iterable[int]) -> None:
        self.require_open()
        gone = [slot for slot in slots if slot in self._slots]
        for member in (self, *self._others):
            for slot in gone:
                member.send(b"UNSUB %d\r\n" % slot)
            await member.settled()
            for slot in gone:
                member.inlets.pop(b"%d" % slot, None)
        self._slots.difference_update(gone)

    async def _gather(self, count: int) -> None:
        """Open the further members' connections; they end with this one, and this one with any of them."""
        while len(self._others) < count:
            self._others.append(await self._driver.open_member(self))
        self.require_open()

    # -- publishing ----------------------------------------------------------------------------------------------------------------------

    def publish(self, channel: str, payload: bytes, token: int) -> None:  # HOT
        driver = self._driver
        head = driver.heads.get(channel) or driver.head_of(channel)
        if len(payload) + len(driver.headers) > self._max_payload_bytes and not self._fits(payload):
            self.sink.refused(token, f"is larger than the {self._max_payload_bytes:,} bytes that the server says it takes")
            return
        if driver.headers:
            self.send(b"%b%d %d\r\n%b%b\r\n" % (head, len(driver.headers), len(driver.headers) + len(payload), driver.headers, payload))
        else:
            self.send(b"%b%d\r\n%b\r\n" % (head, len(payload), payload))
        if driver.acknowledges:
            if not self._unconfirmed:
                asyncio.get_running_loop().call_soon(self._ask)
            self._unconfirmed.append((token, channel))

    def _fits(self, payload: bytes) -> bool:
        self._max_payload_bytes = int(self.info.get("max_payload", 1024 * 1024))
        return len(payload) + len(self._driver.headers) <= self._max_payload_bytes

    def _ask(self) -> None:
        """HOT: once per turn of the loop. Everything published in it is confirmed by one PONG."""
        batch, self._unconfirmed = self._unconfirmed, []
        self._asked.append(batch)

        def told(error: Exception | None) -> None:
            if self._asked and self._asked[0] is batch:
                self._asked.popleft()
            if error is None:
                acknowledged = self.sink.acknowledged
                for token, _ in batch:
                    acknowledged(token)

        self.ping(told)

    def on_error(self, reason: str) -> bool:
        """A publish that was not allowed: the oldest one to that subject that nobody has confirmed."""
        if not reason.lower().startswith("permissions violation for publish"):
            return False
        subject = reason.partition('"')[2].partition('"')[0].encode()
        for batch in (*self._asked, self._unconfirmed):
            for place, (token, channel) in enumerate(batch):
                if self._driver.subject_of(channel) == subject:
                    del batch[place]
                    self.sink.refused(token, f"refused: {reason}")
                    return True
        return True

    # -- its life ------------------------------------------------------------------------------------------------------------------------

    def on_lost(self, reason: str) -> None:
        super().on_lost(reason)
        others, self._others = self._others, []
        for other in others:
            other.abort()

    def pause_reading(self) -> None:
        super().pause_reading()
        for other in self._others:
            other.pause_reading()

    def resume_reading(self) -> None:
        super().resume_reading()
        for other in self._others:
            other.resume_reading()


class _Member(NatsSocket):
    """A further member of the queue groups of a connection: what it sees is that one's, and its end is too."""

    def __init__(self, main: NatsConnection) -> None:
        super().__init__(main.address, main.sink, told=False)
        self._main = main

    def on_lost(self, reason: str) -> None:
        super().on_lost(reason)
        self._main.fail(f"a member of its queue groups: {reason}")


class NatsDriver:
    """Reads the options once; see `DEFAULTS` and `MEANINGS`."""

    name: ClassVar[str] = "nats"
    resumes = False

    def __init__(self, options: Options) -> None:
        chosen = take_options(self.name, options, DEFAULTS)
        self.encoding: Encoding = encoding_of(self.name, chosen["encoding"])
        if chosen["confirm"] not in ("ping", "none"):
            raise UsageError(f"option 'confirm' of driver {self.name!r} must be 'ping' or 'none', got {chosen['confirm']!r}")
        self.acknowledges = chosen["confirm"] == "ping"
        self.queue_members = int(chosen["queue_members"])
        if self.queue_members < 0:
            raise UsageError(f"option 'queue_members' of driver {self.name!r} must be 0 or more, got {self.queue_members}")
        self.headers = header_block(self.name, str(chosen["headers"]))
        self.heads: dict[str, bytes] = {}
        self.mark = b"fm" + secrets.token_hex(4).encode()
        self._options = chosen
        self._subject = str(chosen["subject"])
        subject_bytes(self.name, self._subject, "fm1.0")

    def subject_of(self, channel: str) -> bytes:
        """The subject of a channel."""
        return subject_bytes(self.name, self._subject, channel)

    def head_of(self, channel: str) -> bytes:
        """How a publish to this channel begins."""
        head = (b"HPUB %b " if self.headers else b"PUB %b ") % self.subject_of(channel)
        self.heads[channel] = head
        return head

    async def connect(self, url: str, channel: str, sink: Sink, *, limit_s: float, local_host: str | None = None) -> Connection:
        address = address_of(self.name, url, self._options)
        made = await open_nats(
            lambda: NatsConnection(self, address, sink), address, name="floodmark", limit_s=limit_s, local_host=local_host
        )
        return made.hand_over()

    async def open_member(self, main: NatsConnection) -> NatsSocket:
        """Open one more connection for the queue groups of this one; the caller limits the wait."""
        return await open_nats(lambda: _Member(main), main.address, name="floodmark", limit_s=STATISTICS_LIMIT_S, local_host=None)

    async def statistics(self, url: str) -> dict[str, float] | None:
        return await account_statistics(address_of(self.name, url, self._options))


async def account_statistics(address: Address) -> dict[str, float] | None:
    """What the server says about our account since it was started; None where it does not say.

    Not named `published` and `delivered`: warm-up and the protocol's own messages are in them.
    """
    try:
        asking = await open_nats(
            lambda: NatsSocket(address, NOBODY, told=False), address, name="floodmark", limit_s=STATISTICS_LIMIT_S, local_host=None
        )
    except SystemUnderTestError:
        return None
    try:
        async with asyncio.timeout(STATISTICS_LIMIT_S):
            answer = await asking.request(STATISTICS_SUBJECT)
        said = msgspec.json.decode(answer.payload, type=dict[str, Any])
        account = said["data"]["account_statz"][0]
        return {
            "received_msgs": float(account["received"]["msgs"]),
            "sent_msgs": float(account["sent"]["msgs"]),
            "slow_consumers": float(account["slow_consumers"]),
        }
    except (SystemUnderTestError, TimeoutError, msgspec.MsgspecError, LookupError, TypeError, ValueError):
        return None
    finally:
        asking.abort()


class _Nobody:
    """A sink for connections that only ask."""

    takes_blocks = False

    def __init__(self) -> None:
        self.put: Callable[[tuple[int, bytes, int]], None] = lambda frame: None  # nothing is subscribed

    def put_block(self, block: Block) -> None:
        """Nothing is subscribed."""

    def turn(self) -> None:
        """Nothing came."""

    def acknowledged(self, token: int) -> None:
        """Nothing was published."""

    def refused(self, token: int, reason: str) -> None:
        """Nothing was published."""

    def ended(self, slot: int, reason: str) -> None:
        """Nothing is subscribed."""

    def closed(self, connection: Connection, reason: str) -> None:
        """Whoever asks finds out by himself."""


NOBODY = _Nobody()


def encoding_of(driver: str, given: str | int | float | bool) -> Encoding:
    """Read the option `encoding`. Raises: UsageError."""
    if given not in ("text", "binary"):
        raise UsageError(f"option 'encoding' of driver {driver!r} must be 'text' or 'binary', got {given!r}")
    return "text" if given == "text" else "binary"


def header_block(driver: str, text: str) -> bytes:
    """Write NATS headers as they stand on the wire; none: nothing. Raises: UsageError."""
    if not text:
        return b""
    fields = json_headers(driver, text)
    return b"NATS/1.0\r\n" + b"".join(f"{name}: {value}\r\n".encode() for name, value in fields.items()) + b"\r\n"
