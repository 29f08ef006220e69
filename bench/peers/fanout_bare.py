"""The limit of fan-out in Python: an asyncio server on uvloop that writes each message to every subscriber, and nothing else.

Just enough WebSocket: the handshake, unmasking of small frames, and pong; frames are built once. Argument `frame`: one write per message
and subscriber, as most servers do; `read`: one write per subscriber for all messages that came in with one read, the least there is.
Whoever connects with the path /publish publishes; all others subscribe.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

from bench.blaster import PING, PONG, accept_key, frame_of


class Server(asyncio.Protocol):
    """One connection."""

    def __init__(self, subscribers: set[asyncio.Transport], write_per_read: bool) -> None:
        self._subscribers = subscribers
        self._write_per_read = write_per_read
        self._unread = b""
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are no subclass of it

    def connection_lost(self, exc: Exception | None) -> None:
        self._subscribers.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if not self._upgraded:
            head, end, rest = self._unread.partition(b"\r\n\r\n")
            if not end:
                return
            self._transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept_key(head)
            )
            self._upgraded, self._unread = True, rest
            if not head.startswith(b"GET /publish "):
                self._subscribers.add(self._transport)
        frames = self._frames()
        for piece in [b"".join(frames)] if self._write_per_read and frames else frames:
            for subscriber in self._subscribers:
                subscriber.write(piece)

    def _frames(self) -> list[bytes]:
        """Take every whole message that came in, framed again for the subscribers."""
        frames: list[bytes] = []
        while len(self._unread) >= 6:
            size, at = self._unread[1] & 0x7F, 2
            if size == 126:
                size, at = int.from_bytes(self._unread[2:4], "big"), 4
            if len(self._unread) < at + 4 + size:
                break
            opcode, mask, payload = self._unread[0] & 0x0F, self._unread[at : at + 4], self._unread[at + 4 : at + 4 + size]
            self._unread = self._unread[at + 4 + size :]
            key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
            payload = (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")
            if opcode == PING:
                self._transport.write(frame_of(payload, PONG))
            elif opcode in (1, 2):
                frames.append(frame_of(payload, opcode))
        return frames


async def main(write_per_read: bool) -> None:
    """Serve until ended."""
    subscribers: set[asyncio.Transport] = set()
    server = await asyncio.get_running_loop().create_server(lambda: Server(subscribers, write_per_read), "127.0.0.1", 0, backlog=4096)
    print(f"ready ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1] == "read"))
