"""The driver of conductors against a host played by hand: what it says, what it hears, and what a host that talks nonsense comes to."""

from __future__ import annotations

import asyncio
import gc
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.drivers.asking import asks_of
from floodmark.drivers.base import Options, RefusedError, Wanted
from floodmark.drivers.conductor import ENDED_COUNT, ConductorConnection, ConductorDriver
from tests.drivers.asked import AskingRecorder, ask
from tests.drivers.harness import Behaviour, eventually, on_loop, tcp_server

Json = dict[str, Any]
Say = Callable[..., None]


def frame(said: object, *, checksum: int | None = None) -> bytes:
    body = json.dumps(said).encode()
    return struct.pack(">II", len(body), zlib.crc32(body) if checksum is None else checksum) + body


class Played:
    """A host that greets, acknowledges questions as msg_1, msg_2 and so on, and otherwise does as a test says."""

    def __init__(self, then: Callable[[Json, Say], None] = lambda event, say: None) -> None:
        self.heard: list[Json] = []
        self.writer: asyncio.StreamWriter | None = None
        self._then = then
        self._message = 0
        self.acknowledges = True

    def say(self, *events: Json) -> None:
        assert self.writer is not None
        self.writer.write(frame(list(events)))

    def of(self, kind: str) -> list[Json]:
        return [event for event in self.heard if event["kind"] == kind]

    def behaviour(self) -> Behaviour:
        async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.writer = writer
            while True:
                length, checksum = struct.unpack(">II", await reader.readexactly(8))
                body = await reader.readexactly(length)
                assert zlib.crc32(body) == checksum
                event = json.loads(body)
                self.heard.append(event)
                self._answer(event)
                self._then(event, self.say)
                if event["kind"] == "quit_requested":
                    return

        return behave

    def _answer(self, event: Json) -> None:
        match event["kind"]:
            case "handshake":
                self.say({"kind": "handshake_ack", "accepted": True}, {"kind": "state_snapshot", "state": "ready", "messages": []})
            case "user_message" if self.acknowledges:
                self._message += 1
                self.say({"kind": "ack", "event_id": event["event_id"], "message_id": f"msg_{self._message}"})
            case "new_conversation":
                self.say({"kind": "ack", "event_id": event["event_id"], "conversation_id": f"conv-{event['title']}"})
            case "remove_conversation" | "cancel_stream":
                self.say({"kind": "ack", "event_id": event["event_id"]})
            case "quit_requested":
                self.say({"kind": "ack", "event_id": event["event_id"]}, {"kind": "quit", "message": "Goodbye."})
            case _:
                pass


def token(text: str, message: str = "msg_1", **more: Any) -> Json:
    return {"kind": "token", "message_id": message, "text": text, **more}


def stream_token(text: str, message: str, conversation: str, **more: Any) -> Json:
    return {"kind": "stream_token", "conversation_id": conversation, "message_id": message, "text": text, **more}


def end(count: int = 2, message: str = "msg_1") -> Json:
    return {"kind": "stream_end", "message_id": message, "final_content": "...", "metadata": {"token_count": count}}


async def opened(url: str, sink: AskingRecorder, *channels: str, options: Options | None = None) -> ConductorConnection:
    connection = await ConductorDriver(options or {}).connect(url.replace("ws://", "tcp://"), "a.0", sink, limit_s=15.0)
    assert isinstance(connection, ConductorConnection)
    await connection.subscribe([Wanted(slot=slot, channel=channel) for slot, channel in enumerate(channels or ("a.0",))])
    return connection


async def heard(
    *events: Json, then: Callable[[AskingRecorder], bool] = lambda sink: sink.of(1).ended, options: Options | None = None
) -> AskingRecorder:
    """Ask once on a connection that then hears these events; what the sink heard."""
    sink = AskingRecorder()

    def answer(event: Json, say: Say) -> None:
        if event["kind"] == "user_message":
            say(*events)

    async with tcp_server(Played(answer).behaviour()) as url:
        connection = await opened(url, sink, options=options)
        connection.ask(ask(1))
        await eventually(lambda: then(sink))
        await connection.close()
    return sink


# -- proper answers ----------------------------------------------------------------------------------------------------------------------


@on_loop
async def test_answer_reaches_the_sink_in_order_with_its_count() -> None:
    sink = await heard(token("one "), token("two"), end(2))

    answer = sink.of(1)
    assert (answer.accepted, answer.chunks, answer.finished) == (1, [b"one ", b"two"], [2])
    assert (answer.failed, answer.odd) == ([], [])
    assert sink.closings == ["was left by us"]


