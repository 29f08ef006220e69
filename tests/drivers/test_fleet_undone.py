"""Words that were not done to a fleet: they are told, and figures that follow from them say nothing, while broken promises still stand."""

from __future__ import annotations

import asyncio

import pytest

from floodmark.core.errors import SystemUnderTestError
from floodmark.drivers.base import Doing, Options
from floodmark.drivers.fleet import FleetDriver
from floodmark.drivers.fleet_figures import FIGURES
from floodmark.drivers.fleet_play import Play
from floodmark.drivers.fleet_reading import words_left
from floodmark.drivers.fleet_script import Line
from floodmark.drivers.fleet_undone import ANY_TIME, SETTLED, shortfall_of
from tests.drivers.fleet_host import hosting
from tests.drivers.fleet_made import Made
from tests.drivers.harness import Recorder, eventually, on_loop, stamped


def played() -> Made:
    """A record of a script whose words at 0 were done."""
    made = Made()
    made.do(0.5, "start", "a", "b")
    made.mark(0.6, "said", word="0 start count=2")
    return made


def test_shortfall_script_that_was_done_has_none() -> None:
    made = played()
    made.do(5.0, "kill", "a")
    made.mark(5.0, "said", word="5 kill worker=leader")

    assert shortfall_of(made.record(script_count=2)) is None
    assert shortfall_of(Made().record(script_count=0)) is None


def test_shortfall_script_of_which_nothing_was_tried_counts_all_its_words() -> None:
    told = shortfall_of(Made().record(script_count=3))

    assert told is not None
    assert (told.count, told.stands) == (3, ANY_TIME)
    assert told.why == "3 of the 3 words of the script are not recorded as done"


def test_shortfall_word_that_failed_is_told_with_its_reason_and_settled_points_stand() -> None:
    made = played()
    made.mark(5.0, "failed", word="5 kill worker=9", error="there is no worker 9")
    made.mark(6.0, "failed", word="6 kill worker=8", error="there is no worker 8")

    told = shortfall_of(made.record(script_count=3))

    assert told is not None
    assert told.why == "the word '5 kill worker=9' and 1 more could not be done (there is no worker 9)"
    assert (told.count, told.stands) == (2, ANY_TIME | SETTLED)
    assert "failovers" not in told.stands
    assert "words_failed" not in told.stands


def test_shortfall_word_that_the_host_has_not_recorded_leaves_settled_points_in_doubt() -> None:
    made = played()
    made.mark(5.0, "said", word="5 server_restart")

    told = shortfall_of(made.record(script_count=2))

    assert told is not None
    assert told.why == "1 of the 2 words of the script are not recorded as done"
    assert (told.count, told.stands) == (1, ANY_TIME)


def test_shortfall_look_of_our_own_that_failed_concerns_memory_alone() -> None:
    made = played()
    made.mark(5.0, "failed", word="5 measure", error="tells no status")

    told = shortfall_of(made.record(script_count=1))

    assert told is not None
    assert set(FIGURES) - told.stands == {name for name in FIGURES if name.startswith(("memory", "tasks", "looks"))} | {"words_failed"}


def test_shortfall_script_that_ended_early_is_told_with_what_ended_it() -> None:
    made = played()
    made.mark(5.0, "ended", error="KeyError: 'x'")

    told = shortfall_of(made.record(script_count=2))

    assert told is not None
    assert told.why.endswith("and the script ended early (KeyError: 'x')")
    assert told.stands == ANY_TIME


def test_words_left_a_look_that_failed_stands_for_no_word() -> None:
    made = played()
    made.mark(5.0, "failed", word="5 measure", error="tells no status")

    assert words_left(made.record(script_count=2)) == 1  # that word is still waited for
    assert words_left(made.record(script_count=1)) == 0  # and none that there is not
    made.mark(6.0, "failed", word="6 kill worker=9", error="there is no worker 9")
    assert words_left(made.record(script_count=2)) == 0


def test_shortfall_figures_that_stand_are_figures() -> None:
    assert set(FIGURES) >= ANY_TIME | SETTLED


@pytest.mark.parametrize(
    ("error", "said"), [(KeyError("x"), "KeyError: 'x'"), (SystemUnderTestError("the server is gone"), "the server is gone")]
)
@on_loop
async def test_script_that_dies_is_no_script_that_was_played(monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    say = Play._say

    async def dying(self: Play, line: Line) -> None:
        if line.at_s > 0:
            raise error
        await say(self, line)

    monkeypatch.setattr(Play, "_say", dying)
    async with hosting() as (url, _):
        options: Options = {"script": "0 start 2; 0.01 kill 1; 0.02 start 1", "partitions": 4, "settle_s": 0.3}
        agent, runner = FleetDriver(options), FleetDriver(options)
        sink = Recorder()
        connection = await agent.connect(url, "fm7.0", sink, limit_s=10)
        connection.publish("fm7.0", stamped(0, "binary"), 1)
        await eventually(lambda: len(sink.acks) == 1)
        async with asyncio.timeout(5):
            while "ended early" not in (runner.shortfall.why if runner.shortfall else ""):
                figures = await runner.statistics(url)

        assert isinstance(runner, Doing)
        assert figures is not None
        assert figures["words_unsaid"] == 2
        assert runner.shortfall is not None
        assert runner.shortfall.why == f"2 of the 3 words of the script are not recorded as done, and the script ended early ({said})"
        await connection.close()


@on_loop
async def test_record_that_cannot_be_read_leaves_the_script_in_doubt_where_there_is_one() -> None:
    scripted, plain = FleetDriver({"script": "0 start 2"}), FleetDriver({})

    assert await scripted.statistics("nats://127.0.0.1:1") is None
    assert await plain.statistics("nats://127.0.0.1:1") is None

    assert scripted.shortfall is not None
    assert scripted.shortfall.count is None
    assert "was not read" in scripted.shortfall.why
    assert plain.shortfall is None
