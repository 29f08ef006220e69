"""Who has answered a run's roll call: whether they are enough and of our kind, how far each clock is ahead, and what each one cost.

`Muster` knows the agents; what they are told, and what becomes of one that is lost, is for `agents.py` to say. Whoever joins it gives it
the connection by which to call, and lets the call go on (`self._roll.run()`).
"""

from __future__ import annotations

import asyncio
import secrets
from abc import abstractmethod
from collections.abc import Callable

from nats.aio.client import Client
from nats.aio.msg import Msg

from floodmark import __version__
from floodmark.core.errors import UsageError
from floodmark.core.nats_client import without_login
from floodmark.model.result import AgentResult
from floodmark.runner import wire
from floodmark.runner.agents import START_AHEAD_NS, Lines
from floodmark.runner.distributed.clocks import Offset, between_agents_ns
from floodmark.runner.distributed.line import Away
from floodmark.runner.distributed.roll import Known, RollCall
from floodmark.runner.distributed.words import ROLL, Here, Roll, pack, unpack
from floodmark.runner.wire import Progress


class Player:
    """An agent that plays, or has played: what is known of it outlasts its place in the roll."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self.slices: list[int] = []
        self.lost: list[int] = []


class Muster(Lines[Away]):
    """The agents that answer at the NATS server `url`; for enough of them it waits `wait_limit_s`."""

    def __init__(self, url: str, on_progress: Callable[[int, Progress], None], *, wait_limit_s: float) -> None:
        super().__init__(on_progress)
        self._url = url
        self._wait_limit_s = wait_limit_s
        self._run = secrets.token_hex(8)
        self._client: Client | None = None
        self._roll = RollCall(run=self._run, version=__version__, publish=self._call, on_round=self._look_for_silence)
        self._players: dict[tuple[str, str], Player] = {}
        """Who ever played, by name and token: one that came by the name of a lost one is another."""
        self._clocks: list[Offset] = []
        """The clock of each agent that ever played; one that came again by its old name has another."""

    # -- the call ----------------------------------------------------------------------------------------------------------------------

    async def _call(self, roll: Roll) -> None:
        assert self._client is not None
        await self._client.publish(ROLL, pack(roll))

    async def _hear(self, message: Msg) -> None:
        here = unpack(message.data, Here)
        if here is not None:
            self._roll.hear(here)

    @abstractmethod
    def _look_for_silence(self) -> None:
        """A call went out, and whoever has not answered for too long is silent."""

    # -- who is there ------------------------------------------------------------------------------------------------------------------

    async def _until_room(self, count: int) -> None:
        """Wait for agents with room for so many slices. Raises: UsageError when too few come, or others than ours."""
        try:
            async with asyncio.timeout(self._wait_limit_s):
                while self._room() < count:
                    self._roll.changed.clear()
                    await self._roll.changed.wait()
        except TimeoutError:
            raise UsageError(self._too_few(count)) from None

    def _room(self) -> int:
        for agent in self._roll.known.values():
            if agent.twins:
                raise UsageError(f"two agents are called {agent.here.name}; give each a --name of its own, or none")
            if agent.here.version != __version__:
                raise UsageError(
                    f"agent {agent.here.name} on {agent.here.host} is floodmark {agent.here.version}, this is {__version__}; "
                    "both ends must be of one version"
                )
        return sum(agent.room for agent in self._roll.known.values())

    def _too_few(self, count: int) -> str:
        there = [agent for agent in self._roll.known.values() if not agent.silent]
        came = f"{len(there)} agent{'s' if len(there) != 1 else ''} with room for {self._room()} slices" if there else "no agent"
        asked = f"{count} slice{'s are' if count != 1 else ' is'}"
        more = f"start more with `floodmark agent --nats {without_login(self._url)}`"
        return f"{came} came within {self._wait_limit_s:g} s where {asked} to be played; {more}"

    def _note_clock(self, line: Away) -> None:
        known = self._holder(line)
        if known is not None and all(known.offset is not clock for clock in self._clocks):
            self._clocks.append(known.offset)

    def _holder(self, line: Away) -> Known | None:
        return self._roll.holder(line.claim.name, line.claim.token) if line.claim is not None else None

    def _player(self, line: Away) -> Player | None:
        """Who plays a slice, or was to, also when another is heard by its name by now."""
        return self._players.get((line.claim.name, line.claim.token)) if line.claim is not None else None

    # -- clocks, figures ----------------------------------------------------------------------------------------------------------------

    async def _ask_all(self, step: str, index: int, at_ns: int, limit_s: float) -> list[wire.Message]:
        if step == "collect":
            await self.compare_clocks()
        return await super()._ask_all(step, index, at_ns, limit_s)

    async def compare_clocks(self) -> None:
        await self._roll.look()

    @property
    def start_ahead_ns(self) -> int:
        trips = [known.offset.round_trip_ns for line in self._agents if (known := self._holder(line)) is not None]
        return START_AHEAD_NS + 4 * max(trips, default=0)

    def clock_error_ns(self) -> int:
        """By how much a latency between two agents may be wrong; what one of them stamped is received after its end as well."""
        return between_agents_ns(clock.uncertainty_ns for clock in self._clocks)

    def results(self) -> tuple[AgentResult, ...]:
        """What is to be said of each agent that played, by name; of those of one name, the first to play comes first."""
        return tuple(
            AgentResult(
                name=name,
                host=player.known.here.host,
                offset_ns=player.known.offset.offset_ns,
                uncertainty_ns=player.known.offset.uncertainty_ns,
                drift_ppm=round(player.known.offset.drift_ppm, 3),
                slices=tuple(sorted(player.slices)),
                lost=tuple(sorted(player.lost)),
                rss_bytes_peak=player.known.rss_bytes_peak,
                cpu_s=round(player.known.here.cpu_s - player.known.cpu_s_first, 3),
            )
            for (name, _), player in sorted(self._players.items(), key=lambda entry: entry[0][0])
        )