@pytest.mark.parametrize(("coalesce", "declared"), [(True, [1, 3, 1]), (False, [0, 0, 0])])
@on_loop
async def test_tokens_declare_their_count_to_a_surface_that_lets_them_be_coalesced(coalesce: bool, declared: list[int]) -> None:
    sink = await heard(token("a"), token("bcd", count=3), token(""), token("e"), end(5), options={"coalesce": coalesce})

    assert sink.of(1).chunks == [b"a", b"bcd", b"e"]
    assert sink.of(1).declared == declared


@on_loop
async def test_frames_cut_at_every_byte_are_read() -> None:
    sink = AskingRecorder()
    played = Played()
    async with tcp_server(played.behaviour()) as url:
        connection = await opened(url, sink)
        connection.ask(ask(1))
        await eventually(lambda: sink.of(1).accepted == 1)
        assert played.writer is not None
        for byte in frame(token("é")) + frame([token("b"), end(2)]):
            played.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        await eventually(lambda: sink.of(1).ended)
        await connection.close()

    assert (sink.of(1).text, sink.of(1).finished) == ("éb".encode(), [2])


@on_loop
async def test_conversations_are_opened_one_per_slot_and_answered_side_by_side() -> None:
    sink, played = AskingRecorder(), Played()
    async with tcp_server(played.behaviour()) as url:
        connection = await opened(url, sink, "a", "b")
        connection.ask(ask(1, slot=0))
        connection.ask(ask(2, slot=1, prompt="other"))
        free = [connection.free(0), connection.free(1), connection.free(7)]
        await eventually(lambda: sink.of(2).accepted == 1)
        played.say(
            token("x", "msg_1"),
            stream_token("y", "msg_2", "conv-b"),
            token("z", "msg_1"),
            {"kind": "conversation_stream_end", "conversation_id": "conv-b", "message_id": "msg_2", "metadata": {"token_count": 1}},
            end(2),
        )
        await eventually(lambda: sink.of(1).ended)
        free_again = [connection.free(0), connection.free(1)]
        await connection.unsubscribe([0, 1])
        await connection.close()

    assert [question["conversation_id"] for question in played.of("user_message")] == [None, "conv-b"]
    assert played.of("user_message")[1]["text"] == "other"
    assert (sink.of(1).text, sink.of(2).text) == (b"xz", b"y")
    assert (free, free_again) == ([False, False, False], [True, True])
    assert [event["conversation_id"] for event in played.of("remove_conversation")] == ["conv-b"]
    assert (sink.of(1).odd, sink.of(2).odd) == ([], [])


@on_loop
async def test_pings_are_answered() -> None:
    sink, played = AskingRecorder(), Played()
    async with tcp_server(played.behaviour()) as url:
        connection = await opened(url, sink)
        played.say({"kind": "ping", "seq": 7})
        await eventually(lambda: bool(played.of("pong")))
        await connection.close()

    assert played.of("pong")[0]["seq"] == 7


@on_loop
async def test_handshake_says_what_the_surface_can_do() -> None:
    sink, played = AskingRecorder(), Played()
    async with tcp_server(played.behaviour()) as url:
        await (await opened(url, sink, options={"coalesce": True})).close()

    assert played.heard[0] == {
        "kind": "handshake",
        "protocol_version": 1,
        "surface_type": "headless",
        "capabilities": {"coalesce": True, "throttle": False},
    }


# -- improper ones -----------------------------------------------------------------------------------------------------------------------


@on_loop
async def test_stream_error_fails_the_answer_with_its_reason() -> None:
    sink = await heard(token("a"), {"kind": "stream_error", "message_id": "msg_1", "reason": "it\nbroke"})

    assert (sink.of(1).failed, sink.of(1).finished) == (["error event: it broke"], [])


@on_loop
async def test_message_refused_fails_without_having_been_accepted() -> None:
    sink = AskingRecorder()

    def refuse(event: Json, say: Say) -> None:
        if event["kind"] == "user_message":
            say({"kind": "notify", "level": "info", "text": "by the way"})
            say({"kind": "notify", "level": "error", "event_id": event["event_id"], "text": "too many"})

    played = Played(refuse)
    played.acknowledges = False
    async with tcp_server(played.behaviour()) as url:
        connection = await opened(url, sink)
        connection.ask(ask(1))
        await eventually(lambda: sink.of(1).ended)
        free = connection.free(0)
        await connection.close()

    assert (sink.of(1).accepted, sink.of(1).failed) == (0, ["refused: too many"])
    assert free


