"""The other side of the receive and memory benchmarks: a WebSocket server that costs nothing worth measuring.

It answers handshakes and pings, holds any number of idle connections, and on `go` writes pre-built frames, in slices of 64 KiB, to the
connection that came last. Frames are stamped before the start (their times are those of the building), so the sender is never the
bottleneck. It first says {"url": ...}; then one line of JSON per command on stdin and per answer on stdout, with the command's id:
    {"id": i, "prepare": n, "run": r} -> {"id": i, "prepared": n}      {"id": i, "go": n} -> {"id": i, "sent": n}
    {"id": i, "count": 1} -> {"id": i, "connected": n}
A `go` beyond what is prepared begins again at the first frame. It ends when its stdin does. `Sender` is the harness's end of all this.
Not here: any check (that is the contenders' work). Limits: small unfragmented frames from clients.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import selectors
import socket
import sys
import time
from pathlib import Path
from typing import Self

from bench.processes import Child
from floodmark.ledger.stamp import Stamper

SLICE_BYTES = 64 * 1024
PAYLOAD_BYTES = 100
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
ROOT = Path(__file__).parents[1]
ANSWER_LIMIT_S = 120.0
PING, PONG, CLOSE = 9, 10, 8


def accept_key(request: bytes) -> bytes:
    """Give the Sec-WebSocket-Accept of a handshake request (RFC 6455, 4.2.2)."""
    for line in request.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"sec-websocket-key":
            return base64.b64encode(hashlib.sha1(value.strip() + GUID, usedforsecurity=False).digest())
    raise ValueError("a handshake without Sec-WebSocket-Key")


def frame_of(payload: bytes, opcode: int = 2) -> bytes:
    """Wrap a payload of up to 65,535 bytes into one unmasked frame, as a server sends it."""
    if len(payload) < 126:
        return bytes((0x80 | opcode, len(payload))) + payload
    return bytes((0x80 | opcode, 126)) + len(payload).to_bytes(2, "big") + payload


def stamped_frames(run: int, count: int) -> bytes:
    """Build `count` binary frames of publisher 0 with the sequences 0 .. count-1."""
    stamper = Stamper(run, "binary", PAYLOAD_BYTES)
    now_ns = time.monotonic_ns()
    return b"".join([frame_of(stamper.payload(0, seq, now_ns, now_ns)) for seq in range(count)])


class Peer:
    """One client connection: first its handshake, then its small frames."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.upgraded = False
        self._unread = b""

    def take(self, data: bytes) -> bool:
        """Handle what came in; False when the client said goodbye."""
        self._unread += data
        if not self.upgraded:
            head, end, rest = self._unread.partition(b"\r\n\r\n")
            if not end:
                return True
            self.connection.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept_key(head)
            )
            self.upgraded, self._unread = True, rest
        while (frame := self._next_frame()) is not None:
            opcode, payload = frame
            if opcode == CLOSE:
                return False
            if opcode == PING:
                self.connection.sendall(frame_of(payload, PONG))
        return True

    def _next_frame(self) -> tuple[int, bytes] | None:
        data = self._unread
        if len(data) < 6 or len(data) < 6 + (data[1] & 0x7F):
            return None
        size = data[1] & 0x7F
        if size > 125:
            raise ValueError("a client's frame of more than 125 bytes")
        mask, payload = data[2:6], data[6 : 6 + size]
        self._unread = data[6 + size :]
        return data[0] & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


class Blaster:
    """The server; one thread, one selector."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._frames = b""
        self._frame_bytes = len(frame_of(bytes(PAYLOAD_BYTES)))
        self._peers: dict[socket.socket, Peer] = {}
        self._last: Peer | None = None
        self._commands = b""

    def run(self) -> None:
        """Serve until standard input ends."""
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        say(url=f"ws://127.0.0.1:{self._listener.getsockname()[1]}/")
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket):
                    self._read(self._peers[key.fileobj])
                elif not self._obey():
                    return

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peers[connection] = Peer(connection)
        self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, peer: Peer) -> None:
        try:
            data = peer.connection.recv(SLICE_BYTES)
            was_upgraded = peer.upgraded
            stays = bool(data) and peer.take(data)
        except (OSError, ValueError):
            stays = False
        if stays and peer.upgraded and not was_upgraded:
            self._last = peer
        if not stays:
            self._drop(peer)

    def _drop(self, peer: Peer) -> None:
        self._selector.unregister(peer.connection)
        del self._peers[peer.connection]
        peer.connection.close()
        if self._last is peer:
            self._last = None

    def _obey(self) -> bool:
        data = os.read(sys.stdin.fileno(), 4096)
        self._commands += data
        while b"\n" in self._commands:
            line, _, self._commands = self._commands.partition(b"\n")
            command = json.loads(line)
            if "prepare" in command:
                self._frames = stamped_frames(command["run"], command["prepare"])
                say(id=command["id"], prepared=command["prepare"])
            elif "go" in command:
                say(id=command["id"], sent=self._blast(command["go"]))
            else:
                say(id=command["id"], connected=sum(peer.upgraded for peer in self._peers.values()))
        return bool(data)

    def _blast(self, count: int) -> int:
        """Write the first `count` frames; gives how many went out, 0 when the client is not there or broke off."""
        if self._last is None or not self._frames:
            return 0
        view = memoryview(self._frames)
        left_bytes = count * self._frame_bytes
        try:
            while left_bytes > 0:
                part = view[: min(left_bytes, len(view))]
                for at in range(0, len(part), SLICE_BYTES):
                    self._last.connection.sendall(part[at : at + SLICE_BYTES])
                left_bytes -= len(part)
        except OSError:
            return 0
        return count


class Sender(Child):
    """The blaster as a child process of the harness."""

    def __init__(self) -> None:
        super().__init__([sys.executable, "-m", "bench.blaster"], cwd=ROOT, what="blaster")
        self._id = 0
        self.url = ""

    def __enter__(self) -> Self:
        super().__enter__()
        self.url = str(self.read_json(limit_s=ANSWER_LIMIT_S)["url"])
        return self

    def prepare(self, run: int, count: int) -> None:
        """Build `count` stamped frames."""
        self._answer(self._ask(prepare=count, run=run), "prepared")

    def connected(self) -> int:
        """Ask how many connections are open and upgraded."""
        return self._answer(self._ask(count=1), "connected")

    def go(self, count: int) -> int:
        """Begin to blast; what is given belongs to `sent`."""
        return self._ask(go=count)

    def sent(self, asked: int) -> int:
        """Wait for the end of a blast; gives how many frames went out."""
        return self._answer(asked, "sent")

    def _ask(self, **command: int) -> int:
        self._id += 1
        self.tell(json.dumps({"id": self._id, **command}).encode() + b"\n")
        return self._id

    def _answer(self, asked: int, name: str) -> int:
        while (answer := self.read_json(limit_s=ANSWER_LIMIT_S)).get("id") != asked:
            pass  # the answer to a contender that failed half-way
        return int(answer[name])


def say(**event: str | int) -> None:
    """Print one event."""
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    Blaster().run()
