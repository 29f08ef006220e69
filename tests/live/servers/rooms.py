"""A chat as people write them with `websockets`: JSON rooms on `/`, and a binary feed per path on `/feed/NAME`.

    python rooms.py [NUMBER ...]

Prints its URLs when it listens. The message with one of the given numbers of its room or feed reaches nobody, though its sender is told
that all is well. JSON, from the client: {"do": "join"|"leave", "room"} and {"do": "say", "room", "text", "ref"}; from the server:
{"now": "joined"|"left", "room"}, {"ok": ref} and {"room", "text", "id"}. A feed passes on every binary message to all others on its path.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter, defaultdict
from contextlib import suppress

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

LOSES = frozenset(int(number) for number in sys.argv[1:])

members: defaultdict[str, set[ServerConnection]] = defaultdict(set)
counts: Counter[str] = Counter()


async def spread(place: str, message: str | bytes, sender: ServerConnection | None = None) -> None:
    """Pass a message on to everybody in a place."""
    if counts[place] in LOSES:
        return
    for socket in list(members[place]):
        if socket is not sender:
            with suppress(ConnectionClosed):
                await socket.send(message)


async def chat(socket: ServerConnection) -> None:
    """Serve one client of the JSON rooms."""
    async for text in socket:
        asked = json.loads(text)
        room = asked["room"]
        match asked["do"]:
            case "join":
                members[room].add(socket)
                await socket.send(json.dumps({"now": "joined", "room": room}))
            case "leave":
                members[room].discard(socket)
                await socket.send(json.dumps({"now": "left", "room": room}))
            case "say":
                counts[room] += 1
                await spread(room, json.dumps({"room": room, "text": asked["text"], "id": counts[room]}))
                await socket.send(json.dumps({"ok": asked["ref"]}))


async def feed(socket: ServerConnection, path: str) -> None:
    """Serve one client of a binary feed."""
    members[path].add(socket)
    async for message in socket:
        counts[path] += 1
        await spread(path, message, socket)


async def client(socket: ServerConnection) -> None:
    """Choose by the path."""
    path = socket.request.path if socket.request is not None else "/"
    try:
        with suppress(ConnectionClosed):
            await (feed(socket, path) if path.startswith("/feed/") else chat(socket))
    finally:
        for sockets in members.values():
            sockets.discard(socket)


async def main() -> None:
    """Listen on a port that the system chooses, and serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with serve(client, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(f"rooms ready ws://127.0.0.1:{port}/\nfeeds ready ws://127.0.0.1:{port}/feed/$channel", flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())
