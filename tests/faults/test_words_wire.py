"""Every fault on the wire held to the same words: seeded, journalled, atomic, healed, and nothing at all at probability 0.

Each test runs over the table of faults, so a new one fails here until CASES says how it is felt. Effects are taken from real sockets.
What only one fault promises is in tests/faults/wire/.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

import numpy as np
import pytest

from floodmark.core.errors import UsageError
from floodmark.faults.wire import WIRE_FAULTS
from floodmark.faults.wire.active import ActiveFault
from floodmark.faults.wire.choice import Choice
from floodmark.faults.wire.control import Control
from floodmark.faults.wire.journal import Entry, Journal, Tally
from floodmark.faults.wire.link import Link
from floodmark.faults.wire.parse import parse_fault
from floodmark.faults.wire.proxy import Proxy
from floodmark.faults.wire.spec import Direction
from tests.faults.wire.relay import HOST, Reader, Writer, at_rest, client, clients, how_it_ends, play, relay, stream, until

KINDS = list(WIRE_FAULTS)
PAYLOAD = stream(4000)
SOON_S = 0.25  # what a healthy exchange may take on a busy machine; every delay below is longer
SILENT_S = 1.0  # and this is longer than any of them


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a client saw of one exchange: the answer, how the connection ended, and how long answer and end took."""

    answer: bytes
    ended: str
    answer_s: float
    end_s: float

    @property
    def healthy(self) -> bool:
        """The whole payload came back at once, and the connection ended when the client ended it."""
        return self.answer == PAYLOAD and self.ended == "closed" and max(self.answer_s, self.end_s) < SOON_S


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """How one fault is typed so strong that it is felt, and what of `Seen` says so; `draws` is how it is typed when it uses chance."""

    text: str
    felt: Callable[[Seen], bool]
    ends: bool = False  # all its connections, at once
    newcomers: bool = False  # it acts on those alone
    destroys: bool = False  # bytes that it had in its hands are gone for good
    draws: str = ""


CASES: dict[str, Case] = {
    "latency": Case(text="latency=200ms", felt=lambda seen: seen.answer == PAYLOAD and seen.answer_s >= 0.4, draws="latency=1ms..90ms"),
    "bandwidth": Case(text="bandwidth=10KB/s", felt=lambda seen: seen.answer == PAYLOAD and seen.answer_s >= 0.39),
    "slice": Case(
        text="slice=100B,gap=10ms", felt=lambda seen: seen.answer == PAYLOAD and seen.answer_s >= 0.39, draws="slice=100B,spread=50B"
    ),
    "slow_close": Case(text="slow_close=400ms", felt=lambda seen: seen.answer_s < SOON_S and seen.end_s >= 0.4),
    "timeout": Case(text="timeout", felt=lambda seen: (seen.answer, seen.ended) == (b"", "open"), destroys=True),
    "reset": Case(text="reset", felt=lambda seen: (seen.answer, seen.ended) == (b"", "reset"), ends=True, destroys=True),
    "limit": Case(text="limit=100B", felt=lambda seen: len(seen.answer) <= 100 and seen.ended != "open", destroys=True),
    "corrupt": Case(
        text="corrupt=100B",
        felt=lambda seen: len(seen.answer) == len(PAYLOAD) and seen.answer != PAYLOAD,
        destroys=True,
        draws="corrupt=100B",
    ),
    "partition": Case(text="partition", felt=lambda seen: (seen.answer, seen.ended) == (b"", "open")),
    "cut": Case(text="cut=0s", felt=lambda seen: seen.answer == b"" and seen.ended != "open", ends=True, destroys=True),
    "refuse": Case(text="refuse", felt=lambda seen: (seen.answer, seen.ended) == (b"", "reset"), newcomers=True),
}


async def exchange(reader: Reader, writer: Writer) -> Seen:
    """Send the payload and, when all of it came back, the end; look at what comes of it, for SILENT_S at most."""
    answer, ended = b"", "open"
    started_s = answered_s = time.monotonic()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SILENT_S):
            try:
                writer.write(PAYLOAD)
                while len(answer) < len(PAYLOAD) and (piece := await reader.read(65536)):
                    answer += piece
                answered_s = time.monotonic()
                if len(answer) == len(PAYLOAD):
                    writer.write_eof()
                ended = await how_it_ends(reader)
            except ConnectionError:
                ended = "reset"
    return Seen(answer=answer, ended=ended, answer_s=answered_s - started_s, end_s=time.monotonic() - answered_s)


