"""Checked messages per CPU-second of a receiver: floodmark's agent beside the bare limit and beside Locust and Artillery.

One blaster process holds pre-built stamped frames (100 bytes of payload) and writes them to whichever contender is connected. CPU time of
the contender's process tree is read when it has come to rest after connecting and again when its account is complete. The account is then
checked: every message delivered, once, intact, in order.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.blaster import Sender
from bench.measure import Outcome, Reading, rate, take_turns
from bench.peers import commands
from bench.peers.agent import AgentChild
from bench.peers.commands import Task
from bench.processes import BenchError, Child

RUN = 0xB0A7
PREPARED_COUNT = 1_000_000
LIMIT_COUNT = 5_000_000  # counts chosen so that each contender works for a second or more
LOCUST_COUNT = 120_000
ARTILLERY_COUNT = 600_000
K6_COUNT = 60_000
LIMIT_S = 60.0


def measure_agent(sender: Sender, count: int) -> Reading:
    """Measure floodmark's agent."""
    with AgentChild(sender.url, run=RUN, connections=1) as agent:
        agent.connect()
        agent.play()
        agent.wait_until_idle()
        before_s = agent.cpu_s()
        asked = sender.go(count)
        agent.wait_for_messages(count, limit_s=LIMIT_S)
        spent_s = agent.cpu_s() - before_s
        sent = sender.sent(asked)
        accounts = agent.accounts()
        bad = accounts.duplicated_count + accounts.reordered_count + accounts.corrupted_count + accounts.unexpected_count
        return reading(sent, accounts.delivered_count, bad, spent_s)


def measure_peer(sender: Sender, count: int, start: Callable[[Task], Child], *, statistics: bool = False) -> Reading:
    """Measure a contender that reports into a file."""
    with tempfile.TemporaryDirectory(prefix="floodmark-bench-") as folder:
        task = Task(url=sender.url, run=RUN, expected=count, folder=Path(folder), statistics=statistics)
        with start(task) as child:
            child.wait_for(lambda: sender.connected() == 1, limit_s=LIMIT_S, what="connected")
            child.wait_until_idle()
            before_s = child.cpu_s()
            asked = sender.go(count)
            child.wait_for(task.report.exists, limit_s=LIMIT_S, what="done")
            spent_s = child.cpu_s() - before_s
            sent = sender.sent(asked)
            account = json.loads(task.report.read_text())
            return reading(sent, account["received"], account["bad"], spent_s)


def reading(sent: int, delivered: int, bad: int, spent_s: float) -> Reading:
    """Make a rate of it, if the account adds up."""
    if not sent or delivered != sent or bad:
        raise BenchError(f"account does not add up: {delivered:,} of {sent:,} delivered, {bad:,} of them bad")
    return Reading(value=rate(sent, spent_s), check=f"{delivered:,} of {sent:,} delivered")


def run(rounds: int, progress: Callable[[str, int, str], None], *, scale: float = 1.0) -> Outcome:
    """Run the benchmark."""

    def scaled(count: int) -> int:
        return max(1, int(count * scale))

    ours, limit, locust, artillery = (scaled(count) for count in (PREPARED_COUNT, LIMIT_COUNT, LOCUST_COUNT, ARTILLERY_COUNT))
    with Sender() as sender:
        sender.prepare(RUN, ours)
        figures = take_turns(
            {
                "floodmark agent": lambda: measure_agent(sender, ours),
                "the limit: picows, counting only": lambda: measure_peer(sender, limit, commands.counter),
                "Locust, check only": lambda: measure_peer(sender, locust, commands.locust),
                "Locust, check and its statistics": lambda: measure_peer(sender, locust, commands.locust, statistics=True),
                "Artillery, check only": lambda: measure_peer(sender, artillery, commands.artillery),
                "Artillery, check and its metrics": lambda: measure_peer(sender, artillery, commands.artillery, statistics=True),
                # Measured only where somebody has put it on the path.
                **({"k6, check only": lambda: measure_peer(sender, scaled(K6_COUNT), commands.k6)} if shutil.which("k6") else {}),
            },
            rounds=rounds,
            progress=progress,
        )
    return Outcome(title="Checked messages received", unit="messages / CPU-second", better="higher", figures=figures)
