"""A nats-server behind a liar: between the clients and a real server, a proxy that reads the protocol and breaks one promise.

`python nats_liar.py LIE N` prints `liar ready nats://...`. The lie is told about each message whose sequence is N - 1 modulo N, so that how
often is known beforehand: `lose`, `duplicate`, `swap` (after the next one), `flip` (a bit of the body) each delivery of it; `forget`: the
publish is acknowledged and never handed on. `cut`: the publish is handed on and its connection ends before the answer, once for each.
`none` hands everything on.
"""

from __future__ import annotations

import asyncio
import sys

from floodmark.core.nats_server import EmbeddedNats
from floodmark.ledger.stamp import read

Words = tuple[bytes, bytes]  # the first line, and the payload with its line's end


async def words_of(reader: asyncio.StreamReader) -> Words | None:
    """The next message or line; None at the end."""
    line = await reader.readline()
    if not line.endswith(b"\n"):
        return None
    if line.split(b" ", 1)[0] in (b"PUB", b"HPUB", b"MSG", b"HMSG"):
        return line, await reader.readexactly(int(line.split()[-1]) + 2)
    return line, b""


class Liar:
    """Tells one lie on all connections."""

    def __init__(self, lie: str, every: int, upstream: str) -> None:
        self.lie, self.every = lie, every
        self.told: set[int] = set()
        self.host, _, self.port = upstream.removeprefix("nats://").partition(":")

    def chosen(self, payload: bytes) -> bool:
        """Whether this message is lied about."""
        stamp = read(payload, "binary")
        return stamp is not None and stamp.seq % self.every == self.every - 1

    def first_time(self, payload: bytes) -> bool:
        """Whether this message was not lied about before."""
        stamp = read(payload, "binary")
        assert stamp is not None
        new = stamp.seq not in self.told
        self.told.add(stamp.seq)
        return new

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client and its connection to the server."""
        upstream, downstream = await asyncio.open_connection(self.host, int(self.port), limit=1 << 22)
        tasks = [asyncio.create_task(self.up(reader, downstream, writer)), asyncio.create_task(self.down(upstream, writer))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            for end in (writer, downstream):
                end.close()

    async def up(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, client: asyncio.StreamWriter) -> None:
        while (words := await words_of(reader)) is not None:
            line, payload = words
            if self.lie == "forget" and payload and self.chosen(payload):
                parts = line.split()
                reply = parts[2] if len(parts) == (4 if parts[0] == b"PUB" else 5) else b""
                if reply:
                    answer = b'{"stream":"x","seq":1}'
                    client.write(b"MSG %b p %d\r\n%b\r\n" % (reply, len(answer), answer))
                continue
            server.write(line + payload)
            await server.drain()
            if self.lie == "cut" and payload and self.chosen(payload) and self.first_time(payload):
                client.transport.abort()
                await asyncio.sleep(0.05)  # what was handed on is read by the server before this connection to it ends
                return

    async def down(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        held = b""
        while (words := await words_of(reader)) is not None:
            line, payload = words
            out = line + payload
            if payload and self.chosen(payload):
                if self.lie == "lose":
                    continue
                if self.lie == "duplicate":
                    out += out
                if self.lie == "flip":
                    out = out[:-4] + bytes([out[-4] ^ 0x10]) + out[-3:]
                if self.lie == "swap":
                    held += out
                    continue
            if held and payload and read(payload, "binary") is not None:
                out, held = out + held, b""
            client.write(out)
            await client.drain()


async def main(lie: str, every: int) -> None:
    async with EmbeddedNats() as server:
        liar = Liar(lie, every, server.url)
        async with await asyncio.start_server(liar.client, "127.0.0.1", 0, limit=1 << 22) as proxy:
            print(f"liar ready nats://127.0.0.1:{proxy.sockets[0].getsockname()[1]}", flush=True)
            await proxy.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