ODD = [
    pytest.param([token("a"), end(1), token("b")], ["a token after the end of its answer"], id="token-after-end"),
    pytest.param([token("a"), end(1), end(1)], ["a second end"], id="end-twice"),
    pytest.param(
        [token("a"), end(1), {"kind": "stream_error", "message_id": "msg_1", "reason": "x"}], ["a second end"], id="error-after-end"
    ),
    pytest.param([token("a", "msg_9"), end(0)], ["a token for an answer that was not acknowledged: msg_9"], id="unknown-token"),
    pytest.param([end(0, "msg_9"), end(0)], ["an end for an answer that was not acknowledged: msg_9"], id="unknown-end"),
    pytest.param([stream_token("a", "msg_1", "other"), end(0)], ["a token in another conversation than its question"], id="wrong-place"),
    pytest.param(
        [{"kind": "conversation_stream_end", "conversation_id": "other", "message_id": "msg_1"}, end(0)],
        ["an end in another conversation than its question"],
        id="end-in-wrong-place",
    ),
]


@pytest.mark.parametrize(("events", "odd"), ODD)
@on_loop
async def test_what_must_not_be_said_is_odd_and_no_text(events: list[Json], odd: list[str]) -> None:
    sink = await heard(*events, then=lambda sink: sink.of(1).ended and bool(sink.of(1).odd))

    assert sink.of(1).odd == odd
    assert len(sink.of(1).finished) == 1
    assert sink.of(1).text in (b"", b"a")


@on_loop
async def test_token_before_the_acknowledgement_is_odd() -> None:
    sink = AskingRecorder()

    def too_early(event: Json, say: Say) -> None:
        if event["kind"] == "user_message":
            say(token("early"), {"kind": "ack", "event_id": event["event_id"], "message_id": "msg_1"}, token("a"), end(1))

    played = Played(too_early)
    played.acknowledges = False
    async with tcp_server(played.behaviour()) as url:
        connection = await opened(url, sink)
        connection.ask(ask(1))
        await eventually(lambda: sink.of(1).ended)
        await connection.close()

    assert sink.of(1).odd == ["a token for an answer that was not acknowledged: msg_1"]
    assert sink.of(1).text == b"a"


@on_loop
async def test_acknowledgements_that_name_no_answer_or_another_one_are_odd() -> None:
    sink = AskingRecorder()

    def acknowledge(event: Json, say: Say) -> None:
        if event["kind"] == "user_message" and event["text"] == "first":
            say({"kind": "ack", "event_id": event["event_id"], "message_id": "msg_1"})
        elif event["kind"] == "user_message":
            say({"kind": "ack", "event_id": event["event_id"], **({"message_id": "msg_1"} if event["text"] == "again" else {})})

    played = Played(acknowledge)
    played.acknowledges = False
    async with tcp_server(played.behaviour()) as url:
        connection = await opened(url, sink, "a", "b", "c")
        connection.ask(ask(1, "first", slot=0))
        connection.ask(ask(2, "again", slot=1))
        connection.ask(ask(3, "none", slot=2))
        await eventually(lambda: bool(sink.of(3).odd))
        await connection.close()

    assert [sink.of(number).accepted for number in (1, 2, 3)] == [1, 0, 0]
    assert sink.of(2).odd == ["an acknowledgement that names another answer: msg_1"]
    assert sink.of(3).odd == ["an acknowledgement without the answer's message_id"]


NONSENSE = [
    pytest.param(frame([token("a")], checksum=7), "checksum", id="checksum"),
    pytest.param(struct.pack(">II", 0, 0), "a frame of 0 bytes", id="empty"),
    pytest.param(struct.pack(">II", 11 * 1024 * 1024, 0), "a frame of 11,534,336 bytes", id="too-long"),
    pytest.param(frame("word"), "could not read", id="no-event"),
    pytest.param(frame({"kind": "token", "text": 5}), "could not read", id="wrong-type"),
    pytest.param(frame(token("a", "msg_9")), "nobody had asked for", id="unasked"),
]


@pytest.mark.parametrize(("wire", "reason"), NONSENSE)
@on_loop
async def test_nonsense_ends_the_connection_with_its_reason(wire: bytes, reason: str) -> None:
    sink, played = AskingRecorder(), Played()
    async with tcp_server(played.behaviour()) as url:
        await opened(url, sink)
        assert played.writer is not None
        played.writer.write(wire)
        await eventually(lambda: bool(sink.closings))

    assert len(sink.closings) == 1
    assert reason in sink.closings[0]


