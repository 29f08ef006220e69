"""The terminal surface on a real conductor with the embedded mock: what is said there is understood here, and the other way round."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from textual.pilot import Pilot

from floodmark.core.tasks import group
from floodmark.systems.conductor import vocabulary as say
from floodmark.systems.conductor.backend.mock import MockBackend
from floodmark.systems.conductor.backend.numbered import text_of
from floodmark.systems.conductor.conductor import Conductor
from floodmark.systems.conductor.settings import ConductorSettings, InputLimits
from floodmark.systems.conductor.terminal.app import ChatApp
from floodmark.systems.conductor.terminal.link import ConductorLink
from tests.soonest import soonest
from tests.systems.conductor.terminal_link import Stage, played

UNLIMITED = ConductorSettings(model="mock-model", limits=InputLimits(messages_per_minute=None))


class Chat:
    """A chat as the command makes it, without its terminal."""

    def __init__(self, app: ChatApp, conductor: Conductor, pilot: Pilot[int]) -> None:
        self.app, self.conductor, self.pilot = app, conductor, pilot

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await self.pilot.pause(0.01)

    async def send(self, text: str) -> None:
        self.app.prompt.insert(text)
        await self.pilot.press("enter")

    @property
    def screen(self) -> str:
        return Stage.screen.fget(self)  # type: ignore[attr-defined,no-any-return]

    @property
    def text(self) -> str:
        self.app.board.absorb()
        return self.app.board.shown.page.text


@asynccontextmanager
async def chat(settings: ConductorSettings = UNLIMITED) -> AsyncIterator[Chat]:
    backend = MockBackend()
    conductor = Conductor(backend, settings)
    app = ChatApp(ConductorLink(conductor))
    async with group() as tasks:
        tasks.create_task(conductor.run())
        tasks.create_task(conductor.start())
        try:
            async with app.run_test(size=(100, 30), notifications=True) as pilot:
                shown = Chat(app, conductor, pilot)
                await shown.until(lambda: app.board.state is say.ConductorState.READY)
                await shown.until(lambda: "mock-model" in shown.screen)
                yield shown
        finally:
            await conductor.quit()
    assert backend.live_count == 0


def test_chat_answer_is_word_for_word_the_backends() -> None:
    async def play() -> None:
        async with chat() as shown:
            await shown.send("numbered: stream=3 count=5000 size=12")
            await shown.until(lambda: shown.app.board.shown.last is not None)

            assert shown.text.endswith(text_of(3, 0, 5000, 12))
            await shown.until(lambda: "5,000 tokens" in shown.screen)
            assert "✗" not in shown.screen

    played(play)


def test_chat_three_conversations_at_once_keep_their_texts_apart() -> None:
    async def play() -> None:
        async with chat() as shown:
            rooms = shown.app.board.rooms
            for stream in range(3):
                if stream:
                    await shown.send("/new")
                    await shown.until(lambda: list(rooms).index(shown.app.board.focus_id) == stream)  # noqa: B023 - awaited here
                await shown.send(f"numbered: stream={stream} count=600 size=10 rate=1000")
                await shown.until(lambda: shown.app.board.shown.pace or shown.app.board.shown.last)
            await shown.until(lambda: all(room.last is not None for room in rooms.values()))

            for stream, room in enumerate(rooms.values()):
                assert room.page.text.endswith(text_of(stream, 0, 600, 10))
            assert [info.focused for info in shown.conductor.conversations.infos()].count(True) == 1
            assert shown.conductor.conversations.focused.id == shown.app.board.focus_id

    played(play)


def test_chat_escape_stops_the_backend_and_the_next_question_is_answered() -> None:
    async def play() -> None:
        async with chat() as shown:
            await shown.send("numbered: count=1000000 rate=500")
            await shown.until(lambda: shown.app.board.shown.pace is not None and shown.app.board.shown.pace.tokens_count > 10)
            await shown.pilot.press("escape")
            await shown.until(lambda: "■ stopped" in shown.screen)
            await shown.send("numbered: stream=1 count=10")
            await shown.until(lambda: shown.app.board.shown.last is not None)

            assert shown.text.endswith(text_of(1, 0, 10, 10))

    played(play)


@pytest.mark.parametrize("fault", ["fail_after=20", "cut_after=20"])
def test_chat_answer_that_breaks_off_says_so_and_keeps_what_came(fault: str) -> None:
    async def play() -> None:
        async with chat() as shown:
            await shown.send(f"numbered: count=100 {fault}")
            await shown.until(lambda: "✗" in shown.screen)

            assert shown.text.endswith(text_of(0, 0, 20, 10))
            assert shown.app.board.shown.last is None
            await shown.until(lambda: shown.app.board.state is say.ConductorState.READY)

    played(play)


def test_chat_too_many_messages_in_a_minute_are_refused_with_a_notice() -> None:
    async def play() -> None:
        async with chat(ConductorSettings(model="mock-model", limits=InputLimits(messages_per_minute=1))) as shown:
            await shown.send("numbered: count=1")
            await shown.until(lambda: shown.app.board.shown.last is not None)
            await shown.send("numbered: count=1 stream=2")
            await shown.until(lambda: "minute" in shown.screen)

            assert text_of(2, 0, 1, 10) not in shown.text

    played(play)


def test_chat_cleared_forgets_and_model_is_told() -> None:
    async def play() -> None:
        async with chat() as shown:
            await shown.send("numbered: count=30")
            await shown.until(lambda: shown.app.board.shown.last is not None)
            await shown.send("/clear")
            await shown.until(lambda: not shown.text)
            await shown.send("/model")
            await shown.until(lambda: "The model is mock-model" in shown.screen)
            await shown.send("/model no-such-model")
            await shown.until(lambda: "no-such-model" in shown.screen)

            assert shown.app.board.model == "mock-model"

    played(play)


@pytest.mark.parametrize("text", ["", "numbered: count=10000000 size=100"], ids=["idle", "in-mid-stream"])
def test_chat_quit_is_over_within_its_limit(text: str) -> None:
    tries_s: list[float] = []

    async def play() -> None:
        async with chat() as shown:
            if text:
                await shown.send(text)
                await shown.until(lambda: shown.app.board.shown.pace is not None and shown.app.board.shown.pace.tokens_count > 1000)
            before_s = time.monotonic()
            await shown.pilot.press("ctrl+q")
            await shown.conductor.quit()
            tries_s.append(time.monotonic() - before_s)

    def took_s() -> float:
        played(play)
        return tries_s[-1]

    assert soonest(took_s, 1.0) < 1.0


def test_chat_ended_from_the_conductors_side_ends_the_screen() -> None:
    async def play() -> None:
        async with chat() as shown:
            await shown.conductor.quit()
            await shown.until(lambda: shown.app.return_value is not None)

            assert shown.app.return_value == 0

    played(play)
