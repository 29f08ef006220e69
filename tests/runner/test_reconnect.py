"""Clients whose connection is lost come back by themselves: what is required of the target across the gap, and whose doing the loss is.

Each is a whole run with real processes, but for the pure rules at the end.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import SystemUnderTestError, UsageError
from floodmark.drivers import sockets
from floodmark.model.result import ScenarioResult
from floodmark.model.scenario import Fault, Reconnect
from floodmark.model.verdict import Verdict
from floodmark.runner import losses
from floodmark.runner.agent import clock
from floodmark.runner.agent.returning import Client, Returning
from floodmark.runner.evidence import Blow, Evidence
from floodmark.runner.losses import GRACE_NS
from floodmark.runner.wire import Loss, Outcome
from tests.runner.lost import CONNECTIONS, HUB, PLAIN, RESUMING, broken, durable, play, scenario, session

RESET = Fault(kind="wire.reset", at_s=0.2, for_s=0.1, ratio=0.5)
CUT = Fault(kind="wire.cut", at_s=0.2, for_s=0.2, ratio=0.5, options={"after_s": 0.02})
HOLE = Fault(kind="wire.timeout", at_s=0.2, for_s=0.3, ratio=0.5, options={"after_s": 0.1})
WALL = Fault(kind="wire.partition", at_s=0.2, for_s=0.3, ratio=0.5)


def whole(result: ScenarioResult) -> bool:
    """Whether every delivery was made that was promised, and none is left open but what was unanswered."""
    delivery = result.delivery
    return delivery.delivered + delivery.indeterminate == delivery.attempted and not delivery.lost and not delivery.dropped_by_us


@pytest.mark.parametrize("fault", [RESET, CUT, HOLE], ids=lambda fault: fault.kind)
def test_wire_fault_that_ends_connections_costs_a_resuming_client_nothing(fault: Fault, tmp_path: Path) -> None:
    result = play(tmp_path, scenario(fault))

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})
    assert whole(result)
    assert result.metrics["disconnects"] == 0
    assert result.metrics["unanswered"] == 0
    (told,) = result.faults
    assert (told.reconnects or 0) >= (CONNECTIONS + 2) / 2  # a fault may hit who comes back while it lasts


def test_handshake_that_a_black_hole_took_is_begun_anew_when_it_is_lifted(tmp_path: Path) -> None:
    """Nobody else would end it: the target never heard of it, and the client would wait to the end of the drain and beyond."""
    # It closes nothing itself, and lasts longer than a busy machine stands still.
    hole = msgspec.structs.replace(HOLE, for_s=3.0, ratio=1.0, options={})
    target = durable(tmp_path / "kept", "patient")
    long = msgspec.structs.replace(RESUMING, limit_s=20.0)

    wanted = scenario(msgspec.structs.replace(RESET, ratio=1.0), hole, target=target, reconnect=long)
    result = play(tmp_path, msgspec.structs.replace(wanted, connect_limit_s=20.0))

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})
    assert whole(result)
    assert sum(told.reconnects or 0 for told in result.faults) >= CONNECTIONS + 2


@pytest.mark.parametrize("direction", ["both", "upstream", "downstream"])
def test_wire_partition_ends_no_connection_and_nothing_is_lost(direction: str, tmp_path: Path) -> None:
    fault = msgspec.structs.replace(WALL, ratio=1.0, options={"direction": direction})

    result = play(tmp_path, scenario(fault))

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})
    assert result.delivery.delivered == result.delivery.attempted > 0
    assert result.faults[0].reconnects == 0


def test_wire_reset_of_a_target_that_forgets_fails_by_what_is_lost(tmp_path: Path) -> None:
    """Its clients come back and ask for what they missed, as in every run here; this one has thrown it away."""
    forgetful = msgspec.structs.replace(HUB, args=("--no-rate-limits", "--history", "0"))

    result = play(tmp_path, scenario(RESET, target=forgetful, drain_limit_s=1.0))

    assert result.verdict is Verdict.FAIL
    assert broken(result)["lost == 0"] == "FAIL"
    assert "would not resume" in result.note


def test_wire_reset_without_resume_leaves_the_gap_indeterminate_and_loses_nothing(tmp_path: Path) -> None:
    late = msgspec.structs.replace(PLAIN, backoff_s=0.15, backoff_max_s=0.2, jitter=0.0)

    result = play(tmp_path, scenario(RESET, reconnect=late))

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})
    assert whole(result)
    # Four subscribers miss 0.15 s and more of a channel with 150 messages a second.
    assert result.delivery.indeterminate >= 4 * 0.15 * 150 / 2


def test_client_that_comes_back_slowly_after_the_load_is_waited_for_though_nothing_is_missing(tmp_path: Path) -> None:
    """One subscriber is away for a second and a half, and the load is over long before. Without resume nobody owes it anything."""
    slow = msgspec.structs.replace(PLAIN, backoff_s=1.5, backoff_max_s=1.5, jitter=0.0)
    one = msgspec.structs.replace(RESET, ratio=1 / (CONNECTIONS + 2))

    result = play(tmp_path, scenario(one, reconnect=slow, load_s=0.5))

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})
    assert (result.faults[0].reconnects, result.faults[0].away) == (1, 0)
    assert result.delivery.dropped_by_us == 0
    assert result.metrics["load_time"] < 1.5  # so it was no publisher: for one of those the load would have waited


def test_wire_reset_at_ratio_0_changes_nothing_and_the_run_says_so(tmp_path: Path) -> None:
    result = play(tmp_path, scenario(msgspec.structs.replace(RESET, ratio=0.0), criteria=("lost == 0",)))

    assert broken(result) == {"fault_hits > 0": "UNKNOWN"}
    assert result.delivery.delivered == result.delivery.attempted > 0
    assert result.delivery.indeterminate == 0


def test_wire_reset_hits_the_same_victims_by_the_same_seed(tmp_path: Path) -> None:
    wanted = scenario(RESET, load_s=0.4)
    # One after the other, or the order in which the proxy numbers its connections would be the machine's.
    wanted = msgspec.structs.replace(wanted, population=msgspec.structs.replace(wanted.population, waves=CONNECTIONS))

    def victims(seed: int) -> frozenset[tuple[bool, int]]:
        played = session(tmp_path, wanted, seed=seed)
        asyncio.run(played.play())
        # Whoever comes back while the fault lasts may be hit again, but is one of them already.
        return frozenset((loss.publisher, loss.number) for outcome in played._evidence.outcomes for loss in outcome.losses)

    first, again, others = victims(1), victims(1), {victims(2), victims(3), victims(4)}

    assert len(first) == (CONNECTIONS + 2) / 2
    assert first == again
    assert others != {first}


def test_clients_of_several_agents_come_back_too(tmp_path: Path) -> None:
    result = play(tmp_path, scenario(RESET), agents=2)

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})
    assert whole(result)


def test_target_that_breaks_off_itself_is_accused_though_its_clients_come_back(tmp_path: Path) -> None:
    target = durable(tmp_path / "kept", "hangs-up")

    result = play(tmp_path, scenario(target=target, criteria=("lost == 0",)))

    assert result.verdict is Verdict.FAIL
    assert broken(result).keys() == {"disconnects == 0", "unanswered == 0"}
    assert result.metrics["disconnects"] == CONNECTIONS + 2
    assert (result.delivery.lost, result.delivery.dropped_by_us) == (0, 0)


def test_reconnect_with_resume_and_a_driver_that_cannot_is_a_usage_error(tmp_path: Path) -> None:
    wanted = msgspec.structs.replace(
        scenario(), driver_options={"subscribe": "subscription S($channel: String!) { events(channel: $channel) { data offset } }"}
    )

    with pytest.raises(UsageError, match="reconnect with resume"):
        session(tmp_path, wanted).check_feasible()


def test_connection_that_is_lost_right_after_the_handshake_is_no_crash() -> None:
    """As when a target is ended while its clients come back: the event loop has closed the socket, and nobody has said so yet."""
    gone = socket.socket()
    gone.close()
    seen: list[str] = []

    def get_extra_info(name: str) -> socket.socket:
        seen.append(name)
        return gone

    sockets._bound_receive_buffer(cast("Any", SimpleNamespace(underlying_transport=SimpleNamespace(get_extra_info=get_extra_info))))

    assert seen == ["socket"]


# -- the rules, without a run -------------------------------------------------------------------------------------------------------


def refusing(count: int) -> tuple[Callable[[], object], list[float]]:
    """A target that refuses so often, and when it was asked."""
    asked_s: list[float] = []

    async def come() -> None:
        asked_s.append(time.monotonic())
        if len(asked_s) <= count:
            raise SystemUnderTestError("not now")

    return come, asked_s


async def bring(returning: Returning, come: Callable[[], object], gave_up: list[bool], *, number: int = 0) -> Loss:
    """Lose a connection and wait for what becomes of it."""
    async with asyncio.TaskGroup() as group:
        returning.begin(group)
        loss = returning.note(number, publisher=False, reason="gone")
        returning.bring_back(loss, come, lambda: gave_up.append(True))  # type: ignore[arg-type]
    return loss


def test_client_tries_until_it_is_let_in_and_says_when_it_was_back() -> None:
    returning, gave_up = Returning(Reconnect(backoff_s=0.01, backoff_max_s=0.02, limit_s=30.0), seed=1), list[bool]()
    come, asked_s = refusing(3)

    loss = asyncio.run(bring(returning, come, gave_up))

    assert len(asked_s) == 4
    assert loss.back_ns > loss.at_ns
    assert not gave_up
    assert not returning.refusals


def test_client_gives_up_at_its_limit_with_the_last_reason() -> None:
    returning, gave_up = Returning(Reconnect(backoff_s=0.01, backoff_max_s=0.02, limit_s=0.5), seed=1), list[bool]()
    come, asked_s = refusing(10_000)

    loss = asyncio.run(bring(returning, come, gave_up))

    assert 3 <= len(asked_s) <= 101
    assert asked_s[-1] - asked_s[0] <= 10
    assert loss.back_ns == 0
    assert gave_up == [True]
    assert dict(returning.refusals) == {"not now": 1}


def test_client_gives_up_only_a_try_that_began_before_the_lift_and_comes_back_by_its_next() -> None:
    returning, began_ns = Returning(Reconnect(backoff_s=0.01, backoff_max_s=0.02, limit_s=60.0), seed=1), list[int]()

    async def play_it() -> Loss:
        tried, answer = asyncio.Event(), asyncio.Event()

        async def come() -> None:
            began_ns.append(clock.now_ns())
            tried.set()
            await answer.wait()

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            returning.begin(group)
            loss = returning.note(0, publisher=False, reason="gone")
            returning.bring_back(loss, come, lambda: None)
            await tried.wait()
            tried.clear()
            returning.try_anew(clock.now_ns())
            await tried.wait()
            returning.try_anew(began_ns[0])  # the second one is younger
            answer.set()
        returning.try_anew(clock.now_ns())  # nobody is away any more
        return loss

    loss = asyncio.run(play_it())

    assert len(began_ns) == 2
    assert loss.back_ns >= began_ns[1]
    assert not returning.refusals


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_client_stops_trying_when_the_target_is_gone_for_good(steps: int) -> None:
    """Also one that has not yet begun to try: without a word from it, what waits for it would wait for ever."""
    returning, gave_up = Returning(Reconnect(limit_s=60.0), seed=1), list[bool]()

    async def play_it() -> float:
        began_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            returning.begin(group)
            loss = returning.note(0, publisher=True, reason="gone")
            returning.bring_back(loss, refusing(10_000)[0], lambda: gave_up.append(True))  # type: ignore[arg-type]
            for _ in range(steps):
                await asyncio.sleep(0)
            returning.stop()
        later = returning.note(1, publisher=True, reason="gone")
        returning.bring_back(later, refusing(0)[0], lambda: gave_up.append(True))  # type: ignore[arg-type]
        return time.monotonic() - began_s

    assert asyncio.run(play_it()) < 30
    assert gave_up == [True, True]


def waits_s(settings: Reconnect, seed: int, count: int = 12) -> list[float]:
    """What a client would wait."""
    returning, client = Returning(settings, seed=seed), Client(np.random.default_rng((seed, 5, 3)))
    return [returning._wait_s(client) for _ in range(count)]


def test_waits_grow_to_their_ceiling_and_jitter_only_shortens_them() -> None:
    plain = Reconnect(backoff_s=0.1, backoff_factor=2.0, backoff_max_s=0.5, jitter=0.0)
    jittered = msgspec.structs.replace(plain, jitter=0.5)

    assert waits_s(plain, 1)[:5] == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])
    assert all(full / 2 <= short <= full for full, short in zip(waits_s(plain, 1), waits_s(jittered, 1), strict=True))
    assert waits_s(jittered, 1) == waits_s(jittered, 1) != waits_s(jittered, 2)
    assert waits_s(plain, 1, count=3000)[-1] == 0.5


def settled(
    blows: list[Blow], lost: list[Loss], *, ended_ns: Sequence[int] = (), forgotten: int = 0, reconnect: Reconnect | None = RESUMING
) -> Evidence:
    """Evidence of these, settled."""
    evidence = Evidence()
    evidence.blows = blows
    nothing = {"unanswered": float(sum(loss.unanswered for loss in lost)), "ended": float(len(ended_ns) + forgotten)}
    evidence.outcomes = [
        Outcome(
            number=1,
            accounts=b"",
            publications=b"",
            response={},
            window_response={},
            service={},
            ack=b"",
            lag=b"",
            figures=nothing,
            reasons={},
            losses=lost,
            ended_ns=list(ended_ns),
            first_intended_ns=0,
            last_received_ns=0,
        )
    ]
    losses.settle(scenario(RESET, reconnect=reconnect), evidence)
    return evidence


def blow(struck_ns: int, lifted_ns: int, *, kind: str = "wire.reset", hits: int = 1) -> Blow:
    """One that is over."""
    made = Blow(kind=kind, struck_ns=struck_ns)
    made.lifted_ns, made.healed, made.hits, made.back = lifted_ns, True, hits, hits
    return made


S = 1_000_000_000


@given(
    at_ns=st.integers(0, 20 * S),
    spans=st.lists(st.tuples(st.integers(0, 15 * S), st.integers(0, 3 * S)), max_size=4),
    back=st.booleans(),
)
def test_loss_is_the_newest_fault_in_force_or_else_the_targets(at_ns: int, spans: list[tuple[int, int]], back: bool) -> None:
    blows = [blow(struck_ns, struck_ns + length_ns) for struck_ns, length_ns in spans]
    loss = Loss(at_ns=at_ns, number=0, back_ns=at_ns + S if back else 0, unanswered=3)

    evidence = settled(blows, [loss])

    in_force = [one for one in blows if one.struck_ns <= at_ns <= one.lifted_ns + GRACE_NS]
    figures = evidence.outcomes[0].figures
    assert figures["disconnects"] == (not in_force)
    assert (figures["reconnects"], figures["away"]) == (back, not back)
    assert figures["unanswered"] == (0 if in_force and back else 3)
    assert sum(one.reconnects for one in blows) == bool(in_force and back)
    assert sum(one.away for one in blows) == bool(in_force and not back)
    for one in blows:
        if one.reconnects:
            assert one.struck_ns == max(each.struck_ns for each in in_force)
            assert one.worst_s == (loss.back_ns - one.struck_ns) / S
        assert one.back == (0 if one.away else one.hits)


@pytest.mark.parametrize(("damages", "since_ns", "accused"), [(False, 0, 1), (True, 0, 0), (True, 3 * S, 0), (True, 3 * S + 1, 1)])
def test_connection_whose_bytes_a_fault_took_or_damaged_may_break_long_after_it(damages: bool, since_ns: int, accused: int) -> None:
    """Half a frame, or a ping that never came; whoever has connected anew since has got all of its bytes."""
    hole = blow(2 * S, 3 * S)
    hole.damages = damages

    evidence = settled([hole], [Loss(at_ns=20 * S, number=0, since_ns=since_ns, back_ns=21 * S)])

    assert evidence.outcomes[0].figures["disconnects"] == accused
    assert hole.reconnects == 1 - accused


def test_loss_says_since_when_the_connection_was_there() -> None:
    returning = Returning(Reconnect(backoff_s=0.01, backoff_max_s=0.02, limit_s=5.0), seed=1)
    come, _ = refusing(0)

    first = asyncio.run(bring(returning, come, []))
    second = returning.note(0, publisher=False, reason="gone")

    assert (first.since_ns, second.since_ns) == (0, first.back_ns)
    assert first.back_ns > 0


def test_subscription_that_ended_while_a_fault_was_in_force_accuses_nobody() -> None:
    lifted_ns = 3 * S

    evidence = settled([blow(2 * S, lifted_ns)], [], ended_ns=(S, 2 * S, lifted_ns + GRACE_NS, lifted_ns + GRACE_NS + 1), forgotten=5)
    once = dict(evidence.outcomes[0].figures)
    losses.settle(scenario(RESET), evidence)

    assert (once["ended"], once["ended_by_fault"]) == (7, 2)
    assert evidence.outcomes[0].figures == once


def test_fault_in_the_clients_excuses_no_ended_subscription() -> None:
    evidence = settled([blow(0, 5 * S, kind="reader")], [], ended_ns=(S,))

    assert evidence.outcomes[0].figures["ended"] == 1


@pytest.mark.parametrize("reconnect", [None, RESUMING])
def test_fault_whose_victims_stay_away_has_brought_nobody_back(reconnect: Reconnect | None) -> None:
    evidence = settled([blow(0, 5 * S, hits=3)], [Loss(at_ns=S, number=0)], reconnect=reconnect)

    assert (evidence.blows[0].away, evidence.blows[0].back, evidence.fault_back) == (1, 0, 0)


def test_fault_in_the_clients_excuses_no_loss() -> None:
    evidence = settled([blow(0, 5 * S, kind="disconnect")], [Loss(at_ns=S, number=0, back_ns=2 * S)])

    assert evidence.outcomes[0].figures["disconnects"] == 1


def test_loss_that_a_fault_in_the_client_brought_about_accuses_nobody() -> None:
    evidence = settled([], [Loss(at_ns=S, number=0, back_ns=2 * S, ours=True)])

    assert evidence.outcomes[0].figures["disconnects"] == 0
    assert evidence.outcomes[0].figures["reconnects"] == 1


def test_losses_settle_to_the_same_however_often() -> None:
    blows, lost = [blow(0, S)], [Loss(at_ns=S, number=0, back_ns=2 * S, unanswered=2), Loss(at_ns=9 * S, number=1)]

    evidence = settled(blows, lost)
    once = dict(evidence.outcomes[0].figures)
    losses.settle(scenario(RESET), evidence)

    assert evidence.outcomes[0].figures == once
    assert (blows[0].reconnects, once["disconnects"], once["unanswered"]) == (1, 1, 0)
