"""One durable pull consumer for one worker: its subjects are those of the worker's partitions, and they change without a restart.

    async with DurableConsumer(nc, ConsumerSettings(stream="FM_IN"), handle) as consumer:
        worker = Worker(settings, store, source, consumer=consumer)

Delivery is at least once, in order per subject; nothing is lost when partitions go from worker to worker, crash or no crash (see
`binding` for how). Updates are done one after another, and the newest wins. One task handles; it has this object as its parent.
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
from floodmark.systems.fleet.consumer.health import Health
from floodmark.systems.fleet.consumer.naming import Subjects, durable_name, subjects_of
from floodmark.systems.fleet.consumer.pull import SILENCE, Pull, PullFailedError
from floodmark.systems.fleet.consumer.reader import Counts, Handler, Reader, Told
from floodmark.systems.fleet.consumer.settings import ConsumerSettings
from floodmark.systems.fleet.metrics import Metric, Metrics, NullMetrics
from floodmark.systems.fleet.partition import Partition

if TYPE_CHECKING:
    from nats.aio.client import Client

_log = logging.getLogger("floodmark.fleet.consumer")
_TICK_S = 1.0  # how often an idle loop looks whether the connection was lost and the order may go on


class _Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What an update asked for."""

    worker_id: str
    name: str
    subjects: tuple[str, ...]
    version: Version