@on_loop
async def test_events_of_kinds_that_are_not_needed_are_skipped() -> None:
    sink = await heard(
        {"kind": "message", "id": "m", "role": "user", "content": "x"}, {"kind": "state", "state": "thinking"}, token("a"), end(1)
    )

    assert (sink.of(1).text, sink.of(1).odd, sink.closings) == (b"a", [], ["was left by us"])


# -- leaving -----------------------------------------------------------------------------------------------------------------------------


@on_loop
async def test_close_in_the_midst_of_an_answer_waits_for_quit_and_fails_nothing() -> None:
    sink = AskingRecorder()

    def stream(event: Json, say: Say) -> None:
        if event["kind"] == "user_message":
            say(token("a"))
        elif event["kind"] == "quit_requested":
            say({"kind": "stream_error", "message_id": "msg_1", "reason": "cancelled"})

    async with tcp_server(Played(stream).behaviour()) as url:
        connection = await opened(url, sink)
        connection.ask(ask(1))
        await eventually(lambda: bool(sink.of(1).text))
        connection.pause_reading()

        await connection.close()

    assert not sink.of(1).ended
    assert sink.closings == ["was left by us"]


@on_loop
async def test_answer_dropped_is_cancelled_and_heard_of_no_more() -> None:
    sink = AskingRecorder()

    def stream(event: Json, say: Say) -> None:
        if event["kind"] == "user_message":
            say(token("a"))
        elif event["kind"] == "cancel_stream":
            say(token("late"), {"kind": "stream_error", "message_id": "msg_1", "reason": "cancelled"})

    played = Played(stream)
    async with tcp_server(played.behaviour()) as url:
        connection = await opened(url, sink)
        connection.ask(ask(1))
        await eventually(lambda: bool(sink.of(1).text))

        connection.drop_answer(1)
        await eventually(lambda: connection.free(0))
        connection.ask(ask(2))
        await eventually(lambda: sink.of(2).accepted == 1)
        await connection.close()

    assert (sink.of(1).text, sink.of(1).ended, sink.of(1).odd) == (b"a", False, [])
    assert len(played.of("cancel_stream")) == 1


@on_loop
async def test_socket_cut_in_the_midst_of_a_frame_ends_the_connection_and_no_answer() -> None:
    sink = AskingRecorder()

    class Cutting(Played):
        def _answer(self, event: Json) -> None:
            super()._answer(event)
            if event["kind"] == "user_message" and self.writer is not None:
                self.say(token("one "))
                self.writer.write(frame([token("two"), end()])[:-1])
                self.writer.close()

    async with tcp_server(Cutting().behaviour()) as url:
        connection = await opened(url, sink)
        connection.ask(ask(1))
        await eventually(lambda: bool(sink.closings))

    assert sink.closings == ["closed the connection"]
    assert (sink.of(1).text, sink.of(1).ended) == (b"one ", False)


@on_loop
async def test_host_that_quits_by_itself_closes_the_connection_with_its_words() -> None:
    sink, played = AskingRecorder(), Played()
    async with tcp_server(played.behaviour()) as url:
        connection = await opened(url, sink)
        connection.ask(ask(1))
        await eventually(lambda: sink.of(1).accepted == 1)
        played.say({"kind": "quit", "message": "going down"})
        assert played.writer is not None
        played.writer.close()
        await eventually(lambda: bool(sink.closings))

    assert sink.closings == ["quit (going down)"]
    assert not sink.of(1).ended
    assert not connection.writable


@on_loop
async def test_answers_that_ended_long_ago_are_forgotten() -> None:
    sink, played = AskingRecorder(), Played()
    async with tcp_server(played.behaviour()) as url:
        connection = await opened(url, sink)
        for number in range(1, ENDED_COUNT + 20):
            connection.ask(ask(number))
            await eventually(lambda: sink.of(number).accepted == 1)  # noqa: B023  awaited within the turn
            played.say(end(0, f"msg_{number}"))
            await eventually(lambda: sink.of(number).ended)  # noqa: B023
        kept = len(connection._answers)
        await connection.close()

    assert kept == ENDED_COUNT


# -- opening -----------------------------------------------------------------------------------------------------------------------------


