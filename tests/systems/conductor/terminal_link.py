"""A conductor that says what a test tells it to, for tests of the terminal surface; and waits for what is on the screen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from textual.pilot import Pilot

from floodmark.systems.conductor import vocabulary as say
from floodmark.systems.conductor.channel import Channel
from floodmark.systems.conductor.terminal.app import ChatApp

LIMIT_S = 20.0
GREETING = "Hello from the script."


class Script:
    """A link that acknowledges, keeps what it hears, and says what the test puts into it."""

    def __init__(self) -> None:
        self.said: Channel[say.Event] = Channel(capacity_count=256)
        self.heard: list[say.Input] = []
        self.refusal = ""  # not empty: messages are refused with it
        self._messages = 0

    async def wait(self) -> bool:
        return await self.said.wait()

    def take(self, max_count: int) -> Sequence[say.Event]:
        return self.said.take_many(max_count)

    async def send(self, event: say.Input) -> None:
        self.heard.append(event)
        match event:
            case say.Connected():
                await self.put(
                    say.Ack(event_id=event.event_id),
                    say.State(state=say.ConductorState.READY),
                    say.SessionInfo(session_id="session_1", model="scripted", ready=True),
                    say.Message(id="msg_0", role=say.Role.ASSISTANT, content=GREETING, content_type=say.ContentType.MARKDOWN),
                )
            case say.UserMessage() if self.refusal:
                await self.put(say.Notify(level=say.Level.ERROR, text=self.refusal, event_id=event.event_id))
            case say.UserMessage(conversation_id=conversation_id):
                self._messages += 1
                where = conversation_id or say.MAIN_ID
                await self.put(
                    say.Ack(event_id=event.event_id, message_id=f"answer_{self._messages}"),
                    say.Message(id=f"user_{self._messages}", role=say.Role.USER, content=event.text, conversation_id=where),
                )
            case say.NewConversation():
                number = sum(isinstance(heard, say.NewConversation) for heard in self.heard) + 1
                await self.put(
                    say.ConversationCreated(conversation_id=f"room_{number}", title=event.title or f"Conversation {number}"),
                    say.ConversationFocused(conversation_id=f"room_{number}"),
                    say.Ack(event_id=event.event_id, conversation_id=f"room_{number}"),
                )
            case say.RemoveConversation():
                await self.put(say.ConversationRemoved(conversation_id=event.conversation_id))

    async def put(self, *events: say.Event) -> None:
        """Say these."""
        await self.said.put_many(events)

    async def tokens(self, text: str, *, message_id: str = "answer_1", conversation_id: str = say.MAIN_ID, size: int = 7) -> None:
        """Say a text in tokens."""
        for at in range(0, len(text), size):
            piece = text[at : at + size]
            if conversation_id == say.MAIN_ID:
                await self.put(say.Token(message_id=message_id, text=piece))
            else:
                await self.put(say.StreamToken(conversation_id=conversation_id, message_id=message_id, text=piece))

    async def end(self, text: str, *, message_id: str = "answer_1", conversation_id: str = say.MAIN_ID) -> None:
        """Say that an answer is complete and was this."""
        metadata = say.ResponseMetadata(token_count=12, tokens_per_second=34.5, elapsed_ms=400.0, first_token_ms=50.0)
        if conversation_id == say.MAIN_ID:
            await self.put(say.StreamEnd(message_id=message_id, final_content=text, metadata=metadata))
        else:
            await self.put(
                say.ConversationStreamEnd(conversation_id=conversation_id, message_id=message_id, final_content=text, metadata=metadata)
            )


class Stage:
    """An app on a scripted link, with a pilot."""

    def __init__(self, app: ChatApp, script: Script, pilot: Pilot[int]) -> None:
        self.app, self.script, self.pilot = app, script, pilot

    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Wait for a condition."""
        async with asyncio.timeout(LIMIT_S):
            while not condition():
                await self.pilot.pause(0.01)

    async def type_in(self, text: str) -> None:
        """Type a text and send it."""
        self.app.prompt.insert(text)
        await self.pilot.press("enter")

    async def ask(self, text: str = "A question") -> None:
        """Send a message and wait until it is on the page."""
        before = sum(isinstance(event, say.UserMessage) for event in self.script.heard)
        await self.type_in(text)
        await self.until(lambda: sum(isinstance(event, say.UserMessage) for event in self.script.heard) > before)
        await self.until(lambda: self.app.board.shown.pace is not None)

    @property
    def screen(self) -> str:
        """What is on the screen, as text."""
        strips = self.app.screen._compositor.render_strips(self.app.size)
        return "\n".join(strip.text for strip in strips)


@asynccontextmanager
async def stage(*, size: tuple[int, int] = (80, 24), light: bool = False) -> AsyncIterator[Stage]:
    """Show the app on a screen that does not exist."""
    script = Script()
    app = ChatApp(script, where="a script", light=light)
    async with app.run_test(size=size, notifications=True) as pilot:
        shown = Stage(app, script, pilot)
        await shown.until(lambda: GREETING in shown.screen)
        yield shown


def played(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test on an event loop of its own."""
    asyncio.run(test())
