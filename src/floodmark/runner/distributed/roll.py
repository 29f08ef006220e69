"""The runner's roll call: who is there, with how much room, how far their clocks are ahead, and who has fallen silent.

Calls go out every half second and count as unanswered only when this side's own loop had the time to hear answers, so that a runner that
is busy for seconds accuses nobody. Memory: the last burst of round trips of each agent.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

from floodmark.runner.distributed.clocks import Offset, RoundTrip
from floodmark.runner.distributed.words import ROLL_S, SILENT_ROLLS, Here, Roll

BURST = 16
BURST_PAUSE_S = 0.004
CALLS_KEPT = 64


class Known:
    """What is known of one agent."""

    def __init__(self, here: Here) -> None:
        self.here = here
        self.offset = Offset()
        self.trips: list[RoundTrip] = []
        self.doubted = False
        """Whether another one answered by this name, which is not heard before this one was told to be lost."""
        self.twins = False
        self.unanswered = 0
        self.rss_bytes_peak = 0
        self.cpu_s_first = here.cpu_s

    @property
    def silent(self) -> bool:
        """Whether it has not answered for so long that it is lost."""
        return self.unanswered >= SILENT_ROLLS

    @property
    def replaced(self) -> bool:
        """Whether another one came by its name and is heard soon, since this one is gone or goes."""
        return self.doubted and (self.silent or self.here.leaving)

    @property
    def room(self) -> int:
        """How many more slices it takes."""
        return 0 if self.silent or self.here.leaving else max(0, self.here.capacity - self.here.playing)

    def heard(self, here: Here) -> None:
        """It has answered."""
        self.here = here
        self.twins = self.twins or self.doubted
        self.unanswered = 0
        self.rss_bytes_peak = max(self.rss_bytes_peak, here.rss_bytes)


class RollCall:
    """Calls until cancelled (`run`); `publish` sends a call, `on_here` is told of each answer, `on_round` after each call."""

    def __init__(self, *, run: str, version: str, publish: Callable[[Roll], Awaitable[None]], on_round: Callable[[], None]) -> None:
        self.known: dict[str, Known] = {}
        self.slices = 0
        self._run = run
        self._version = version
        self._publish = publish
        self._on_round = on_round
        self._number = 0
        self._asked_ns: dict[int, int] = {}
        self._numbers: deque[int] = deque()
        self._looking = asyncio.Lock()
        self.changed = asyncio.Event()

    def hear(self, here: Here) -> None:
        """Take an answer: to us, or to another runner's call."""
        heard_ns = time.monotonic_ns()
        agent = self.known.get(here.name)
        if agent is not None and agent.here.token != here.token and agent.unanswered <= SILENT_ROLLS:
            agent.doubted = True  # one that came in its place, or two of one name: whether it answers again will tell
            return
        if agent is None or agent.here.token != here.token:
            agent = self.known[here.name] = Known(here)
        agent.heard(here)
        asked_ns = self._asked_ns.get(here.number) if here.run == self._run else None
        if asked_ns is not None:
            agent.trips.append(RoundTrip(asked_ns, here.now_ns, heard_ns))
        self.changed.set()

    def holder(self, name: str, token: str) -> Known | None:
        """The agent of this name, if it is this very process; None while it is unheard, or another is heard by its name."""
        agent = self.known.get(name)
        return agent if agent is not None and agent.here.token == token else None

    async def call(self) -> None:
        """Call once."""
        self._number += 1
        self._numbers.append(self._number)
        if len(self._numbers) > CALLS_KEPT:
            del self._asked_ns[self._numbers.popleft()]
        self._asked_ns[self._number] = time.monotonic_ns()
        await self._publish(Roll(run=self._run, slices=self.slices, number=self._number, version=self._version))

    async def look(self) -> None:
        """Compare clocks: a burst of calls, of which the shortest round trip counts."""
        async with self._looking:
            for agent in self.known.values():
                agent.trips.clear()
            for _ in range(BURST):
                await self.call()
                await asyncio.sleep(BURST_PAUSE_S)
            await asyncio.sleep(self._patience_s())
            for agent in self.known.values():
                agent.offset.look(agent.trips)
                agent.trips.clear()

    def _patience_s(self) -> float:
        """For the answers that are still under way: a few round trips."""
        return min(1.0, max((3 * agent.offset.round_trip_ns / 1e9 for agent in self.known.values()), default=0.0) + BURST_PAUSE_S)

    async def run(self) -> None:
        """Call for ever."""
        while True:
            if not self._looking.locked():
                await self.call()
                for agent in self.known.values():
                    agent.unanswered += 1
                    if len(agent.trips) > CALLS_KEPT:
                        agent.trips.clear()
            await asyncio.sleep(ROLL_S)
            self._on_round()
