"""An agent that shares the slices of runs with others, as a worker of a fleet: what `floodmark agent` starts.

The slices of all runs that are called out are the fleet's partitions; whoever holds one plays it (`distributed/host.py`). Here, and nowhere
else on the way to a verdict, one of the systems is used that floodmark may have to judge: it decides who plays, never what is counted.
An agent that dies leaves its slices to the others once its heartbeat has lapsed; the runner, who hears of it at the same time by his own
calls, takes them or does not.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec
from nats.aio.client import Client
from nats.errors import Error

from floodmark.core import tasks
from floodmark.core.errors import UsageError
from floodmark.core.nats_client import close_for_good, without_login
from floodmark.runner.distributed.host import Host
from floodmark.runner.distributed.nats import connect
from floodmark.systems.fleet import CutOff, NotLeaderError, Partition, Settings, StoreError, Worker
from floodmark.systems.fleet.errors import FleetError
from floodmark.systems.fleet.store.nats import NatsStore

if TYPE_CHECKING:
    from floodmark.systems.fleet.strategy.base import Assignments

LOOK_S = 0.5
JETSTREAM_LIMIT_S = 3.0
_log = logging.getLogger("floodmark.agent")

FLEET = Settings(
    worker_prefix="agent",
    id_max=999,
    id_ttl_s=6.0,
    heartbeat_s=1.0,
    heartbeat_ttl_s=3.0,
    when_cut_off=CutOff.GO_ON,
    election_timeout_s=3.0,
    cold_start_s=0.5,
    planned_scale_s=0.5,
    emergency_grace_s=1.5,
    rebalance_interval_s=0.25,
    recovery_grace_s=5.0,
    id_bucket="floodmark-agents-ids",
    election_bucket="floodmark-agents-leader",
    heartbeat_bucket="floodmark-agents-heartbeats",
    assignment_bucket="floodmark-agents-slices",
)
"""An agent is missed after 3 s and given up after 4.5. One that is cut off plays on: if that is for long, its runner's calls do not
reach it either, and without them a slice ends after RUN_SILENT_S. So a server that is started again ends no run."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent is to be: `capacity` slices at most at once; a name of its own unless given."""

    nats: str
    name: str = ""
    capacity: int = 1


class Places:
    """Who holds which slice: everybody keeps what he has, and what nobody has goes to whoever has most room. Never moves a living run."""

    def __init__(self, capacities: Mapping[str, int]) -> None:
        self._capacities = capacities

    def assign(
        self, workers: Sequence[str], partitions: Sequence[Partition], current: Mapping[str, Sequence[Partition]] = MappingProxyType({})
    ) -> Assignments:
        """Give every slice to one agent. A fleet without room gets them all the same: who has none leaves them where they are."""
        if not workers:
            from floodmark.systems.fleet.strategy.base import NoWorkersError  # here: its neighbours bring numpy, which is 12 MB

            raise NoWorkersError(len(partitions))
        names = sorted(workers)
        free = {partition.keys: partition for partition in sorted(partitions)}
        given: Assignments = {}
        for name in names:
            keys = [partition.keys for partition in current.get(name, ())]
            given[name] = [free.pop(key) for key in keys if key in free]
        for partition in free.values():
            roomiest = max(names, key=lambda name: (self._capacities.get(name, 0) - len(given[name]), -names.index(name)))
            given[roomiest].append(partition)
        return {name: sorted(held) for name, held in given.items()}


class _Slices:
    """The slices of all runs, as the fleet's source of partitions."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def list_partitions(self) -> list[Partition]:
        return [Partition(keys=(run, str(index))) for run, index in self._host.runs()]


class _Player:
    """Plays what the fleet gives this agent."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def update(self, worker_id: str, partitions: Sequence[Partition], *, epoch: int = 0, version: int = 0) -> None:
        self._host.worker = worker_id
        self._host.hold((partition.keys[0], int(partition.keys[1])) for partition in partitions)
        await self._host.let_go()

    async def aclose(self) -> None:
        self._host.hold(())
        await self._host.let_go()


async def agent(order: Order, tell: Callable[[str], None]) -> None:
    """Be an agent until cancelled; then its processes are ended and its runners told. Raises: UsageError when it cannot take part."""
    name = order.name or f"{socket.gethostname()}-{secrets.token_hex(2)}"
    client = await connect(order.nats, f"floodmark agent {name}")
    try:
        await _require_jetstream(client, order.nats)
        store = await NatsStore.connect(order.nats, name=f"floodmark agent {name}")
        try:
            with tempfile.TemporaryDirectory(prefix="floodmark-agent-") as folder:
                host = Host(client, name=name, capacity=order.capacity, folder=Path(folder), tell=tell)
                await _take_part(order, host, store, tell)
        finally:
            await store.aclose()
    except (StoreError, FleetError) as exc:
        raise UsageError(f"agent {name} cannot take part at {without_login(order.nats)}: {exc}") from exc
    except asyncio.CancelledError:
        tell(f"agent {name} has left")
        raise
    finally:
        await close_for_good(client)


async def _require_jetstream(client: Client, url: str) -> None:
    try:
        await client.request("$JS.API.INFO", b"", timeout=JETSTREAM_LIMIT_S)
    except (Error, TimeoutError) as exc:
        raise UsageError(
            f"the NATS server at {without_login(url)} has no JetStream, where agents keep who plays what; start nats-server --jetstream"
        ) from exc


async def _take_part(order: Order, host: Host, store: NatsStore, tell: Callable[[str], None]) -> None:
    worker = Worker(FLEET, store, _Slices(host), Places(host.capacities), consumer=_Player(host))
    news = asyncio.Event()
    host.on_runs = news.set
    async with tasks.group() as group:
        group.create_task(host.run())
        async with worker:
            host.worker = worker.worker_id
            room = f"{order.capacity} slice{'s' if order.capacity != 1 else ''}"
            tell(f"agent {host.name} is there, with room for {room}, at {without_login(order.nats)}")
            await _lead(worker, host, news)


async def _lead(worker: Worker, host: Host, news: asyncio.Event) -> None:
    """While this agent leads, let the fleet know of every run that begins or ends."""
    published: list[tuple[str, int]] | None = None
    while True:
        host.worker = worker.worker_id or host.worker
        if not worker.is_leader:
            published = None
        elif (slices := host.runs()) != published:
            try:
                await worker.refresh_partitions()
                published = slices
            except (NotLeaderError, StoreError, FleetError) as exc:
                _log.info("slices could not be shared out yet: %s", exc)
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await news.wait()
        news.clear()


async def until_told(order: Order, tell: Callable[[str], None]) -> None:
    """Be an agent until SIGINT or SIGTERM."""
    loop = asyncio.get_running_loop()
    being = asyncio.ensure_future(agent(order, tell))  # the only task; the signals end it
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, being.cancel)
    with suppress(asyncio.CancelledError):
        await being
