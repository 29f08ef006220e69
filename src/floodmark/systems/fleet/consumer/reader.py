"""Hands what is pulled to the handler, one message at a time, and settles it.

Contract: the messages of one subject are handled in the order of the stream; a message that is known to be finished is acknowledged again
and not handled; one whose subject is not owned (any more) is left alone, its owner gets it. The handler's return acknowledges, its error
refuses; in manual mode the handler settles, whenever it likes.
Left to others: which durable is pulled from (`feed`), and what a failed pull means (`recovery`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from floodmark.systems.fleet.consumer.errors import MessageGivenUpError
from floodmark.systems.fleet.consumer.finished import Finished
from floodmark.systems.fleet.consumer.message import ACK, NAK, Message
from floodmark.systems.fleet.consumer.naming import Subjects
from floodmark.systems.fleet.consumer.order import Order
from floodmark.systems.fleet.consumer.settings import ConsumerSettings
from floodmark.systems.fleet.metrics import Metric, Metrics, NullMetrics

Handler = Callable[[Message], Awaitable[None]]
Told = Callable[[Exception], None]


class Counts(msgspec.Struct, kw_only=True):
    """What became of the deliveries; together they are all that came."""

    handled: int = 0  # the handler returned; in manual mode: it was given the message
    refused: int = 0  # the handler raised
    given_up: int = 0  # of those refused: it was the last delivery that the server makes
    known: int = 0  # finished before, or in the handler's hands, and so not handled again
    foreign: int = 0  # of a subject that is not ours


class Reader:
    """The handling of one worker's messages; it outlives durables and pulls."""

    def __init__(self, settings: ConsumerSettings, handler: Handler, on_error: Told, metrics: Metrics | None = None) -> None:
        self.counts = Counts()
        self.owned = Subjects()
        self.floors: dict[str, int] = {}
        self.order = Order()
        self._settings = settings
        self._handler = handler
        self._on_error = on_error
        self._metrics = metrics or NullMetrics()
        self._finished = Finished(settings.remembered_count)
        self._current: Message | None = None
        self._idle: asyncio.Future[None] | None = None
        self._open: dict[int, tuple[Message, int]] = {}  # manual mode: what the handler has, and of which durable it was
        self._durable = 0  # number of the durable that is pulled from

    def renew(self, floors: dict[str, int]) -> None:
        """There is a new durable: it delivers again all that is unacknowledged, in order."""
        self._durable += 1
        self.floors = floors
        self.order.clear()
        for message, _ in self._open.values():
            message.stale = True
        if self._current is not None:
            self._current.stale = True

    async def settle(self, limit_s: float) -> bool:
        """Wait until the handler has done with a message whose subject is not owned any more; tell if it has."""
        current = self._current
        if current is None or current.subject in self.owned:
            return True
        self._idle = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(limit_s):
                await self._idle
        except TimeoutError:
            return False
        finally:
            self._idle = None
        return True

    async def handle_all(self, arrived: Sequence[Message], still: Callable[[], bool]) -> None:
        """Handle what has arrived, in order, as long as `still` says so."""
        now_s = asyncio.get_running_loop().time()
        for message in self.order.ready(arrived, now_s):  # HOT: once per message
            if not still():
                return
            await self._handle(message)

    async def _handle(self, message: Message) -> None:
        subject, sequence = message.subject, message.sequence
        if subject not in self.owned:
            self.counts.foreign += 1
            return
        if sequence in self._finished or (self.floors and sequence <= self.floors.get(subject, 0)):
            self.counts.known += 1
            await message.say(ACK)
            return
        if self.order.waiting and not self.order.admits(message):
            return
        if self._settings.manual_ack and not self._lend(message):
            return
        self._current = message
        try:
            await self._handler(message)
        except Exception as exc:  # whatever the handler raises: the message is refused, the consumer goes on
            await self._refuse(message, exc)
        else:
            self.counts.handled += 1
            if not self._settings.manual_ack:
                self._finished.note(sequence)
                await message.say(ACK)
        finally:
            self._current = None
            if self._idle is not None and not self._idle.done():
                self._idle.set_result(None)

    async def _refuse(self, message: Message, exc: Exception) -> None:
        self.counts.refused += 1
        most = self._settings.max_deliver_count
        if message.deliveries >= most > 0:
            self.counts.given_up += 1
            self._metrics.count(Metric.CONSUMER_GIVEN_UP)
            self._on_error(MessageGivenUpError(message.subject, message.sequence, message.deliveries, repr(exc)))
        else:
            self.order.failed(message, asyncio.get_running_loop().time() + self._settings.ack_wait_s / 2)
            self._on_error(exc)
        if self._settings.manual_ack:
            await message.nak()
        else:
            await message.say(NAK)

    def _lend(self, message: Message) -> bool:
        """Tell if the handler is to have it: not if it has it already and only the durable is another one."""
        lent = self._open.get(message.sequence)
        if lent is not None and lent[1] != self._durable:
            lent[0].adopt(message)
            self._open[message.sequence] = (lent[0], self._durable)
            self.counts.known += 1
            return False
        message.on_settled(self._returned)
        self._open[message.sequence] = (message, self._durable)
        return True

    def _returned(self, message: Message, done: bool) -> None:
        lent = self._open.get(message.sequence)
        if lent is not None and lent[0] is message:
            del self._open[message.sequence]
        if done:
            self._finished.note(message.sequence)