_NOTHING = _Wish(worker_id="", name="", subjects=(), version=UNVERSIONED)


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
        self._nc = nc
        self._settings = settings
        self._metrics = metrics or NullMetrics()
        self._on_error = on_error or _tell_log
        rng = rng or Random()
        self._health = Health(settings, self._metrics, rng)
        self._binding = Binding(Control(nc, settings, f"{rng.getrandbits(64):016x}-{nc.client_id}"), settings)
        self._reader = Reader(settings, handler, self._on_error)
        self._lock = asyncio.Lock()  # held by who changes the durable
        self._newest = _NOTHING  # what was asked for last
        self._applied = _NOTHING  # what was done last
        self._pull: Pull | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._look_s = 0.0  # when to look again whether the durable is still ours
        self._fenced = False  # everything that was asked for belongs to newer assignments
        self._stopped = ""  # why

    @property
    def worker_id(self) -> str:
        """Whose consumer it is; empty before the first update."""
        return self._applied.worker_id

    @property
    def subjects(self) -> tuple[str, ...]:
        """What is consumed now."""
        return self._reader.owned.names

    @property
    def refused_subjects(self) -> tuple[str, ...]:
        """What was asked for and belongs to a newer assignment."""
        return self._binding.refused

    @property
    def counts(self) -> Counts:
        """What became of the deliveries, a copy."""
        return msgspec.structs.replace(self._reader.counts)

    @property
    def healthy(self) -> bool:
        """Tell if it works, and its failures in a row stay within the limit."""
        return not self._stopped and self._health.healthy

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
        async with self._lock:
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
        self._stopped = self._stopped or "it was closed"
        async with self._lock:
            await self._silence()
            if self._task is not None:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)  # gather: the cancellation is ours and is not news
                self._task = None

    def _checked(self, worker_id: str, partitions: Sequence[Partition], version: Version) -> _Wish:
        if self._stopped:
            raise ConsumerStoppedError(self._stopped)
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
        return _Wish(worker_id=worker_id, name=name, subjects=subjects, version=version)

    def _is_done(self, wish: _Wish) -> bool:
        same = (
            wish.name == self._applied.name
            and wish.subjects == self._applied.subjects
            and wish.version in (self._applied.version, UNVERSIONED)
        )
        return same and wish.subjects == self._reader.owned.names

    async def _apply_again_and_again(self, wish: _Wish) -> None:
        for attempt in range(self._settings.retries_count + 1):
            try:
                await self._apply(wish)
                return
            except ServerError as exc:
                if exc.failure is Failure.FORBIDDEN:
                    self._stopped = str(exc)
                    await self._silence()
                if exc.failure is Failure.FORBIDDEN or attempt == self._settings.retries_count:
                    raise
                self._metrics.count(Metric.CONSUMER_CONTROL_RETRIES)
            await asyncio.sleep(self._settings.backoff_s)
            if self._newest is not wish:
                wish = self._newest

    async def _apply(self, wish: _Wish) -> None:
        before = self._reader.owned
        former = self._applied
        if not wish.subjects:
            self._applied = wish
            await self._silence()
        else:
            # INVARIANT: what is given up ends here first, whatever becomes of the rest.
            self._reader.owned = Subjects(name for name in before.names if name in wish.subjects)
            try:
                await self._reader.settle(self._settings.removal_s)
                if not await self._narrowed(wish):
                    await self._remade(wish, take=True)
            except BaseException:
                # The old subjects stay. Something of them may have come and gone unhandled meanwhile: a new durable delivers it again,
                # in order; nothing is handled until then.
                self._reader.owned = before if self._binding.name else Subjects()
                if self._pull is not None:
                    self._pull.gap = True
                self._wake.set()
                raise
            self._applied = wish
            if former.name not in ("", wish.name):
                await self._forget(former.name)
        now = set(self._reader.owned.names)
        self._metrics.gauge(Metric.CONSUMER_SUBJECTS, len(now))
        self._metrics.count(Metric.CONSUMER_SUBJECTS_ADDED, len(now.difference(before.names)))
        self._metrics.count(Metric.CONSUMER_SUBJECTS_REMOVED, len(set(before.names) - now))

    async def _narrowed(self, wish: _Wish) -> bool:
        """Change the durable where it is; tell if that is enough: it must have had all the subjects since it was made."""
        if self._pull is None or wish.name != self._binding.name or not self._binding.has_had(wish.subjects):
            return False
        try:
            await self._binding.narrow(wish.subjects, wish.version)
        except ServerError as exc:
            if exc.failure is Failure.MISSING:
                return False
            raise
        self._reader.owned = Subjects(wish.subjects)
        return True

    async def _remade(self, wish: _Wish, *, take: bool) -> None:
        """Make the durable anew and pull from it."""
        if self._pull is not None:
            self._pull.quiet = True
        try:
            await self._binding.make(wish.name, wish.subjects, wish.version, take=take)
        except BaseException:
            if self._pull is not None and self._binding.name:
                self._pull.quiet = False  # the old durable was not touched
            else:
                await self._close_pull()
            raise
        await self._close_pull()
        self._reader.renew(self._binding.floors)
        self._reader.owned = Subjects(self._binding.subjects)
        self._fenced = not self._binding.subjects
        if not self._fenced:
            await self._open_pull()

    async def _close_pull(self) -> None:
        pull, self._pull = self._pull, None
        if pull is not None:
            await pull.close()

    async def _open_pull(self) -> None:
        settings = self._settings
        pull = Pull(
            self._nc,
            settings.stream,
            self._binding.name,
            batch_count=settings.batch_count,
            fetch_s=settings.fetch_s,
            capacity_count=settings.max_ack_pending_count,
        )
        await pull.open()
        self._look_s = asyncio.get_running_loop().time() + settings.fetch_s
        self._pull = pull
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._consume())  # parent: this object; see aclose

    async def _silence(self) -> None:
        """Consume nothing. That the server may not answer does not matter: what others want of our durable they take."""
        self._reader.owned = Subjects()
        await self._close_pull()
        await self._reader.settle(self._settings.removal_s)
        try:
            async with asyncio.timeout(self._settings.old_durable_s):
                await self._binding.release()
        except (ServerError, TimeoutError) as exc:
            self._on_error(exc)

    async def _forget(self, name: str) -> None:
        try:
            async with asyncio.timeout(self._settings.old_durable_s):
                await self._binding.forget(name)
        except (ServerError, TimeoutError) as exc:
            self._on_error(exc)

    async def _consume(self) -> None:
        while not self._stopped:
            pull = self._pull
            if pull is None:
                if self._applied.subjects and not self._fenced:
                    await self._recreate(None, "the last update left none")
                else:
                    self._wake.clear()
                    await self._wake.wait()
                continue
            try:
                arrived = await pull.next(_TICK_S, held_count=self._reader.order.held_count)
            except PullFailedError as exc:
                await self._recover(pull, exc)
                continue
            if arrived:
                self._health.pulled()
            if not pull.gap:
                await self._reader.handle_all(arrived, lambda pull=pull: self._pull is pull)  # type: ignore[misc]
            if self._pull is pull and (pull.gap or (pull.reconnected and await self._has_lost(pull))):
                self._metrics.count(Metric.CONSUMER_ITERATOR_RESTARTS, label="transient")
                await self._recreate(pull, "a delivery was lost on the way")
            elif self._pull is pull and not await self._is_still_ours():
                await self._recreate(pull, "another worker has its name, or it is gone", robbed=True)

    async def _is_still_ours(self) -> bool:
        """Look, once in fetch_s: who has no pull open when the durable goes is not told, and a newer worker of our name would feed it."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._look_s:
            return True
        self._look_s = now_s + self._settings.fetch_s
        try:
            return await self._binding.is_ours()
        except ServerError:  # no answer is no news
            return True

    async def _has_lost(self, pull: Pull) -> bool:
        try:
            lost = await self._binding.has_lost(pull.last)
        except ServerError:
            return True
        pull.rejoin()
        return lost

    async def _recover(self, pull: Pull, exc: PullFailedError) -> None:
        """Do what a failed pull asks for."""
        failure = exc.failure
        if self._pull is not pull:
            return
        if failure is Failure.UNAVAILABLE:
            failure = await self._looked_up(exc)
        if failure is Failure.FORBIDDEN:
            self._stopped = str(exc)
            self._on_error(exc)
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
            return Failure.MISSING if await self._binding.is_missing() else Failure.TRANSIENT
        except ServerError as error:
            return error.failure if error.failure is Failure.FORBIDDEN else Failure.TRANSIENT

    async def _recreate(self, pull: Pull | None, reason: str, *, robbed: bool = False) -> None:
        """Make the durable again, without what others have by now; an update that comes meanwhile goes first."""
        began_s = asyncio.get_running_loop().time()
        _log.info("%s is made again: %s", self._applied.name, reason)
        for attempt in range(self._settings.control_retries_count):
            if attempt or robbed:  # who took it away gets the time to make its own
                await asyncio.sleep(self._health.pause_s(attempt))
            async with self._lock:
                if self._pull is not pull or self._stopped:
                    return
                self._metrics.count(Metric.CONSUMER_RECREATIONS, label="attempt")
                try:
                    await self._remade(self._applied, take=False)
                except ServerError as exc:
                    pull = self._pull
                    self._metrics.count(Metric.CONSUMER_CONTROL_RETRIES)
                    if exc.failure is Failure.FORBIDDEN:
                        self._stopped = str(exc)
                        self._on_error(exc)
                        return
                    continue
                self._health.recreated(ok=True)
                self._metrics.duration(Metric.CONSUMER_RECREATION_S, asyncio.get_running_loop().time() - began_s)
                self._metrics.gauge(Metric.CONSUMER_SUBJECTS, len(self._reader.owned.names))
                return
        self._health.recreated(ok=False)
        await asyncio.sleep(self._health.pause_s(self._settings.control_retries_count))


def _tell_log(exc: Exception) -> None:
    _log.warning("%s", exc or repr(exc))
