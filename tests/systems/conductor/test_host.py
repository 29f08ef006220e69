"""The host: a session in its order, answers token by token, slow surfaces, leaving at any moment, and what it counts."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floodmark.systems.conductor.backend.numbered import text_of
from floodmark.systems.conductor.host import session as session_module
from floodmark.systems.conductor.host.heartbeat import MISSED_MAX
from floodmark.systems.conductor.settings import ConductorSettings, InputLimits, SessionSettings, StreamSettings, stress_settings
from floodmark.systems.conductor.vocabulary import MAIN_ID
from tests.drivers.asked import AskingRecorder, ask
from tests.drivers.harness import eventually, on_loop
from tests.soonest import soonest_in_loop
from tests.systems.conductor.hosting import HANDSHAKE, hosted, raw
from tests.systems.conductor.scripted import Scripted


def kinds(events: list[dict[str, object]]) -> list[object]:
    return [event["kind"] for event in events]


# -- a session ---------------------------------------------------------------------------------------------------------------------------


@on_loop
async def test_session_begins_in_the_order_of_the_protocol() -> None:
    async with hosted() as host, raw(host.url, shakes_hands=False) as surface:
        surface.say(HANDSHAKE)
        events = await surface.until("state_snapshot")

    assert kinds(events) == ["handshake_ack", "ack", "state", "session_info", "state_snapshot"]
    assert events[0]["accepted"] is True
    assert events[2]["state"] == "ready"


@on_loop
async def test_session_of_another_version_is_rejected_and_closed() -> None:
    async with hosted() as host, raw(host.url, shakes_hands=False) as surface:
        surface.say({**HANDSHAKE, "protocol_version": 2})
        events = await surface.until("quit")
        rest = await surface.reader.read()

    assert (events[0]["accepted"], "2" in str(events[0]["rejection_reason"])) == (False, True)
    assert rest == b""


@on_loop
async def test_message_is_acknowledged_echoed_answered_and_ended_once() -> None:
    async with hosted() as host, raw(host.url) as surface:
        surface.say({"kind": "user_message", "event_id": "evt_5", "text": "numbered: stream=3 count=3 size=10"})
        events = await surface.until("stream_end")

    said = [event for event in events if event["kind"] not in ("state", "conversation_state_changed")]
    answer = said[0]["message_id"]
    assert kinds(said) == ["ack", "message", "token", "token", "token", "stream_end"]
    assert said[0]["event_id"] == "evt_5"
    assert "".join(str(event["text"]) for event in said[2:5]) == text_of(3, 0, 3, 10)
    assert [event["message_id"] for event in said[2:]] == [answer] * 4
    assert said[-1]["metadata"]["token_count"] == 3


@on_loop
async def test_message_refused_is_a_notice_that_names_it_and_no_acknowledgement() -> None:
    settings = ConductorSettings(greet=False, limits=InputLimits(messages_per_minute=1))
    async with hosted(settings=settings) as host, raw(host.url) as surface:
        surface.say({"kind": "user_message", "event_id": "evt_1", "text": "numbered: count=1"})
        await surface.until("stream_end")
        surface.say({"kind": "user_message", "event_id": "evt_2", "text": "numbered: count=1"})
        events = await surface.until("notify")

    assert "ack" not in kinds(events)
    assert (events[-1]["event_id"], events[-1]["level"]) == ("evt_2", "error")


@on_loop
async def test_quit_is_acknowledged_told_and_closed() -> None:
    async with hosted() as host, raw(host.url) as surface:
        surface.say({"kind": "quit_requested", "event_id": "evt_9"})
        events = await surface.until("quit")
        rest = await surface.reader.read()

    assert kinds(events) == ["ack", "state", "quit"]
    assert events[1]["state"] == "shutting_down"
    assert rest == b""


@on_loop
async def test_quit_before_the_handshake_hangs_up_at_once() -> None:
    async with hosted() as host, raw(host.url, shakes_hands=False) as surface:
        surface.say({"kind": "quit_requested", "event_id": "evt_9"})
        async with asyncio.timeout(session_module.HANDSHAKE_LIMIT_S / 2):
            rest = await surface.reader.read()

    assert rest == b""


@on_loop
async def test_quit_in_one_piece_with_the_handshake_is_answered_after_it() -> None:
    async with hosted() as host, raw(host.url, shakes_hands=False) as surface:
        surface.say(HANDSHAKE, {"kind": "quit_requested", "event_id": "evt_9"})
        events = await surface.rest()

    assert kinds(events) == ["handshake_ack", "ack", "state", "session_info", "state_snapshot", "ack", "state", "quit"]
    assert events[5]["event_id"] == "evt_9"


@pytest.mark.parametrize("leaves", ["quit_requested", "nothing said"])
@on_loop
async def test_leaving_while_the_backend_says_nothing_of_its_health_takes_no_longer(leaves: str) -> None:
    class Mute(Scripted):
        async def health_check(self) -> None:
            await asyncio.Event().wait()

    async with hosted(backend=Mute()) as host, asyncio.timeout(ConductorSettings().health_limit_s / 2):
        async with raw(host.url, shakes_hands=False) as surface:
            surface.say(HANDSHAKE)
            await eventually(lambda: host.server.report()["connections"] == 1)
            if leaves == "quit_requested":
                surface.say({"kind": "quit_requested", "event_id": "evt_9"})
                assert kinds(await surface.rest()) == ["ack", "state", "quit"]
        await eventually(lambda: host.server.report()["connections"] == 0)


@on_loop
async def test_conversations_are_answered_side_by_side_each_its_own_text() -> None:
    channels = [f"c{number}" for number in range(8)]
    async with hosted() as host:
        connection = await host.connect(*channels)
        asking: list[Coroutine[object, object, str]] = [
            host.answer(connection, 1 + slot, f"numbered: stream={slot} count=500 size=10", slot=slot) for slot in range(8)
        ]
        texts = await asyncio.gather(*asking)
        figures = await host.statistics()
        await connection.close()

    assert texts == [text_of(slot, 0, 500, 10) for slot in range(8)]
    assert all(host.sink.of(1 + slot).finished == [500] for slot in range(8))
    assert all(host.sink.of(1 + slot).odd == [] for slot in range(8))
    assert (figures["subscriptions"], figures["published"], figures["delivered"]) == (7, 8, 4000)


@on_loop
async def test_surfaces_have_sessions_of_their_own() -> None:
    async with hosted() as host:
        first, second = await host.connect(), await host.connect()
        texts = [
            await host.answer(first, 1, "numbered: stream=1 count=5"),
            await host.answer(second, 2, "numbered: stream=2 count=5"),
        ]
        figures = await host.statistics()
        await first.close()
        await second.close()
        after = await host.statistics()

    assert texts == [text_of(1, 0, 5, 10), text_of(2, 0, 5, 10)]
    assert (figures["connections"], after["connections"]) == (2, 0)
    assert (after["delivered"], after["published"]) == (10, 2)


@on_loop
async def test_surface_that_coalesces_gets_the_same_text_and_count_in_fewer_events() -> None:
    async with hosted() as host:
        connection = await host.connect(options={"coalesce": True})
        text = await host.answer(connection, 1, "numbered: stream=1 count=20000 size=10")
        figures = await host.statistics()
        await connection.close()

    answer = host.sink.of(1)
    assert text == text_of(1, 0, 20_000, 10)
    assert answer.finished == [20_000]
    assert len(answer.chunks) < 5_000
    assert figures["coalesced"] == 20_000 - len(answer.chunks)
    assert figures["delivered"] == 20_000


@pytest.mark.parametrize(("broken", "reason"), [("fail_after=5", "error event: "), ("cut_after=5", "error event: ended without")])
@on_loop
async def test_answer_that_the_backend_breaks_off_fails_and_the_next_does_not(broken: str, reason: str) -> None:
    async with hosted() as host:
        connection = await host.connect()
        await host.answer(connection, 1, f"numbered: count=10 {broken}")
        text = await host.answer(connection, 2, "numbered: count=3")
        await connection.close()

    assert host.sink.of(1).text.decode() == text_of(0, 0, 5, 10)
    assert [failed[: len(reason)] for failed in host.sink.of(1).failed] == [reason]
    assert text == text_of(0, 0, 3, 10)


@on_loop
async def test_answer_that_hangs_fails_within_its_limit_and_the_session_goes_on() -> None:
    settings = ConductorSettings(greet=False, streams=StreamSettings(idle_limit_s=0.2), limits=InputLimits(messages_per_minute=None))
    async with hosted(settings=settings) as host:
        connection = await host.connect()
        await host.answer(connection, 1, "numbered: count=10 hang_after=5")
        text = await host.answer(connection, 2, "numbered: count=3")
        await connection.close()

    assert [failed[:17] for failed in host.sink.of(1).failed] == ["error event: hung"]
    assert text == text_of(0, 0, 3, 10)


@on_loop
async def test_answer_longer_than_a_frame_ends_with_its_newest_part() -> None:
    settings = ConductorSettings(
        greet=False, session=SessionSettings(message_kept_bytes=30 * 2**20), limits=InputLimits(messages_per_minute=None)
    )
    async with hosted(settings=settings) as host:
        connection = await host.connect()
        text = await host.answer(connection, 1, "numbered: count=700 size=20000")
        await connection.close()

    assert len(text) == 14_000_000
    assert host.sink.of(1).finished == [700]


# -- slow surfaces -----------------------------------------------------------------------------------------------------------------------


@on_loop
async def test_surface_that_does_not_read_holds_its_backend_back_and_loses_nothing() -> None:
    async with hosted(settings=stress_settings(channel_count=100)) as host:
        connection = await host.connect()
        connection.pause_reading()
        connection.ask(ask(1, "numbered: stream=1 count=200000 size=100"))
        held = await host.until(lambda before, now: before["tokens_sent"] == now["tokens_sent"] > 0)
        connection.resume_reading()
        await eventually(lambda: host.sink.of(1).ended)
        await connection.close()
        after = await host.statistics()

    assert held["tokens_sent"] < 200_000
    assert held["buffered_max"] <= 101
    assert host.sink.of(1).text.decode() == text_of(1, 0, 200_000, 100)
    assert host.sink.of(1).finished == [200_000]
    assert (after["tokens_sent"], after["tokens_polled"], after["tokens_emitted"], after["delivered"]) == (200_000,) * 4


@on_loop
async def test_slow_surface_does_not_hold_up_another_one() -> None:
    async with hosted(settings=stress_settings(channel_count=100)) as host:
        slow, quick = await host.connect(), await host.connect()
        slow.pause_reading()
        slow.ask(ask(1, "numbered: stream=1 count=200000 size=100"))
        await eventually(lambda: True)
        text = await host.answer(quick, 2, "numbered: stream=2 count=1000")
        await quick.close()
        slow.abort()

    assert text == text_of(2, 0, 1000, 10)


# -- leaving -----------------------------------------------------------------------------------------------------------------------------


@on_loop
async def test_quit_in_the_midst_of_a_stream_is_quick_and_leaves_nothing() -> None:
    loop = asyncio.get_running_loop()

    async def took_s() -> float:
        async with hosted() as host:
            connection = await host.connect()
            connection.ask(ask(1, "numbered: count=1000000000"))
            await eventually(lambda: len(host.sink.of(1).text) > 100_000)
            began_s = loop.time()
            await connection.close()
            took_s = loop.time() - began_s
            figures = await host.statistics()
        assert host.sink.closings == ["was left by us"]
        assert (figures["streams_live"], figures["tasks_left"], figures["connections"]) == (0, 0, 0)
        assert figures["streams_cancelled"] == 1
        return took_s

    assert await soonest_in_loop(took_s, 1.0) < 1.0


@on_loop
async def test_quit_overtakes_messages_that_wait_for_room() -> None:
    async with hosted(settings=stress_settings(channel_count=16)) as host:
        connection = await host.connect(*[f"c{number}" for number in range(5)])
        connection.pause_reading()
        for slot in range(5):
            connection.ask(ask(1 + slot, f"numbered: stream={slot} count=1000000 size=1000", slot=slot))
        await host.until(lambda before, now: now["buffered_max"] >= 12)
        await connection.close()
        figures = await host.statistics()

    assert host.sink.closings == ["was left by us"]
    assert (figures["streams_live"], figures["tasks_left"]) == (0, 0)


@on_loop
async def test_connection_dropped_in_the_midst_of_a_stream_leaves_nothing() -> None:
    async with hosted() as host:
        connection = await host.connect()
        connection.ask(ask(1, "numbered: count=1000000000"))
        await eventually(lambda: len(host.sink.of(1).text) > 10_000)
        connection.abort()
        figures = await host.until(lambda before, now: not now["connections"])

    assert (figures["streams_live"], figures["tasks_left"]) == (0, 0)


@on_loop
async def test_stopping_the_host_tells_every_surface() -> None:
    sink = AskingRecorder()
    async with hosted() as host:
        for _ in range(3):
            await host.connect(sink=sink)
    await eventually(lambda: len(sink.closings) == 3)

    assert sink.closings == ["quit (The host is shutting down.)"] * 3


@on_loop
async def test_stopping_the_host_does_not_wait_for_surfaces_that_do_not_read() -> None:
    loop = asyncio.get_running_loop()

    async def took_s() -> float:
        async with hosted() as host:
            connection = await host.connect()
            connection.pause_reading()
            connection.ask(ask(1, "numbered: count=1000000000 size=100"))
            await eventually(lambda: True)
            began_s = loop.time()
        took_s = loop.time() - began_s
        connection.abort()
        return took_s

    assert await soonest_in_loop(took_s, 2.0) < 2.0


# -- nonsense ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"\x00\x00\x00\x02\x00\x00\x00\x00{}", id="checksum"),
        pytest.param(b"\xff\xff\xff\xff\x00\x00\x00\x00", id="too-long"),
        pytest.param(b"\x00\x00\x00\x00\x00\x00\x00\x00", id="empty"),
        pytest.param(b"\x00\x00\x00\x02\x99\x05\xa5\x79{}", id="checksum-of-something-else"),
    ],
)
@on_loop
async def test_surface_that_breaks_the_protocol_is_cut_off_and_others_are_not(wire: bytes) -> None:
    async with hosted() as host:
        other = await host.connect()
        async with raw(host.url) as surface:
            surface.writer.write(wire)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await surface.frame()
        text = await host.answer(other, 1, "numbered: count=3")
        await other.close()

    assert text == text_of(0, 0, 3, 10)


@on_loop
async def test_surface_that_speaks_before_its_handshake_is_cut_off() -> None:
    async with hosted() as host, raw(host.url, shakes_hands=False) as surface:
        surface.say({"kind": "user_message", "event_id": "evt_1", "text": "hello"})
        rest = await surface.reader.read()
        figures = await host.statistics()

    assert rest == b""
    assert figures["published"] == 0


@on_loop
async def test_surface_that_says_nothing_is_cut_off_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "HANDSHAKE_LIMIT_S", 0.1)
    async with hosted() as host, raw(host.url, shakes_hands=False) as surface:
        rest = await surface.reader.read()

    assert rest == b""


@on_loop
async def test_heartbeats_that_nobody_answers_end_the_session_and_those_answered_do_not() -> None:
    async with hosted(heartbeat_s=0.03) as host:
        alive = await host.connect()
        async with raw(host.url) as surface:
            events = await surface.rest()
        text = await host.answer(alive, 1, "numbered: count=3")
        figures = await host.statistics()
        await alive.close()

    assert [event["seq"] for event in events if event["kind"] == "ping"] == [1, 2, 3]
    assert text == text_of(0, 0, 3, 10)
    assert 0 < figures["heartbeat_rtt_max_s"] < 20


@on_loop
async def test_surface_that_is_not_read_for_a_while_is_not_taken_for_dead() -> None:
    go = asyncio.Event()

    class Slow(Scripted):
        async def list_models(self) -> list[str]:
            await go.wait()
            return ["small"]

    async with hosted(backend=Slow(), heartbeat_s=0.02) as host, raw(host.url) as surface:
        surface.say({"kind": "user_command", "event_id": "evt_1", "command": "model"}, *[{"kind": "user_typing"}] * 100)
        session = next(iter(host.server._sessions))
        await eventually(lambda: not session._is_reading)
        async with raw(host.url) as alive:
            for _ in range(3 * MISSED_MAX):
                (*_, ping) = await alive.until("ping")
                alive.say({"kind": "pong", "seq": ping["seq"]})
        go.set()
        events = await surface.until("message")

    assert any(event["kind"] == "ack" and event["event_id"] == "evt_1" for event in events)


@on_loop
async def test_socket_cut_in_the_midst_of_a_frame_ends_its_session_and_no_other() -> None:
    async with hosted() as host:
        other = await host.connect()
        async with raw(host.url) as surface:
            surface.say({"kind": "user_message", "event_id": "evt_1", "text": "numbered: count=1000000000"})
            await surface.until("token")
            surface.writer.write(b"\x00\x00\x10\x00\x12\x34\x56\x78[{")
        figures = await host.until(lambda before, now: now["connections"] == 1)
        text = await host.answer(other, 1, "numbered: count=3")
        await other.close()

    assert (figures["streams_live"], figures["published"], figures["tasks_left"]) == (0, 1, 0)
    assert text == text_of(0, 0, 3, 10)


# -- figures -----------------------------------------------------------------------------------------------------------------------------


@on_loop
async def test_figures_of_an_idle_host_are_all_zero() -> None:
    async with hosted() as host:
        figures = await host.statistics()

    assert set(figures) >= {
        "tokens_sent", "tokens_polled", "tokens_emitted", "delivered", "published", "connections", "subscriptions", "streams_live",
        "poll_max_s", "polls", "quit_max_s", "coalesced", "pruned", "buffered_max", "errors", "tasks_left", "lies_told",
    }  # fmt: skip
    assert set(figures.values()) == {0.0}


@on_loop
async def test_figures_while_a_stream_is_under_way_count_it() -> None:
    async with hosted() as host:
        connection = await host.connect()
        connection.ask(ask(1, "numbered: count=10 hang_after=5"))
        await eventually(lambda: len(host.sink.of(1).chunks) == 5)
        figures = await host.statistics()
        await connection.close()

    assert (figures["streams_live"], figures["tokens_sent"], figures["delivered"], figures["tasks_left"]) == (1, 5, 5, 0)


@on_loop
async def test_figures_of_messages_pruned_are_counted() -> None:
    settings = ConductorSettings(
        greet=False, session=SessionSettings(messages_count=10), limits=InputLimits(messages_per_minute=None), context_window_count=0
    )
    async with hosted(settings=settings) as host:
        connection = await host.connect()
        for token in range(1, 21):
            await host.answer(connection, token, "numbered: count=2")
        figures = await host.statistics()
        await connection.close()

    assert (figures["messages"], figures["pruned"]) == (10, 30)


# -- whatever comes ----------------------------------------------------------------------------------------------------------------------

IDS = st.sampled_from([None, "", "no-such-conversation", MAIN_ID])
SAID = st.one_of(
    st.builds(
        lambda text, place: {"kind": "user_message", "event_id": "e", "text": text, "conversation_id": place}, st.text(max_size=20), IDS
    ),
    st.just({"kind": "user_message", "event_id": "e", "text": "numbered: count=100000000"}),
    st.builds(
        lambda name, args: {"kind": "user_command", "command": name, "args": args}, st.text(max_size=8), st.lists(st.text(max_size=4))
    ),
    st.sampled_from([{"kind": "user_command", "command": name, "event_id": "c"} for name in ("help", "clear", "model", "quit")]),
    st.builds(
        lambda kind, place: {"kind": kind, "conversation_id": place or ""}, st.sampled_from(["remove_conversation", "cancel_stream"]), IDS
    ),
    st.builds(lambda kind: {"kind": kind}, st.sampled_from(["new_conversation", "disconnected", "focus_next_conversation", "statistics"])),
    st.sampled_from([{**HANDSHAKE}, {**HANDSHAKE, "protocol_version": 3}, {"kind": "connected"}, {"kind": "pong", "seq": 1}]),
    st.just({"kind": "resized", "columns": 0, "rows": -5}),
)


@given(said=st.lists(SAID, max_size=10), leaves=st.booleans())
@settings(max_examples=40, deadline=None)
def test_whatever_a_surface_says_others_are_served_and_nothing_is_left(said: list[dict[str, object]], leaves: bool) -> None:
    @on_loop
    async def play() -> None:
        async with hosted() as host:
            async with raw(host.url) as surface:
                surface.say(*said, {"kind": "user_typing"})
                if leaves:
                    surface.say({"kind": "quit_requested", "event_id": "q"})
                    await surface.rest()
            other = await host.connect()
            text = await host.answer(other, 1, "numbered: stream=1 count=50")
            await other.close()
            figures = await host.until(lambda before, now: not now["connections"])
        assert text == text_of(1, 0, 50, 10)
        assert (figures["streams_live"], figures["tasks_left"]) == (0, 0)

    play()
