"""The parts of the screen that are not text of a conversation: the title, the list of conversations, the status, the hint on keys.

Each shows what the board says and is told to look once per frame; it is drawn again only if its words have changed.
"""

from __future__ import annotations

import time

from rich.cells import cell_len, set_cell_size
from textual import events
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from floodmark.systems.conductor.terminal.board import Board, Pace, Room, show_rate, show_s
from floodmark.systems.conductor.vocabulary import ConductorState, ConversationState

LIST_COLUMNS = 24
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_STATE_STYLES = {
    ConductorState.READY: "$text-success",
    ConductorState.LISTENING: "$text-success",
    ConductorState.ERROR: "$text-error",
    ConductorState.SHUTTING_DOWN: "$text-warning",
}


class Line(Static):
    """One line with something at its left and something at its right; the right gives way."""

    DEFAULT_CSS = """
    Line { height: 1; width: 1fr; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, *, widget_id: str | None = None) -> None:
        super().__init__("", id=widget_id, markup=False)
        self._shown: tuple[object, ...] = ()

    def put(self, left: Content, *right: str, style: str = "$foreground 65%") -> None:
        """Show `left`, and at the right as many of the words of `right`, from the first on, as fit."""
        width = self.content_region.width
        key = (left.markup, right, width)
        if key == self._shown or width <= 0:
            return
        self._shown = key
        tail = ""
        for word in right:
            longer = f"{tail}   {word}" if tail else word
            if left.cell_length + cell_len(longer) + 2 > width:
                break
            tail = longer
        gap = max(width - left.cell_length - cell_len(tail), 0)
        self.update(Content.assemble(left, " " * gap, (tail, style)), layout=False)  # it keeps its size, so that nothing else moves


class Status(Line):
    """What the conductor is doing, and how the answer comes."""

    def show(self, board: Board) -> None:
        """Bring the line up to date."""
        room = board.shown
        pace = room.pace
        word, style = _doing(board, room)
        left = Content.assemble((f"{word}", style))
        if pace is not None and pace.tokens_count:
            figures = [f"{show_rate(pace.rate_hz)} tokens/s", f"first {_ttft(pace)}", f"{pace.tokens_count:,} tokens"]
        elif pace is not None:
            figures = []
        elif room.last is not None:
            first_ms = room.last.first_token_ms
            figures = [f"{show_rate(room.last.tokens_per_second)} tokens/s", f"{room.last.token_count:,} tokens"]
            if first_ms is not None:
                figures.insert(1, f"first {show_s(first_ms / 1e3)}")
        else:
            figures = []
        others = sum(other.pace is not None for other in board.rooms.values() if other is not room)
        if others:
            figures.append(f"{others} more streaming")
        self.put(left, *figures)


def _doing(board: Board, room: Room) -> tuple[str, str]:
    """The word for the conversation that is shown, or for the conductor if that has nothing to tell."""
    if board.state in (ConductorState.SHUTTING_DOWN, ConductorState.INITIALIZING):
        return f"○ {board.state.value.replace('_', ' ')}", _STATE_STYLES.get(board.state, "$foreground 65%")
    if room.pace is not None:
        wheel = _SPINNER[int(time.monotonic() * 10) % len(_SPINNER)]
        return (f"{wheel} answering", "bold $text-accent") if room.pace.tokens_count else (f"{wheel} thinking", "bold $text-accent")
    if room.state is ConversationState.ERROR:
        return "✗ the last answer failed", "$text-error"
    if board.state is ConductorState.ERROR:
        return "✗ error", "$text-error"
    return "● ready", "$text-success"


def _ttft(pace: Pace) -> str:
    return "–" if pace.ttft_s is None else show_s(pace.ttft_s)


class Rooms(Static):
    """The conversations, one line each: number, title, and what is happening there."""

    DEFAULT_CSS = """
    Rooms {
        width: 24;
        height: 1fr;
        padding: 1 0;
        background: $foreground 4%;
        text-wrap: nowrap;
    }
    """

    class Chosen(Message):
        """A conversation was clicked."""

        def __init__(self, conversation_id: str) -> None:
            super().__init__()
            self.conversation_id = conversation_id

    def __init__(self, *, widget_id: str | None = None) -> None:
        super().__init__("", id=widget_id, markup=False)
        self._shown: tuple[object, ...] = ()
        self._ids: tuple[str, ...] = ()

    def show(self, board: Board) -> None:
        """Bring the list up to date."""
        rows = tuple(_row(number, room, room is board.shown) for number, room in enumerate(board.rooms.values(), 1))
        self._ids = tuple(board.rooms)
        if rows == self._shown:
            return
        self._shown = rows
        lines = []
        for marker, title, right, focused, style in rows:
            ground = " on $accent 22%" if focused else ""
            words = "bold $foreground" if focused else "$foreground 80%"
            lines.append(Content.assemble((marker, "$text-accent"), (title, words + ground), (right, style + ground)))
        self.update(Content("\n").join(lines), layout=False)

    def on_click(self, event: events.Click) -> None:
        """Choose the conversation that was clicked."""
        row = event.y - 1
        if 0 <= row < len(self._ids):
            self.post_message(self.Chosen(self._ids[row]))


def _row(number: int, room: Room, focused: bool) -> tuple[str, str, str, bool, str]:
    """The marker, the title, the sign at the right, whether it has the focus, and the style of the sign."""
    if room.pace is not None:
        right, style = (f"{show_rate(room.pace.rate_hz)}/s" if room.pace.tokens_count else "…"), "$text-accent"
    elif room.state is ConversationState.ERROR:
        right, style = "✗", "$text-error"
    elif room.unseen:
        right, style = "●", "$text-success"
    else:
        right, style = "", "$foreground"
    width = LIST_COLUMNS - 2 - cell_len(right)
    title = cut(f" {number} {room.title}", width - 1)
    return ("▌" if focused else " "), set_cell_size(title, width), f"{right} ", focused, style


def cut(text: str, columns: int) -> str:
    """Shorten a text to a number of columns, with an ellipsis where something is left out.

    >>> cut("Why is the sea salt?", 10), cut("Why?", 10)
    ('Why is th…', 'Why?')
    """
    return text if cell_len(text) <= columns else set_cell_size(text, max(columns - 1, 0)) + "…"
