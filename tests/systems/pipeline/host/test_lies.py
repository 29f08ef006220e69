"""A lying host does exactly what was planted, and an honest one none of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.host.figures import Figures
from floodmark.systems.pipeline.host.lies import LATE_S, LIES, Lies
from tests.drivers.harness import eventually, on_loop
from tests.systems.pipeline.host.hosted import hosted, offers, records

COUNT = 400


async def played(folder: Path, *lies: str) -> tuple[Figures, list[bytes]]:
    """Four hundred records in chunks of twenty, every fifth query failing once."""
    async with hosted(folder, *lies) as host:
        connection = await host.connect(
            {**{"records": str(COUNT), "chunk_size": 20, "demand": 20, "max_demand": 20}, **{"query_failures": 1, "groups": 8}}
        )
        connection.publish_batch(offers(records(COUNT)), 1)
        await eventually(lambda: host.server.figures.groups_checked == 8)
        await connection.close()
        return host.server.figures, host.payloads


@on_loop
async def test_honest_host_gives_everything_once_and_counts_right(tmp_path: Path) -> None:
    figures, payloads = await played(tmp_path)

    assert payloads == records(COUNT)
    assert (figures.unasked, figures.groups_wrong, figures.ahead_max, figures.retries) == (0, 0, 0, 4)


@on_loop
async def test_skip_leaves_out_so_many_chunks(tmp_path: Path) -> None:
    _, payloads = await played(tmp_path, "skip=3")

    assert len(payloads) == len(set(payloads)) == COUNT - 60


@on_loop
async def test_repeat_gives_a_chunk_twice_after_so_many_failures(tmp_path: Path) -> None:
    _, payloads = await played(tmp_path, "repeat=2")

    assert sorted(Counter(payloads).values()) == [1] * (COUNT - 40) + [2] * 40


@on_loop
async def test_overemit_gives_so_many_beyond_the_demand(tmp_path: Path) -> None:
    figures, payloads = await played(tmp_path, "overemit=7")

    assert figures.unasked == 7
    assert payloads == records(COUNT)


@on_loop
async def test_miscount_is_wrong_in_so_many_groups(tmp_path: Path) -> None:
    figures, payloads = await played(tmp_path, "miscount=5")

    assert figures.groups_wrong == 5
    assert payloads == records(COUNT)


@on_loop
async def test_ahead_takes_so_many_that_nobody_asked_for(tmp_path: Path) -> None:
    figures, payloads = await played(tmp_path, "ahead=33")

    assert figures.ahead_max == 33
    assert payloads == records(COUNT)


@on_loop
async def test_late_holds_first_records_back_without_telling(tmp_path: Path) -> None:
    async with hosted(tmp_path, "late=2") as host:
        connection = await host.connect({"records": "20", "demand": 20, "chunk_size": 20})
        connection.publish_batch(offers(records(100)), 1)
        await host.came(100)
        await eventually(lambda: host.server.figures.completed == 5)
        figures = await host.statistics()
        await connection.close()

    assert figures["first_seen_s"] > LATE_S > figures["first_record_s"]  # the first two are held back; the second of them is timed
    assert figures["first_seen_median_s"] < LATE_S


@pytest.mark.parametrize("text", ["", "skip", "skip=0", "skip=-1", "skip=1x", "skpi=1", "skip=1=2"])
def test_lies_anything_else_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(UsageError, match="a lie is NAME=K with NAME one of skip"):
        Lies([text])


@pytest.mark.parametrize("name", LIES)
def test_lies_are_told_as_often_as_planted(name: str) -> None:
    lies = Lies([f"{name}=3"])

    told = [lies.tell(name) for _ in range(5)]

    assert told == [True, True, True, False, False]
    assert not lies.tell("other")
