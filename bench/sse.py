"""Tokens of a streamed answer checked per CPU-second: floodmark's agent beside the `openai` Python client, on the same server.

`floodmark serve tokens` runs in a process of its own and streams numbered text as fast as it is taken, one token to a chunk and sixteen.
The agent accounts for every single token; the client only joins what the chunks hold and compares it, once, with what it should be, which
is less than a check. CPU time of the contender's process is read when it has come to rest and again when its answer has ended.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.measure import Outcome, Reading, rate, take_turns
from bench.peers.agent import AgentChild
from bench.processes import BenchError, Child
from bench.receive import reading
from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.scenario import Phase, Population, Scenario, Target
from floodmark.runner import wire

ROOT = Path(__file__).parents[1]
RUN = 0x55E
TOKENS_COUNT = 1_000_000
CLIENT_COUNT = 30_000  # counts chosen so that each contender works for a second or more
SIZE_BYTES = 10
LIMIT_S = 120.0


class AskingAgent(AgentChild):
    """An agent that asks once, for `count` tokens."""

    def __init__(self, url: str, *, count: int) -> None:
        super().__init__(url, run=RUN, connections=1)
        self._setup = wire.Setup(
            scenario=Scenario(
                id="bench.sse",
                target=Target(url=url),
                driver="sse",
                driver_options={"tokens": str(count), "token_bytes": str(SIZE_BYTES)},
                population=Population(connections=1),
                phases=(Phase(arrival=Constant(rate_hz=1.0), messages=1),),
                criteria=(parse("lost == 0"),),
            ),
            url=url,
            agent=0,
            agents=1,
            seed=1,
            run=RUN,
            warmup_run=RUN ^ 1,
        )


@contextmanager
def server(per_chunk: int, *words: str) -> Iterator[str]:
    """A token server of its own; gives its URL."""
    command = [sys.executable, "-m", "floodmark.systems.conductor.tokens", "--per-chunk", str(per_chunk), *words]
    with Child(command, what="floodmark serve tokens") as child:
        yield child.read_line(limit_s=LIMIT_S).decode().split()[-1]


def measure_agent(count: int, per_chunk: int, *words: str) -> Reading:
    """Measure floodmark's agent; `words` are more of the server's command line."""
    with server(per_chunk, *words) as url, AskingAgent(url, count=count) as agent:
        agent.connect()
        agent.wait_until_idle()
        before_s = agent.cpu_s()
        agent.play()
        agent.wait_for_messages(count, limit_s=LIMIT_S)
        spent_s = agent.cpu_s() - before_s
        accounts = agent.accounts()
        bad = accounts.duplicated_count + accounts.reordered_count + accounts.corrupted_count + accounts.unexpected_count
        return reading(count, accounts.delivered_count, bad, spent_s)


def measure_client(count: int, per_chunk: int, *words: str) -> Reading:
    """Measure the `openai` client; `words` likewise."""
    command = [sys.executable, "-m", "bench.peers.openai_client"]
    with server(per_chunk, *words) as url, Child([*command, url, str(count), str(SIZE_BYTES)], cwd=ROOT, what="openai client") as child:
        child.read_json(limit_s=LIMIT_S)
        child.wait_until_idle()
        before_s = child.cpu_s()
        child.tell(b"go\n")
        account = child.read_json(limit_s=LIMIT_S)
        spent_s = child.cpu_s() - before_s
        if not account["equal"]:
            raise BenchError(f"account does not add up: the text of {count:,} tokens is not what was asked for")
        return Reading(value=rate(count, spent_s), check=f"the text of {count:,} tokens, {account['chunks']:,} chunks")


def runner(per_chunk: int) -> Callable[..., Outcome]:
    """Make the benchmark for so many tokens to a chunk."""

    def run(rounds: int, progress: Callable[[str, int, str], None], *, scale: float = 1.0) -> Outcome:
        ours, client = max(1, int(TOKENS_COUNT * scale)), max(1, int(CLIENT_COUNT * scale)) * per_chunk
        figures = take_turns(
            {
                "floodmark agent": lambda: measure_agent(ours, per_chunk),
                "openai client, text compared once": lambda: measure_client(client, per_chunk),
            },
            rounds=rounds,
            progress=progress,
        )
        return Outcome(
            title=f"Checked tokens of streams, {per_chunk} to a chunk", unit="tokens / CPU-second", better="higher", figures=figures
        )

    return run
