"""The runner's end of agents on other machines: the same steps and answers as over pipes, by way of NATS.

A run waits until enough agents are there, says how many slices it has, and takes the claims of those whom the fleet gave them to. An agent
that falls silent, leaves, or whose process ends, is told by name. What then happens is the scenario's word: `unknown` ends the run with the
reason; `take-over` waits for another agent to claim the slice, which plays on from that moment in the phase being played (see `takeover`).
Who is there at all, and how their clocks go, is in `muster.py`.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from nats.aio.msg import Msg

from floodmark import __version__
from floodmark.core.errors import FloodmarkError, HarnessBugError, SystemUnderTestError, UsageError
from floodmark.core.nats_client import close_for_good
from floodmark.runner import wire
from floodmark.runner.agents import START_LIMIT_S
from floodmark.runner.distributed.carrier import Carrier
from floodmark.runner.distributed.line import AgentLostError, Away, how_it_ended, without_connections
from floodmark.runner.distributed.muster import Muster, Player
from floodmark.runner.distributed.nats import connect
from floodmark.runner.distributed.roll import Known
from floodmark.runner.distributed.stream import END, Heard, PacketError
from floodmark.runner.distributed.takeover import LIVES
from floodmark.runner.distributed.words import (
    HERE,
    Answer,
    Claim,
    Last,
    Roll,
    claims_subject,
    down_subject,
    pack,
    unpack,
    up_subject,
)
from floodmark.runner.remains import Reported
from floodmark.runner.wire import Did, Do, Message, Progress, Setup

CLAIM_LIMIT_S = 30.0
TAKE_OVER_LIMIT_S = 30.0
CLOSE_LIMIT_S = 8.0
PIECE_BYTES = 128 * 1024
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class RemoteAgents(Muster):
    """Agents that answer at the NATS server `url`. `take_over`: whether a lost one's slice is given to another."""

    def __init__(
        self, url: str, on_progress: Callable[[int, Progress], None], *, take_over: bool = False, wait_limit_s: float = 30.0
    ) -> None:
        super().__init__(url, on_progress, wait_limit_s=wait_limit_s)
        self._take_over = take_over
        self._tasks: set[asyncio.Task[None]] = set()
        self._setups: list[Setup] = []
        self._piece_bytes = PIECE_BYTES
        self._closing = False
        self._stir = asyncio.Event()

    # -- before the run --------------------------------------------------------------------------------------------------------------

    async def spawn(self, count: int, log_folder: Path, name: str) -> None:
        """Wait for agents with room for so many slices, then offer these. Raises: UsageError when too few come, or others than ours."""
        self._client = client = await connect(self._url, f"floodmark run {name}")
        self._piece_bytes = max(1024, min(PIECE_BYTES, client.max_payload // 2))
        await client.subscribe(HERE, cb=self._hear)
        await client.subscribe(claims_subject(self._run), cb=self._hear_claim)
        await client.subscribe(up_subject(self._run, "*"), cb=self._hear_packet)
        self._begin(self._roll.run())
        await self._until_room(count)
        self._agents = [Away(index) for index in range(count)]
        await self._roll.look()
        self._roll.slices = count
        await self._roll.call()

    async def start(self, setups: list[Setup], group: asyncio.TaskGroup) -> None:
        self._setups = [msgspec.structs.replace(setup, lives=LIVES if self._take_over else 1) for setup in setups]
        try:
            async with asyncio.timeout(CLAIM_LIMIT_S):
                for line in self._agents:
                    await line.claimed.wait()
        except TimeoutError:
            late = ", ".join(str(line.index) for line in self._agents if line.claim is None)
            raise SystemUnderTestError(f"no agent began to play slice {late} within {CLAIM_LIMIT_S:g} s") from None
        for line in self._agents:
            self._require_reach(line)
        if not all(known is not None and known.offset.known for known in map(self._holder, self._agents)):
            await self._roll.look()  # one that came after the first look: its clock is not to be taken for ours
        for line in self._agents:
            self._note_clock(line)
        ready = [self._expect(line, 0) for line in self._agents]
        for line in self._agents:
            line.send(self._setup(line))
        await self._answers(ready, START_LIMIT_S, "start")

    def _require_reach(self, line: Away) -> None:
        """An address of this machine's own is another machine on another machine. Raises: UsageError."""
        known, place = self._holder(line), urlsplit(self._setups[line.index].url).hostname
        if known is not None and known.here.host != socket.gethostname() and place in LOOPBACK:
            raise UsageError(
                f"the clients are to connect to {place}, and agent {known.here.name} is on {known.here.host}, another machine; "
                "give --target a URL that agents can reach, and leave out faults on the wire, whose proxy is on this machine"
            )

    def _setup(self, line: Away) -> Setup:
        known = self._holder(line)
        shift_ns = -known.offset.offset_ns if known is not None else 0
        return msgspec.structs.replace(
            self._setups[line.index], clock_shift_ns=shift_ns, clock_error_ns=2 * self.clock_error_ns(), life=line.life
        )

    # -- what comes in -----------------------------------------------------------------------------------------------------------------

    async def _hear_claim(self, message: Msg) -> None:
        claim = unpack(message.data, Claim)
        if claim is not None:
            await message.respond(pack(self._judged(claim)))

    def _judged(self, claim: Claim) -> Answer:
        """Take a claim, or say why not."""
        if self._closing:
            return Answer(refused="the run is over")
        if not 0 <= claim.index < len(self._agents):
            return Answer(refused=f"the run has no slice {claim.index}")
        line = self._agents[claim.index]
        if line.claim is not None and line.claim.link == claim.link:
            return Answer()
        if line.error is not None:
            return Answer(refused="the run is over")
        # INVARIANT: who plays is the process that is heard by its name; another one of that name would be given a clock that is not its own
        holder = self._roll.holder(claim.name, claim.token)
        if holder is None:
            return Answer(refused=f"another agent called {claim.name} is not lost yet, or this one was not heard yet", again=True)
        if line.claim is not None and not line.between:
            self._lose(line, f"the fleet gave its slice to agent {claim.name}", room=True)
            if not line.between:
                return Answer(refused="the run is over")
        line.claim = claim
        self._players.setdefault((claim.name, claim.token), Player(holder)).slices.append(claim.index)
        line.buffer.clear()
        line.ended = False
        link = claim.link
        assert self._client is not None
        client = self._client
        line.carrier = Carrier(
            lambda packet: client.publish(down_subject(self._run, link), packet),
            lambda piece: self._hear_piece(line, link, piece),
            piece_bytes=self._piece_bytes,
        )
        line.sending = self._begin(line.carrier.run())
        line.claimed.set()
        return Answer()

    async def _hear_packet(self, message: Msg) -> None:
        link = message.subject.rsplit(".", 1)[1]
        for line in self._agents:
            if line.claim is not None and line.claim.link == link and line.carrier is not None:
                try:
                    line.carrier.heard(message.data)
                except PacketError:  # nobody of ours sent that
                    continue
                except Exception as exc:  # the client would note it and go on, and the run wait for what was in the packet
                    self._fail(line, HarnessBugError(f"what load agent {line.index} said could not be taken: {type(exc).__name__}: {exc}"))

    def _hear_piece(self, line: Away, link: str, piece: Heard) -> None:
        if line.claim is None or line.claim.link != link:
            return
        if piece.kind == END:
            line.ended = True
            self._stir.set()
            last = unpack(piece.data, Last) or Last()
            if not line.quitting:
                self._lose(line, how_it_ended(last))
            return
        for message in line.taken(piece.data):
            if isinstance(message, wire.Did | wire.Outcome):
                line.steps.answered(message.number)
            elif isinstance(message, Progress) and self._take_over:
                line.reported = line.reported or Reported()
                line.reported.add(message, line.steps.phase_index)
            self._heard(line, line.index + line.life * len(self._agents), message)

    # -- losing one --------------------------------------------------------------------------------------------------------------------

    def _look_for_silence(self) -> None:
        for line in self._agents:
            if line.claim is None or line.ended or line.between or line.error is not None or self._closing:
                continue
            known = self._holder(line)
            if known is None or known.silent:  # None: another is heard by its name, after it had been silent
                lost = "" if self._client is not None and self._client.is_connected else "; the connection to NATS is lost"
                self._lose(line, f"nothing was heard of it for 4 s{lost}")

    def _may_take(self, agent: Known) -> bool:
        """Whether it has room, or has begun what we do not know of: that may be this very slice, and its claim on the way."""
        if agent.silent or agent.here.leaving:
            return False
        known = sum(line.claim is not None and line.claim.name == agent.here.name and not line.ended for line in self._agents)
        return agent.room > 0 or agent.here.playing > known

    def _lose(self, line: Away, why: str, *, room: bool = False) -> None:
        player = self._player(line)
        known = player.known if player is not None else self._holder(line)
        name, host = line.claim.name if line.claim is not None else "?", known.here.host if known is not None else "?"
        error = AgentLostError(name, host, line.index, why)
        if line.error is not None or line.between or self._closing:
            return
        line.ended = True
        if line.sending is not None:
            line.sending.cancel()
        self.gone.append((line.index, line.life))
        if player is not None:
            player.lost.append(line.index)
            player.known.offset.unseen(time.monotonic_ns())
        room = room or (known is not None and known.replaced)
        room = room or any(self._may_take(agent) for agent in self._roll.known.values() if agent is not known)
        if self._take_over and line.steps.phase is not None and line.life + 1 < LIVES and room:
            self.notes.append(str(error))
            line.between, line.life, line.lost_s = True, line.life + 1, time.monotonic()
            if line.reported is not None:
                self.remains.append(line.reported.remains())
                line.reported = None
            line.claimed.clear()
            if line.progress is not None:
                self._on_progress(line.index + (line.life - 1) * len(self._agents), without_connections(line.progress))
            self._begin(self._replace(line, error))
        else:
            self._fail(line, error)

    async def _replace(self, line: Away, error: AgentLostError) -> None:
        """Let another agent play a slice on; the steps that it did not see are given to it in their order."""
        try:
            async with asyncio.timeout(TAKE_OVER_LIMIT_S):
                await line.claimed.wait()
            await self._roll.look()
            self._note_clock(line)
            ready = self._expect(line, 0)
            line.between = False
            line.tell(self._setup(line))
            async with asyncio.timeout(START_LIMIT_S):
                await ready
                for step in line.steps.done():
                    self._next_number += 1
                    answer = self._expect(line, self._next_number)
                    line.tell(msgspec.structs.replace(step, number=self._next_number))
                    _require_connected(await answer, name=line.claim.name if line.claim is not None else "?", index=line.index)
            for step in line.steps.pending(resume_ns=time.monotonic_ns()):
                line.tell(step)
            name = line.claim.name if line.claim is not None else "?"
            self.notes.append(
                f"agent {name} took slice {line.index} over after {time.monotonic() - line.lost_s:.1f} s; what the lost one had counted is "
                "gone: what it published is indeterminate where nobody received it, and what its subscriptions received is not counted"
            )
        except TimeoutError:
            line.between = False
            self._fail(line, AgentLostError(error.name, error.host, error.index, f"{error.why}, and no other agent took its slice over"))
        except FloodmarkError as exc:
            line.between = False
            self._fail(line, exc)

    # -- the end -------------------------------------------------------------------------------------------------------------------------

    def _begin(self, job: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task; its parent is this object, whose `close` ends it."""
        task = asyncio.get_running_loop().create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None and not self._closing:
            for line in self._agents:
                self._fail(line, SystemUnderTestError(f"the way to the agents broke: {type(exc).__name__}: {exc}"))

    async def close(self) -> None:
        """End the run for all agents: ask, wait a little, then leave it to them, who hear that the run is over."""
        client = self._client
        if client is None or self._closing:
            return
        for line in self._agents:
            line.quitting = True
            with suppress(FloodmarkError):
                line.carry(wire.pack(Do(step="quit", number=-1)))
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_LIMIT_S if client.is_connected else 0.1):
                    while any(line.claim is not None and not line.ended for line in self._agents):
                        self._stir.clear()
                        await self._stir.wait()
        finally:
            self._closing = True
            self._roll.slices = 0
            with suppress(Exception):
                await self._call(Roll(run=self._run, slices=0, number=0, version=__version__))
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)  # gather: cancelled by us; `_finished` told of errors before
            await close_for_good(client)


def _require_connected(answer: Message, *, name: str, index: int) -> None:
    """Whoever takes a slice over has all of its connections, or the load is not the one asked for. Raises: SystemUnderTestError."""
    if not isinstance(answer, Did) or answer.figures.get("connected", 0) >= answer.figures.get("asked", 0):
        return
    why = f": {next(iter(answer.reasons))}" if answer.reasons else ""
    raise SystemUnderTestError(
        f"agent {name}, which took slice {index} over, opened {answer.figures['connected']:.0f} of its "
        f"{answer.figures['asked']:.0f} connections{why}"
    )
