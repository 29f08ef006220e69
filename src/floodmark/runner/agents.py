"""The runner's end of its agents: a step sent to all of them and answered by all of them.

`Lines` is that alone; `Agents` are child processes joined by pipes. Agents on other machines are in `distributed/`.
An agent that dies, or whose answer does not come, makes the run UNKNOWN with the reason. `close` leaves no process behind.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Generic, TypeVar

import msgspec

from floodmark.core.errors import FloodmarkError, HarnessBugError, SystemUnderTestError, UsageError
from floodmark.model.result import AgentResult
from floodmark.runner import wire
from floodmark.runner.wire import Did, Do, Message, Outcome, Progress, Setup, Trouble

if TYPE_CHECKING:
    from floodmark.runner.remains import Remains  # brings numpy, which whoever only starts an agent's process does without

START_LIMIT_S = 30.0
QUIT_LIMIT_S = 8.0
START_AHEAD_NS = 50_000_000


class AgentDiedError(SystemUnderTestError):
    """An agent process ended although nobody asked it to."""

    def __init__(self, agent: int, code: int | None, log: str) -> None:
        super().__init__(agent, code, log)
        self.agent, self.code, self.log = agent, code, log

    def __str__(self) -> str:
        last = [line for line in map(_undecorated, self.log.splitlines()) if line]
        how = f"killed by {signal.Signals(-self.code).name}" if self.code is not None and self.code < 0 else f"exit code {self.code}"
        return f"load agent {self.agent} ended by itself ({how}{f', last words: {last[-1]}' if last else ''})"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """The answers of all agents to one step, summed; `worst_s` is the longest, `victims` are those of all."""

    figures: dict[str, float]
    reasons: dict[str, int]
    worst_s: float
    victims: tuple[int, ...] = ()


class Line(ABC):
    """What is said between the runner and one agent, whatever carries it."""

    def __init__(self) -> None:
        self.waiting: dict[int, asyncio.Future[Message]] = {}
        self.progress: Progress | None = None
        self.quitting = False
        self.error: FloodmarkError | None = None

    def send(self, message: Message) -> None:
        """Tell the agent something. Raises: the error for which it was given up."""
        if self.error is not None:
            raise self.error
        self.carry(wire.pack(message))

    @abstractmethod
    def carry(self, frame: bytes) -> None:
        """Hand a frame to whatever carries it; one that is closed takes no more."""

    def abandon(self, error: FloodmarkError) -> None:
        """Nobody waits for this agent any longer."""
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(error)


class _Child(Line):
    """One child process."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        super().__init__()
        self.process = process
        self.log = log

    def carry(self, frame: bytes) -> None:
        writer = self.process.stdin
        if writer is not None and not writer.is_closing():
            writer.write(frame)


AnyLine = TypeVar("AnyLine", bound=Line)


class Lines(ABC, Generic[AnyLine]):
    """All agents of a scenario, whatever joins them to the runner. `on_progress` is called with each agent's number and its totals.

    How they are started (`spawn`, `start`) and ended (`close`) is for the subclass to say.
    """

    def __init__(self, on_progress: Callable[[int, Progress], None]) -> None:
        self._agents: list[AnyLine] = []
        self._on_progress = on_progress
        self._next_number = 1
        self._without_lost = False
        self.gone: list[tuple[int, int]] = []
        """Slices whose agent was lost with all it knew: (index, life)."""
        self.remains: list[Remains] = []
        """What those had reported that were replaced."""
        self.notes: list[str] = []
        """What is to be said of agents that were lost and replaced."""

    @abstractmethod
    async def spawn(self, count: int, log_folder: Path, name: str) -> None:
        """Make sure of so many agents; they load their code while the target starts, and wait for their set-up."""

    @abstractmethod
    async def start(self, setups: list[Setup], group: asyncio.TaskGroup) -> None:
        """Hand out the set-ups; returns when all agents have taken theirs. Raises UsageError for what an agent cannot accept."""

    @abstractmethod
    async def close(self) -> None:
        """End all agents, however far they are; nothing of them is left."""

    @property
    def held_up(self) -> bool:
        """Whether one of them has nothing left to do but to wait for a target that takes no more."""
        return any(agent.progress is not None and agent.progress.held_up for agent in self._agents)

    def _expect(self, agent: AnyLine, number: int) -> asyncio.Future[Message]:
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        agent.waiting[number] = future
        return future

    def _heard(self, agent: AnyLine, index: int, message: Message) -> None:
        """Take what an agent says."""
        match message:
            case Progress():
                agent.progress = message
                self._on_progress(index, message)
            case Did() | Outcome():
                future = agent.waiting.pop(message.number, None)
                if future is not None and not future.done():
                    future.set_result(message)
            case Trouble():
                kinds = {"usage": UsageError, "target": SystemUnderTestError}
                self._fail(agent, kinds.get(message.kind, HarnessBugError)(message.text))

    def _fail(self, agent: AnyLine, error: FloodmarkError) -> None:
        """One agent cannot go on: nobody waits for any of them any longer, also where this one had its part of the step done."""
        agent.error = agent.error or error
        for each in self._agents:
            each.abandon(error)

    async def ask(self, step: str, *, index: int = 0, at_ns: int = 0, limit_s: float) -> Step:
        """Let all agents take a step; returns their summed answers.

        Raises: SystemUnderTestError when one of them dies, reports trouble or takes longer than `limit_s`.
        """
        answers = await self._ask_all(step, index, at_ns, limit_s)
        figures: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        worst_s = 0.0
        victims: list[int] = []
        for answer in answers:
            assert isinstance(answer, Did)
            figures.update(answer.figures)
            reasons.update(answer.reasons)
            worst_s = max(worst_s, answer.worst_s)
            victims += answer.victims
        return Step(figures=dict(figures), reasons=dict(reasons.most_common(20)), worst_s=worst_s, victims=tuple(sorted(victims)))

    async def collect(self, *, limit_s: float) -> list[Outcome]:
        """Fetch everything the agents know, in the order of their numbers."""
        return [answer for answer in await self._ask_all("collect", 0, 0, limit_s) if isinstance(answer, Outcome)]

    def results(self) -> tuple[AgentResult, ...]:
        """What is to be said of each agent on another machine."""
        return ()

    def clock_error_ns(self) -> int:
        """By how much a latency between two agents may be wrong, because their clocks are two."""
        return 0

    async def compare_clocks(self) -> None:
        """Look how far the agents' clocks are ahead: before a phase begins, and at the end."""
        return

    @property
    def start_ahead_ns(self) -> int:
        """How long before its start a phase is told, so that all agents know in time."""
        return START_AHEAD_NS

    def go_on_without_lost(self) -> None:
        """From now on only those are asked that can still answer: to save what they know."""
        self._without_lost = True

    async def _ask_all(self, step: str, index: int, at_ns: int, limit_s: float) -> list[Message]:
        number = self._next_number
        self._next_number += 1
        asked = [agent for agent in self._agents if not self._without_lost or agent.error is None]
        futures = [self._expect(agent, number) for agent in asked]
        try:
            for agent in asked:
                agent.send(Do(step=step, number=number, index=index, at_ns=at_ns))
            return await self._answers(futures, limit_s, step)
        finally:
            for agent, future in zip(asked, futures, strict=True):
                agent.waiting.pop(number, None)
                if future.done() and not future.cancelled():
                    future.exception()  # seen: the first one was raised already

    async def _answers(self, futures: list[asyncio.Future[Message]], limit_s: float, step: str) -> list[Message]:
        """Wait for all of them; the first that fails ends the waiting, whoever else is still at work."""
        if not futures:
            return []
        done, waiting = await asyncio.wait(futures, timeout=limit_s, return_when=asyncio.FIRST_EXCEPTION)
        failures = [error for future in done if (error := future.exception()) is not None]
        if failures:
            raise failures[0]
        if waiting:
            late = ", ".join(str(number) for number, future in enumerate(futures) if future in waiting)
            raise SystemUnderTestError(f"the step {step!r} was not done within {limit_s:g} s by load agent {late}")
        return [future.result() for future in futures]


