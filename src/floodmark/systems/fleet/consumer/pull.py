"""Asks one durable for messages and gathers what comes: one subscription, one request at a time.

Not the client's own `fetch`: that takes "Consumer Deleted" for an empty stream, and makes a task for every message.
Contract: messages come in the order of their delivery; a delivery that was lost on the way, or made to another under our name, shows as
`gap`. What has come and was not taken when the pull is closed is dropped: the server delivers it again.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING

from floodmark.systems.fleet.consumer.errors import ConsumerError, Failure, classify
from floodmark.systems.fleet.consumer.message import Message

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

_ANSWERS = "$JS.ACK."  # how the subject begins to which a delivery is answered: what has none is a status
_NANOSECONDS = 1_000_000_000
SILENCE = "silence"  # the reason, when nothing was heard
_SILENT_HEARTBEATS = 2  # so many halves of fetch_s without a word, and the server has forgotten us


class PullFailedError(ConsumerError):
    """A pull ended otherwise than with messages or without any."""

    def __init__(self, failure: Failure, reason: str) -> None:
        super().__init__(failure, reason)
        self.failure, self.reason = failure, reason

    def __str__(self) -> str:
        return f"the pull ended: {self.reason}"


class Pull:
    """Pulls from one durable until it is closed.

    Attributes:
        gap: a delivery did not arrive.
        last: number of the last delivery that arrived.
        quiet: ask for nothing: the durable is about to be another one.
    """

    def __init__(self, nc: Client, stream: str, durable: str, *, batch_count: int, fetch_s: float, capacity_count: int) -> None:
        self.gap = False
        self.last = 0
        self.closed = False
        self.quiet = False
        self._nc = nc
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._batch_count = batch_count
        self._fetch_s = fetch_s
        self._capacity_count = capacity_count
        self._inbox = nc.new_inbox()
        self._subscription: Subscription | None = None
        self._arrived: list[Message] = []
        self._something = asyncio.Event()
        self._failed: PullFailedError | None = None
        self._open_count = 0  # messages that the running request may still bring
        self._number = 0  # of the running request
        self._heard_s = 0.0
        self._reconnects = nc.stats["reconnects"]

    async def open(self) -> None:
        """Subscribe; the first request goes out when messages are wanted."""
        self._subscription = await self._nc.subscribe(f"{self._inbox}.*", cb=self._on_message, pending_msgs_limit=4 * self._capacity_count)

    async def close(self) -> None:
        """Stop; who waits in `next` gets nothing."""
        import nats.errors

        self.closed = True
        self._something.set()
        if self._subscription is not None:
            with suppress(nats.errors.Error):  # the connection is closed, and the subscription with it
                await self._subscription.unsubscribe()
            self._subscription = None

    @property
    def reconnected(self) -> bool:
        """Tell if the connection was lost since this pull began; deliveries may have been lost with it."""
        return bool(self._nc.stats["reconnects"] != self._reconnects)

    def rejoin(self) -> None:
        """Nothing was lost with the connection but the running request: the next one goes out at once."""
        self._reconnects = self._nc.stats["reconnects"]
        self._open_count = 0

    async def next(self, wait_s: float, *, held_count: int = 0) -> list[Message]:
        """Give what has arrived; nothing when nothing comes within `wait_s`, or the pull is closed.

        Args:
            held_count: messages that the caller has not done with; so many fewer are asked for.

        Raises: PullFailedError.
        """
        if not self._arrived and not self.closed:
            await self._wait(wait_s, held_count)
        arrived, self._arrived = self._arrived, []
        if arrived:  # a server that delivers sends no heartbeats
            self._heard_s = asyncio.get_running_loop().time()
        self._something.clear()
        return arrived

    async def _wait(self, wait_s: float, held_count: int) -> None:
        if not self.quiet:
            self._raise_failure()
            if self._open_count <= 0:
                await self._ask(max(1, self._batch_count - held_count))
            elif asyncio.get_running_loop().time() - self._heard_s > _SILENT_HEARTBEATS * self._fetch_s / 2:
                self._open_count = 0
                raise PullFailedError(Failure.TRANSIENT, SILENCE)
        try:
            async with asyncio.timeout(wait_s):
                await self._something.wait()
        except TimeoutError:
            return
        if not self._arrived and not self.quiet:
            self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failed is not None:
            failed, self._failed, self._open_count = self._failed, None, 0
            self._something.clear()
            raise failed

    async def _ask(self, count: int) -> None:
        import nats.errors

        self._number += 1
        self._open_count = count
        self._heard_s = asyncio.get_running_loop().time()
        self._something.clear()
        words = {"batch": count, "expires": round(self._fetch_s * _NANOSECONDS), "idle_heartbeat": round(self._fetch_s / 2 * _NANOSECONDS)}
        try:
            await self._nc.publish(self._subject, json.dumps(words).encode(), reply=f"{self._inbox}.{self._number}")
        except nats.errors.Error as exc:
            self._open_count = 0
            raise PullFailedError(Failure.TRANSIENT, repr(exc)) from exc

    async def _on_message(self, msg: Msg) -> None:  # HOT: once per message; async because the client wants it so, and never waits
        if not msg.reply.startswith(_ANSWERS):
            self._on_status(msg)
            return
        message = Message(msg)
        if message.consumer_sequence != self.last + 1:
            self.gap = True
        self.last = message.consumer_sequence
        self._open_count -= 1
        self._arrived.append(message)
        self._something.set()

    def _on_status(self, msg: Msg) -> None:
        self._heard_s = asyncio.get_running_loop().time()
        headers = msg.headers or {}
        code = int(headers.get("Status", "0"))
        if code == 100 or msg.subject != f"{self._inbox}.{self._number}":  # a heartbeat, or the end of a request that has ended for us
            return
        if code in (404, 408):  # no more messages within the time
            self._open_count = 0
        else:
            description = str(headers.get("Description", "")).strip()
            self._failed = PullFailedError(classify(code, description), f"{code} {description}".strip())
        self._something.set()
