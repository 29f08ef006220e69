"""Joins and crashes on a real server: real workers as tasks of this process, each with a connection of its own.

That nothing is late is shown by `test_recovery.py`, on virtual time. Here are the server's own expiry, watches and revisions, under
leases that outlast a machine which stands still for two or three seconds; so there are no upper bounds but those of waiting.
"""

from __future__ import annotations

import asyncio

from floodmark.core.nats_server import EmbeddedNats
from floodmark.systems.fleet import profile
from floodmark.systems.fleet.leader import Lifecycle
from floodmark.systems.fleet.store.base import Store
from floodmark.systems.fleet.store.nats import NatsStore
from tests.systems.fleet.recovering import Connect, crew

PATIENT = profile(
    "fast", heartbeat_s=0.5, heartbeat_ttl_s=4.0, emergency_grace_s=1.0, election_timeout_s=4.0, startup_limit_s=30.0, shutdown_limit_s=10.0
)


def over(server: EmbeddedNats) -> Connect:
    """Connections to a server."""

    async def connect() -> Store:
        return await NatsStore.connect(server.url)

    return connect


def test_b31_fourth_worker_is_noticed_by_the_watch_and_given_its_part() -> None:
    async def story() -> None:
        async with EmbeddedNats() as server, crew(over(server), PATIENT, 20, 3) as fleet:
            count, version = len(fleet.rounds), max(fleet.versions)
            (fourth,) = await fleet.start(1)
            await fleet.settle()
            assert fourth.assignment is not None
            assert fourth.assignment.partitions
            assert max(fleet.versions) > version
            assert Lifecycle.EMERGENCY not in fleet.lifecycles_since(count)

    asyncio.run(story())


def test_b11_crash_is_an_emergency_once_the_heartbeat_has_expired_and_not_before() -> None:
    async def story() -> None:
        async with EmbeddedNats() as server, crew(over(server), PATIENT, 12, 3) as fleet:
            count = len(fleet.rounds)
            loop = asyncio.get_running_loop()
            crashed_s = loop.time()
            await fleet.followers[0].abandon()
            await fleet.settle()
            took_s = fleet.rounds[max(fleet.rounds)].last_s - crashed_s
            assert took_s > PATIENT.heartbeat_ttl_s + PATIENT.emergency_grace_s - PATIENT.heartbeat_s - 0.1
            assert len(fleet.active) == 2
            assert fleet.lifecycles_since(count) == [Lifecycle.EMERGENCY]

    asyncio.run(story())


def test_b28_leader_that_crashes_is_followed_and_its_partitions_given_away() -> None:
    async def story() -> None:
        async with EmbeddedNats() as server, crew(over(server), PATIENT, 50, 4) as fleet:
            count, old = len(fleet.rounds), fleet.leader
            await old.abandon()
            await fleet.settle()
            assert fleet.leader is not old
            assert len(fleet.active) == 3
            assert fleet.lifecycles_since(count) == [Lifecycle.TAKEOVER, Lifecycle.EMERGENCY]
            assert fleet.versions == sorted(set(fleet.versions))

    asyncio.run(story())
