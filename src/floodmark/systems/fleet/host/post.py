"""One worker of a process of the host: made, run, ordered about, and told of.

What it has to say goes to the host as lines (`Outlet`); its errors go to stderr, one line a second at most.
"""

from __future__ import annotations

import asyncio
import sys
from random import Random

from nats.aio.client import Client

from floodmark.core.errors import FloodmarkError
from floodmark.systems.fleet.consumer import ConsumerSettings, DurableConsumer
from floodmark.systems.fleet.errors import NotStartedError
from floodmark.systems.fleet.hooks import AssignmentChange, Hooks, StateChange
from floodmark.systems.fleet.host import wire
from floodmark.systems.fleet.host.options import MOST_PARTITIONS, Options
from floodmark.systems.fleet.host.relay import IN, Relay
from floodmark.systems.fleet.host.streams import FM_IN
from floodmark.systems.fleet.host.wire import Member, News, Order
from floodmark.systems.fleet.partition import StaticSource
from floodmark.systems.fleet.states import WorkerState
from floodmark.systems.fleet.store.base import Store
from floodmark.systems.fleet.strategy import STRATEGIES
from floodmark.systems.fleet.worker import Worker

NOTE_S = 1.0


class Outlet:
    """The lines to the host."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def say(self, news: News) -> None:
        """Send one line."""
        wire.write(self._writer, news)

    def members(self, *posts: Post) -> None:
        """Tell how these are now."""
        self.say(News(kind="members", members=tuple(post.member() for post in posts)))

    def felt(self, what: str) -> None:
        """Tell that a planted fault has struck."""
        self.say(News(kind="felt", felt=what))

    async def drain(self) -> None:
        """Wait until the host has taken what was said, or is gone."""
        try:
            await self._writer.drain()
        except ConnectionError:
            return


class Post:
    """One worker, from its start to its end."""

    def __init__(self, number: int, options: Options, store: Store, client: Client, source: StaticSource, outlet: Outlet) -> None:
        self.number = number
        self._outlet = outlet
        self._error = ""
        self._over = asyncio.Event()
        self._stopped = asyncio.Event()
        self._pace, self._muted = 1.0, False
        self._noted_s, self._unnoted = float("-inf"), 0
        self._relay = Relay(client, lambda: self.consumer.worker_id, stream=options.out_stream, lies=options.lies)
        rng = Random(f"{options.seed}/{number}")
        consumer = ConsumerSettings(
            stream=FM_IN,
            subject_template=IN + "{subject}",
            max_deliver_count=-1,
            batch_count=options.batch_count,
            max_ack_pending_count=max(1000, options.batch_count),
            max_subjects_count=MOST_PARTITIONS,  # a refresh may add any number
            allow_worker_id_change=True,  # whoever lost its id goes on under another
        )
        self.consumer = DurableConsumer(client, consumer, self._relay.handle, rng=rng, on_error=self._note)
        self.worker = Worker(
            options.settings,
            store,
            source,
            STRATEGIES[options.strategy](),
            hooks=Hooks(on_state=self._on_state, on_assignment=self._on_assignment, on_error=self._on_error),
            consumer=self.consumer,
            rng=rng,
        )

    def member(self) -> Member:
        """How it is now."""
        held = self.worker.assignment
        return Member(
            number=self.number,
            worker=self.worker.worker_id,
            state="Shutdown" if self._over.is_set() else self.worker.state.value,
            leader=self.worker.is_leader,
            epoch=held.epoch if held else 0,
            version=held.version if held else 0,
            partitions=tuple(partition.id for partition in held.partitions) if held else (),
            error=self._error,
        )

    async def run(self) -> None:
        """Work until it is stopped, or cannot."""
        try:
            await self.worker.start()
            await self._stopped.wait()
        except NotStartedError:
            pass  # it was stopped while it started, as somebody has asked
        except FloodmarkError as exc:
            self._error = str(exc)
            self._note(exc)
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Stop it gently, from whatever state."""
        try:
            await self.worker.stop()
        except FloodmarkError as exc:
            self._error = self._error or str(exc)
        finally:
            self._stopped.set()
            if not self._over.is_set():
                await self.consumer.aclose()
                self._over.set()
                self._outlet.members(self)

    async def do(self, order: Order) -> None:
        """Carry out an order to this worker. Raises: FloodmarkError."""
        match order.do:
            case "stop":
                await self.stop()
            case "slow":
                self._pace = order.factor
                self._press()
            case "mute" | "unmute":
                self._muted = order.do == "mute"
                self._press()
            case "refresh":
                await self.worker.refresh_partitions()
            case _:
                raise FloodmarkError(f"a worker has no word {order.do!r}")

    def _press(self) -> None:
        """Put its heartbeats under the stress that was ordered; again when it has come back under another id."""
        membership = self.worker.membership
        if membership is not None and membership.heartbeats is not None:
            membership.heartbeats.pace, membership.heartbeats.muted = self._pace, self._muted

    async def _on_state(self, change: StateChange) -> None:
        if change.new is WorkerState.SHUTDOWN:  # also when it ended by itself
            self._stopped.set()
        self._press()
        self._outlet.members(self)

    async def _on_assignment(self, change: AssignmentChange) -> None:
        self._relay.lose(partition.subject_key for partition in change.removed)
        self._outlet.members(self)

    async def _on_error(self, error: Exception) -> None:
        self._note(error)

    def _note(self, error: Exception) -> None:
        """Log it; of what comes within NOTE_S of the last line only how many there were."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._noted_s + NOTE_S:
            self._unnoted += 1
            return
        who = self.worker.worker_id or f"worker number {self.number}"
        more = f" ({self._unnoted} more before)" if self._unnoted else ""
        self._noted_s, self._unnoted = now_s, 0
        print(f"{who}: {str(error) or type(error).__name__}{more}", file=sys.stderr, flush=True)
