"""A real agent in this process, steered by a test, against a real server that notes what reaches it.

Connection n alone listens to channel n, on which source n alone publishes, so that a number names all three. Messages go round the sources.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Callable

from websockets.asyncio.server import ServerConnection, serve

from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.scenario import Fault, Phase, Population, Scenario, Target
from floodmark.runner.agent.agent import Agent
from floodmark.runner.wire import Did, Do, Message, Progress, Setup, Trouble
from tests.verdict.hostile import BODY_AT, GRAPHQL, HEAD, HEAD_AT, Client, Honest

CONNECTIONS = 10
RATE_HZ = 400.0
LAST = 2  # messages of each channel in the second phase
Sent = dict[tuple[int, int], int]  # (source, sequence): when it was meant to be sent, nanoseconds after the phase began


@dataclasses.dataclass(slots=True, kw_only=True)
class Seen:
    """What came of one play; `sent` has the phase under the fault first, then the one after it."""

    began_ns: list[int] = dataclasses.field(default_factory=list)  # the phases, as they begin
    sent: tuple[Sent, Sent] = dataclasses.field(default_factory=lambda: ({}, {}))
    arrived: Counter[tuple[int, int]] = dataclasses.field(default_factory=Counter)  # deliveries of each message
    came: list[tuple[str, int]] = dataclasses.field(default_factory=list)  # ("subscribed" | "lost", connection), as the server saw it
    still: frozenset[int] = frozenset()  # the connections that read nothing while the fault was on
    did: Did | None = None
    in_place: int = 0  # what is left of the fault in the agent

    @property
    def anew(self) -> frozenset[int]:
        """The connections that subscribed more than once."""
        times = Counter(number for word, number in self.came if word == "subscribed")
        return frozenset(number for number, count in times.items() if count > 1)

    @property
    def lost(self) -> frozenset[int]:
        """The connections that went away."""
        return frozenset(number for word, number in self.came if word == "lost")

    def counts(self, phase: int | None = None) -> Counter[int]:
        """Deliveries by connection: all of them, or those of what was sent in one phase."""
        counts: Counter[int] = Counter()
        for pair, count in self.arrived.items():
            counts[pair[0]] += count if phase is None or pair in self.sent[phase] else 0
        return counts

    @property
    def hits(self) -> int:
        """What the agent says it touched."""
        assert self.did is not None
        return int(self.did.figures["fault_hits"])


def due_ns(pair: tuple[int, int]) -> int:
    """When a message of the schedule is due: they go round the sources, one every 1 / RATE_HZ."""
    source, seq = pair
    return round((seq * CONNECTIONS + source) * 1e9 / RATE_HZ)


class Watched(Honest):
    """The server; notes who comes and goes, and what was sent."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self._seen = seen
        self.open = 0

    async def handle(self, socket: ServerConnection) -> None:
        self.open += 1
        try:
            await super().handle(socket)
        finally:
            self.open -= 1
            gone = next(client for client in self.clients if client.socket is socket)
            self._seen.came += [("lost", number_of(channel)) for channel in set(gone.channels.values())]

    async def _subscribe(self, client: Client, key: str, channel: str, after: int | None) -> None:
        self._seen.came.append(("subscribed", number_of(channel)))
        await super()._subscribe(client, key, channel, after)

    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        source, seq, intended_ns = stamp_of(payload)
        phase = len(self._seen.began_ns) - 1
        self._seen.sent[phase][source, seq] = intended_ns - self._seen.began_ns[phase]
        await super().published(client, channel, payload, token)


def number_of(channel: str) -> int:
    """The number of a channel by its name; -1 for the one that nobody listens to."""
    number = channel.rpartition(".")[2]
    return int(number) if number.isdigit() else -1


def stamp_of(text: str) -> tuple[int, int, int]:
    """Source, sequence and intended time of a message, wherever in the text it begins."""
    at = text.index("fm1:")
    _, source, seq, intended_ns, _, _ = HEAD.unpack(bytes.fromhex(text[at + HEAD_AT : at + BODY_AT]))
    return source, seq, intended_ns


