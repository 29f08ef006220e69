"""The fault proxy beside a bare relay: throughput and added latency, measured in turns in one run. `python -m bench.proxy [--rounds N]`

Three relays, each in a process of its own on the loopback, between the same client and target (blocking sockets in this process):
floodmark's proxy without faults, a protocol that writes what it reads on the same event loop (uvloop), and asyncio's streams on asyncio's
own loop. `direct` is no relay, what the ends alone can do. Throughput: one connection, 256 MiB one way, counted by the target. Latency: 100
bytes there and back, one at a time; what a relay adds is its percentile less the direct connection's of the same round. Also the memory of
1,000 idle connections, and the proxy with a latency of 1 s that may hold the whole stream, that second taken off: delay is not to throttle.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import functools
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from typing import cast

import uvloop
from rich.console import Console
from rich.table import Table

from bench.peers.commands import ROOT
from bench.processes import BenchError, Child
from floodmark.faults.wire.parse import parse_fault
from floodmark.faults.wire.proxy import running

HOST = "127.0.0.1"
LIMIT_S = 60.0
STREAM_BYTES = 256 << 20
PIECE = bytes(1 << 18)
TRIPS = 3_000
DELAY_S = 1.0
IDLE = 1_000
RELAYS = ("floodmark", "protocol", "streams")


# The relays; each runs in a child process as `python -m bench.proxy --relay NAME --upstream PORT`.


class Bare(asyncio.Protocol):
    """The least a relay can be: write what is read, pass the end and the back-pressure on."""

    def __init__(self, peer: Bare | None = None) -> None:
        self.peer = peer
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        assert self.peer is not None
        assert self.peer.transport is not None
        self.peer.transport.write(data)

    def eof_received(self) -> bool:
        assert self.peer is not None
        if self.peer.transport is not None:
            self.peer.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.close()


async def relay_bare(upstream: int) -> None:
    """Accept one connection after the other and join each to the target."""
    loop = asyncio.get_running_loop()
    with socket.create_server((HOST, 0)) as listener:
        listener.setblocking(False)
        print(listener.getsockname()[1], flush=True)
        while True:
            sock, _ = await loop.sock_accept(listener)
            _, towards = await loop.create_connection(Bare, HOST, upstream)
            _, client = await loop.connect_accepted_socket(functools.partial(Bare, towards), sock)
            towards.peer = client


async def relay_streams(upstream: int) -> None:
    """Relay as the asyncio documentation's reader would write it."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
        writer.write_eof()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_target, to_target = await asyncio.open_connection(HOST, upstream)
        with contextlib.suppress(OSError):
            async with asyncio.TaskGroup() as group:
                group.create_task(pump(reader, to_target))
                group.create_task(pump(from_target, writer))
        writer.close()
        to_target.close()

    server = await asyncio.start_server(join, HOST, 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def relay_floodmark(upstream: int, faults: list[str]) -> None:
    """Relay through the fault proxy."""
    async with running((HOST, 0), (HOST, upstream), seed=1) as proxy:
        for text in faults:
            proxy.add(parse_fault(text))
        print(proxy.port, flush=True)
        await asyncio.Event().wait()


def be_relay(name: str, upstream: int, faults: list[str]) -> None:
    """Run one relay until killed."""
    if name == "streams":
        asyncio.run(relay_streams(upstream))
    elif name == "protocol":
        uvloop.run(relay_bare(upstream))
    else:
        uvloop.run(relay_floodmark(upstream, faults))


# The ends: blocking sockets, the target in a thread.


class Ends:
    """A target that echoes small requests (`e`) or counts a stream to its end (`c`), by a connection's first byte."""

    def __enter__(self) -> Ends:
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="target")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.create_connection((HOST, self.port)) as last:
            last.sendall(b"q")
        self._thread.join(LIMIT_S)
        self._listener.close()

    def _serve(self) -> None:
        buffer = bytearray(1 << 20)
        while True:
            sock, _ = self._listener.accept()
            with sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                what = sock.recv(1)
                if what == b"q":
                    return
                if what == b"e":
                    while piece := sock.recv(4096):
                        sock.sendall(piece)
                else:
                    count = 0
                    while size := sock.recv_into(buffer):
                        count += size
                    sock.sendall(b"%d" % count)


