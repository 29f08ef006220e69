"""The default limit at full size: ten thousand connections are served, the next one is refused cleanly, and a free place is given again."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest
import uvloop
from picows import WSFrame, WSHandshakeError, WSListener, WSMsgType, WSTransport, ws_connect

LIMIT = 10_000
CREW = 100


class Idle(WSListener):
    """A client that only counts what it hears."""

    __slots__ = ("heard",)

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            self.heard.append(frame.get_payload_as_bytes())


@pytest.fixture
def hub_url() -> Iterator[str]:
    """A hub in its own process with its default limit of connections."""
    process = subprocess.Popen(
        [sys.executable, "-m", "floodmark.systems.hub", "--no-rate-limits"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "ready" in line, line
        yield line.split()[-1]
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()


async def _open(url: str) -> tuple[WSTransport, WSListener]:
    return await ws_connect(Idle, url, extra_headers={"Sec-WebSocket-Protocol": "graphql-transport-ws"}, read_buffer_init_size=1024)


async def _fill(url: str, count: int) -> list[WSTransport]:
    opened: list[WSTransport] = []
    places = iter(range(count))

    async def work() -> None:
        for _ in places:
            transport, _ = await _open(url)
            transport.send(WSMsgType.TEXT, b'{"type":"connection_init"}')
            opened.append(transport)

    async with asyncio.TaskGroup() as crew:
        for _ in range(CREW):
            crew.create_task(work())
    return opened


async def _house_is_full(url: str) -> None:
    opened = await _fill(url, LIMIT)
    try:
        assert len(opened) == LIMIT

        with pytest.raises(WSHandshakeError) as refused:
            await _open(url)
        assert refused.value.response is not None
        assert int(refused.value.response.status) == 503
        assert f"{LIMIT}" in bytes(refused.value.raw_body or b"").decode().replace(",", "")

        # The ones inside notice nothing, and a place that is given up is given again.
        assert not any(transport.is_disconnected for transport in opened)
        opened.pop().disconnect(graceful=False)
        async with asyncio.timeout(10):
            while True:
                try:
                    transport, _ = await _open(url)
                except WSHandshakeError:
                    await asyncio.sleep(0.02)
                else:
                    opened.append(transport)
                    break
    finally:
        for transport in opened:
            transport.disconnect(graceful=False)
        await asyncio.gather(*(transport.wait_disconnected() for transport in opened), return_exceptions=True)


@pytest.mark.alone
def test_hub_at_its_limit_refuses_the_10001st_cleanly(hub_url: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < LIMIT + 200:
        pytest.skip(f"needs {LIMIT + 200} open files, the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        uvloop.run(_house_is_full(hub_url))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
