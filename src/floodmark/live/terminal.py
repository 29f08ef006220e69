"""The screen of a run: its scenarios, the figures and the curves of one of them, what was found. It only shows.

Fed through a link to a conductor: one task takes what was said and notes it on the board, a timer paints twice a second, the curves
once, and only what has changed, since a run that is being measured shares its processors with this. Keys choose a scenario and leave; the
mouse is left to the terminal, so that text can be marked as ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar, Final

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content, Span
from textual.widgets import Static

from floodmark.live import paint
from floodmark.live.board import Board
from floodmark.systems.conductor import vocabulary as say
from floodmark.systems.conductor.terminal.app import DARK, INTERRUPTED, LIGHT, Link

PAINT_S: Final = 0.5
CURVES_S: Final = 1.0
TAKEN_COUNT: Final = 512  # events noted between two looks at the keyboard
LEAVE, INTERRUPT = 0, INTERRUPTED


class RunApp(App[int]):
    """A run on a screen; its return value is an exit code.

    Args:
        beside: it is shown beside the run that started it: leaving goes back to plain lines, and Ctrl-C interrupts the run.
    """

    ENABLE_COMMAND_PALETTE = False
    TITLE = "floodmark"
    CSS = """
    Screen { layout: vertical; background: $background; overflow: hidden; }
    Static { width: 1fr; height: 1; text-wrap: nowrap; }
    #title { background: $foreground 8%; }
    #scenarios { margin-bottom: 1; }
    #facts { height: 2; margin-bottom: 1; }
    #plots { height: 1fr; }
    #keys { background: $foreground 8%; color: $foreground 65%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", f"leave({LEAVE})"),
        Binding("ctrl+q", f"leave({LEAVE})", priority=True),
        Binding("ctrl+c", f"leave({INTERRUPT})", priority=True),
        Binding("down,j", "choose(1)"),
        Binding("up,k", "choose(-1)"),
        Binding("f", "follow"),
        Binding("f2", "theme"),
    ]

    def __init__(self, link: Link, *, beside: bool = False, light: bool = False) -> None:
        super().__init__()
        self.link = link
        self.board = Board()
        self.theme = LIGHT if light else DARK
        self.animation_level = "none"
        self._beside = beside
        self._painted: tuple[object, ...] = ()
        self._heights: dict[str, int] = {}
        self._contents: dict[str, tuple[str, Sequence[Span]]] = {}
        self._drawn: tuple[object, ...] = ()  # what the curves on the screen are of
        self.frames_count = 0  # frames that showed something new

    def compose(self) -> ComposeResult:
        """The parts, from top to bottom."""
        for name in ("title", "scenarios", "heading", "facts", "plots", "notices", "keys"):
            yield Static("", id=name, markup=False)

    async def on_mount(self) -> None:
        """Begin: tell the conductor that a screen has come, listen, paint."""
        self._parts = {
            name: self.query_one(f"#{name}", Static) for name in ("title", "scenarios", "heading", "facts", "plots", "notices", "keys")
        }
        self.run_worker(self._pump(), name="pump")
        # Beside the listening: what has already been said may leave no room for the answer.
        self.run_worker(self.link.send(say.Connected(surface_type=say.SurfaceType.TUI)), name="greet")
        self.set_interval(PAINT_S, self._frame)
        self._frame()

    async def _pump(self) -> None:
        """Note what is said until nothing is said any more."""
        while await self.link.wait():
            self.board.apply(self.link.take(TAKEN_COUNT))
            if self.board.quit_message is not None:
                break
            await asyncio.sleep(0)  # keys come in between, however much there is to note
        self.exit(LEAVE)

    def _frame(self) -> None:
        """Paint if there is something new to see."""
        board, (columns, rows) = self.board, self.size
        now = (int(board.elapsed_s), columns, rows, self.theme)
        if not board.dirty and now == self._painted:
            return
        board.dirty, self._painted = False, now
        self.frames_count += 1
        listed = min(max(len(board.tasks), 1) + 1, max((rows - 14) // 2, 3))
        found = min(max(board.notices_count, 1), 3 if rows >= 30 else 2)
        self._put("title", paint.title(board, columns))
        self._put("scenarios", paint.scenarios(board, columns, listed), listed)
        self._put("heading", paint.heading(board, columns))
        self._put("facts", paint.facts(board, columns))
        room = max(rows - listed - found - 7, 0)
        curves = (board.shown and board.shown.id, int(board.elapsed_s / CURVES_S), board.run.over, columns, room)
        if curves != self._drawn:
            self._drawn = curves
            self._put("plots", paint.plots(board, columns, room))
        self._put("notices", paint.notices(board, columns, found), found)
        self._put("keys", self._hint(columns))

    def _put(self, name: str, content: Content, height: int = 0) -> None:
        """Show a part; a new layout only if its height is another."""
        part = self._parts[name]
        if height and self._heights.get(name) != height:
            self._heights[name] = height
            part.styles.height = height
        if (shown := (content.plain, content.spans)) != self._contents.get(name):  # contents are equal whatever their colours
            self._contents[name] = shown
            part.update(content, layout=False)

    def _hint(self, columns: int) -> Content:
        board = self.board
        leave = "q plain lines   Ctrl-C interrupt the run" if self._beside else "q leave"
        words = [leave]
        if len(board.tasks) > 1:
            words.append("↑↓ scenario" if not board.chosen_id else "↑↓ scenario   f follow the run")
        words.append("F2 light or dark")
        return Content(paint.cut(" " + "   ".join(words), columns))

    def on_resize(self) -> None:
        """Fit the new size at once."""
        if hasattr(self, "_parts"):
            self.board.dirty = True
            self.call_after_refresh(self._frame)

    def action_choose(self, step: int) -> None:
        """Show the next or the previous scenario."""
        self.board.choose(step)
        self._frame()

    def action_follow(self) -> None:
        """Show whatever is running."""
        self.board.follow()
        self._frame()

    def action_theme(self) -> None:
        """Change between light and dark."""
        self.theme = DARK if self.theme == LIGHT else LIGHT
        self._contents.clear()
        self._drawn = ()
        self._frame()

    def action_leave(self, code: int) -> None:
        """End the screen at once."""
        self.exit(code)
