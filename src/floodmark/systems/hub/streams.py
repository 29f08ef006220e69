"""A receiver inside the hub's own process: `async for event in hub.stream("orders", "*")`.

It is a cursor into the channel logs like any other subscription, so it has the same bound and the same policy: a stream that is not
read holds back its publishers (block), ends with EventsLagged (lag) or skips and counts (drop_oldest). One reader at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Self

from floodmark.systems.hub.dispatch import Dispatcher
from floodmark.systems.hub.errors import HubError
from floodmark.systems.hub.event import Event
from floodmark.systems.hub.log import ChannelLog
from floodmark.systems.hub.protocol import SubscriptionState
from floodmark.systems.hub.selection import Selection
from floodmark.systems.hub.subscription import Group, Subscription
from floodmark.systems.hub.wire import MODERN

_SELECTION = Selection("events", [("id", "id")])


class StreamGroup(Group):
    """A group whose run is the events themselves."""

    def encode(self, events: list[Event], rendered: dict[tuple[Event, tuple[object, ...]], bytes] | None) -> Any:
        """Nothing to build."""
        return events


class StreamClosed(Exception):
    """The stream was closed while, or before, somebody read from it."""


class EventStream:
    """The events of some channels, in the order of each."""

    def __init__(self, dispatcher: Dispatcher, channels: tuple[str, ...]) -> None:
        self._dispatcher = dispatcher
        self.out: list[Any] = []
        self.lagging: dict[Subscription, None] = {}
        self.paused = True  # nothing is taken until somebody reads
        self._ready: deque[Event] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self.subscriptions = [self._join(dispatcher.open_log(channel)) for channel in dict.fromkeys(channels)]

    def _join(self, log: ChannelLog) -> Subscription:
        group = StreamGroup((f"stream {id(self)}", "stream", (), b""), log, MODERN, _SELECTION, None)
        log.groups[group.key] = group
        group.member_count = 1
        subscription = Subscription(group.key[0], self, group)
        subscription.move(SubscriptionState.ACTIVE)
        self._dispatcher.fall_behind(subscription, log.head + 1)
        return subscription

    # the dispatcher calls these

    def write_out(self) -> None:
        """Take the runs of this turn, and no more until the reader has come back."""
        for run in self.out:
            self._ready.extend(run)
        self.out.clear()
        self._pause()

    def write_now(self, run: list[Event]) -> None:
        """Take a run from the log."""
        self._ready.extend(run)
        self._pause()

    def _pause(self) -> None:
        self.paused = True
        for subscription in self.subscriptions:
            if not subscription.lagging and subscription.state is SubscriptionState.ACTIVE:
                self._dispatcher.fall_behind(subscription, subscription.group.log.flushed + 1)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def fail_operation(self, subscription: Subscription, error: HubError) -> None:
        """The policy ended one of the channels: the stream ends with the error, after what it has already."""
        self._end(error, SubscriptionState.ERRORED)

    # the reader calls these

    async def recv(self) -> Event:
        """Give the next event. Cancelling loses nothing.

        Raises: StreamClosed, or EventsLagged when the policy ended the stream.
        """
        while not self._ready:
            if self._error is not None:
                raise self._error
            if self._waiter is not None:
                raise RuntimeError("another reader is waiting on this stream")
            self.paused = False
            self._dispatcher.can_take_more(self)
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._ready.popleft()

    def close(self) -> None:
        """Leave all channels; nobody else's subscription is touched."""
        self._end(StreamClosed("the stream was closed"), SubscriptionState.COMPLETING)

    def _end(self, error: Exception, state: SubscriptionState) -> None:
        if self._error is not None:
            return
        self._error = error
        for subscription in self.subscriptions:
            subscription.move(state)
            self._dispatcher.remove(subscription)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def closed(self) -> bool:
        """True once it has ended, for whatever reason."""
        return self._error is not None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        try:
            return await self.recv()
        except StreamClosed:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()
