"""Every fault in the clients held to the same words: seeded, journalled, atomic, healed, and nothing at all at ratio 0.

Each test runs over the table of faults, so a new one fails here until CASES says how it is felt. A real agent plays a small load against a
real server over sockets, both in this process, and what was hit is read off the server: who came anew, what was never sent, what was meant
to be sent later. Connection n alone listens to channel n, on which source n alone publishes, so that a number names all three.
Whole runs with a verdict are in test_in_a_run.py.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any, NoReturn

import numpy as np
import pytest
import uvloop

from floodmark.faults import CLIENT_FAULTS
from floodmark.faults.backoff import Backoff
from floodmark.faults.churn import failing
from floodmark.faults.disconnect import victims
from floodmark.faults.failure import Failing, Failure
from floodmark.faults.latency import Delays, Latency
from floodmark.model.scenario import Fault
from tests.faults.steered import CONNECTIONS, LAST, Seen, Sent, due_ns, steered, until

KINDS = list(CLIENT_FAULTS)
LIMIT_S = 20.0
EVERYBODY = frozenset(range(CONNECTIONS))
OPERATIONS = frozenset((source, seq) for source in EVERYBODY for seq in range(20))
Options = dict[str, float | int | str | bool]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """How a fault is felt: what of `Seen` names its victims, and how many operations or connections there are to choose from."""

    options: Options = dataclasses.field(default_factory=dict)
    hit: Callable[[Seen], frozenset[Hashable]]
    messages: int = 200
    for_s: float = 0.0  # a state lasts so long; a blow takes its own time


def unsent(seen: Seen) -> frozenset[Hashable]:
    """The messages of the schedule that never came, by when they were due: sequence numbers are given out as messages go."""
    came_ns = set(seen.sent[0].values())
    return frozenset(pair for pair in OPERATIONS if due_ns(pair) not in came_ns)


CASES: dict[str, Case] = {
    "disconnect": Case(options={"resume": False}, hit=lambda seen: seen.anew & seen.lost),
    "drop": Case(options={"during": "receive", "how": "reset"}, hit=lambda seen: seen.anew & seen.lost),
    "churn": Case(hit=lambda seen: seen.anew),
    "reader": Case(hit=lambda seen: seen.still, messages=400, for_s=0.6),
    "latency": Case(
        options={"on": "publish", "least_s": 0.05, "most_s": 0.2},
        hit=lambda seen: frozenset(pair for pair, offset_ns in seen.sent[0].items() if offset_ns != due_ns(pair)),
        for_s=0.6,
    ),
    "failure": Case(
        options={"on": "publish"},
        hit=unsent,
        for_s=0.6,
    ),
}


def played(kind: str | None, *, ratio: float = 0.5, seed: int = 1, after: bool = False, options: Options | None = None) -> Seen:
    """Play a load with a fault from its beginning; with `after`, a second load when the fault is healed, which all of them get."""
    case = CASES[kind] if kind is not None else CASES["churn"]
    seen = Seen()
    fault = None
    if kind is not None:
        # A state that has no end of its own stays to the last message, so that which ones it acts on is no matter of time.
        for_s = case.for_s if after or kind == "reader" else 0.0
        fault = Fault(kind=kind, ratio=ratio, for_s=for_s, options={**case.options, **(options or {})})

    async def job() -> None:
        async with asyncio.timeout(LIMIT_S), steered(fault, seen, seed=seed, messages=case.messages) as (agent, _, _):
            seen.began_ns.append(time.monotonic_ns())
            phase = agent.begin("phase", at_ns=seen.began_ns[0])
            striking = agent.begin("fault") if fault is not None else None
            if kind == "reader":
                await asyncio.sleep(0.1)  # what had been read when the fault came is through
                before = seen.counts()
                await asyncio.sleep(0.3)
                now = seen.counts()
                seen.still = frozenset(number for number in EVERYBODY if now[number] == before[number])
            await phase
            await until(lambda: len(seen.sent[0]) + agent.agent._failed_publishes >= case.messages)  # all that was sent is at the server
            if fault is not None and not fault.for_s:
                await agent.begin("settle")
            if striking is not None:
                seen.did = await striking
            if after:
                seen.began_ns.append(time.monotonic_ns())
                await agent.begin("phase", index=1, at_ns=seen.began_ns[1])
                await until(lambda: seen.counts(1).total() >= LAST * CONNECTIONS)
            if fault is None or not ratio:
                await until(lambda: seen.counts(0).total() >= case.messages)
            seen.in_place = agent.in_place

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(job())
    return seen


def test_cases_cover_every_fault() -> None:
    assert set(CASES) == set(KINDS)


def test_load_without_a_fault_is_the_schedule_and_arrives_whole() -> None:
    seen = played(None, after=True)

    assert seen.sent[0] == {pair: due_ns(pair) for pair in seen.sent[0]}
    assert len(seen.sent[0]) == seen.counts(0).total() == 200
    assert (seen.anew, seen.counts(1)) == (frozenset(), Counter(dict.fromkeys(EVERYBODY, LAST)))


# healed


@pytest.mark.parametrize("kind", KINDS)
def test_effect_is_felt_while_the_fault_is_on_and_gone_when_it_is_off(kind: str) -> None:
    seen = played(kind, after=True)

    assert seen.did is not None
    assert seen.hits == seen.did.figures["fault_back"] > 0
    assert len(CASES[kind].hit(seen)) >= seen.hits
    # What was sent when it was over was sent on time, each message of it, and reached everybody once.
    first = min(seq for _, seq in seen.sent[1])
    assert {(source, seq - first): offset_ns for (source, seq), offset_ns in seen.sent[1].items()} == {
        (source, seq): due_ns((source, seq)) for source in EVERYBODY for seq in range(LAST)
    }
    assert seen.counts(1) == Counter(dict.fromkeys(EVERYBODY, LAST))
    assert seen.in_place == 0


@pytest.mark.parametrize("kind", KINDS)
def test_agent_cancelled_under_a_fault_leaves_nothing_of_it_in_place(kind: str) -> None:
    case, seen = CASES[kind], Seen()
    fault = Fault(kind=kind, for_s=60.0, options={**case.options, **({"back_after_s": 60.0} if kind in ("disconnect", "drop") else {})})

    async def job() -> tuple[int, int, int]:
        async with asyncio.timeout(LIMIT_S), steered(fault, seen, seed=1, messages=100_000) as (agent, server, task):
            seen.began_ns.append(time.monotonic_ns())
            agent.begin("phase", at_ns=seen.began_ns[0])
            agent.begin("fault")
            await until(lambda: server.number >= 20 or agent.agent._failed_publishes >= 20)
            during = agent.in_place
            task.cancel()
            await asyncio.wait([task])
            await until(lambda: server.open == 0)
            return during, agent.in_place, server.open

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        during, left, connections = runner.run(job())

    assert during > 0 or kind not in ("latency", "failure")
    assert (left, connections) == (0, 0)


# seeded


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_hits_the_same_victims_and_another_hits_others(kind: str) -> None:
    def outcome(seed: int) -> tuple[frozenset[Hashable], Sent]:
        seen = played(kind, seed=seed)
        return CASES[kind].hit(seen), seen.sent[0] if kind == "latency" else {}

    first, again, other = outcome(1), outcome(1), outcome(2)

    assert len(first[0]) > 0
    assert first == again
    assert first != other


# journalled


@pytest.mark.parametrize("kind", KINDS)
def test_report_of_a_fault_counts_exactly_what_the_server_saw_and_the_seed_names_it(kind: str) -> None:
    seen = played(kind, seed=3)
    hit = CASES[kind].hit(seen)

    assert seen.did is not None
    if kind in ("disconnect", "drop", "churn", "reader"):
        assert hit == frozenset(victims(CONNECTIONS, 0.5, seed=3, occasion=0))
        assert seen.hits == len(hit) == seen.did.figures["fault_back"] == 5
    elif kind == "failure":
        assert seen.hits == len(hit)
    else:  # a message that does not wait itself waits behind one that does, as its publisher's order is kept
        assert 0 < seen.hits <= len(hit) <= 200
    assert (seen.did.worst_s > 0) == (kind in ("disconnect", "drop", "churn"))


# atomic


@pytest.mark.parametrize("kind", KINDS)
def test_fault_at_ratio_1_misses_nobody_from_the_first_message_on(kind: str) -> None:
    seen = played(kind, ratio=1.0)

    assert CASES[kind].hit(seen) == (OPERATIONS if kind in ("latency", "failure") else EVERYBODY)


def test_disconnect_drops_everybody_before_anybody_is_back() -> None:
    seen = played("disconnect", ratio=1.0)

    afterwards = [word for word, _ in seen.came[CONNECTIONS:]]
    assert afterwards[:CONNECTIONS] == ["lost"] * CONNECTIONS


# ratio 0


@pytest.mark.parametrize("kind", KINDS)
def test_ratio_0_is_the_same_operations_and_draws_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = played(None) if CASES[kind].messages == 200 else None
    without_chance(monkeypatch)

    seen = played(kind, ratio=0.0)

    assert (seen.hits, seen.anew) == (0, frozenset())
    assert [word for word, _ in seen.came[:CONNECTIONS]] == ["subscribed"] * CONNECTIONS
    assert set(seen.came[CONNECTIONS:]) <= {("lost", number) for number in EVERYBODY}  # the end
    assert seen.sent[0] == {pair: due_ns(pair) for pair in seen.sent[0]}
    assert len(seen.sent[0]) == CASES[kind].messages
    if plain is not None:
        assert (seen.sent, seen.arrived) == (plain.sent, plain.arrived)


class NoChance:
    """Random numbers that must not be asked for."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AssertionError(f"a random number was drawn: {name}")


