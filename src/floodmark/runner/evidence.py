"""What a scenario has left behind so far: filled in by `session`, read by `results`. It judges nothing.

A field that was never reached keeps its first value, which says "not measured" and never looks like a measurement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from floodmark.ledger.reconcile import Reckoning
from floodmark.model.result import AgentResult
from floodmark.model.shortfall import Shortfall
from floodmark.monitor.watch import Watch
from floodmark.runner.remains import Remains
from floodmark.runner.target import RunningTarget
from floodmark.runner.timeline import Timeline
from floodmark.runner.wire import Outcome


class Blow:
    """One occasion of a fault: when it struck and was lifted (its victims back), what it touched and what came back.

    `index` is the fault's slot in the scenario, `occasion` counts its repeats. `standing` ones hold during the whole run. `clients` says
    that connections are what `hits` counts. Of the connections that were lost to it, `reconnects` came back, `away` did not; the last one
    was back `worst_s` after the strike (None: nobody came back).
    """

    def __init__(self, *, kind: str, struck_ns: int, index: int = 0, occasion: int = 0, standing: bool = False) -> None:
        self.kind = kind
        self.index = index
        self.occasion = occasion
        self.struck_ns = struck_ns
        self.lifted_ns = struck_ns
        self.standing = standing
        self.clients = False
        self.ended_target = False
        """Whether it ended the target's first process for good."""
        self.damages = False
        """Whether connections that outlive it may have lost bytes for good, or got wrong ones."""
        self.healed = False
        """Whether it is over, `lifted_ns` being the moment."""
        self.hits = 0
        self.back = 0
        self.reconnects = 0
        self.away = 0
        self.worst_s: float | None = None
        self.victims: tuple[int, ...] = ()
        """Which connections, where it picked some by number."""


class Evidence:
    """Times are monotonic nanoseconds, 0 until the moment has come."""

    def __init__(self) -> None:
        self.started_ns = 0
        self.first_connect_ns = 0
        self.first_intended_ns = 0
        self.drained_ns = 0
        self.connect_s: float | None = None
        self.connected = 0
        self.seen = 0
        self.probes = 0
        self.fault_hits = 0
        self.fault_back = 0
        self.fault_worst_s = 0.0
        self.blows: list[Blow] = []
        self.journals: dict[str, Sequence[msgspec.Struct]] = {}
        """What the proxy and the faults on processes wrote down themselves, by who did."""
        self.load_end_ns = 0  # of the first load, where there are two
        self.first_drained_ns = 0  # with a second load only: the drain between the two, and the second itself
        self.second_start_ns = 0
        self.second_end_ns = 0
        self.close_worst_s: float | None = None
        """How long the slowest clean close of a connection took, where somebody looked."""
        self.target_exits = 0
        self.target_gone = ""
        """Why the target was not there at the end of the run although nothing was wrong with it: a fault ended it for good."""
        self.statistics: dict[str, float] | None = None
        self.shortfall: Shortfall | None = None
        """What the driver was to do to the target and did not."""
        self.reckoning: Reckoning | None = None
        self.outcomes: list[Outcome] = []
        self.target: RunningTarget | None = None
        self.watch: Watch | None = None
        self.timeline = Timeline()
        self.reasons: Counter[str] = Counter()
        self.notes: list[str] = []
        self.interrupted = False
        self.clock_error_ns = 0
        """By how much a latency between agents on two machines may be wrong."""
        self.agents: tuple[AgentResult, ...] = ()
        """Agents on other machines."""
        self.agents_lost = 0
        self.remains: tuple[Remains, ...] = ()
        """Of those that were replaced."""
        self.where = "before the load"
        """Where the run is, in words for a note about its end."""

    @property
    def loaded(self) -> bool:
        """Whether the load ever began."""
        return self.first_intended_ns > 0

    @property
    def broken_off(self) -> bool:
        """Whether the course ended before everything was accounted for."""
        return self.interrupted or (self.drained_ns == 0 and bool(self.notes))

    @property
    def all_reasons(self) -> Counter[str]:
        """Every refusal, disconnect and ended subscription in words, with how often."""
        reasons = self.reasons.copy()
        for outcome in self.outcomes:
            reasons.update(outcome.reasons)
        return reasons