def throughput(port: int, *, delay_s: float = 0.0) -> float:
    """Bytes per second of one stream, checked by the target's count; a known delay of the line is not the stream's time."""
    with socket.create_connection((HOST, port), LIMIT_S) as sock:
        sock.sendall(b"c")
        before_s = time.perf_counter()
        for _ in range(STREAM_BYTES // len(PIECE)):
            sock.sendall(PIECE)
        sock.shutdown(socket.SHUT_WR)
        counted = sock.recv(64)
        taken_s = time.perf_counter() - before_s - delay_s
    if int(counted) != STREAM_BYTES:
        raise BenchError(f"{int(counted):,} of {STREAM_BYTES:,} bytes arrived")
    return STREAM_BYTES / taken_s


def round_trips(port: int) -> list[float]:
    """Seconds of each trip there and back, sorted."""
    payload = bytes(100)
    with socket.create_connection((HOST, port), LIMIT_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(b"e")
        taken_s = []
        for _ in range(TRIPS):
            before_s = time.perf_counter()
            sock.sendall(payload)
            received = 0
            while received < len(payload):
                received += len(sock.recv(4096))
            taken_s.append(time.perf_counter() - before_s)
    return sorted(taken_s[TRIPS // 10 :])  # without the warm-up


def idle_bytes(name: str) -> float:
    """Resident memory of a relay per connection that is joined and silent."""
    with socket.create_server((HOST, 0), backlog=IDLE) as listener, contextlib.ExitStack() as stack:
        child = stack.enter_context(Child(command(name, listener.getsockname()[1]), cwd=ROOT, what=f"{name} relay"))
        port = int(child.read_line(limit_s=LIMIT_S))
        before_bytes = child.rss_bytes()
        for _ in range(IDLE):
            stack.enter_context(socket.create_connection((HOST, port), LIMIT_S))
            listener.settimeout(LIMIT_S)
            stack.enter_context(listener.accept()[0])  # the relay has reached its target
        return (child.rss_bytes() - before_bytes) / IDLE


def command(name: str, upstream: int, *faults: str) -> list[str]:
    """The command line of a relay."""
    return [sys.executable, "-m", "bench.proxy", "--relay", name, "--upstream", str(upstream), *faults]


@contextlib.contextmanager
def relay(name: str, upstream: int, *faults: str) -> Iterator[int]:
    """A relay in its own process; gives its port."""
    with Child(command(name, upstream, *faults), cwd=ROOT, what=f"{name} relay") as child:
        yield int(child.read_line(limit_s=LIMIT_S))


# The measurement.


@dataclasses.dataclass(slots=True, kw_only=True)
class Figures:
    """What one contender did, per round; `added_s` is what it adds to the direct connection's percentile."""

    bytes_per_s: list[float] = dataclasses.field(default_factory=list)
    added_s_p50: list[float] = dataclasses.field(default_factory=list)
    added_s_p99: list[float] = dataclasses.field(default_factory=list)
    idle_bytes: float | None = None


def measure(rounds: int) -> dict[str, Figures]:
    """Measure all contenders in turns, the order turned by one each round."""
    figures = {name: Figures() for name in ("direct", *RELAYS, "floodmark, 1 s latency")}
    with Ends() as ends, contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(relay(name, ends.port)) for name in RELAYS}
        ports["floodmark, 1 s latency"] = stack.enter_context(
            relay("floodmark", ends.port, f"latency={DELAY_S}s,direction=upstream,hold=512MiB")
        )
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            through = round_trips(ends.port)
            figures["direct"].bytes_per_s.append(throughput(ends.port))
            names = [*ports][number % len(ports) :] + [*ports][: number % len(ports)]
            for name in names:
                found = figures[name]
                found.bytes_per_s.append(throughput(ports[name], delay_s=0.0 if name in RELAYS else DELAY_S))
                if name in RELAYS:
                    trips = round_trips(ports[name])
                    found.added_s_p50.append(at(trips, 0.5) - at(through, 0.5))
                    found.added_s_p99.append(at(trips, 0.99) - at(through, 0.99))
    for name in RELAYS:
        figures[name].idle_bytes = idle_bytes(name)
    return figures


def at(ordered: list[float], ratio: float) -> float:
    """The percentile of sorted values."""
    return ordered[min(len(ordered) - 1, int(ratio * len(ordered)))]


def report(figures: dict[str, Figures]) -> Table:
    """Medians over the rounds, and ratios to the bare protocol of the same rounds."""
    table = Table(title="Relays, loopback, medians of the rounds", box=None)
    for heading in ("relay", "MB/s", "of protocol", "added p50, us", "added p99, us", "p99 less protocol's, us", "KB per idle connection"):
        table.add_column(heading, justify="left" if heading == "relay" else "right")
    bare = figures["protocol"]
    for name, found in figures.items():
        ratio = statistics.median(ours / theirs for ours, theirs in zip(found.bytes_per_s, bare.bytes_per_s, strict=True))
        cells = [name, f"{statistics.median(found.bytes_per_s) / 1e6:,.0f}", f"{ratio:.0%}"]
        if found.added_s_p99:
            beyond_s = statistics.median(ours - theirs for ours, theirs in zip(found.added_s_p99, bare.added_s_p99, strict=True))
            cells += [f"{statistics.median(found.added_s_p50) * 1e6:,.0f}", f"{statistics.median(found.added_s_p99) * 1e6:,.0f}"]
            cells.append(f"{beyond_s * 1e6:+,.0f}")
        if found.idle_bytes is not None:
            cells.append(f"{found.idle_bytes / 1e3:.1f}")
        table.add_row(*cells)
    return table


def main(arguments: list[str]) -> int:
    """Measure, or be one of the relays."""
    parser = argparse.ArgumentParser(prog="bench.proxy", description="the fault proxy beside bare relays")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured, in turns (default: 5)")
    parser.add_argument("--relay", choices=RELAYS, help=argparse.SUPPRESS)
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    parser.add_argument("faults", nargs="*", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.relay:
        be_relay(chosen.relay, chosen.upstream, chosen.faults)
        return 0
    if chosen.rounds < 1:
        parser.error("--rounds must be at least 1")
    Console(width=None if sys.stdout.isatty() else 140).print(report(measure(chosen.rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
