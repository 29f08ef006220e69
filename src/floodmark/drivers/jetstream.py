"""NATS JetStream: streams that acknowledge what they have stored, and consumers that go on where they were.

Each run has a stream of its own, made when the first client connects and removed at the end; it takes the subjects of all channels. A
publish is acknowledged when the stream has answered it; with `message_ids` each carries an id, so that one that is sent again is stored
once (`retry_s` makes a publisher whose connection is cut connect again by itself and send again what was not answered).

Each subscription is a consumer of its own: `ordered` (pushed, without acknowledgement; whoever comes back says from which sequence on),
`push` or `pull` (durable, acknowledged after the ledger has the message; what was not acknowledged in time comes again). The position to
resume after is the stream's sequence, which stands in every delivery.
Limits: consumers in memory where they are ordered; no priority groups, no mirrors; a consumer per subscription, not one that many share.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, ClassVar, cast

import msgspec

from floodmark.drivers.base import Connection, Encoding, Options, RefusedError, Sink, Wanted
from floodmark.drivers.jetstream_api import MARK, Config, consumer_config, make_consumer, make_stream, remove_consumer, remove_stream
from floodmark.drivers.jetstream_consumers import All, Consumer, Each, Twice
from floodmark.drivers.jetstream_options import chosen_of
from floodmark.drivers.jetstream_retry import RetryingConnection
from floodmark.drivers.nats import NOBODY, account_statistics, encoding_of
from floodmark.drivers.nats_address import Address, address_of
from floodmark.drivers.nats_place import sequence_of_reply
from floodmark.drivers.nats_socket import Answer, Inlet, NatsSocket, open_nats, subject_bytes
from floodmark.drivers.sockets import CLOSE_LIMIT_S

NS_PER_S = 1_000_000_000
TIDY_LIMIT_S = 5.0
PULL_EXPIRES_S = 30.0
GONE_AFTER_S = 300.0  # a consumer that nobody reads is removed by the server
_POLICIES = {"each": "explicit", "twice": "explicit", "all": "all", "none": "none"}


class JetStreamConnection(NatsSocket):
    """One connection. See `drivers.base.Connection` for the contract."""

    def __init__(self, driver: JetStreamDriver, address: Address, sink: Sink) -> None:
        super().__init__(address, sink)
        self._driver = driver
        self.touched: list[Consumer] = []
        self._consumers: dict[int, Consumer] = {}

    async def prepare(self, channel: str) -> None:
        """See that the stream is there, and listen for its answers. Raises: RefusedError."""
        if (config := self._driver.stream_config(channel)) is not None:
            await make_stream(self, config)
        self.answers[b"p"] = self._on_stored
        self.answers[b"k"] = self._on_confirmed
        self.send(b"SUB %b.p.* p\r\nSUB %b.k.*.* k\r\n" % (self.inbox, self.inbox))

    # -- subscriptions -------------------------------------------------------------------------------------------------------------------

    async def subscribe(self, wanted: Sequence[Wanted]) -> None:
        for want in wanted:
            consumer, config, place = self._driver.consumer_of(self, want)
            sid = b"%d" % want.slot
            self._consumers[want.slot] = consumer
            self.listen(sid, Inlet(want.slot, consumer if self._driver.admits else None))
            self.send(b"SUB %b %b\r\n" % (place, sid))
            await make_consumer(self, consumer.stream, consumer.name, await self._settings(want, consumer, config))
            consumer.pull()

    async def _settings(self, want: Wanted, consumer: Consumer, config: Config) -> Config:
        """How a consumer is made. A durable one that is resumed keeps its settings but for where it sends; one that is gone by now
        begins behind the position."""
        if want.after is None or "durable_name" not in config:
            return config
        before = await consumer_config(self, consumer.stream, consumer.name)
        if before is None:
            return {**config, "deliver_policy": "by_start_sequence", "opt_start_seq": want.after + 1}
        return {**before, **({"deliver_subject": config["deliver_subject"]} if "deliver_subject" in config else {})}

    async def unsubscribe(self, slots: Iterable[int]) -> None:
        self.require_open()
        gone = [consumer for slot in slots if (consumer := self._consumers.pop(slot, None)) is not None]
        for consumer in gone:
            consumer.end()
            self.send(b"UNSUB %d\r\n" % consumer.slot)
        await self.settled()
        for consumer in gone:
            self.inlets.pop(b"%d" % consumer.slot, None)
            self._driver.forget(consumer.slot)
            await remove_consumer(self, consumer.stream, consumer.name)

    async def close(self) -> None:
        """Let the server know first that nobody waits here any more: what it would still send would be out until `ack_wait_s` is over."""
        if self._consumers and self._transport is not None:
            self.send(b"".join([b"UNSUB %d\r\n" % slot for slot in self._consumers]))
            with suppress(TimeoutError, RefusedError):
                async with asyncio.timeout(CLOSE_LIMIT_S):
                    await self.settled()
        await super().close()

    def on_lost(self, reason: str) -> None:
        """Nobody pulls any more."""
        super().on_lost(reason)
        for consumer in self._consumers.values():
            consumer.end()

    def on_read(self) -> None:  # HOT: once per read
        if self.touched:
            touched, self.touched = self.touched, []
            for consumer in touched:
                consumer.after_read()

    def gone(self, consumer: Consumer, reason: str) -> None:
        """The server has ended a consumer."""
        consumer.end()
        if self._consumers.pop(consumer.slot, None) is not None:
            self.sink.ended(consumer.slot, reason)

    def _on_confirmed(self, answer: Answer) -> None:  # HOT: once per message with `ack = "twice"`
        *_, slot, seq = answer.subject.split(b".")
        consumer = self._consumers.get(int(slot))
        if isinstance(consumer, Twice):
            consumer.confirmed(int(seq))

    def resume_point(self, frame: bytes) -> int | None:
        """The stream's sequence, which stands in the first line of a delivery."""
        words = frame.partition(b"\r\n")[0].split(b" ")
        try:
            return sequence_of_reply(words[3])
        except (IndexError, ValueError):
            return None

    # -- publishing ----------------------------------------------------------------------------------------------------------------------

    def publish(self, channel: str, payload: bytes, token: int) -> None:  # HOT
        driver = self._driver
        subject = driver.subjects.get(channel) or driver.subject_of(channel)
        if not token:
            self.send(b"PUB %b %d\r\n%b\r\n" % (subject, len(payload), payload))
        elif driver.message_ids:
            head = b"NATS/1.0\r\nNats-Msg-Id: %b-%d\r\n\r\n" % (driver.mark, token)
            size = len(head)
            self.send(b"HPUB %b %b.p.%d %d %d\r\n%b%b\r\n" % (subject, self.inbox, token, size, size + len(payload), head, payload))
        else:
            self.send(b"PUB %b %b.p.%d %d\r\n%b\r\n" % (subject, self.inbox, token, len(payload), payload))

    def _on_stored(self, answer: Answer) -> None:  # HOT: once per message published
        token = int(answer.subject.rpartition(b".")[2])
        if b'"seq":' in answer.payload and b'"error"' not in answer.payload:
            self.sink.acknowledged(token)
        else:
            self.sink.refused(token, _why_refused(answer))

    def on_error(self, reason: str) -> bool:
        """A violation that concerns a publish is answered by nobody: it stays unanswered, and is told as what it is at the end."""
        return reason.lower().startswith("permissions violation for publish")


