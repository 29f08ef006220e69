"""Memory per idle WebSocket connection of the client: floodmark's agent beside Locust and Artillery users.

Each contender opens FEW connections in one process tree and MANY in another, to the same server, which never says a word. When all are open
and the tree's resident memory stands still it is read; the difference of the two, over the difference in connections, is the figure.
So the interpreter, the libraries and everything else that does not grow with the connections is out of it. Not in it: the kernel's
socket buffers, which are no process's memory and the same for all.
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
LIMIT_S = 90.0


def hold_agent(sender: Sender, connections: int) -> int:
    """Give the resident bytes of an agent that holds so many connections."""
    with AgentChild(sender.url, run=RUN, connections=connections) as agent:
        agent.connect()
        return settled(sender, agent, connections)


def hold_peer(sender: Sender, connections: int, start: Callable[[Task], Child]) -> int:
    """Give the resident bytes of a peer that holds so many connections."""
    with tempfile.TemporaryDirectory(prefix="floodmark-bench-") as folder:
        task = Task(url=sender.url, run=RUN, expected=0, folder=Path(folder), connections=connections)
        with start(task) as child:
            child.wait_for(lambda: sender.connected() >= connections, limit_s=LIMIT_S, what=f"connected {connections:,} times")
            return settled(sender, child, connections)


def settled(sender: Sender, child: Child, connections: int) -> int:
    """Wait until memory stands still, and check that every connection is still there then."""
    rss_bytes = child.settled_rss_bytes()
    if (there := sender.connected()) != connections:
        raise BenchError(f"{there:,} connections are open, wanted {connections:,}")
    return rss_bytes


def per_connection(hold: Callable[[int], int], few: int, many: int, wait_empty: Callable[[], None]) -> Reading:
    """Measure both sizes and make the slope of them."""
    sizes_bytes = []
    for connections in (few, many):
        wait_empty()
        sizes_bytes.append(hold(connections))
    return Reading(value=(sizes_bytes[1] - sizes_bytes[0]) / (many - few) / 1024, check=f"{many:,} of {many:,} connections open")


def run(rounds: int, progress: Callable[[str, int, str], None], *, scale: float = 1.0) -> Outcome:
    """Run the benchmark."""
    few, many = max(1, int(FEW * scale)), max(2, int(MANY * scale))
    with Sender() as sender:

        def wait_empty() -> None:
            sender.wait_for(lambda: sender.connected() == 0, limit_s=LIMIT_S, what="rid of the last contender's connections")

        def contender(hold: Callable[[int], int]) -> Callable[[], Reading]:
            return lambda: per_connection(hold, few, many, wait_empty)

        figures = take_turns(
            {
                "floodmark agent": contender(lambda connections: hold_agent(sender, connections)),
                "Locust, a user each": contender(lambda connections: hold_peer(sender, connections, commands.locust)),
                "Artillery, a virtual user each": contender(lambda connections: hold_peer(sender, connections, commands.artillery)),
            },
            rounds=rounds,
            progress=progress,
        )
    return Outcome(title="Memory per idle connection", unit="KiB / connection", better="lower", figures=figures)
