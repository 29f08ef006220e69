"""A lying host: each lie is told exactly as often as ordered, and what the surface sees is what it means."""

from __future__ import annotations

import asyncio
import difflib
import itertools
from collections.abc import Sequence

import pytest

from floodmark.core.errors import UsageError
from floodmark.systems.conductor.backend.numbered import text_of
from floodmark.systems.conductor.host import session
from floodmark.systems.conductor.host.lies import LIES, OF_SESSIONS, STRIDE, Liar, Lies
from floodmark.systems.conductor.vocabulary import (
    MAIN_ID,
    ConductorEvent,
    ConversationStreamEnd,
    ResponseMetadata,
    StreamEnd,
    StreamError,
    StreamToken,
    Token,
)
from tests.drivers.asked import ask
from tests.drivers.harness import eventually, on_loop
from tests.soonest import soonest_in_loop
from tests.systems.conductor.hosting import hosted

SIZE = 10


def tokens(count: int, message: str = "msg_1", conversation: str = MAIN_ID) -> list[ConductorEvent]:
    if conversation == MAIN_ID:
        return [Token(message_id=message, text=f"{number:04d}") for number in range(count)]
    return [StreamToken(conversation_id=conversation, message_id=message, text=f"{number:04d}") for number in range(count)]


def end(message: str = "msg_1", count: int = 0) -> StreamEnd:
    return StreamEnd(message_id=message, final_content="", metadata=ResponseMetadata(token_count=count))


def texts(events: Sequence[ConductorEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, Token | StreamToken)]


def honest(count: int) -> list[str]:
    return [f"{number:04d}" for number in range(count)]


@pytest.mark.parametrize("told", [1, 7])
@pytest.mark.parametrize(
    ("name", "batch"),  # in batches of one a token has none to change places with
    [(name, batch) for name in ("skip", "repeat", "swap", "flip") for batch in (1, 2, 5, 300) if (name, batch) != ("swap", 1)],
)
def test_lies_of_tokens_are_told_exactly_so_often(name: str, told: int, batch: int) -> None:
    lies = Lies([f"{name}={told}"])
    liar, whole = Liar(lies), tokens(300)

    said = [event for at in range(0, 300, batch) for event in liar.rewrite(whole[at : at + batch])]

    was, now = honest(300), texts(said)
    assert lies.told == {name: told}
    assert not lies.waiting
    match name:
        case "skip":
            assert len(now) == 300 - told
            assert set(now) < set(was)
        case "repeat":
            assert len(now) == 300 + told
            assert sum(a == b for a, b in itertools.pairwise(now)) == told
        case "swap":
            assert sorted(now) == was
            assert sum(a > b for a, b in itertools.pairwise(now)) == told
        case _:
            assert sum(a != b for a, b in zip(was, now, strict=True)) == told


def test_lies_are_spread_among_honest_tokens() -> None:
    liar = Liar(Lies(["skip=3"]))

    now = texts(liar.rewrite(tokens(100)))

    assert [number for number in range(100) if f"{number:04d}" not in now] == [1, 1 + STRIDE, 1 + 2 * STRIDE]


def test_lies_of_several_kinds_take_turns() -> None:
    lies = Lies(["skip=5", "repeat=5", "flip=5"])

    Liar(lies).rewrite(tokens(200))

    assert lies.told == {"skip": 5, "repeat": 5, "flip": 5}


def test_cross_sends_a_token_as_part_of_another_answer_that_goes_on() -> None:
    lies = Lies(["cross=2"])
    liar = Liar(lies)

    alone = liar.rewrite(tokens(49))
    told_alone = lies.told["cross"]
    mixed = liar.rewrite([*tokens(1, "msg_2", "c"), *tokens(50)])

    assert (told_alone, lies.told["cross"]) == (0, 2)
    assert texts(alone) == honest(49)
    assert sum(isinstance(event, StreamToken) and event.conversation_id == "c" for event in mixed) == 3
    assert sum(isinstance(event, Token) and event.message_id == "msg_1" for event in mixed) == 48


def test_cross_leaves_answers_alone_that_have_ended() -> None:
    lies = Lies(["cross=1"])
    liar = Liar(lies)

    liar.rewrite(
        [
            *tokens(1, "msg_2", "c"),
            ConversationStreamEnd(conversation_id="c", message_id="msg_2", final_content="", metadata=ResponseMetadata()),
        ]
    )
    liar.rewrite(tokens(1, "msg_3", "d"))
    liar.rewrite([StreamError(message_id="msg_3", reason="x", conversation_id="d")])
    said = liar.rewrite(tokens(50))

    assert lies.told["cross"] == 0
    assert texts(said) == honest(50)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("no-end", ["Token", "StreamEnd"]),
        ("end-twice", ["Token", "StreamEnd", "StreamEnd", "StreamEnd"]),
        ("late", ["Token", "StreamEnd", "Token", "StreamEnd"]),
        ("error", ["Token", "StreamError", "StreamEnd"]),
        ("miscount", ["Token", "StreamEnd", "StreamEnd"]),
    ],
)
def test_lies_of_ends_are_told_once_and_the_next_end_is_honest(name: str, kinds: list[str]) -> None:
    lies = Lies([f"{name}=1"])

    said = Liar(lies).rewrite([*tokens(1), end(count=1), end("msg_2", count=1)])

    assert [type(event).__name__ for event in said] == kinds
    assert lies.told == {name: 1}
    counts = [event.metadata.token_count for event in said if isinstance(event, StreamEnd)]
    assert counts == ([2, 1] if name == "miscount" else [1] * len(counts))