def without_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every random number that the faults themselves draw fail the test; the load may draw its own."""
    real = np.random.default_rng

    def make(seed: Any = None) -> Any:
        asker = sys._getframe(1).f_globals["__name__"]
        return NoChance() if asker.startswith(("floodmark.faults", "floodmark.runner.agent.mishaps")) else real(seed)

    monkeypatch.setattr(np.random, "default_rng", make)


def test_decisions_at_ratio_0_or_without_a_range_draw_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    without_chance(monkeypatch)

    assert victims(1000, 0.0, seed=1, occasion=0) == victims(1000, 0.0, seed=1, occasion=0, gone={1}) == set()
    assert failing({1, 2, 3}, 0.0, seed=1, occasion=0) == set()
    for rate in (Failure(), Failure(count=3, of=10)):
        assert not any(Failing(rate, ratio=0.0, seed=(1,), lanes=2).fails(0) for _ in range(20))
    assert not any(Failing(Failure(count=0, of=10), ratio=1.0, seed=(1,), lanes=2).fails(0) for _ in range(20))
    assert Delays(Latency(least_s=1.0, most_s=2.0), ratio=0.0, seed=(1,)).draw_ns() == 0
    assert Delays(Latency(least_s=1.0), ratio=1.0, seed=(1,)).draw_ns() == 1_000_000_000
    assert len(list(Backoff().waits_s(NoChance()))) == 50  # type: ignore[arg-type]


# exact counts


def test_failure_of_exactly_so_many_of_so_many_never_reaches_the_server() -> None:
    seen = played("failure", ratio=1.0, options={"count": 40, "of": 200})

    assert seen.hits == len(CASES["failure"].hit(seen)) == 40
    assert len(seen.sent[0]) == 160


def test_messages_of_the_cases_go_round_the_sources_evenly() -> None:
    assert {case.messages % CONNECTIONS for case in CASES.values()} == {0}