class Steered:
    """An agent in this process that takes its steps from a test."""

    def __init__(self, scenario: Scenario, url: str, seed: int) -> None:
        self._steps: asyncio.Queue[Message | None] = asyncio.Queue(8)
        self._answers: dict[int, asyncio.Future[Did]] = {}
        self._number = 0
        self.agent = Agent(Setup(scenario=scenario, url=url, agent=0, agents=1, seed=seed, run=seed, warmup_run=99), self._take)

    def _take(self, message: Message) -> None:
        if isinstance(message, Progress):
            return
        if isinstance(message, Trouble):
            for answer in self._answers.values():
                answer.set_exception(AssertionError(message.text))
        if isinstance(message, Did):
            self._answers.pop(message.number).set_result(message)

    def begin(self, step: str, *, index: int = 0, at_ns: int = 0) -> asyncio.Future[Did]:
        """Let it take a step; the future is its answer."""
        self._number += 1
        self._steps.put_nowait(Do(step=step, number=self._number, index=index, at_ns=at_ns))
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        return answer

    async def run(self) -> None:
        """Take steps until `stop`; then leave the server in the agent's own way."""
        await self.agent.run(self._steps.get)

    def stop(self) -> None:
        """Let it end when it has nothing more to take."""
        self._steps.put_nowait(None)

    @property
    def in_place(self) -> int:
        """What of faults is in place in it: delays, failures, and those that look at deliveries because of one."""
        standing = self.agent._standing
        placed = [len(faults) for faults in standing.delays.values()] + [len(faults) for faults in standing.failing.values()]
        hooks = len(self.agent.intake.on_frames) - 1  # one is ours
        return sum(placed) + hooks


def scenario(url: str, fault: Fault | None, *, messages: int) -> Scenario:
    """One phase of so many messages with a fault from its beginning, and a short one without."""
    arrival = Constant(rate_hz=RATE_HZ)
    return Scenario(
        id="words",
        target=Target(url=url),
        driver="graphql-ws",
        population=Population(connections=CONNECTIONS, channels=CONNECTIONS, publishers=2),
        phases=(
            Phase(name="under the fault", arrival=arrival, messages=messages),
            Phase(name="afterwards", arrival=arrival, messages=LAST * CONNECTIONS),
        ),
        faults=() if fault is None else (fault,),
        criteria=(parse("lost == 0"),),
    )


@contextlib.asynccontextmanager
async def steered(
    fault: Fault | None, seen: Seen, *, seed: int, messages: int
) -> AsyncIterator[tuple[Steered, Watched, asyncio.Task[None]]]:
    """A server and an agent that is connected to it; also the agent's task. All of it is gone after the block."""
    server = Watched(seen)
    async with serve(
        server.handle, "127.0.0.1", 0, subprotocols=[GRAPHQL], select_subprotocol=lambda *_: GRAPHQL, compression=None, ping_interval=None
    ) as listening:
        url = f"ws://127.0.0.1:{next(iter(listening.sockets)).getsockname()[1]}/"
        one = Steered(scenario(url, fault, messages=messages), url, seed)

        def count(batch: list[tuple[int, bytes, int]]) -> None:
            for _, frame, _ in batch:
                source, seq, _ = stamp_of(frame.decode())
                seen.arrived[source, seq] += 1

        one.agent.intake.on_frames.append(count)
        task = asyncio.create_task(one.run())
        try:
            assert (await one.begin("connect")).figures["connected"] == CONNECTIONS
            yield one, server, task
            one.stop()
            await asyncio.wait([task])
        finally:
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            task.result()
        await until(lambda: server.open == 0)


async def until(holds: Callable[[], object]) -> None:
    """Wait for a condition; the limit of the test ends it when it never comes."""
    while not holds():  # noqa: ASYNC110 - a server in other hands has no event for it
        await asyncio.sleep(0.002)
