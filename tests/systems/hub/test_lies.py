"""Lies: the plan is a pure function of seed and specification, and a lying hub does exactly what it says it did."""

from __future__ import annotations

import asyncio
import itertools
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.systems.hub import Hub, HubSettings
from floodmark.systems.hub.lies import Due, flip_bit, parse_lie, places
from floodmark.systems.hub.testing import PUBLISH, HubClient, connected, eventually, scenario


@given(hits=st.integers(1, 20), extra=st.integers(0, 200), seed=st.integers(0, 5))
def test_places_are_exactly_k_in_every_block(hits: int, extra: int, seed: int) -> None:
    block = hits + extra
    chosen = list(itertools.takewhile(lambda place: place <= 5 * block, places(parse_lie(f"drop={hits}/{block}"), seed)))

    assert [sum(1 for place in chosen if index * block < place <= (index + 1) * block) for index in range(5)] == [hits] * 5
    assert chosen == sorted(set(chosen))


def test_places_at_are_in_the_first_block_only() -> None:
    chosen = list(places(parse_lie("drop=7@100"), 1))

    assert len(chosen) == 7
    assert max(chosen) <= 100


def test_places_follow_the_seed() -> None:
    lie = parse_lie("drop=20@1000")

    assert list(places(lie, 1)) == list(places(lie, 1))
    assert list(places(lie, 1)) != list(places(lie, 2))


