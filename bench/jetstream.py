"""Checked messages of a NATS server per CPU-second: floodmark's agent beside bare nats-py that takes the same messages and checks nothing.

A nats-server of its own for every measurement, its stream in memory. The contender subscribes and is then held (SIGSTOP) while another
process fills the stream, or for core messages the server's buffer, so that what is measured is taking messages and not waiting for them.
CPU time of the contender is read at rest before, and when all has come. nats-py counts and checks nothing, which is in its favour.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.measure import Outcome, Reading, rate, take_turns
from bench.peers.agent import AgentChild
from bench.peers.nats_filler import RUN
from bench.processes import BenchError, Child
from bench.receive import reading
from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.scenario import Phase, Population, Scenario, Target
from floodmark.runner import wire

AGENT_COUNT = 400_000
BARE_COUNT = 60_000  # counts chosen so that each contender works for a second or so
LIMIT_S = 120.0
Options = dict[str, str | int | float | bool]
PULL: Options = {"storage": "memory", "consumer": "pull", "ack": "each", "ack_wait_s": 60.0}  # or what it is held with comes again
ORDERED: Options = {"storage": "memory", "consumer": "ordered"}


class ListeningAgent(AgentChild):
    """An agent that subscribes once, by one of the NATS drivers."""

    def __init__(self, url: str, driver: str, options: Options) -> None:
        super().__init__(url, run=RUN, connections=1)
        scenario = Scenario(
            id="bench.jetstream",
            target=Target(url=url),
            driver=driver,
            driver_options=options,
            population=Population(connections=2),  # dealt in turn: one of them is this agent's, and no publisher
            phases=(Phase(arrival=Constant(rate_hz=1.0), duration_s=1.0),),
            criteria=(parse("lost == 0"),),
            warmup=False,
        )
        self._setup = wire.Setup(scenario=scenario, url=url, agent=1, agents=2, seed=1, run=RUN, warmup_run=RUN ^ 1)


@contextmanager
def server() -> Iterator[str]:
    """A nats-server of its own; gives its URL."""
    patient = ("--max-pending", "1GB", "--write-deadline", "60s")  # with a client that is held still
    with Child([sys.executable, "-m", "floodmark.core.nats_command", *patient], what="nats-server") as child:
        yield child.read_line(limit_s=LIMIT_S).decode().split()[-1]


def fill(url: str, kind: str, count: int) -> None:
    """Have `count` messages sent."""
    with Child([sys.executable, "-m", "bench.peers.nats_filler", url, kind, str(count)], what="filler") as filler:
        said = filler.read_json(limit_s=LIMIT_S)
    if said["sent"] != count:
        raise BenchError(f"only {said['sent']:,} of {count:,} messages were sent: {said['failure']}")


@contextmanager
def held(child: Child) -> Iterator[None]:
    """Hold a process still meanwhile."""
    pid = child.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def measure_agent(count: int, driver: str, options: Options) -> Reading:
    """Measure floodmark's agent."""
    with server() as url, ListeningAgent(url, driver, options) as agent:
        agent.connect()
        agent.play()
        agent.wait_until_idle()
        before_s = agent.cpu_s()
        with held(agent):
            fill(url, "stream" if driver == "jetstream" else "core", count)
        agent.wait_for_messages(count, limit_s=LIMIT_S)
        spent_s = agent.cpu_s() - before_s
        accounts = agent.accounts()
        bad = accounts.duplicated_count + accounts.reordered_count + accounts.corrupted_count + accounts.unexpected_count
        return reading(count, accounts.delivered_count, bad, spent_s)


def measure_bare(count: int, kind: str) -> Reading:
    """Measure nats-py."""
    with server() as url, Child([sys.executable, "-m", "bench.peers.nats_bare", url, kind, str(count)], what="nats-py") as bare:
        bare.read_json(limit_s=LIMIT_S)
        bare.wait_until_idle()
        before_s = bare.cpu_s()
        with held(bare):
            fill(url, "core" if kind == "core" else "stream", count)
        received = bare.read_json(limit_s=LIMIT_S)["received"]
        spent_s = bare.cpu_s() - before_s
    if received != count:
        raise BenchError(f"{received:,} of {count:,} came")
    return Reading(value=rate(count, spent_s), check="nothing was checked")


TITLES = {"pull": "pulled, each acknowledged", "ordered": "ordered, pushed", "core": "core subscription"}


def runner(kind: str) -> Callable[..., Outcome]:
    """The benchmark of one kind: `pull`, `ordered` or `core`."""
    driver, options = {"pull": ("jetstream", PULL), "ordered": ("jetstream", ORDERED), "core": ("nats", {})}[kind]

    def run(rounds: int, progress: Callable[[str, int, str], None], *, scale: float = 1.0) -> Outcome:
        """Run the benchmark."""
        ours, bare = max(1, int(AGENT_COUNT * scale)), max(1, int(BARE_COUNT * scale))
        figures = take_turns(
            {
                "floodmark agent": lambda: measure_agent(ours, driver, options),
                "nats-py, no check": lambda: measure_bare(bare, kind),
            },
            rounds=rounds,
            progress=progress,
        )
        return Outcome(title=f"Messages of a NATS server, {TITLES[kind]}", unit="messages / CPU-second", better="higher", figures=figures)

    return run