@on_loop
async def test_handshake_refused_is_told_with_its_reason() -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(frame({"kind": "handshake_ack", "accepted": False, "rejection_reason": "version 1 is old"}))
        await reader.read()

    sink = AskingRecorder()
    async with tcp_server(behave) as url:
        with pytest.raises(RefusedError, match="version 1 is old"):
            await opened(url, sink)

    assert sink.closings == []


@on_loop
async def test_handshake_without_an_answer_is_told_after_the_limit() -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with tcp_server(behave) as url:
        with pytest.raises(RefusedError, match="no handshake_ack within"):
            await ConductorDriver({}).connect(url.replace("ws", "tcp"), "a", AskingRecorder(), limit_s=0.1)


@on_loop
async def test_conversations_refused_are_told_with_their_reason_once() -> None:
    unheard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unheard.append(context["message"]))

    def refuse(event: Json, say: Say) -> None:
        if event["kind"] == "new_conversation":
            say({"kind": "notify", "level": "error", "event_id": event["event_id"], "text": "16 are open"})

    class Refusing(Played):
        def _answer(self, event: Json) -> None:
            if event["kind"] != "new_conversation":
                super()._answer(event)

    sink = AskingRecorder()
    async with tcp_server(Refusing(refuse).behaviour()) as url:
        connection = await opened(url, sink)
        with pytest.raises(RefusedError, match="16 are open"):
            await connection.subscribe([Wanted(slot=1, channel="b"), Wanted(slot=2, channel="c")])
        await connection.close()
    gc.collect()

    assert unheard == []


@on_loop
async def test_statistics_are_asked_without_a_handshake() -> None:
    def tell(event: Json, say: Say) -> None:
        if event["kind"] == "statistics":
            say({"kind": "statistics_report", "figures": {"delivered": 7}})

    played = Played(tell)
    async with tcp_server(played.behaviour()) as url:
        figures = await ConductorDriver({}).statistics(url.replace("ws", "tcp"))

    assert figures == {"delivered": 7.0}
    assert [event["kind"] for event in played.heard] == ["statistics"]


@pytest.mark.parametrize("url", ["tcp://127.0.0.1", "http://"])
@on_loop
async def test_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="driver 'conductor' needs a URL"):
        await ConductorDriver({}).connect(url, "a", AskingRecorder(), limit_s=1.0)


def test_driver_says_that_it_asks() -> None:
    assert asks_of(ConductorDriver({}))


# -- whatever comes ----------------------------------------------------------------------------------------------------------------------

MESSAGES = st.sampled_from(["msg_1", "msg_2", "msg_9"])
EVENTS = st.one_of(
    st.builds(lambda message: token("x", message), MESSAGES),
    st.builds(lambda message: stream_token("y", message, "conv-b"), MESSAGES),
    st.builds(lambda message: end(1, message), MESSAGES),
    st.builds(lambda message: {"kind": "stream_error", "message_id": message, "reason": "r"}, MESSAGES),
    st.builds(lambda number: {"kind": "ack", "event_id": f"evt_{number}", "message_id": "msg_1"}, st.integers(0, 4)),
    st.builds(lambda number: {"kind": "notify", "event_id": f"evt_{number}", "level": "error", "text": "t"}, st.integers(0, 4)),
    st.just({"kind": "quit"}),
    st.just({"kind": "handshake_ack", "accepted": True}),
    st.just({"kind": "statistics_report", "figures": {}}),
    st.dictionaries(st.sampled_from(["kind", "message_id", "text", "count", "event_id"]), st.one_of(st.text(max_size=4), st.none())),
)


@given(said=st.lists(EVENTS, max_size=15))
@settings(max_examples=60, deadline=None)
def test_whatever_a_host_says_ends_each_answer_once_at_most_and_raises_nothing(said: list[Json]) -> None:
    sink = AskingRecorder()

    async def play() -> None:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        played = Played()
        async with tcp_server(played.behaviour()) as url:
            connection = await opened(url, sink, "a", "b")
            connection.ask(ask(1, slot=0))
            connection.ask(ask(2, slot=1))
            await eventually(lambda: bool(sink.of(2).accepted))
            played.say(*said, {"kind": "ping", "seq": 1})
            await eventually(lambda: bool(played.of("pong") or sink.closings))
            await connection.close()
        assert complaints == []

    asyncio.run(play())

    for number in (1, 2):
        answer = sink.of(number)
        assert answer.accepted == 1
        assert len(answer.finished) + len(answer.failed) <= 1
        assert answer.text in (b"x" * len(answer.text), b"y" * len(answer.text))
    assert len(sink.closings) == 1
