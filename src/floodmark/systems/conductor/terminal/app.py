"""The Textual surface of a conductor: conversations at the left, the text of one of them, what is happening, and an input.

Two things run: the pump takes what the conductor has said, as much as there is at once, and notes it on the board; a timer shows a frame
every `FRAME_S` if anything has changed. So the price of a token is that of an append, whatever is on the screen, and a screen that cannot
follow slows nobody: tokens gather, and when `PENDING_CHARS` of them have, the pump rests until the next frame and the conductor's channel
fills. Keys only send events; nothing here waits for the backend.

Not here: the conductor itself (`Link` is all that is asked of it), the words of the command line (command.py).
Limits: the history has 50 texts; a page keeps 1 MiB of text; quitting closes the screen at once, whoever made the link closes that.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import ClassVar, Final, Literal, Protocol

from msgspec import structs
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.geometry import Size
from textual.widgets import Static

from floodmark.systems.conductor import vocabulary as say
from floodmark.systems.conductor.channel import Channel
from floodmark.systems.conductor.terminal.board import Board
from floodmark.systems.conductor.terminal.help import Help
from floodmark.systems.conductor.terminal.panels import Line, Rooms, Status, cut
from floodmark.systems.conductor.terminal.prompt import Prompt
from floodmark.systems.conductor.terminal.transcript import Transcript

FRAME_S: Final = 1 / 30
PENDING_CHARS: Final = 262_144  # that may wait for a frame
TAKEN_COUNT: Final = 4096  # events between two looks at the keyboard
SPOKEN_COUNT: Final = 64  # events of the user that may wait for the conductor
NOTICES_COUNT: Final = 3  # shown of one frame
WIDE_COLUMNS: Final = 100  # from here on the list of conversations is always there
NARROW_COLUMNS: Final = 60  # below it the text needs the room
DARK, LIGHT = "textual-dark", "textual-light"
INTERRUPTED = 130


class Link(Protocol):
    """A conductor, as the surface needs it."""

    async def send(self, event: say.Input) -> None:
        """Hand an event to the conductor."""

    async def wait(self) -> bool:
        """Wait until the conductor has said something; False once it will say nothing any more."""

    def take(self, max_count: int) -> Sequence[say.Event]:
        """Give what it has said, oldest first, without waiting."""


class ChatApp(App[int]):
    """A chat over a link; its return value is an exit code."""

    ENABLE_COMMAND_PALETTE = False
    TITLE = "floodmark chat"
    CSS = """
    Screen { layout: vertical; background: $background; }
    #title { background: $foreground 8%; }
    #body { height: 1fr; }
    #status { margin-top: 0; }
    #entry { height: auto; max-height: 8; border-top: solid $foreground 25%; padding: 0 1; }
    #entry:focus-within { border-top: solid $accent; }
    #sign { width: 2; height: 1; color: $text-accent; text-style: bold; }
    #keys { color: $foreground 60%; }
    ToastRack { margin-bottom: 4; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "leave(0)", priority=True),
        Binding("ctrl+c", "leave(130)", priority=True),
        Binding("escape", "stop", priority=False),
        Binding("ctrl+n", "neighbour(1)", priority=True),
        Binding("ctrl+p", "neighbour(-1)", priority=True),
        Binding("ctrl+t", "new", priority=True),
        Binding("pageup", "page(-1)", priority=True),
        Binding("pagedown", "page(1)", priority=True),
        Binding("ctrl+end", "follow", priority=True),
        Binding("f1", "help", priority=True),
        Binding("f2", "theme", priority=True),
        Binding("q", "leave(0)"),
    ]

    def __init__(self, link: Link, *, where: str = "", light: bool = False) -> None:
        super().__init__()
        self.link = link
        self.board = Board()
        self.theme = LIGHT if light else DARK
        self.animation_level = "none"
        self._where = where
        self._event_numbers = itertools.count(1)
        self._looked = asyncio.Event()  # a frame was shown since the pump last looked
        self._gathered_chars = 0
        self._told_size: Size | None = None  # of the screen, once the conductor knows of it
        self._spoken: Channel[say.Input] = Channel(capacity_count=SPOKEN_COUNT)

    def compose(self) -> ComposeResult:
        """The parts of the screen."""
        yield Line(widget_id="title")
        with Horizontal(id="body"):
            yield Rooms(widget_id="rooms")
            yield Transcript(self.board.shown.page, widget_id="text")
        yield Status(widget_id="status")
        with Horizontal(id="entry"):
            yield Static("›", id="sign")
            yield Prompt(widget_id="prompt", placeholder="Ask something, or /help")
        yield Line(widget_id="keys")

    async def on_mount(self) -> None:
        """Begin: tell the conductor that a screen has come, listen, show frames."""
        self._title, self._keys = self.query_one("#title", Line), self.query_one("#keys", Line)
        self._status, self._rooms = self.query_one(Status), self.query_one(Rooms)
        self.transcript, self.prompt = self.query_one(Transcript), self.query_one(Prompt)
        self.prompt.focus()
        self.run_worker(self._pump(), name="pump")
        self.run_worker(self._speak(), name="speak")
        self.set_interval(FRAME_S, self._frame)
        self._told_size = self.size
        self._say(say.Connected(surface_type=say.SurfaceType.TUI, capabilities=self._capabilities, event_id=self._event_id()))

    def on_resize(self, event: events.Resize) -> None:
        """Tell the conductor how large the screen is now, if that is news."""
        if self._told_size is not None and event.size != self._told_size:
            self._told_size = event.size
            self._say(say.Resized(columns=event.size.width, rows=event.size.height))

    # What comes from the conductor

    async def _pump(self) -> None:
        """Note what the conductor says until it says nothing any more."""
        link, board = self.link, self.board
        while await link.wait():
            said = link.take(TAKEN_COUNT)
            board.apply(said, time.monotonic())
            self._gathered_chars += sum(len(event.text) for event in said if isinstance(event, say.Token | say.StreamToken))
            while board.answers:
                self._answer(board.answers.popleft())
            while board.arrived:
                self._focus(board.arrived.popleft())
            if board.quit_message is not None:
                self.exit(0)
                return
            if self._gathered_chars > PENDING_CHARS:
                self._looked.clear()
                await self._looked.wait()  # what is gathered is bounded; a frame is never far
            else:
                await asyncio.sleep(0)  # keys come in between, however much is being said
        self.exit(0)

    async def _speak(self) -> None:
        """Hand to the conductor what the user does, in order."""
        while await self._spoken.wait():
            for event in self._spoken.take_many():
                if isinstance(event, say.UserCommand) and event.command == "model":  # it asks the server, and Esc must not wait for that
                    self.run_worker(self.link.send(event), group="model", exclusive=True)
                else:
                    await self.link.send(event)

    def _answer(self, event: say.Event) -> None:
        if isinstance(event, say.Ping):
            self._say(say.Pong(seq=event.seq))
        elif isinstance(event, say.QueryCapabilities):
            self._say(say.CapabilitiesReport(capabilities=self._capabilities))

    @property
    def _capabilities(self) -> say.Capabilities:
        """What this screen can do, at its size of this moment."""
        return structs.replace(say.PRESETS[say.SurfaceType.TUI], columns=self.size.width, rows=self.size.height)

    def _frame(self) -> None:
        """Show what has changed."""
        board = self.board
        board.absorb()
        self._gathered_chars = 0
        self._looked.set()
        if self.transcript.page is not board.shown.page:
            self.transcript.show(board.shown.page)
        else:
            self.transcript.show_frame()
        columns = self.size.width
        listed = columns >= WIDE_COLUMNS or (len(board.rooms) > 1 and columns >= NARROW_COLUMNS)
        if self._rooms.display != listed:
            self._rooms.display = listed
        self._rooms.show(board)
        self._status.show(board)
        room = cut(board.shown.title, self.size.width // 2 - 8)
        title = Content.assemble(("floodmark chat", "bold"), (f"   {room}", "$foreground 75%"))
        self._title.put(title, " · ".join(part for part in (board.model, self._where) if part))
        answering = board.shown.pace is not None
        self._keys.put(
            Content("Esc stop   PgUp scroll" if answering else "Enter send   Ctrl-J line"),
            *(("↓ Ctrl-End follow",) if not self.transcript.following else ()),
            "F1 help",
            "Ctrl-Q quit",
            "Ctrl-T new",
            "Ctrl-N/P switch",
        )
        more_count = len(board.notices) - NOTICES_COUNT
        if more_count > 0:
            self.notify(f"{more_count} more notices came with these", markup=False)
        for level, text in [board.notices.popleft() for _ in range(len(board.notices))][-NOTICES_COUNT:]:
            self.notify(text, severity=_SEVERITIES[level], timeout=8 if level is say.Level.ERROR else 5, markup=False)

    # What the user does

    def on_prompt_sent(self, message: Prompt.Sent) -> None:
        """A text was sent: a command or a message."""
        text = message.text_sent
        if text.startswith("/") and not text.startswith("//"):
            self._command(text)
            return
        board, event_id = self.board, self._event_id()
        board.sent(event_id, board.focus_id, time.monotonic())
        self.transcript.follow()
        said = text.removeprefix("/") if text.startswith("//") else text
        self._say(say.UserMessage(text=said, conversation_id=self._named, event_id=event_id))

    def _command(self, text: str) -> None:
        name, *args = text[1:].split() if text[1:].split() else [""]
        match name:
            case "help":
                self.action_help()
            case "quit" | "exit":
                self.action_leave(0)
            case "new":
                self.action_new(" ".join(args))
            case "close":
                self._close()
            case "clear":
                self.board.shown.page.clear()
                self._say(say.UserCommand(command="clear", event_id=self._event_id()))
            case "model":
                self._say(say.UserCommand(command="model", args=tuple(args), event_id=self._event_id()))
            case _:
                sentence = f"There is no command /{name}; /help lists those there are, and //{name} sends it as text."
                self.notify(sentence, severity="error", markup=False)

    def _close(self) -> None:
        if self.board.focus_id == say.MAIN_ID:
            self.notify("The main conversation stays; /clear empties it.", severity="warning", markup=False)
        else:
            self._say(say.RemoveConversation(conversation_id=self.board.focus_id, event_id=self._event_id()))

    def on_rooms_chosen(self, message: Rooms.Chosen) -> None:
        """A conversation was clicked."""
        self._focus(message.conversation_id)

    def action_neighbour(self, step: int) -> None:
        """Show the next or the previous conversation."""
        self._focus(self.board.neighbour(step))

    def _focus(self, conversation_id: str) -> None:
        """Show a conversation at once, and tell the conductor, which streams it first from now on."""
        if conversation_id != self.board.focus_id:
            self.board.focus(conversation_id)
            self.transcript.show(self.board.shown.page)
            self._say(say.FocusConversation(conversation_id=self._named, event_id=self._event_id()))

    def action_new(self, title: str = "") -> None:
        """Open another conversation."""
        event_id = self._event_id()
        self.board.asked_new(event_id)
        self._say(say.NewConversation(title=title, event_id=event_id))

    def action_stop(self) -> None:
        """Stop the answer of the conversation that is shown."""
        if self.board.shown.pace is not None:
            self._say(say.CancelStream(conversation_id=self._named, event_id=self._event_id()))

    def action_page(self, direction: int) -> None:
        """Scroll the text by a page, wherever the cursor is."""
        if isinstance(self.screen, Help):
            return
        if direction < 0:
            self.transcript.scroll_page_up(animate=False)
        else:
            self.transcript.scroll_page_down(animate=False)

    def action_follow(self) -> None:
        """Go to the newest line and stay with it."""
        self.transcript.follow()

    def action_help(self) -> None:
        """Show the keys and the commands."""
        if isinstance(self.screen, Help):
            self.screen.dismiss()
        else:
            self.push_screen(Help())

    def action_theme(self) -> None:
        """Change between light and dark."""
        self.theme = DARK if self.theme == LIGHT else LIGHT

    def action_leave(self, code: int) -> None:
        """End the screen at once; what is streaming ends with the link."""
        self.exit(code)

    @property
    def _named(self) -> str | None:
        return None if self.board.focus_id == say.MAIN_ID else self.board.focus_id

    def _event_id(self) -> str:
        return f"evt_{next(self._event_numbers)}"

    def _say(self, event: say.Input) -> None:
        """Send an event, after those before it."""
        if self._spoken.room():
            self._spoken.put([event])
        else:
            self.notify("The conductor takes nothing at the moment; try again.", severity="warning", markup=False)


_SEVERITIES: Final[dict[say.Level, Literal["information", "warning", "error"]]] = {
    say.Level.INFO: "information",
    say.Level.SUCCESS: "information",
    say.Level.WARNING: "warning",
    say.Level.ERROR: "error",
}
