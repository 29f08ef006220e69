"""Who answers a roll call: two agents of one name, with two clocks, are never taken for one."""

from __future__ import annotations

import asyncio

import pytest

from floodmark import __version__
from floodmark.core.errors import UsageError
from floodmark.runner.distributed.agents import RemoteAgents
from floodmark.runner.distributed.nats import connect
from floodmark.runner.distributed.roll import RollCall
from floodmark.runner.distributed.words import SILENT_ROLLS, Here, Roll


def here(token: str, *, now_ns: int = 0) -> Here:
    """What an agent called `a` answers."""
    return Here(
        name="a",
        token=token,
        host="m1",
        version=__version__,
        worker="w",
        capacity=1,
        playing=0,
        run="r",
        number=0,
        now_ns=now_ns,
        rss_bytes=0,
        cpu_s=0,
    )


def roll_call() -> RollCall:
    """One that calls nobody."""

    async def publish(roll: Roll) -> None:
        raise AssertionError(roll)

    return RollCall(run="r", version=__version__, publish=publish, on_round=lambda: None)


def test_hear_two_that_answer_by_one_name_are_twins() -> None:
    roll = roll_call()

    for token in ("one", "two", "one"):
        roll.hear(here(token))

    assert roll.known["a"].here.token == "one"
    assert roll.known["a"].twins


def test_hear_one_that_answers_twice_is_no_twin() -> None:
    roll = roll_call()

    roll.hear(here("one"))
    roll.hear(here("one"))

    assert not roll.known["a"].twins


def test_hear_one_that_came_in_the_place_of_another_is_heard_once_that_was_told_to_be_lost() -> None:
    roll = roll_call()
    roll.hear(here("one"))
    lost = roll.known["a"]

    lost.unanswered = SILENT_ROLLS
    roll.hear(here("two"))
    assert roll.known["a"] is lost  # nobody has been told of its silence yet

    lost.unanswered += 1
    roll.hear(here("two"))

    assert roll.known["a"].here.token == "two"
    assert not roll.known["a"].silent
    assert not roll.known["a"].twins


def test_room_with_twins_is_refused_in_one_sentence() -> None:
    async def main() -> None:
        agents = RemoteAgents("nats://127.0.0.1:1", lambda index, progress: None)
        for token in ("one", "two", "one"):
            agents._roll.hear(here(token))
        with pytest.raises(UsageError, match="two agents are called a; give each a --name of its own"):
            agents._room()

    asyncio.run(main())


def test_what_is_said_of_a_server_shows_no_password() -> None:
    with pytest.raises(UsageError) as refused:
        asyncio.run(connect("nats://user:s3cret@127.0.0.1:1", "test"))

    assert "no NATS server at nats://***@127.0.0.1:1: " in str(refused.value)
    assert "s3cret" not in str(refused.value)
    assert "s3cret" not in RemoteAgents("nats://user:s3cret@a", lambda index, progress: None)._too_few(2)