async def newcomer(proxy: Proxy) -> Seen:
    """What a client that connects now sees."""
    try:
        async with client(proxy) as (reader, writer):
            return await exchange(reader, writer)
    except ConnectionError:  # so early that connecting saw it
        return Seen(answer=b"", ended="reset", answer_s=0.0, end_s=0.0)


def lanes_hold(proxy: Proxy) -> list[int]:
    """The connections in whose lanes a fault still acts."""
    links = proxy._links.values()
    return [link.number for link in links if any(not stage.healed for lane in (link.upstream, link.downstream) for stage in lane.stages)]


def touched(proxy: Proxy) -> list[Entry]:
    """The journal's entries that tell what was done to a connection."""
    return [entry for entry in proxy.journal().entries() if entry.connection and entry.hits and entry.fault]


@pytest.fixture
def no_chance(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever asks for random numbers fails the test."""

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a random number generator was made")

    with monkeypatch.context() as patch:
        patch.setattr(np.random, "default_rng", refuse)
        yield


def test_cases_cover_every_fault() -> None:
    assert set(CASES) == set(KINDS)


# healed


@pytest.mark.parametrize("kind", KINDS)
def test_effect_is_felt_while_the_fault_is_on_and_gone_when_it_is_off(kind: str) -> None:
    case = CASES[kind]

    async def job() -> tuple[Seen, Seen, list[Seen], int]:
        async with relay() as (proxy, _), clients(proxy, 3) as opened:
            before = await exchange(*opened[0])
            with proxy.applied(parse_fault(case.text)) as added:
                during = await newcomer(proxy) if case.newcomers else await exchange(*opened[1])
            after = [await newcomer(proxy)] + ([] if case.ends else [await exchange(*opened[2])])
            return before, during, after, added.hits

    before, during, after, hits = play(job())

    assert before.healthy
    assert case.felt(during)
    assert hits > 0
    assert [seen for seen in after if not seen.healthy] == []


@pytest.mark.parametrize("kind", KINDS)
def test_fault_cancelled_with_bytes_in_its_hands_is_healed(kind: str) -> None:
    case = CASES[kind]

    async def job() -> tuple[bool, bytes, Seen, list[str]]:
        async with relay() as (proxy, _), clients(proxy, 1) as ((reader, writer),):
            on = asyncio.Event()

            async def hold() -> None:
                with proxy.applied(parse_fault(case.text)):
                    on.set()
                    await asyncio.Event().wait()

            holding = asyncio.create_task(hold())
            await on.wait()
            if not case.ends:
                writer.write(PAYLOAD)
            await until(lambda: case.newcomers or case.ends or kind == "slow_close" or proxy.faults()[0].hits)
            holding.cancel()
            await asyncio.wait([holding])
            kept = b"" if case.destroys else await reader.readexactly(len(PAYLOAD))
            return holding.cancelled(), kept, await newcomer(proxy), [entry.action for entry in proxy.journal().entries()]

    cancelled, kept, after, actions = play(job())

    assert cancelled
    assert kept == (b"" if case.destroys else PAYLOAD)
    assert after.healthy
    assert (actions.count("added"), actions.count("removed")) == (1, 1)


# seeded


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_hits_the_same_connections_and_another_hits_others(kind: str) -> None:
    case = CASES[kind]

    async def chosen(seed: int) -> set[int]:
        async with relay(seed=seed) as (proxy, _):
            if case.newcomers:
                proxy.add(parse_fault(f"{case.text},share=50%"))
                for _ in range(20):
                    await newcomer(proxy)
                return {entry.connection for entry in touched(proxy)}
            async with clients(proxy, 20):
                added = proxy.add(parse_fault(f"{case.text},share=50%"))
                return {one.number for one in proxy.connections() if added.number in one.faults}

    first, again, other = play(chosen(7)), play(chosen(7)), play(chosen(8))

    assert len(first) == len(other) == 10
    assert first == again
    assert first != other


class NoChance:
    """Random numbers that must not be asked for."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AssertionError(f"a random number was drawn: {name}")


def decisions(text: str, seed: int, *, chance: bool) -> list[object]:
    """What a fault decides about 50 chunks of one lane, asked of itself, since sockets chunk differently each time."""
    active = ActiveFault(1, parse_fault(text), seed=seed, choice=Choice(1.0, seed=seed, fault=1, first_new=1))
    if active.make is None:
        return []
    rng = active.generator(1, Direction.UPSTREAM) if chance else NoChance()
    shaper = active.make(Direction.UPSTREAM, rng, Tally(Journal(lambda: 0.0), active.totals, connection=1))  # type: ignore[arg-type]
    return [(shaper.admit(b"x", 0.0), shaper.cut(1000), shaper.book(10, 0.0), shaper.touch(bytes(300))) for _ in range(50)]


@pytest.mark.parametrize("kind", KINDS)
def test_decisions_are_the_seeds_and_without_a_range_nobodys(kind: str) -> None:
    case = CASES[kind]

    if case.draws:
        assert decisions(case.draws, 7, chance=True) == decisions(case.draws, 7, chance=True)
        assert decisions(case.draws, 7, chance=True) != decisions(case.draws, 8, chance=True)
    if case.draws != case.text:
        assert decisions(case.text, 7, chance=False) == decisions(case.text, 8, chance=False)


# journalled


@pytest.mark.parametrize("kind", KINDS)
def test_journal_tells_who_was_touched_when_and_that_it_was_healed(kind: str) -> None:
    case = CASES[kind]

    async def job() -> tuple[tuple[Entry, ...], list[Entry], int]:
        async with relay() as (proxy, _), clients(proxy, 3) as opened:
            only = None if case.newcomers else [2]
            with proxy.applied(parse_fault(case.text), connections=only) as added:
                await (newcomer(proxy) if case.newcomers else exchange(*opened[1]))
            return proxy.journal().entries(), touched(proxy), added.hits

    entries, told, hits = play(job())

    ours = [entry for entry in entries if entry.fault == 1]
    assert (ours[0].action, ours[-1].action) == ("added", "removed")
    assert {entry.kind for entry in ours} == {kind}
    assert ours[-1].hits == hits > 0
    assert {entry.connection for entry in told} == {4 if case.newcomers else 2}
    times = [entry.at_s for entry in ours]
    assert times == sorted(times)
    assert all(ours[0].at_s <= entry.at_s <= ours[-1].at_s for entry in told)


# atomic


@pytest.mark.parametrize("kind", KINDS)
def test_add_and_remove_reach_all_connections_before_the_loop_does_anything_else(kind: str) -> None:
    case = CASES[kind]

    async def job() -> None:
        async with relay() as (proxy, _), clients(proxy, 20):
            added = proxy.add(parse_fault(case.text))
            if case.newcomers:
                assert (await newcomer(proxy)).ended == "reset"
            else:
                assert [one.faults for one in proxy.connections()] == [(1,)] * 20
            if case.ends:
                assert added.hits == 20
                assert all(link.client.gone and link.target.gone for link in proxy._links.values())
            else:
                assert lanes_hold(proxy) == ([] if case.newcomers else list(range(1, 21)))
            proxy.remove(added)
            assert [one.faults for one in proxy.connections()] == [()] * len(proxy.connections())
            assert lanes_hold(proxy) == []

    play(job())


@pytest.mark.parametrize("kind", KINDS)
def test_add_that_fails_half_way_is_undone_and_hits_nobody(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[kind]
    attach, bind = Link.attach, Proxy._bound
    failed: list[int] = []

    def attach_two(link: Link, active: ActiveFault) -> None:
        if link.number == 3:
            failed.append(link.number)
            raise MemoryError("the third one")
        attach(link, active)

    def bind_later(proxy: Proxy) -> socket.socket:
        if not failed:
            failed.append(0)
            raise MemoryError("the third one")
        return bind(proxy)

    async def job() -> tuple[list[Seen], list[str]]:
        async with relay() as (proxy, _), clients(proxy, 4) as opened:
            with monkeypatch.context() as patch:
                patch.setattr(Link, "attach", attach_two)
                patch.setattr(Proxy, "_bound", bind_later)
                with pytest.raises(MemoryError, match="the third one"):
                    proxy.add(parse_fault("refuse=refused" if case.newcomers else case.text))
                assert proxy.faults() == ()
                assert lanes_hold(proxy) == []
            seen = [await exchange(*one) for one in opened]
            return [*seen, await newcomer(proxy)], [entry.action for entry in proxy.journal().entries() if entry.fault]

    seen, actions = play(job())

    assert len(failed) == 1
    assert [one for one in seen if not one.healthy] == []
    assert (actions[0], actions[-2:]) == ("added", ["removed", "undone"])


@pytest.mark.parametrize("kind", KINDS)
def test_control_that_fails_at_the_second_relay_takes_the_fault_off_the_first(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[kind]
    add = Proxy.add

    async def job() -> Seen:
        async with relay() as (first, _), relay() as (second, _):

            def refuse(proxy: Proxy, *args: object, **more: object) -> ActiveFault:
                if proxy is second:
                    raise MemoryError("the second one")
                return add(proxy, *args, **more)  # type: ignore[arg-type]

            monkeypatch.setattr(Proxy, "add", refuse)
            with pytest.raises(MemoryError, match="the second one"):
                Control([first, second]).answer("POST", "/faults", b'{"fault": "%s"}' % case.text.encode())
            assert first.faults() == second.faults() == ()
            return await newcomer(first)

    assert play(job()).healthy


# probability 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("no_chance")
def test_share_0_passes_the_bytes_as_they_are_draws_nothing_and_hits_nobody(kind: str) -> None:
    async def job() -> tuple[list[Seen], int, list[str]]:
        async with relay() as (proxy, _), clients(proxy, 1) as ((reader, writer),):
            with proxy.applied(parse_fault(f"{CASES[kind].text},share=0")) as added:
                seen = [await exchange(reader, writer), await newcomer(proxy)]
            return seen, added.hits, [entry.action for entry in proxy.journal().entries()]

    seen, hits, actions = play(job())

    assert [one for one in seen if not one.healthy] == []
    assert (hits, actions) == (0, ["added", "removed"])


@pytest.mark.parametrize("kind", KINDS)
def test_share_0_leaves_the_choice_of_every_other_fault_as_it_is(kind: str) -> None:
    text = CASES[kind].text if not CASES[kind].ends else f"{kind}=60s"

    async def chosen(share: float) -> set[int]:
        async with relay() as (proxy, _), clients(proxy, 20):
            proxy.add(parse_fault(f"{text},share={share}"))
            other = proxy.add(parse_fault("latency=1ms,share=50%"))
            return {one.number for one in proxy.connections() if other.number in one.faults}

    assert play(chosen(0.0)) == play(chosen(0.5))


# latency: what it holds


def test_latency_holds_no_more_than_told_in_whole_blocks_and_gives_all_of_it_back() -> None:
    payload = stream(48 << 20)

    async def job() -> tuple[int, int, bytes]:
        async with relay("latency=60s,hold=32MiB,direction=upstream") as (proxy, served), client(proxy) as (reader, writer):
            sending = asyncio.create_task(send(writer, payload))
            await until(lambda: proxy.connections() and proxy.connections()[0].held_bytes > 8 << 20)
            await at_rest(lambda: proxy.connections()[0].held_bytes)
            stage = proxy._links[1].upstream.stages[0]
            held, cost = proxy.connections()[0].held_bytes, stage.held_bytes
            proxy.remove(proxy.faults()[0])
            answer = await reader.readexactly(len(payload))
            await sending
            assert served.errors == []
            return held, cost, answer

    held, cost, answer = play(job())

    assert answer == payload
    assert held <= cost <= (32 << 20) + (1 << 18) + 200  # one chunk more, with what it costs to keep it


async def send(writer: Writer, payload: bytes) -> None:
    """Send as fast as the other side takes it."""
    for start in range(0, len(payload), 1 << 20):
        writer.write(payload[start : start + (1 << 20)])
        await writer.drain()


# refuse: the first so many, and the port that stays ours


@pytest.mark.parametrize("how", ["reset", "close"])
def test_refuse_the_first_two_lets_the_third_in(how: str) -> None:
    async def job() -> tuple[list[bool], int]:
        async with relay(f"refuse={how},first=2") as (proxy, _):
            return [(await newcomer(proxy)).healthy for _ in range(4)], proxy.faults()[0].hits

    assert play(job()) == ([False, False, True, True], 2)


def test_refuse_a_count_of_a_port_that_does_not_listen_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="cannot count"):
        parse_fault("refuse=refused,first=2")


def test_refuse_refused_keeps_the_port_from_others() -> None:
    async def job() -> bool:
        async with relay() as (proxy, _):
            with proxy.applied(parse_fault("refuse=refused")):
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection(HOST, proxy.port)
                with socket.socket() as other, pytest.raises(OSError, match="in use"):
                    other.bind((HOST, proxy.port))
            return (await newcomer(proxy)).healthy

    assert play(job())


def test_refuse_refused_closed_meanwhile_gives_the_port_back() -> None:
    async def job() -> int:
        async with relay("refuse=refused") as (proxy, _):
            await proxy.close()
            with socket.create_server((HOST, proxy.port)) as again:
                port: int = again.getsockname()[1]
                return port - proxy.port

    assert play(job()) == 0
