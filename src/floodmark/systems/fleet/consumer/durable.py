"""One durable pull consumer for one worker: its subjects are those of the worker's partitions, and they change without a restart.

    async with DurableConsumer(nc, ConsumerSettings(stream="FM_IN"), handle) as consumer:
        worker = Worker(settings, store, source, consumer=consumer)

Delivery is at least once, in order per subject; nothing is lost when partitions go from worker to worker, crash or no crash (see
`binding` for how). Updates are done one after another, and the newest wins; that is here. What an update does is `feed`; the one task that
handles, and mends what breaks, is `recovery`, with this object as its parent.
Limits: max_subjects_count subjects; a message that fails max_deliver_count times stays in the stream, unacknowledged, as JetStream has it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Self

import msgspec

from floodmark.systems.fleet.consumer.binding import Binding
from floodmark.systems.fleet.consumer.claims import UNVERSIONED, Version
from floodmark.systems.fleet.consumer.control import Control
from floodmark.systems.fleet.consumer.errors import ConsumerStoppedError, Failure, ServerError, TooManySubjectsError, WorkerIdChangedError
from floodmark.systems.fleet.consumer.feed import NOTHING, Feed, Wish
from floodmark.systems.fleet.consumer.health import Health
from floodmark.systems.fleet.consumer.naming import durable_name, subjects_of
from floodmark.systems.fleet.consumer.reader import Counts, Handler, Reader, Told
from floodmark.systems.fleet.consumer.recovery import Recovery
from floodmark.systems.fleet.consumer.settings import ConsumerSettings
from floodmark.systems.fleet.metrics import Metric, Metrics, NullMetrics
from floodmark.systems.fleet.partition import Partition

if TYPE_CHECKING:
    from nats.aio.client import Client

_log = logging.getLogger("floodmark.fleet.consumer")


class DurableConsumer:
    """The consumer of one worker.

    Args:
        nc: a connection that stays the caller's; it should reconnect by itself, without end.
        handler: called with one message at a time.
        on_error: told of what the handler raised and of failures that are worked around; must not raise.
    """

    def __init__(
        self,
        nc: Client,
        settings: ConsumerSettings,
        handler: Handler,
        *,
        metrics: Metrics | None = None,
        rng: Random | None = None,
        on_error: Told | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics or NullMetrics()
        on_error = on_error or _tell_log
        rng = rng or Random()
        binding = Binding(Control(nc, settings, f"{rng.getrandbits(64):016x}-{nc.client_id}"), settings)
        self._health = Health(settings, self._metrics, rng)
        self._reader = Reader(settings, handler, on_error, self._metrics)
        self._feed = Feed(nc, settings, binding, self._reader, on_error)
        self._recovery = Recovery(self._feed, settings, self._health, self._metrics, on_error)
        self._newest = NOTHING  # what was asked for last
        self._task: asyncio.Task[None] | None = None

    @property
    def worker_id(self) -> str:
        """Whose consumer it is; empty before the first update."""
        return self._feed.applied.worker_id

    @property
    def subjects(self) -> tuple[str, ...]:
        """What is consumed now."""
        return self._reader.owned.names

    @property
    def refused_subjects(self) -> tuple[str, ...]:
        """What was asked for and belongs to a newer assignment."""
        return self._feed.binding.refused

    @property
    def counts(self) -> Counts:
        """What became of the deliveries, a copy."""
        return msgspec.structs.replace(self._reader.counts)

    @property
    def healthy(self) -> bool:
        """Tell if it works, and its failures in a row stay within the limit."""
        return not self._feed.stopped and self._health.healthy

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def update(self, worker_id: str, partitions: Sequence[Partition], *, epoch: int = 0, version: int = 0) -> None:
        """Consume these partitions from now on; see `base.Consumer`.

        If cancelled half-way, the partitions are as they were, or as they were to be.
        Raises: TooManySubjectsError, WorkerIdChangedError, ConsumerStoppedError; ServerError when the server did not do it, even again.
        """
        wish = self._checked(worker_id, partitions, (epoch, version))
        if wish.version < self._newest.version and wish.version != UNVERSIONED:
            self._metrics.count(Metric.CONSUMER_UPDATES, label="noop")
            return
        self._newest = wish
        async with self._feed.lock:
            wish = self._newest  # a newer one may have come meanwhile: it is done at once, and this one never
            began_s = asyncio.get_running_loop().time()
            if self._is_done(wish):
                self._metrics.count(Metric.CONSUMER_UPDATES, label="noop")
                return
            try:
                await self._apply_again_and_again(wish)
            except ServerError:
                self._metrics.count(Metric.CONSUMER_UPDATES, label="failure")
                raise
            self._metrics.count(Metric.CONSUMER_UPDATES, label="success")
            self._metrics.duration(Metric.CONSUMER_UPDATE_S, asyncio.get_running_loop().time() - began_s)

    async def aclose(self) -> None:
        """Stop consuming; the message in the handler may end, within removal_s. A work queue's durable is removed."""
        self._feed.stopped = self._feed.stopped or "it was closed"
        async with self._feed.lock:
            await self._feed.silence()
            if self._task is not None:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)  # gather: cancelled by us; errors went to on_error
                self._task = None

    def _checked(self, worker_id: str, partitions: Sequence[Partition], version: Version) -> Wish:
        if self._feed.stopped:
            raise ConsumerStoppedError(self._feed.stopped)
        had = self._newest.worker_id
        if had and worker_id != had and not self._settings.allow_worker_id_change:
            self._metrics.count(Metric.CONSUMER_GUARDRAIL, label="workerid_mutation")
            raise WorkerIdChangedError(had, worker_id)
        subjects = subjects_of(self._settings.subject_template, partitions)
        most_count = self._settings.max_subjects_count
        if len(subjects) > most_count:
            self._metrics.count(Metric.CONSUMER_GUARDRAIL, label="max_subjects")
            raise TooManySubjectsError(len(subjects), most_count)
        if len(subjects) >= self._settings.warn_subjects_ratio * most_count:
            self._metrics.count(Metric.CONSUMER_THRESHOLD_WARNINGS)
            _log.warning("%s has %d subjects, near to the limit of %d", worker_id, len(subjects), most_count)
        name = durable_name(self._settings.prefix, worker_id)
        return Wish(worker_id=worker_id, name=name, subjects=subjects, version=version)

    def _is_done(self, wish: Wish) -> bool:
        same = (
            wish.name == self._feed.applied.name
            and wish.subjects == self._feed.applied.subjects
            and wish.version in (self._feed.applied.version, UNVERSIONED)
        )
        return same and wish.subjects == self._reader.owned.names

    async def _apply_again_and_again(self, wish: Wish) -> None:
        for attempt in range(self._settings.retries_count + 1):
            try:
                await self._apply(wish)
                return
            except ServerError as exc:
                if exc.failure is Failure.FORBIDDEN:
                    self._feed.stopped = str(exc)
                    await self._feed.silence()
                if exc.failure is Failure.FORBIDDEN or attempt == self._settings.retries_count:
                    raise
                self._metrics.count(Metric.CONSUMER_CONTROL_RETRIES)
            await asyncio.sleep(self._settings.backoff_s)
            wish = self._newest

    async def _apply(self, wish: Wish) -> None:
        before = self._reader.owned.names
        try:
            await self._feed.apply(wish)
        finally:
            if self._task is None and self._feed.pull is not None:
                self._task = asyncio.create_task(self._recovery.run())  # parent: this object; see aclose
        now = self._reader.owned.names
        self._metrics.gauge(Metric.CONSUMER_SUBJECTS, len(now))
        self._metrics.count(Metric.CONSUMER_SUBJECTS_ADDED, len(set(now).difference(before)))
        self._metrics.count(Metric.CONSUMER_SUBJECTS_REMOVED, len(set(before).difference(now)))


def _tell_log(exc: Exception) -> None:
    _log.warning("%s", exc or repr(exc))
