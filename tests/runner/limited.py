"""A broadcast service with a limit that is known exactly: started by the tests as a process of its own, and never slower than it says.

`python limited.py [--messages N] [--connections N]` prints the URL it listens on and speaks the JSON of `server.py`. What it was asked to
publish beyond its first N messages it acknowledges and drops; a connection beyond its first N it closes. A limit by count and not by time,
so that where it breaks does not depend on the machine. Not here: anything of floodmark.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from collections import defaultdict

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


class Service:
    """Broadcasts to its subscribers, within its limits; 0 is none. Probes of a warm-up (reference 0) count for nothing."""

    def __init__(self, messages: int, connections: int) -> None:
        self.messages, self.connections = messages, connections
        self.published = self.connected = 0
        self.subscribers: dict[str, list[ServerConnection]] = defaultdict(list)

    async def handle(self, connection: ServerConnection) -> None:
        """Serve one connection."""
        self.connected += 1
        if self.connections and self.connected > self.connections:
            await connection.close(1013, "full")
            return
        with contextlib.suppress(ConnectionClosed):
            async for text in connection:
                message = json.loads(text)
                if "sub" in message:
                    self.subscribers[message["sub"]].append(connection)
                    await connection.send('{"subscribed": true}')
                else:
                    await self.publish(connection, message)

    async def publish(self, connection: ServerConnection, message: dict[str, str | int]) -> None:
        """Acknowledge, and deliver what is within the limit."""
        self.published += message["ref"] != 0
        await connection.send(json.dumps({"ok": message["ref"]}))
        if not self.messages or self.published <= self.messages:
            frame = json.dumps({"text": message["text"]})
            for subscriber in self.subscribers[str(message["pub"])]:
                await subscriber.send(frame)


async def main(messages: int, connections: int) -> None:
    """Serve until killed."""
    async with serve(Service(messages, connections).handle, "127.0.0.1", 0, compression=None) as server:
        print(f"ready ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=0)
    parser.add_argument("--connections", type=int, default=0)
    given = parser.parse_args()
    asyncio.run(main(given.messages, given.connections))