class JetStreamDriver:
    """Reads the options once; jetstream_options.py has them."""

    name: ClassVar[str] = "jetstream"
    acknowledges = True
    resumes = True

    def __init__(self, options: Options) -> None:
        chosen = chosen_of(self.name, options)
        self.encoding: Encoding = encoding_of(self.name, chosen["encoding"])
        self.message_ids = bool(chosen["message_ids"])
        self.mark = b"fm" + secrets.token_hex(4).encode()
        self.subjects: dict[str, bytes] = {}
        self._chosen = chosen
        self._subject = str(chosen["subject"])
        self._ordered = chosen["consumer"] == "ordered"
        self._pulled = chosen["consumer"] == "pull"
        self._ack = "none" if self._ordered else str(chosen["ack"])
        self.admits = self._pulled or self._ack != "none"
        self._numbers = itertools.count()
        self._unconfirmed: dict[int, set[int]] = {}
        subject_bytes(self.name, self._subject, "fm1.0")

    # -- names and settings ----------------------------------------------------------------------------------------------------------------

    def subject_of(self, channel: str) -> bytes:
        """The subject of a channel."""
        return self.subjects.setdefault(channel, subject_bytes(self.name, self._subject, channel))

    def stream_of(self, channel: str) -> str:
        """The stream of a channel: all channels of a run share one."""
        return str(self._chosen["stream"]) or f"floodmark-{channel.partition('.')[0]}"

    def stream_config(self, channel: str) -> Config | None:
        """How the run's own stream is made; None when there is one of the user's."""
        if self._chosen["stream"]:
            return None
        run, dot, _ = channel.partition(".")
        return {
            "name": self.stream_of(channel),
            "description": MARK,
            "subjects": [self._subject.replace("$channel", f"{run}.*" if dot else run)],
            "storage": self._chosen["storage"],
            "retention": self._chosen["retention"],
            "num_replicas": int(self._chosen["replicas"]),
            "duplicate_window": int(float(self._chosen["duplicate_window_s"]) * NS_PER_S),
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": -1,
            "discard": "old",
        }

    def consumer_of(self, reader: JetStreamConnection, want: Wanted) -> tuple[Consumer, Config, bytes]:
        """The consumer of a subscription, its settings, and the subject where its messages come.

        A durable one that is resumed is the one that was there; an ordered one is new and begins behind the position.
        """
        name = f"{self.mark.decode()}-{want.slot}" + (f"-{next(self._numbers)}" if self._ordered else "")
        place = b"%b.m.%d" % (reader.inbox, want.slot)
        config: Config = {
            "ack_policy": _POLICIES[self._ack],
            "filter_subject": self.subject_of(want.channel).decode(),
            "inactive_threshold": int(GONE_AFTER_S * NS_PER_S),
            "deliver_policy": "all" if self._chosen["retention"] == "workqueue" else "new",  # a work queue gives all it has, or nothing
        }
        if self._ordered:
            config |= {"mem_storage": True, "num_replicas": 1, "max_deliver": 1}
            if want.after is not None:
                config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": want.after + 1}
        else:
            config["durable_name"] = name
        if self._ack != "none":
            config |= {
                "ack_wait": int(float(self._chosen["ack_wait_s"]) * NS_PER_S),
                "max_ack_pending": int(self._chosen["max_ack_pending"]),
            }
        if not self._pulled:
            config |= {"deliver_subject": place.decode(), "flow_control": True, "idle_heartbeat": 5 * NS_PER_S}
        return self._consumer(reader, want.slot, self.stream_of(want.channel), name), config, place

    def _consumer(self, reader: JetStreamConnection, slot: int, stream: str, name: str) -> Consumer:
        batch_count = int(self._chosen["batch"]) if self._pulled else 0
        expires_ns = int(PULL_EXPIRES_S * NS_PER_S)
        if self._ack == "twice":
            unconfirmed = self._unconfirmed.setdefault(slot, set())
            return Twice(
                reader, slot=slot, stream=stream, name=name, batch_count=batch_count, expires_ns=expires_ns, unconfirmed=unconfirmed
            )
        kind = {"each": Each, "all": All, "none": Consumer}[self._ack]
        return kind(reader, slot=slot, stream=stream, name=name, batch_count=batch_count, expires_ns=expires_ns)

    def forget(self, slot: int) -> None:
        """A subscription has ended for good."""
        self._unconfirmed.pop(slot, None)

    # -- connections -----------------------------------------------------------------------------------------------------------------------

    async def connect(self, url: str, channel: str, sink: Sink, *, limit_s: float, local_host: str | None = None) -> Connection:
        address = address_of(self.name, url, self._chosen)

        async def open_one(sink: Sink, limit_s: float) -> JetStreamConnection:
            made = await open_nats(
                lambda: JetStreamConnection(self, address, sink), address, name="floodmark", limit_s=limit_s, local_host=local_host
            )
            try:
                async with asyncio.timeout(limit_s):
                    await made.prepare(channel)
                    made.hand_over()
            except TimeoutError as exc:
                made.abort()
                raise RefusedError(address.shown, f"made no stream within {limit_s:g} s") from exc
            except BaseException:
                made.abort()
                raise
            return made

        retry_s = float(self._chosen["retry_s"])
        if retry_s:
            return cast("Connection", await RetryingConnection.open(open_one, sink, limit_s=limit_s, retry_s=retry_s))
        return await open_one(sink, limit_s)

    async def statistics(self, url: str) -> dict[str, float] | None:
        return await account_statistics(address_of(self.name, url, self._chosen))

    async def tidy(self, url: str, channels: Sequence[str]) -> None:
        """Remove what this run made. Raises: SystemUnderTestError when the server does not let us."""
        if self._chosen["stream"] or self._chosen["keep"]:
            return
        address = address_of(self.name, url, self._chosen)
        asking = await open_nats(
            lambda: NatsSocket(address, NOBODY, told=False), address, name="floodmark", limit_s=TIDY_LIMIT_S, local_host=None
        )
        try:
            async with asyncio.timeout(TIDY_LIMIT_S):
                for stream in sorted({self.stream_of(channel) for channel in channels}):
                    await remove_stream(asking, stream)
        except TimeoutError as exc:
            raise RefusedError(address.shown, f"did not remove the run's stream within {TIDY_LIMIT_S:g} s") from exc
        finally:
            asking.abort()


def _why_refused(answer: Answer) -> str:
    """Why a publish was not stored, in the server's words."""
    if answer.status == 503:
        return "no stream takes this subject"
    try:
        error = msgspec.json.decode(answer.payload, type=dict[str, Any])["error"]
        return str(error.get("description", error))
    except (msgspec.MsgspecError, KeyError, AttributeError):
        return f"the stream answered {answer.payload[:80]!r}"
