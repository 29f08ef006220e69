"""The limit: the WebSocket client that floodmark's drivers stand on, doing nothing with a frame but count it.

Arguments: URL, number of frames. Same library, same loop, same read buffer as the drivers; no copy of the payload, no clock, no check.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from picows import WSFrame, WSListener, WSTransport, ws_connect

from bench.peers.check import report
from floodmark.drivers.sockets import READ_BUFFER_BYTES


class Counter(WSListener):
    """Counts up to a number."""

    def __init__(self, expected: int) -> None:
        self._left = expected
        self._expected = expected
        self.complete = asyncio.Event()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self._left -= 1
        if not self._left:
            report(received=self._expected, bad=0)
            self.complete.set()


async def main(url: str, expected: int) -> None:
    """Connect, count, and stay until ended."""
    transport, _ = await ws_connect(lambda: Counter(expected), url, read_buffer_init_size=READ_BUFFER_BYTES)
    await transport.wait_disconnected()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
