"""One stream over NATS: packets out on one subject, packets in by `heard`, sent again when nothing is heard of them for a while.

`run` is the one task of it; cancel it to end it, and nothing is left. A connection that is lost and comes back is bridged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from floodmark.runner.distributed.stream import Heard, Stream

ACK_S = 0.05
AGAIN_S = 1.0
WAITING_BYTES = 4 * 1024 * 1024


class Carrier:
    """`publish` sends one packet; `take` gets what comes, in order."""

    def __init__(self, publish: Callable[[bytes], Awaitable[None]], take: Callable[[Heard], None], *, piece_bytes: int) -> None:
        self._publish = publish
        self._take = take
        self._stream = Stream(piece_bytes=piece_bytes)
        self._stir = asyncio.Event()
        self._moved = asyncio.Event()

    def write(self, data: bytes) -> None:
        """Send these bytes; returns at once."""
        self._stream.write(data)
        self._stir.set()

    def end(self, word: bytes = b"") -> None:
        """Say the last word."""
        self._stream.end(word)
        self._stir.set()

    def heard(self, packet: bytes) -> None:
        """Take a packet that came in. Raises: PacketError for what is none."""
        for piece in self._stream.heard(packet):
            self._take(piece)
        self._moved.set()
        self._stir.set()

    async def room(self) -> None:
        """Wait until the other end has taken enough for more to be written."""
        await self._until(lambda: self._stream.waiting_bytes < WAITING_BYTES)

    async def flushed(self) -> None:
        """Wait until everything written has arrived."""
        await self._until(lambda: self._stream.idle)

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            self._moved.clear()
            await self._moved.wait()

    async def run(self) -> None:
        """Send until cancelled."""
        loop = asyncio.get_running_loop()
        stream = self._stream
        moved_s, arrived = loop.time(), 0
        while True:
            for packet in stream.take():
                await self._publish(packet)
            now_s = loop.time()
            if stream.arrived_count != arrived or not stream.in_flight:
                moved_s, arrived = now_s, stream.arrived_count
            elif now_s - moved_s >= AGAIN_S:
                moved_s = now_s
                for packet in stream.again():
                    await self._publish(packet)
            self._moved.set()
            try:
                async with asyncio.timeout(ACK_S):
                    await self._stir.wait()
            except TimeoutError:
                stream.acknowledge()
            self._stir.clear()
