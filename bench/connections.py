"""Memory per idle WebSocket connection of the client: floodmark's agent beside Locust and Artillery users.

Each contender opens FEW connections in one process tree and MANY in another, to the same server, which never says a word. When all are open
and the tree's resident memory stands still it is read; the difference of the two, over the difference in connections, is the figure.
So the interpreter, the libraries and everything else that does not grow with the connections is out of it. A runtime that holds more in
reserve than its connections need shows no growth; then there is no figure per connection, and `run_whole`, the memory of the process that
holds MANY, says what they cost. Not in either: the kernel's socket buffers, which are no process's memory and the same for all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.blaster import Sender
from bench.measure import Outcome, Reading, take_turns
from bench.peers import commands
from bench.peers.agent import AgentChild
from bench.peers.commands import Task
from bench.processes import BenchError, Child

RUN = 0xB0A8
FEW = 1_000
MANY = 7_000
LEAST_BYTES = 512  # a connection that seems to cost less was paid from the reserve of the runtime
LIMIT_S = 90.0


def hold_agent(sender: Sender, connections: int) -> int:
    """Give the resident bytes of an agent that holds so many connections."""
    with AgentChild(sender.url, run=RUN, connections=connections) as agent:
        agent.connect()
        return settled(sender, agent, connections)


def hold_peer(sender: Sender, connections: int, start: Callable[[Task], Child], *, limit_s: float = LIMIT_S) -> int:
    """Give the resident bytes of a peer that holds so many connections."""
    with tempfile.TemporaryDirectory(prefix="floodmark-bench-") as folder:
        task = Task(url=sender.url, run=RUN, expected=0, folder=Path(folder), connections=connections)
        with start(task) as child:
            child.wait_for(lambda: sender.connected() >= connections, limit_s=limit_s, what=f"connected {connections:,} times")
            return settled(sender, child, connections)


def settled(sender: Sender, child: Child, connections: int) -> int:
    """Wait until memory stands still, and check that every connection is still there then."""
    rss_bytes = child.settled_rss_bytes()
    if (there := sender.connected()) != connections:
        raise BenchError(f"{there:,} connections are open, wanted {connections:,}")
    return rss_bytes


def per_connection(hold: Callable[[int], int], few: int, many: int) -> Reading:
    """Measure both sizes and make the slope of them."""
    few_bytes, many_bytes = hold(few), hold(many)
    slope_bytes = (many_bytes - few_bytes) / (many - few)
    if slope_bytes < LEAST_BYTES:
        raise BenchError(
            f"memory does not follow the connections: {few_bytes >> 20} MiB with {few:,}, {many_bytes >> 20} MiB with {many:,}; "
            "the runtime had that much in reserve"
        )
    return Reading(value=slope_bytes / 1024, check=f"{many:,} of {many:,} connections open")


def contenders(sender: Sender) -> dict[str, Callable[[int], int]]:
    """Give, by name, what holds a number of connections and gives its resident bytes; each waits until the last one's are gone."""

    def alone(hold: Callable[[int], int]) -> Callable[[int], int]:
        def wait_and_hold(connections: int) -> int:
            sender.wait_for(lambda: sender.connected() == 0, limit_s=LIMIT_S, what="rid of the last contender's connections")
            return hold(connections)

        return wait_and_hold

    return {
        "floodmark agent": alone(lambda connections: hold_agent(sender, connections)),
        "Locust, a user each": alone(lambda connections: hold_peer(sender, connections, commands.locust)),
        "Artillery, a virtual user each": alone(lambda connections: hold_peer(sender, connections, commands.artillery)),
    }


def run(rounds: int, progress: Callable[[str, int, str], None], *, scale: float = 1.0) -> Outcome:
    """Run the benchmark per connection."""
    few, many = max(1, int(FEW * scale)), max(2, int(MANY * scale))

    def slope(hold: Callable[[int], int]) -> Callable[[], Reading]:
        return lambda: per_connection(hold, few, many)

    with Sender() as sender:
        turns = {name: slope(hold) for name, hold in contenders(sender).items()}
        figures = take_turns(turns, rounds=rounds, progress=progress)
    return Outcome(title="Memory per idle connection", unit="KiB / connection", better="lower", figures=figures)


def run_whole(rounds: int, progress: Callable[[str, int, str], None], *, scale: float = 1.0) -> Outcome:
    """Run the benchmark of the whole process."""
    many = max(1, int(MANY * scale))

    def whole(hold: Callable[[int], int]) -> Callable[[], Reading]:
        return lambda: Reading(value=hold(many) / 2**20, check=f"{many:,} of {many:,} connections open")

    with Sender() as sender:
        turns = {name: whole(hold) for name, hold in contenders(sender).items()}
        figures = take_turns(turns, rounds=rounds, progress=progress)
    return Outcome(title=f"Memory of a process with {many:,} idle connections", unit="MiB", better="lower", figures=figures)
