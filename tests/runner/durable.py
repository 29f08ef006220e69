"""A publish/subscribe service that keeps its word across restarts: an event is on disk before it is acknowledged.

`python durable.py FOLDER [forgets] [hangs-up] [patient]` listens where it listened last time, as FOLDER says. With `forgets` it writes
nothing; with `hangs-up` it once breaks all connections off, with the 60th event in hand; `patient`, it never closes a connection that says
nothing.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from websockets.asyncio.server import serve

from tests.verdict.hostile import GRAPHQL, Client, Honest

HANGS_UP_AT = 60


class Durable(Honest):
    """Honest, with its log on disk; positions go on where they were."""

    def __init__(self, folder: Path, *, forgets: bool, hangs_up: bool) -> None:
        super().__init__()
        self.hangs_up = hangs_up
        self.path = folder / "log"
        self.forgets = forgets
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                channel, payload = json.loads(line)
                self.log[channel].append(payload)

    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        if not self.forgets:
            with self.path.open("a") as log:
                log.write(json.dumps([channel, payload]) + "\n")
        if self.hangs_up and self.number == HANGS_UP_AT:
            for each in self.clients:
                each.socket.transport.abort()
            return
        await super().published(client, channel, payload, token)


async def main(folder: Path, *, forgets: bool, hangs_up: bool, patient: bool) -> None:
    """Serve until killed."""
    place = folder / "port"
    port = int(place.read_text()) if place.exists() else 0
    service = Durable(folder, forgets=forgets, hangs_up=hangs_up)
    open_limit_s = None if patient else 10.0
    async with serve(service.handle, "127.0.0.1", port, subprotocols=[GRAPHQL], compression=None, open_timeout=open_limit_s) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        place.write_text(str(port))
        print(f"ready ws://127.0.0.1:{port}/", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    words = sys.argv[2:]
    asyncio.run(main(Path(sys.argv[1]), forgets="forgets" in words, hangs_up="hangs-up" in words, patient="patient" in words))
