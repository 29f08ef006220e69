"""What the kernel may hold for a surface that does not read is the host's to bound, so that its backend is held up sooner."""

from __future__ import annotations

import asyncio

from floodmark.systems.conductor.backend.mock import MockBackend
from floodmark.systems.conductor.host.lies import Lies
from floodmark.systems.conductor.host.server import Server
from floodmark.systems.conductor.settings import stress_settings
from tests.systems.conductor.hosting import raw

QUIET_S = 0.2


async def delivered_unread(socket_send_bytes: int) -> float:
    """Tokens that a host writes to a surface that reads none of them."""
    server = Server(MockBackend(), stress_settings(channel_count=100), Lies(), socket_send_bytes=socket_send_bytes)
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve("127.0.0.1", 0, port.set_result, stop))
        try:
            async with raw(f"tcp://127.0.0.1:{await port}") as surface:
                surface.say({"kind": "user_message", "event_id": "evt_1", "text": "numbered: count=1000000"})
                seen, before = 0.0, -1.0
                while seen != before or not seen:
                    before = seen
                    await asyncio.sleep(QUIET_S)  # nothing tells that nothing will happen
                    seen = server.report()["delivered"]
                return seen
        finally:
            stop.set()


def test_host_with_a_bound_on_its_sockets_writes_less_to_who_does_not_read() -> None:
    assert 0 < asyncio.run(delivered_unread(16_384)) < 0.5 * asyncio.run(delivered_unread(0)) < 500_000