@pytest.mark.parametrize("text", ["", "skip", "skip=0", "skip=-1", "skip=x", "lose=1", "skip=1=2", "skip=1234567890"])
def test_lie_that_is_none_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(UsageError, match="a lie is NAME=K with NAME one of skip"):
        Lies([text])


def test_host_without_lies_tells_none() -> None:
    lies = Lies()

    assert not lies.waiting
    assert lies.told == {}


# -- over the socket: what a surface sees ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in LIES if name not in ("cross", "no-end", *OF_SESSIONS)])
@on_loop
async def test_lie_is_seen_at_the_surface_exactly_so_often(name: str) -> None:
    async with hosted(f"{name}=3") as host:
        connection = await host.connect()
        for token in range(1, 6):
            await host.answer(connection, token, f"numbered: stream=1 count=200 size={SIZE}")
        figures = await host.statistics()
        await connection.close()

    answers = [host.sink.of(token) for token in range(1, 6)]
    was = text_of(1, 0, 200, SIZE)
    lost, more, changed = 0, 0, 0
    for answer in answers:
        came = [answer.text[at : at + SIZE].decode() for at in range(0, len(answer.text), SIZE)]
        for what, a, b, c, d in difflib.SequenceMatcher(None, [was[at : at + SIZE] for at in range(0, 2000, SIZE)], came).get_opcodes():
            lost += (b - a) if what == "delete" else 0
            more += (d - c) if what == "insert" else 0
            changed += (b - a) if what == "replace" else 0
    seen = {
        "skip": (lost, 3),
        "repeat": (more, 3),
        "swap": ((lost, more), (3, 3)),
        "flip": (changed, 3),
        "end-twice": ([answer.odd for answer in answers].count(["a second end"]), 3),
        "late": ([answer.odd for answer in answers].count(["a token after the end of its answer"]), 3),
        "error": (sum(len(answer.failed) for answer in answers), 3),
        "miscount": (sum(answer.finished == [201] for answer in answers), 3),
    }
    assert seen[name][0] == seen[name][1]
    assert figures["lies_told"] == 3


@on_loop
async def test_end_left_out_never_ends_its_answer_and_another_one_can_be_asked_elsewhere() -> None:
    async with hosted("no-end=1") as host:
        connection = await host.connect("a", "b")
        connection.ask(ask(1, "numbered: count=10"))
        await eventually(lambda: len(host.sink.of(1).text) == 10 * SIZE)
        text = await host.answer(connection, 2, "numbered: count=10", slot=1)
        free = (connection.free(0), connection.free(1))
        await connection.close()

    assert not host.sink.of(1).ended
    assert text == text_of(0, 0, 10, SIZE)
    assert free == (False, True)


@on_loop
async def test_statistics_that_are_overstated_say_so_many_more() -> None:
    async with hosted("stats=1000") as host:
        connection = await host.connect()
        await host.answer(connection, 1, "numbered: count=50")
        figures = await host.statistics()
        await connection.close()

    assert figures["delivered"] == 1050


@on_loop
async def test_stalls_are_as_many_as_ordered_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "STALL_S", 0.2)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    async with hosted("stall=2") as host:
        connection = await host.connect()
        text = await host.answer(connection, 1, "numbered: count=5000")
        figures = await host.statistics()
        await connection.close()

    assert loop.time() - began_s > 0.399
    assert text == text_of(0, 0, 5000, SIZE)
    assert figures["lies_told"] == 2


def test_stall_waits_for_the_midst_of_an_answer() -> None:
    liar = Liar(Lies(["stall=1"]))

    assert [liar.stalls([]), liar.stalls([*tokens(1), end()]), liar.stalls(tokens(1)), liar.stalls(tokens(1))] == [
        False,
        False,
        True,
        False,
    ]


@on_loop
async def test_quit_that_lingers_is_late_and_the_next_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "LINGER_S", 0.3)
    loop = asyncio.get_running_loop()

    async def next_s() -> float:
        took_s = []
        async with hosted("linger=1") as host:
            for _ in range(2):
                connection = await host.connect()
                began_s = loop.time()
                await connection.close()
                took_s.append(loop.time() - began_s)
        assert took_s[0] > 0.299
        return took_s[1]

    assert await soonest_in_loop(next_s, 0.299) < 0.299


@on_loop
async def test_leak_keeps_so_many_bytes_of_every_token() -> None:
    async with hosted("leak=64") as host:
        connection = await host.connect()
        await host.answer(connection, 1, "numbered: count=1000")
        kept_bytes = sum(map(len, host.server._lies._leaked))
        await connection.close()

    assert kept_bytes == 64_000
