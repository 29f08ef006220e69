"""The loop that pulls and handles, and what it does when that fails: pause and ask again, make the durable anew, or stop.

Contract: from one pull messages are handled as long as it is the feed's and nothing is missing in it. A missing durable is made again
without what others have by now; an update that comes meanwhile goes first. It never gives up by itself: it ends when the server forbids it,
or its owner does.
"""

from __future__ import annotations

import asyncio
import logging

from floodmark.systems.fleet.consumer.errors import Failure, ServerError
from floodmark.systems.fleet.consumer.feed import Feed
from floodmark.systems.fleet.consumer.health import Health
from floodmark.systems.fleet.consumer.pull import SILENCE, Pull, PullFailedError
from floodmark.systems.fleet.consumer.reader import Told
from floodmark.systems.fleet.consumer.settings import ConsumerSettings
from floodmark.systems.fleet.metrics import Metric, Metrics

_log = logging.getLogger("floodmark.fleet.consumer")
_TICK_S = 1.0  # how often an idle loop looks whether the connection was lost and the order may go on


class Recovery:
    """Keeps one feed going."""

    def __init__(self, feed: Feed, settings: ConsumerSettings, health: Health, metrics: Metrics, on_error: Told) -> None:
        self._feed = feed
        self._settings = settings
        self._health = health
        self._metrics = metrics
        self._on_error = on_error
        self._looked: tuple[Pull, float] | None = None  # when we looked last whether the durable of a pull is still ours

    async def run(self) -> None:
        """Pull and handle until the feed has stopped."""
        feed, failures = self._feed, 0
        while not feed.stopped:
            pull = feed.pull
            try:
                if pull is not None:
                    await self._turn(pull)
                elif feed.applied.subjects and not feed.fenced:
                    await self._recreate(None, "the last update left none")
                else:
                    feed.changed.clear()
                    await feed.changed.wait()
                failures = 0
            except Exception as exc:
                # An answer that the client does not take, a callback that raises: whatever it is, who ended here would hold its subjects
                # and never handle them. What was not settled comes again from a new durable.
                if pull is not None:
                    pull.gap = True
                self._report(exc)
                await asyncio.sleep(self._health.pause_s(failures))
                failures += 1

    def _report(self, exc: Exception) -> None:
        try:
            self._on_error(exc)
        except Exception:
            _log.exception("the callback for errors raised; what it was to be told of: %r", exc)

    async def _turn(self, pull: Pull) -> None:
        """Handle once what a pull brings."""
        feed = self._feed
        try:
            arrived = await pull.next(_TICK_S, held_count=feed.reader.order.held_count)
        except PullFailedError as exc:
            await self._recover(pull, exc)
            return
        if arrived:
            self._health.pulled()
        # Asked before each message: an update that fails while they are handled has let some of them pass.
        await feed.reader.handle_all(arrived, lambda: feed.pull is pull and not pull.gap)
        if feed.pull is not pull:
            return
        if pull.gap or (pull.reconnected and await self._has_lost(pull)):
            self._metrics.count(Metric.CONSUMER_ITERATOR_RESTARTS, label="transient")
            await self._recreate(pull, "a delivery was lost on the way")
        elif not await self._is_still_ours(pull):
            await self._recreate(pull, "another worker has its name, or it is gone", robbed=True)

    async def _is_still_ours(self, pull: Pull) -> bool:
        """Look, once in fetch_s: who has no pull open when the durable goes is not told, and a newer worker of our name would feed it."""
        now_s = asyncio.get_running_loop().time()
        if self._looked is None or self._looked[0] is not pull:
            self._looked = (pull, now_s)
        if now_s < self._looked[1] + self._settings.fetch_s:
            return True
        self._looked = (pull, now_s)
        try:
            return await self._feed.binding.is_ours()
        except ServerError:  # no answer is no news
            return True

    async def _has_lost(self, pull: Pull) -> bool:
        try:
            lost = await self._feed.binding.has_lost(pull.last)
        except ServerError:
            return True
        pull.rejoin()
        return lost

    async def _recover(self, pull: Pull, exc: PullFailedError) -> None:
        """Do what a failed pull asks for."""
        failure = exc.failure
        if self._feed.pull is not pull:
            return
        if failure is Failure.UNAVAILABLE:
            failure = await self._looked_up(exc)
        if failure is Failure.FORBIDDEN:
            self._stop(exc)
            return
        escalated = self._health.pull_failed(asyncio.get_running_loop().time())
        if failure is Failure.MISSING or escalated:
            await self._recreate(pull, exc.reason, robbed=failure is Failure.MISSING)
            return
        self._metrics.count(Metric.CONSUMER_ITERATOR_RESTARTS, label="heartbeat" if exc.reason == SILENCE else "transient")
        await asyncio.sleep(self._health.pause_s(self._health.pull_failures - 1))

    async def _looked_up(self, exc: PullFailedError) -> Failure:
        """Nobody answered a pull: tell if that is because there is no such durable."""
        try:
            return Failure.MISSING if await self._feed.binding.is_missing() else Failure.TRANSIENT
        except ServerError as error:
            return error.failure if error.failure is Failure.FORBIDDEN else Failure.TRANSIENT

    async def _recreate(self, pull: Pull | None, reason: str, *, robbed: bool = False) -> None:
        """Make the durable again, without what others have by now; an update that comes meanwhile goes first."""
        feed, began_s = self._feed, asyncio.get_running_loop().time()
        _log.info("%s is made again: %s", feed.applied.name, reason)
        for attempt in range(self._settings.control_retries_count):
            if attempt or robbed:  # who took it away gets the time to make its own
                await asyncio.sleep(self._health.pause_s(attempt))
            async with feed.lock:
                if feed.pull is not pull or feed.stopped:
                    return
                self._metrics.count(Metric.CONSUMER_RECREATIONS, label="attempt")
                try:
                    await feed.remade(feed.applied, take=False)
                except ServerError as exc:
                    pull = feed.pull
                    self._metrics.count(Metric.CONSUMER_CONTROL_RETRIES)
                    if exc.failure is Failure.FORBIDDEN:
                        self._stop(exc)
                        return
                    continue
                self._health.recreated(ok=True)
                self._metrics.duration(Metric.CONSUMER_RECREATION_S, asyncio.get_running_loop().time() - began_s)
                self._metrics.gauge(Metric.CONSUMER_SUBJECTS, len(feed.reader.owned.names))
                return
        self._health.recreated(ok=False)
        await asyncio.sleep(self._health.pause_s(self._settings.control_retries_count))

    def _stop(self, exc: Exception) -> None:
        self._feed.stopped = str(exc)
        self._on_error(exc)
