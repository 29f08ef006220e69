"""A hub with a nats-server of its own (`--bus nats`): the child comes and goes with it, and its death costs nothing."""

from __future__ import annotations

import asyncio
import signal

import psutil

from floodmark.systems.hub.testing import PUBLISH, connected, eventually, scenario
from tests.systems.hub.test_bus import events, service

TURNED_S = 12.0


def nats_of(process: asyncio.subprocess.Process) -> psutil.Process:
    """The hub's nats-server, its only child."""
    (child,) = psutil.Process(process.pid).children()
    assert child.name() == "nats-server"
    return child


@scenario
async def test_own_bus_carries_events_and_ends_with_the_hub() -> None:
    async with service("--bus", "nats") as (process, url):
        server = nats_of(process)
        async with connected(url) as client:
            await client.subscribe("s", "x")
            client.start("p", PUBLISH, c="x", d=1)
            assert [data for _, data in await events(client, 1)] == [1]
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()

        assert (process.returncode, errors) == (0, b"")
        assert not server.is_running()


@scenario
async def test_own_bus_killed_with_fallback_delivers_what_is_acknowledged_and_drains_cleanly() -> None:
    async with service("--bus", "nats", "--bus-fallback", "memory") as (process, url):
        server = nats_of(process)
        async with connected(url) as client:
            await client.subscribe("s", "x")
            client.start("p0", PUBLISH, c="x", d=0)
            assert [data for _, data in await events(client, 1)] == [0]
            server.kill()
            await eventually(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
            for number in range(1, 11):
                client.start(f"p{number}", PUBLISH, c="x", d=number)

            got: list[object] = []
            while len(got) < 10:
                message = await client.recv(TURNED_S)
                if message["type"] == "next" and "events" in message["payload"]["data"]:
                    got.append(message["payload"]["data"]["events"]["data"])
            stats = (await client.ask("q", "{ stats { totalEvents } }"))["stats"]
        assert got == list(range(1, 11))
        assert stats == {"totalEvents": 11}
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()

        assert process.returncode == 0
        assert errors.decode().startswith("nats-server ended with code -9; it is started again")
        assert len(errors.splitlines()) == 1  # and nothing of the drain