def test_due_keeps_owing_what_could_not_be_done() -> None:
    due = Due(parse_lie("drop=3@3"), 0)

    assert [due.reach(number) for number in (1, 2, 3, 4)] == [True] * 4
    for _ in range(3):
        due.paid()
    assert not due.reach(5)
    assert due.planted == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "drop",
        "drop=",
        "drop=0/5",
        "drop=6/5",
        "drop=1:5",
        "drop=-1/5",
        "fib=1/5",
        "stall=2s",
        "stall=2@5",
        "stall=2s@0",
        "leak=0",
        "stats=x",
        "skip=3@2",
        "queue=bounded",
        "down=3/5",
        "down=3@2",
        "down=0@2",
        "slow=1@5",
        "slow=4",
        "drift=1",
    ],
)
def test_parse_of_a_wrong_lie_gives_the_grammar(text: str) -> None:
    with pytest.raises(UsageError, match="a lie is NAME=K/N"):
        parse_lie(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_flip_changes_one_bit_and_stays_json(value: object) -> None:
    data = json.dumps(value).encode()
    changed = flip_bit(data)

    if changed is not None:
        different = [(old, new) for old, new in zip(data, changed, strict=True) if old != new]
        assert len(different) == 1
        assert bin(different[0][0] ^ different[0][1]).count("1") == 1
        assert chr(different[0][1]).isalnum()
        assert json.loads(changed) != value


def test_flip_hits_the_last_quarter_of_a_payload() -> None:
    data = json.dumps({"stamp": "0" * 50, "body": "x" * 500}).encode()
    changed = flip_bit(data)

    assert changed is not None
    assert next(index for index in range(len(data)) if data[index] != changed[index]) >= len(data) * 3 // 4


def liar(*lies: str, seed: int = 3) -> HubSettings:
    return HubSettings(rate_limits=False, lies=lies, seed=seed)


async def publish_all(hub: Hub, count: int, client: HubClient) -> None:
    for number in range(count):
        client.start(f"p{number}", PUBLISH, c="x", d={"n": number, "pad": "a" * 20})
    for _ in range(2 * count):
        await client.recv()


async def received(client: HubClient, quiet_s: float = 0.7) -> list[tuple[int, str]]:
    """Everything until nothing comes for a while: number and padding."""
    got: list[tuple[int, str]] = []
    try:
        while True:
            message = await client.recv(quiet_s)
            data = message["payload"]["data"]["events"]["data"]
            got.append((data["n"], data["pad"]))
    except TimeoutError:
        return got


async def told(*lies: str, count: int = 1000, seed: int = 3) -> tuple[list[int], list[str], Hub, list[int]]:
    """Run a liar: the numbers that arrived on x, their padding, the hub, and what arrived on y."""
    async with (
        Hub(liar(*lies, seed=seed)) as hub,
        connected(hub.url) as client,
        connected(hub.url) as other,
        connected(hub.url) as publisher,
    ):
        await client.subscribe("s", "x")
        await other.subscribe("s", "y")
        await publish_all(hub, count, publisher)
        got = await received(client)
        stray = [number for number, _ in await received(other, 0.01)]
        return [number for number, _ in got], [pad for _, pad in got], hub, stray


@scenario
async def test_drop_loses_exactly_the_planned_ones_and_the_seed_decides_which() -> None:
    first, _, hub, _ = await told("drop=20/1000")
    again, _, _, _ = await told("drop=20/1000")
    other, _, _, _ = await told("drop=20/1000", seed=4)

    assert len(first) == 980
    assert first == again != other
    assert hub.planted() == {"drop": {"planted": 20, "owed": 0}}


@scenario
async def test_duplicate_delivers_exactly_the_planned_ones_twice() -> None:
    got, _, hub, _ = await told("duplicate=5/500")

    assert len(got) == 1010
    assert sorted(set(got)) == list(range(1000))
    assert hub.planted()["duplicate"]["planted"] == 10


@scenario
async def test_reorder_makes_exactly_the_planned_ones_late() -> None:
    got, _, hub, _ = await told("reorder=20@900")
    late = sum(1 for index, number in enumerate(got) if index and number < max(got[:index]))

    assert sorted(got) == list(range(1000))
    assert late == 20 == hub.planted()["reorder"]["planted"]


@scenario
async def test_flip_changes_the_data_of_exactly_the_planned_ones() -> None:
    got, pads, hub, _ = await told("flip=3/100")

    assert got == list(range(1000))
    assert sum(1 for pad in pads if pad != "a" * 20) == 30 == hub.planted()["flip"]["planted"]


@scenario
async def test_misroute_sends_exactly_the_planned_ones_to_another_channel() -> None:
    got, _, hub, stray = await told("misroute=20@1000")

    assert len(got) == 980
    assert len(stray) == 20 == hub.planted()["misroute"]["planted"]
    assert sorted(got + stray) == list(range(1000))


@scenario
async def test_forget_acknowledges_and_never_delivers() -> None:
    got, _, hub, _ = await told("forget=1/100")

    assert len(got) == 990
    assert hub.counters.published == 1000
    assert hub.planted()["forget"]["planted"] == 10


@scenario
async def test_stats_are_multiplied_and_deliveries_are_honest() -> None:
    got, _, hub, _ = await told("stats=1.1", count=100)

    assert got == list(range(100))
    assert hub.stats_now()["totalDelivered"] == 110


@scenario
async def test_leak_keeps_its_bytes_per_delivery() -> None:
    _, _, hub, _ = await told("leak=1024", count=100)

    assert hub.planted() == {"leak": {"planted": 100, "bytes": 102_400}}


@scenario
async def test_stall_stops_every_delivery_for_its_time_and_loses_none() -> None:
    async with Hub(liar("stall=2s@50")) as hub, connected(hub.url) as client, connected(hub.url) as publisher:
        await client.subscribe("s", "x")
        started_s = time.monotonic()
        task = asyncio.create_task(publish_all(hub, 100, publisher))
        before = [await client.recv() for _ in range(49)]
        with pytest.raises(TimeoutError):
            await client.recv(0.3)
        after = [await client.recv() for _ in range(51)]
        took_s = time.monotonic() - started_s
        await task

        assert [m["payload"]["data"]["events"]["data"]["n"] for m in before + after] == list(range(100))
        assert took_s > 1.999
        assert hub.planted() == {"stall": {"planted": 1}}


@scenario
async def test_stall_for_ever_holds_back_publishers_at_the_bound() -> None:
    settings = HubSettings(rate_limits=False, lies=("stall=forever@5",), queue_events=10, shutdown_grace_s=0.2)
    async with Hub(settings) as hub, connected(hub.url) as client, connected(hub.url) as publisher:
        await client.subscribe("s", "x")
        for number in range(100):
            publisher.start(f"p{number}", PUBLISH, c="x", d=number)
        await eventually(lambda: hub.bus.waiting_count == 1)

        assert [(await client.recv())["payload"]["data"]["events"]["data"] for _ in range(4)] == [0, 1, 2, 3]
        with pytest.raises(TimeoutError):
            await client.recv(0.2)
        assert hub.counters.published < 100


@scenario
async def test_several_lies_together_keep_their_counts() -> None:
    got, _, hub, stray = await told("drop=10@900", "duplicate=10@900", "misroute=5@900", "flip=7@900")

    assert {name: done["planted"] for name, done in hub.planted().items()} == {"drop": 10, "duplicate": 10, "misroute": 5, "flip": 7}
    assert len(got) == 1000 - 10 - 5 + 10
    assert len(stray) == 5


@scenario
async def test_honest_twin_delivers_everything() -> None:
    got, pads, hub, stray = await told()

    assert got == list(range(1000))
    assert set(pads) == {"a" * 20}
    assert stray == []
    assert hub.planted() == {}
