"""Who may claim a slice: the process that is heard by its name, and no other one of that name, whose clock is another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from floodmark.core.errors import HarnessBugError, SystemUnderTestError
from floodmark.runner import wire
from floodmark.runner.distributed import slice as slice_module
from floodmark.runner.distributed.agents import RemoteAgents, _require_connected
from floodmark.runner.distributed.line import Away
from floodmark.runner.distributed.slice import Slice
from floodmark.runner.distributed.stream import Stream
from floodmark.runner.distributed.words import SILENT_ROLLS, Answer, Claim, Here, pack, unpack, up_subject
from floodmark.runner.wire import Did, Do


def here(token: str) -> Here:
    """What an agent called `a` answers."""
    return Here(
        name="a",
        token=token,
        host=f"host of {token}",
        version="1",
        worker="w",
        capacity=1,
        playing=0,
        run="r",
        number=0,
        now_ns=0,
        rss_bytes=0,
        cpu_s=0,
    )


def claim(token: str, index: int) -> Claim:
    """What an agent called `a` says once a slice's process is there."""
    return Claim(name="a", token=token, index=index, link=f"{token}-{index}", pid=1)


class Patient(RemoteAgents):
    """A run of two slices in their phase, which waits for nobody: what it would begin is dropped."""

    def __init__(self) -> None:
        super().__init__("nats://127.0.0.1:1", lambda index, progress: None, take_over=True)
        self._client = Client()
        self._agents = [Away(0), Away(1)]
        for line in self._agents:
            line.steps.asked(Do(step="phase", number=1))
        self.begun: list[asyncio.Task[None]] = []

    def _begin(self, job: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        job.close()
        self.begun.append(asyncio.get_running_loop().create_task(asyncio.sleep(0)))
        return self.begun[-1]

    def fall_silent(self) -> None:
        """The one heard by the name `a` answers no more, and its slices are told lost."""
        self._roll.known["a"].unanswered = SILENT_ROLLS
        self._look_for_silence()
        self._roll.known["a"].unanswered += 1


def with_run(check: Callable[[Patient], None]) -> None:
    """Check a run inside of a loop."""

    async def main() -> None:
        agents = Patient()
        check(agents)
        await asyncio.gather(*agents.begun, return_exceptions=True)

    asyncio.run(main())


def test_claim_of_a_twin_that_joins_in_the_middle_is_not_taken_and_costs_the_first_nothing() -> None:
    def check(agents: Patient) -> None:
        first, free = agents._agents
        agents._roll.hear(here("one"))
        assert agents._judged(claim("one", 0)) == Answer()
        agents._roll.hear(here("two"))

        for index in (0, 1):
            answer = agents._judged(claim("two", index))
            assert answer.again
            assert "another agent called a is not lost yet" in answer.refused

        assert first.claim == claim("one", 0)
        assert (first.life, first.between, first.error) == (0, False, None)
        assert free.claim is None
        assert agents.gone == []

    with_run(check)


def test_words_of_an_agent_that_cannot_be_taken_end_the_run_and_what_is_no_packet_does_not() -> None:
    async def main() -> None:
        agents = Patient()
        line = agents._agents[0]
        agents._roll.hear(here("one"))
        agents._judged(claim("one", 0))
        waiting = agents._expect(line, 5)
        subject = up_subject(agents._run, "one-0")

        await agents._hear_packet(Msg(Client(), subject=subject, data=b"?"))
        assert line.error is None

        theirs = Stream()
        theirs.write(b"\xff" * wire.HEAD_BYTES)
        [packet] = theirs.take()
        await agents._hear_packet(Msg(Client(), subject=subject, data=packet))

        assert isinstance(line.error, HarnessBugError)
        assert "load agent 0" in str(line.error)
        with pytest.raises(HarnessBugError, match="beyond the limit"):
            await waiting
        await asyncio.gather(*agents.begun, return_exceptions=True)

    asyncio.run(main())


def test_claim_is_taken_once_the_old_one_of_that_name_was_told_lost_and_its_clock_is_its_own() -> None:
    def check(agents: Patient) -> None:
        line = agents._agents[0]
        agents._roll.hear(here("one"))
        agents._judged(claim("one", 0))
        old = agents._holder(line)
        agents._roll.hear(here("two"))
        agents.fall_silent()
        assert line.between  # nobody else is there, but one that came by the same name
        assert agents._judged(claim("two", 0)).again

        agents._roll.hear(here("two"))

        assert agents._judged(claim("two", 0)) == Answer()
        new = agents._holder(line)
        assert old is not None
        assert new is not None
        assert (old.here.host, new.here.host) == ("host of one", "host of two")
        assert new.offset is not old.offset
        assert agents.gone == [(0, 0)]

    with_run(check)


def test_results_of_a_lost_agent_and_of_its_namesake_are_two_rows_each_with_its_own_clock_and_slices() -> None:
    def check(agents: Patient) -> None:
        agents._roll.hear(msgspec.structs.replace(here("one"), rss_bytes=100))
        for index in (0, 1):
            agents._judged(claim("one", index))
        agents._roll.hear(here("two"))
        agents.fall_silent()
        agents._roll.hear(msgspec.structs.replace(here("two"), rss_bytes=7))
        assert agents._judged(claim("two", 0)) == Answer()

        first, second = agents.results()

        assert (first.name, first.host, first.slices, first.lost, first.rss_bytes_peak) == ("a", "host of one", (0, 1), (0, 1), 100)
        assert (second.name, second.host, second.slices, second.lost, second.rss_bytes_peak) == ("a", "host of two", (0,), (), 7)

    with_run(check)


def test_results_name_nobody_who_played_nothing() -> None:
    def check(agents: Patient) -> None:
        agents._roll.hear(here("one"))

        assert agents.results() == ()

    with_run(check)


@pytest.mark.parametrize(("connected", "refused"), [(4.0, ""), (3.0, "opened 3 of its 4 connections: no room")])
def test_newcomer_that_does_not_get_all_connections_ends_the_run(connected: float, refused: str) -> None:
    answer = Did(number=1, figures={"connected": connected, "asked": 4.0}, reasons={"no room": 1})

    said = ""
    try:
        _require_connected(answer, name="a", index=2)
    except SystemUnderTestError as exc:
        said = str(exc)

    assert said == (f"agent a, which took slice 2 over, {refused}" if refused else "")


def test_slice_of_a_silent_one_in_whose_place_nobody_came_is_not_waited_for() -> None:
    def check(agents: Patient) -> None:
        line = agents._agents[0]
        agents._roll.hear(here("one"))
        agents._judged(claim("one", 0))

        agents.fall_silent()

        assert not line.between
        assert "agent a on host of one" in str(line.error)

    with_run(check)


def test_slice_whose_process_ended_is_not_kept_for_a_twin_that_may_not_claim_while_the_first_lives() -> None:
    def check(agents: Patient) -> None:
        line = agents._agents[0]
        agents._roll.hear(msgspec.structs.replace(here("one"), playing=1))
        agents._judged(claim("one", 0))
        agents._roll.hear(here("two"))

        agents._lose(line, "its process ended by itself")

        assert not line.between
        assert "its process ended by itself" in str(line.error)

    with_run(check)


def test_slice_of_one_that_leaves_is_kept_for_one_that_came_by_its_name() -> None:
    def check(agents: Patient) -> None:
        line = agents._agents[0]
        agents._roll.hear(here("one"))
        agents._judged(claim("one", 0))
        agents._roll.hear(here("two"))
        agents._roll.hear(msgspec.structs.replace(here("one"), leaving=True))

        agents._lose(line, "it was asked to end")

        assert line.between

    with_run(check)


def test_claim_in_whose_place_another_is_heard_is_lost_by_its_name() -> None:
    def check(agents: Patient) -> None:
        line = agents._agents[0]
        agents._roll.hear(here("one"))
        agents._judged(claim("one", 0))
        line.between = True  # it has just taken the slice over, and is not set up yet
        agents.fall_silent()
        agents._roll.hear(here("two"))
        line.between = False

        agents._look_for_silence()

        assert line.between
        assert agents.notes == [
            "agent a on host of one, which played slice 0, is lost: nothing was heard of it for 4 s; the connection to NATS is lost"
        ]

    with_run(check)


def test_claim_of_one_that_was_not_heard_yet_is_to_be_made_again() -> None:
    def check(agents: Patient) -> None:
        assert agents._judged(claim("one", 0)).again
        agents._roll.hear(here("one"))
        assert agents._judged(claim("one", 0)) == Answer()
        assert agents._judged(claim("one", 0)) == Answer()  # its first answer was lost on the way

    with_run(check)


def test_claim_on_a_run_that_is_over_is_refused_for_good_whoever_makes_it() -> None:
    def check(agents: Patient) -> None:
        agents._closing = True

        assert agents._judged(claim("one", 0)) == Answer(refused="the run is over")

    with_run(check)


class Asked:
    """What a slice has of its NATS client while it claims: answers one after the other, the last one for ever."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.claims: list[Claim | None] = []

    async def request(self, subject: str, data: bytes, timeout: float) -> Any:
        self.claims.append(unpack(data, Claim))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return type("Reply", (), {"data": pack(answer)})


async def claimed(asked: Asked) -> str:
    """What comes of a slice's claim."""
    its = Slice(cast("Client", asked), name="a", token="two", run="r", index=0, folder=Path())
    return await its._claimed(claim("two", 0))


NOT_YET = Answer(refused="not yet", again=True)


@pytest.mark.parametrize(("last", "outcome"), [(Answer(), ""), (Answer(refused="the run is over"), "the run is over")])
def test_slice_claims_again_until_it_is_taken_or_refused_for_good(monkeypatch: pytest.MonkeyPatch, last: Answer, outcome: str) -> None:
    monkeypatch.setattr(slice_module, "CLAIM_AGAIN_S", 0.001)
    asked = Asked(NOT_YET, NOT_YET, last)

    assert asyncio.run(claimed(asked)) == outcome
    assert asked.claims == [claim("two", 0)] * 3


def test_slice_that_is_never_taken_says_what_it_was_told_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slice_module, "CLAIM_AGAIN_S", 0.001)
    monkeypatch.setattr(slice_module, "CLAIM_LIMIT_S", 0.05)
    asked = Asked(NOT_YET)

    assert asyncio.run(claimed(asked)) == "not yet"
    assert len(asked.claims) > 1
