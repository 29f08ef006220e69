"""A watch on a JetStream bucket: an ephemeral push consumer whose messages are counted, so that nothing is left out in silence.

The server numbers what it delivers and says in pauses, by an idle heartbeat, how far it has counted. A gap, a missing heartbeat or a lost
connection ends the watch with an error at its reader; nothing is resumed, since a new watch lists what is alive anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from floodmark.systems.fleet.store.base import Entry, StoreUnavailableError
from floodmark.systems.fleet.store.link import ApiError, Link
from floodmark.systems.fleet.store.queued import WATCH_LIMIT, QueuedWatch
from floodmark.systems.fleet.store.versions import entry_of

_LOST_AFTER = 2.5  # periods of the idle heartbeat
_SETTLE_S = 0.2  # in the first listing: so long without a message, and we ask whether there is another
_ACK_TOKENS = 9  # of the plain form; the longer one has two more in front


class _Consumer(msgspec.Struct, frozen=True):
    name: str = ""
    num_pending: int = 0
    error: ApiError | None = None


class NatsWatch(QueuedWatch):
    """One reader's view of some keys."""

    def __init__(self, link: Link, stream: str, start: str, *, idle_s: float, all_versions: bool = False) -> None:
        super().__init__(stream)
        self._link = link
        self._stream = stream
        self._start = len(start)  # of the subjects: what stands before the key
        self._idle_s = idle_s
        self._all_versions = all_versions  # a listing of every version that is kept, deletions too, instead of what is alive
        self._consumer = ""
        self._subscription: Subscription | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._heard_s = 0.0
        self._count = 0  # of the messages that came: the server's own number of the last one
        self._first: list[Entry] | None = []  # the listing under way; None once it was told

    async def open(self, filters: list[str]) -> None:
        """Begin. Raises: StoreUnavailableError; nothing is left on the server then."""
        operation = f"watch {self._stream}"
        inbox = self._link.client.new_inbox()
        self._link.on_lost.add(self.lose)
        try:
            self._subscription = await self._link.client.subscribe(inbox, cb=self._take, pending_msgs_limit=WATCH_LIMIT)
            config: dict[str, Any] = {
                "deliver_subject": inbox,
                "deliver_policy": "all" if self._all_versions else "last_per_subject",
                "ack_policy": "none",
                "max_deliver": 1,
                "mem_storage": True,
                "num_replicas": 1,
                "idle_heartbeat": int(self._idle_s * 1e9),
                "inactive_threshold": 5_000_000_000,
            } | ({"filter_subject": filters[0]} if len(filters) == 1 else {"filter_subjects": filters})
            request = {"stream_name": self._stream, "config": config}
            made = await self._link.call(operation, f"CONSUMER.CREATE.{self._stream}", request, _Consumer)
            if made.error is not None:
                raise StoreUnavailableError(operation, made.error.description)
        except BaseException:
            await self.aclose()
            raise
        self._consumer = made.name
        if made.num_pending == 0 and self._count == 0:
            self._end_listing()
        loop = asyncio.get_running_loop()
        self._heard_s = loop.time()
        self._watchdog = loop.call_later(_LOST_AFTER * self._idle_s, self._check)

    async def aclose(self) -> None:
        """Stop; the server forgets the consumer."""
        await super().aclose()
        await self._drop()

    def _woken(self, wake: asyncio.Future[None]) -> Awaitable[None]:
        return wake if self._first is None else self._wait_for_listing(wake)

    async def _wait_for_listing(self, wake: asyncio.Future[None]) -> None:
        """The last message of the first listing says so; but a key that expired before its turn never comes, so ask after a pause."""
        done, _ = await asyncio.wait((wake,), timeout=_SETTLE_S)
        if done or self._first is None:
            return
        try:
            told = await self._link.call(f"watch {self._stream}", f"CONSUMER.INFO.{self._stream}.{self._consumer}", None, _Consumer)
        except StoreUnavailableError as exc:
            self.lose(exc.reason)
            return
        if told.error is not None:
            self.lose(told.error.description)
        elif told.num_pending == 0 and not self._waiting:
            self._end_listing()

    async def _take(self, message: Msg) -> None:
        """What the server delivers, in its order; called by nats-py's one task for this subscription."""
        self._heard_s = asyncio.get_running_loop().time()
        headers = message.headers
        if not message.reply:
            if headers is not None and headers.get("Nats-Last-Consumer", "") not in ("", str(self._count)):
                self.lose("changes were lost on the way")
            return
        tokens = message.reply.split(".")
        shift = 0 if len(tokens) == _ACK_TOKENS else 2
        revision, count, written_ns, pending = (int(token) for token in tokens[5 + shift : 9 + shift])
        if count != self._count + 1:
            self.lose("changes were lost on the way")
            return
        self._count = count
        key = message.subject[self._start :]
        written_s = written_ns / 1e9 - self._link.offset_s
        entry = entry_of(key, message.data, headers or (), revision=revision, written_s=written_s)
        if self._first is not None:
            self._first.append(entry)
            if pending == 0:
                self._end_listing()
            else:
                self._ring()  # the pause after which we ask begins anew
        else:
            self.tell(entry)

    def _end_listing(self) -> None:
        assert self._first is not None
        found, self._first = self._first, None
        if not self._all_versions:
            latest = {entry.key: entry for entry in found}  # a key may have changed while the listing was under way
            found = [latest[key] for key in sorted(latest) if not latest[key].deleted]
        self._list(found)

    def _check(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = self._heard_s + _LOST_AFTER * self._idle_s
        if loop.time() >= due_s:
            self.lose("NATS has stopped to send its idle heartbeats")
        else:
            self._watchdog = loop.call_at(due_s, self._check)

    def _leave(self) -> None:
        self._link.on_lost.discard(self.lose)

    async def _drop(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
        client, subscription, self._subscription = self._link.client, self._subscription, None
        if subscription is None or client.is_closed:
            return
        await subscription.unsubscribe()
        if self._consumer and client.is_connected:
            await client.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._consumer}")  # no answer is needed: it ends by itself too
