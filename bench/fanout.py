"""Frames delivered per CPU-second of a server that fans out: floodmark's hub beside `websockets` and beside a bare asyncio writer.

1,000 subscribers, payloads of 100 bytes, in bursts of 1 and of 10; a burst is published in one write, and the next one only when every
subscriber has all of it. Only the server's CPU time counts. The clients are the same for all, and check that each subscriber received
every frame. The hub does more per message than its peers: it parses the publish, acknowledges it, wraps it in GraphQL JSON with an
offset and keeps bounds per subscription.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable

from bench.measure import Outcome, Reading, rate, take_turns
from bench.peers.commands import ROOT
from bench.processes import BenchError, Child

SUBSCRIBERS = 1_000
LIMIT_S = 90.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How a contender is started, what it speaks, and how many bursts of each size make a second or two of work."""

    command: tuple[str, ...]
    dialect: str
    frames: dict[int, int]  # by burst size: frames per subscriber


SERVERS = {
    "floodmark hub": Server(
        # The clients only count: they never answer a ping, so the hub must not take them for dead while a round lasts.
        command=("-m", "floodmark.systems.hub", "--no-rate-limits", "--max-connections", "2000", "--pong-s", "600"),
        dialect="hub",
        frames={1: 250, 10: 1000},
    ),
    "websockets, broadcast()": Server(command=("-m", "bench.peers.fanout_websockets"), dialect="plain", frames={1: 250, 10: 250}),
    "bare uvloop, a write per frame": Server(command=("-m", "bench.peers.fanout_bare", "frame"), dialect="plain", frames={1: 400, 10: 400}),
    "the limit: bare uvloop, a write per read": Server(
        command=("-m", "bench.peers.fanout_bare", "read"), dialect="plain", frames={1: 400, 10: 2000}
    ),
}


def measure(server: Server, *, burst: int, frames: int, subscribers: int) -> Reading:
    """Measure one server once."""
    bursts = max(1, frames // burst)
    with Child([sys.executable, *server.command], cwd=ROOT, what=server.command[1]) as target:
        url = target.read_line(limit_s=LIMIT_S).decode().split()[-1]
        command = [sys.executable, "-m", "bench.peers.fanout_client", url, server.dialect, str(subscribers)]
        with Child(command, cwd=ROOT, what="fan-out clients") as clients:
            if clients.read_json(limit_s=LIMIT_S).get("ready") != subscribers:
                raise BenchError("not every subscriber is there")
            order = b'{"bursts": %d, "burst": %d}\n'
            clients.tell(order % (3, burst))  # warm up: buffers have their size, paths are known
            clients.read_json(limit_s=LIMIT_S)
            before_s = target.cpu_s()
            clients.tell(order % (bursts, burst))
            received = clients.read_json(limit_s=LIMIT_S)
            spent_s = target.cpu_s() - before_s
    sent = bursts * burst
    if received["least"] != sent or received["most"] != sent:
        raise BenchError(
            f"subscribers received {received['least']:,} to {received['most']:,} of {sent:,} frames each, {received['gone']:,} were dropped"
        )
    return Reading(value=rate(sent * subscribers, spent_s), check=f"{sent:,} of {sent:,} at each of {subscribers:,} subscribers")


def runner(burst: int) -> Callable[..., Outcome]:
    """Give the benchmark for one burst size."""

    def run(rounds: int, progress: Callable[[str, int, str], None], *, scale: float = 1.0) -> Outcome:
        subscribers = max(1, int(SUBSCRIBERS * scale))

        def contender(server: Server) -> Callable[[], Reading]:
            return lambda: measure(server, burst=burst, frames=server.frames[burst], subscribers=subscribers)

        contenders = {name: contender(server) for name, server in SERVERS.items()}
        figures = take_turns(contenders, rounds=rounds, progress=progress)
        return Outcome(title=f"Fan-out in bursts of {burst}", unit="frames / CPU-second", better="higher", figures=figures)

    return run
