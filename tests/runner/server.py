"""A broadcast service to be put under test, honest or misbehaving in one known way; started by the tests as a process of its own.

`python server.py [MISCHIEF] [--after N] [--port P]` prints the URL it listens on. Speaks JSON over WebSocket:
{"sub": CHANNEL} is answered with "subscribed"; {"pub": CHANNEL, "ref": N, "text": PAYLOAD} with {"ok": N}, and sent to all subscribers.
Mischief begins with the N-th publish, or at the start where it has nothing to do with publishing. Not here: anything of floodmark.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import defaultdict

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

WORDS = "last words: out of paper"
FLOOD_BYTES = 100_000_000
PAUSE_S = 3
LATE_S = 0.04
STUBBORN = ("sh", "-c", "trap '' TERM; sleep 60")  # an ignored signal stays ignored in what the shell starts
RAW = {
    "hangs-up": b"",
    "garbage": b"\x00\xff\xfe not a protocol at all \r\n\r\n",
    "http": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
}


class Service:
    """Broadcasts; `mischief` from the `after`-th publish on."""

    def __init__(self, mischief: str, after: int) -> None:
        self.mischief = mischief
        self.after = after
        self.published = 0
        self.subscribers: dict[str, list[ServerConnection]] = defaultdict(list)

    async def handle(self, connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in connection:
                message = json.loads(text)
                if "sub" in message:
                    await self.subscribe(connection, message["sub"])
                else:
                    await self.publish(connection, message)

    async def subscribe(self, connection: ServerConnection, channel: str) -> None:
        if self.mischief == "never-confirms":
            print("asked for a subscription", flush=True)
            return
        self.subscribers[channel].append(connection)
        await connection.send('{"subscribed": true}')
        if self.mischief == "huge-frames":
            await connection.send("x" * 100_000)

    async def publish(self, connection: ServerConnection, message: dict[str, str | int]) -> None:
        self.published += 1
        if self.published == 1 or self.published % 100 == 0:
            print(f"published {self.published}", flush=True)
        begins = self.published == self.after
        if begins:
            self.strike()
        if begins and self.mischief == "drops-publisher":
            await connection.close(1011, "no more of you")
            return
        if self.mischief == "refuses" and self.published >= self.after:
            await connection.send(json.dumps({"no": message["ref"]}))
            return
        await connection.send(json.dumps({"ok": message["ref"]}))
        if self.mischief == "swallows" or (self.mischief == "loses" and self.published % 10 == 0):
            return
        if self.mischief == "delivers-late":
            await asyncio.sleep(LATE_S)
        frame = json.dumps({"text": message["text"]})
        for subscriber in self.subscribers[str(message["pub"])]:
            with contextlib.suppress(ConnectionClosed):
                await subscriber.send(frame)

    def strike(self) -> None:
        match self.mischief:
            case "exits":
                print(WORDS, flush=True)
                os._exit(3)
            case "is-killed":
                print(WORDS, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            case "pauses":
                subprocess.Popen(["sh", "-c", f"sleep {PAUSE_S}; kill -CONT {os.getpid()}"])
                os.kill(os.getpid(), signal.SIGSTOP)
            case "floods-log":
                threading.Thread(target=flood).start()


def flood() -> None:
    """Print 100 MB as fast as somebody reads."""
    block = b"".join(b"line %06d of a target that cannot stop talking about itself, even under load\n" % number for number in range(10_000))
    for _ in range(FLOOD_BYTES // len(block) + 1):
        left = memoryview(block)
        while left:
            left = left[os.write(1, left) :]
    os.write(1, WORDS.encode() + b"\n")


def leave_children() -> None:
    """Start three that ignore SIGTERM and hold our output: in our session, in one of their own, and one whose parent is gone."""
    subprocess.Popen(STUBBORN)
    subprocess.Popen(STUBBORN, start_new_session=True)
    subprocess.run(["sh", "-c", "trap '' TERM; setsid sleep 60 &"], check=True)


async def raw(answer: bytes | None) -> asyncio.Server:
    """A listener that is no WebSocket server: answers with these bytes and hangs up, or, with None, never answers."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is None:
            await asyncio.Event().wait()
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer or b"")
        writer.close()

    return await asyncio.start_server(handle, "127.0.0.1", 0)


async def main(mischief: str, after: int, port: int) -> None:
    """Serve until killed."""
    if mischief == "ignores-sigterm":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mischief == "leaves-children":
        leave_children()
    if mischief in RAW or mischief == "never-answers":
        listener = await raw(RAW.get(mischief))
        print(f"ready ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}", flush=True)
        await asyncio.Event().wait()
    service = Service(mischief, after)
    async with serve(service.handle, "127.0.0.1", port, compression=None) as server:
        print(f"ready ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}", flush=True)
        if mischief == "refuses-connections":
            server.close(close_connections=False)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("mischief", nargs="?", default="honest")
    parser.add_argument("--after", type=int, default=1)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    try:
        asyncio.run(main(given.mischief, given.after, given.port))
    except OSError as exc:
        sys.exit(f"cannot listen: {exc.strerror}")
