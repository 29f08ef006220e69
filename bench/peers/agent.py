"""floodmark's own agent process, spoken to as the runner does: the real receive path, driver, inbox, ledger and histograms.

The scenario is the smallest that makes an agent listen: it is the second of two agents, so that it has subscribers and no publisher.
Frames carry binary stamps and nothing else, which the `websocket` driver takes.
"""

from __future__ import annotations

import sys
import time
from typing import Self

from bench.processes import BenchError, Child
from floodmark.ledger.accounts import Accounts
from floodmark.ledger.wire import accounts_from_wire
from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.scenario import Phase, Population, Scenario, Target
from floodmark.runner import wire

ANSWER_LIMIT_S = 60.0


class AgentChild(Child):
    """An agent in its own process."""

    def __init__(self, url: str, *, run: int, connections: int) -> None:
        super().__init__([sys.executable, "-m", "floodmark.runner.agent"], what="floodmark agent")
        population = Population(connections=2 * connections)  # dealt in turn: half of them are this agent's
        self._setup = wire.Setup(
            scenario=Scenario(
                id="bench.receive",
                target=Target(url=url),
                driver="websocket",
                driver_options={"encoding": "binary"},
                population=population,
                phases=(Phase(name="steady", arrival=Constant(rate_hz=1.0), duration_s=1.0),),
                criteria=(parse("lost == 0"),),
                warmup=False,
            ),
            url=url,
            agent=1,
            agents=2,
            seed=1,
            run=run,
            warmup_run=run ^ 1,
        )
        self._connections = connections
        self._number = 0
        self.received = 0

    def __enter__(self) -> Self:
        super().__enter__()
        self.tell(wire.pack(self._setup))
        self._answer(0)
        return self

    def connect(self) -> None:
        """Open this agent's subscriber connections."""
        did = self._ask("connect")
        if not isinstance(did, wire.Did) or did.figures["connected"] != self._connections:
            raise BenchError(f"{self.what} could not connect: {did}")

    def play(self) -> None:
        """Begin the phase, so that latencies are recorded. It publishes nothing: this agent owns no source."""
        self._ask("phase", at_ns=time.monotonic_ns())

    def wait_for_messages(self, count: int, *, limit_s: float) -> None:
        """Wait until the agent's progress says that so many messages came in."""
        until_s = time.monotonic() + limit_s
        while self.received < count:
            if time.monotonic() > until_s:
                raise BenchError(f"{self.what} took {self.received:,} of {count:,} messages within {limit_s:.0f} s")
            self._note(self._receive())

    def accounts(self) -> Accounts:
        """Collect what the agent accounted for."""
        outcome = self._ask("collect")
        assert isinstance(outcome, wire.Outcome)
        return accounts_from_wire(outcome.accounts)

    def _ask(self, step: str, *, at_ns: int = 0) -> wire.Message:
        self._number += 1
        self.tell(wire.pack(wire.Do(step=step, number=self._number, at_ns=at_ns)))
        return self._answer(self._number)

    def _answer(self, number: int) -> wire.Message:
        while True:
            message = self._receive()
            if isinstance(message, wire.Did | wire.Outcome) and message.number == number:
                return message
            self._note(message)

    def _note(self, message: wire.Message) -> None:
        if isinstance(message, wire.Trouble):
            raise BenchError(f"{self.what}: {message.text}")
        if isinstance(message, wire.Progress):
            self.received = message.received

    def _receive(self) -> wire.Message:
        head = self.read(wire.HEAD_BYTES, limit_s=ANSWER_LIMIT_S)
        return wire.unpack(self.read(wire.length(head), limit_s=ANSWER_LIMIT_S))
