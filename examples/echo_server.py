"""A tiny honest publish/subscribe server to try `echo_driver.py` on. Prints its URL when it is ready; ends on SIGTERM.

A publisher gets its OK once the message stands in every subscriber's buffer. A subscriber that does not read holds the publishers up.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

rooms: defaultdict[bytes, set[asyncio.StreamWriter]] = defaultdict(set)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speak with one client until it leaves."""
    try:
        async for line in reader:
            match line.rstrip(b"\n").split(b" ", 3):
                case [b"SUB", room]:
                    rooms[room].add(writer)
                    writer.write(b"DONE\n")
                case [b"UNSUB", room]:
                    rooms[room].discard(writer)
                    writer.write(b"DONE\n")
                case [b"PUB", room, token, text]:
                    for listener in list(rooms[room]):
                        listener.write(b"MSG %b %b\n" % (room, text))
                        await listener.drain()
                    writer.write(b"OK %b\n" % token)
                case _:
                    writer.write(b"WHAT\n")
            await writer.drain()
    except ConnectionError:
        pass  # a client that is gone is no error of the server's
    finally:
        for listeners in rooms.values():
            listeners.discard(writer)
        writer.close()


async def main() -> None:
    """Listen on a port that the system chooses."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    print(f"echo server ready tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
