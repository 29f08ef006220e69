"""The fault proxy beside a bare relay: throughput and added latency, measured in turns in one run. `python -m bench.proxy [--rounds N]`

Three relays, each in a process of its own on the loopback, between the same client and target (blocking sockets in this process):
floodmark's proxy without faults, a protocol that writes what it reads on the same event loop (uvloop), and asyncio's streams on asyncio's
own loop. `direct` is no relay, what the ends alone can do. Throughput: one connection, 64 MiB one way, counted by the target. Latency: 100
bytes there and back, one at a time, 500 times; what a relay adds is its percentile less the direct connection's.
A machine that does other things besides is fast in one second and slow in the next, so rounds are many and short (each contender a
fraction of a second, in an order that turns), contenders are compared only within a round, and the figure is the median over the rounds,
with its quartiles. The targets are checked at the end: exit code 1 when one is missed.
Also the memory of 1,000 idle connections, and streams of 1 GiB with and without a latency of 100 ms (that delay taken off): delay is not
to throttle.
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
STREAM_BYTES = 64 << 20
LARGE_BYTES = 1 << 30
PIECE = bytes(1 << 18)
TRIPS = 500
WARM_UP = 100
DELAY_S = 0.1
LARGE_ROUNDS = 11
IDLE = 1_000
RELAYS = ("floodmark", "protocol", "streams")
RATIO_LEAST = 0.7  # of the protocol's throughput
P99_MOST_S = 200e-6  # above the protocol's
DELAYED_RATIO_LEAST = 0.9  # of the proxy's own throughput without the delay


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


def throughput(port: int, size_bytes: int = STREAM_BYTES, *, delay_s: float = 0.0) -> float:
    """Bytes per second of one stream, checked by the target's count; a known delay of the line is not the stream's time."""
    with socket.create_connection((HOST, port), LIMIT_S) as sock:
        sock.sendall(b"c")
        before_s = time.perf_counter()
        for _ in range(size_bytes // len(PIECE)):
            sock.sendall(PIECE)
        sock.shutdown(socket.SHUT_WR)
        counted = sock.recv(64)
        taken_s = time.perf_counter() - before_s - delay_s
    if int(counted) != size_bytes:
        raise BenchError(f"{int(counted):,} of {size_bytes:,} bytes arrived")
    return size_bytes / taken_s


def round_trips(port: int) -> list[float]:
    """Seconds of each trip there and back, sorted."""
    payload = bytes(100)
    with socket.create_connection((HOST, port), LIMIT_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(b"e")
        taken_s = []
        for _ in range(WARM_UP + TRIPS):
            before_s = time.perf_counter()
            sock.sendall(payload)
            received = 0
            while received < len(payload):
                received += len(sock.recv(4096))
            taken_s.append(time.perf_counter() - before_s)
    return sorted(taken_s[WARM_UP:])


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
    """What one contender did, per round; `added_s` is what it adds to the direct connection's percentile of the same round."""

    bytes_per_s: list[float] = dataclasses.field(default_factory=list)
    added_s_p50: list[float] = dataclasses.field(default_factory=list)
    added_s_p99: list[float] = dataclasses.field(default_factory=list)
    idle_bytes: float | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A whole run: `delayed_ratios` are large streams with a latency by the same without, one per round of theirs."""

    figures: dict[str, Figures]
    delayed_ratios: list[float]


def measure(rounds: int) -> Measured:
    """Measure all contenders in turns, the order turned by one each round."""
    figures = {name: Figures() for name in ("direct", *RELAYS)}
    with Ends() as ends, contextlib.ExitStack() as stack:
        ports = {"direct": ends.port} | {name: stack.enter_context(relay(name, ends.port)) for name in RELAYS}
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            names = [*ports][number % len(ports) :] + [*ports][: number % len(ports)]
            for name in names:
                figures[name].bytes_per_s.append(throughput(ports[name]))
            trips = {name: round_trips(ports[name]) for name in names}
            for name in RELAYS:
                figures[name].added_s_p50.append(at(trips[name], 0.5) - at(trips["direct"], 0.5))
                figures[name].added_s_p99.append(at(trips[name], 0.99) - at(trips["direct"], 0.99))
        delayed = stack.enter_context(relay("floodmark", ends.port, f"latency={DELAY_S}s,direction=upstream"))
        ratios = []
        for number in range(LARGE_ROUNDS):
            print(f"large stream {number + 1} of {LARGE_ROUNDS}", file=sys.stderr, flush=True)
            pair = [(ports["floodmark"], 0.0), (delayed, DELAY_S)]
            found = {port: throughput(port, LARGE_BYTES, delay_s=delay_s) for port, delay_s in pair[:: 1 if number % 2 else -1]}
            ratios.append(found[delayed] / found[ports["floodmark"]])
    for name in RELAYS:
        figures[name].idle_bytes = idle_bytes(name)
    return Measured(figures=figures, delayed_ratios=ratios)


def at(ordered: list[float], ratio: float) -> float:
    """The percentile of sorted values."""
    return ordered[min(len(ordered) - 1, int(ratio * len(ordered)))]


def against(ours: Figures, theirs: Figures) -> tuple[list[float], list[float]]:
    """Throughput ratios and differences of the added p99, round by round."""
    ratios = [a / b for a, b in zip(ours.bytes_per_s, theirs.bytes_per_s, strict=True)]
    return ratios, [a - b for a, b in zip(ours.added_s_p99, theirs.added_s_p99, strict=False)]


def spread(values: list[float], form: str, scale: float = 1.0) -> str:
    """The median and the quartiles, in words."""
    ordered = sorted(values)
    low, middle, high = (format(scale * value, form) for value in (at(ordered, 0.25), statistics.median(ordered), at(ordered, 0.75)))
    return f"{middle} ({low} to {high})"


def report(measured: Measured) -> Table:
    """Medians over the rounds with quartiles; ratios and differences to the bare protocol of the same rounds."""
    table = Table(title="Relays, loopback: medians of the rounds (quartiles)", box=None)
    for heading in ("relay", "MB/s", "of protocol", "added p50, us", "added p99, us", "p99 less protocol's, us", "KB per idle connection"):
        table.add_column(heading, justify="left" if heading == "relay" else "right")
    for name, found in measured.figures.items():
        ratios, beyond_s = against(found, measured.figures["protocol"])
        cells = [name, f"{statistics.median(found.bytes_per_s) / 1e6:,.0f}", spread(ratios, ".0%")]
        if found.added_s_p99:
            cells += [spread(found.added_s_p50, ",.0f", 1e6), spread(found.added_s_p99, ",.0f", 1e6), spread(beyond_s, "+,.0f", 1e6)]
        if found.idle_bytes is not None:
            cells.append(f"{found.idle_bytes / 1e3:.1f}")
        table.add_row(*cells)
    return table


def targets(measured: Measured) -> list[tuple[str, str, bool]]:
    """What is asked of the proxy: in words, what was found, and whether that is enough."""
    ratios, beyond_s = against(measured.figures["floodmark"], measured.figures["protocol"])
    delayed = measured.delayed_ratios
    return [
        (f"throughput >= {RATIO_LEAST:.0%} of the protocol's", spread(ratios, ".0%"), statistics.median(ratios) >= RATIO_LEAST),
        (
            f"added p99 <= the protocol's + {P99_MOST_S * 1e6:.0f} us",
            spread(beyond_s, "+,.0f", 1e6) + " us",
            statistics.median(beyond_s) <= P99_MOST_S,
        ),
        (
            f"{LARGE_BYTES >> 30} GiB through {DELAY_S * 1e3:.0f} ms of latency >= {DELAYED_RATIO_LEAST:.0%} of the rate without",
            spread(delayed, ".0%"),
            statistics.median(delayed) >= DELAYED_RATIO_LEAST,
        ),
    ]


def main(arguments: list[str]) -> int:
    """Measure, or be one of the relays."""
    parser = argparse.ArgumentParser(prog="bench.proxy", description="the fault proxy beside bare relays")
    parser.add_argument("--rounds", type=int, default=30, help="how often each is measured, in turns (default: 30)")
    parser.add_argument("--relay", choices=RELAYS, help=argparse.SUPPRESS)
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    parser.add_argument("faults", nargs="*", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.relay:
        be_relay(chosen.relay, chosen.upstream, chosen.faults)
        return 0
    if chosen.rounds < 1:
        parser.error("--rounds must be at least 1")
    measured = measure(chosen.rounds)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(report(measured))
    asked = targets(measured)
    for words, found, met in asked:
        console.print(f"{'met' if met else 'MISSED'}: {words}: {found}", highlight=False)
    return int(not all(met for *_, met in asked))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