class Agents(Lines[_Child]):
    """Agents beside the runner: its child processes."""

    def __init__(self, on_progress: Callable[[int, Progress], None]) -> None:
        super().__init__(on_progress)
        self._readers: list[asyncio.Task[None]] = []

    async def spawn(self, count: int, log_folder: Path, name: str) -> None:
        for number in range(count):
            log = log_folder / f"{name}-agent-{number}.log"
            with _opened(log) as stderr:
                process = await start_process(stderr)
            self._agents.append(_Child(process, log))

    async def start(self, setups: list[Setup], group: asyncio.TaskGroup) -> None:
        for number, agent in enumerate(self._agents):
            self._readers.append(group.create_task(self._read(agent, number)))
        ready = [self._expect(agent, 0) for agent in self._agents]
        for agent, setup in zip(self._agents, setups, strict=True):
            agent.send(setup)
        await self._answers(ready, START_LIMIT_S, "start")

    async def _read(self, agent: _Child, index: int) -> None:
        stream = agent.process.stdout
        assert stream is not None
        try:
            while True:
                head = await stream.readexactly(wire.HEAD_BYTES)
                self._heard(agent, index, wire.unpack(await stream.readexactly(wire.length(head))))
        except asyncio.IncompleteReadError:
            code = await agent.process.wait()
            if not agent.quitting:
                self.gone.append((index, 0))
                self._fail(agent, AgentDiedError(index, code, last_words(agent.log)))

    async def close(self) -> None:
        """End all agents: ask, wait a little, then kill. When cancelled they are killed at once."""
        for agent in self._agents:
            agent.quitting = True
            with suppress(FloodmarkError, OSError):
                agent.send(Do(step="quit", number=-1))
            if agent.process.stdin is not None:
                agent.process.stdin.close()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(QUIT_LIMIT_S):
                    for agent in self._agents:
                        await agent.process.wait()
        finally:
            for agent in self._agents:
                with suppress(ProcessLookupError):
                    agent.process.kill()
            for reader in self._readers:
                reader.cancel()
        for agent in self._agents:
            await agent.process.wait()


async def start_process(log: BinaryIO) -> asyncio.subprocess.Process:
    """Start the process of one agent, which waits for its set-up on a pipe; what it prints goes into `log`."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "floodmark.runner.agent",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        env=dict(os.environ, PYTHONUNBUFFERED="1", OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1"),
        start_new_session=True,  # Ctrl-C reaches the runner, which then ends its agents in order
    )


def _undecorated(line: str) -> str:
    """A line without the frame that Python draws around the traceback of an exception group."""
    return line.strip(" |+-")


def _opened(log: Path) -> BinaryIO:
    try:
        return log.open("wb")
    except OSError as exc:
        raise UsageError(f"cannot write {log}: {exc.strerror or exc}; choose another place with --out") from exc


def last_words(log: Path) -> str:
    """What an agent printed; nothing when the run folder was taken away meanwhile."""
    try:
        return log.read_text("utf-8", "replace")
    except OSError:
        return ""
