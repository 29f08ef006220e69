"""Where the user types: Enter sends, Ctrl-J (or Shift-Enter, where the terminal tells it apart) begins a new line, the arrows call back.

Up in the first line calls back what was sent before, Down in the last line comes back to the draft. Pasted text keeps its lines. Not here:
what becomes of a text that is sent.
"""

from __future__ import annotations

from textual import events
from textual.message import Message
from textual.widgets import TextArea

from floodmark.systems.conductor.terminal.history import History


class Prompt(TextArea):
    """An input of one line that grows to six."""

    DEFAULT_CSS = """
    Prompt {
        width: 1fr;
        height: auto;
        min-height: 1;
        max-height: 6;
        padding: 0;
        border: none;
        background: transparent;
        scrollbar-size-vertical: 1;
        &:focus { border: none; }
        & .text-area--cursor-line { background: transparent; }
        & .text-area--placeholder { color: $foreground 55%; }
    }
    """

    class Sent(Message):
        """The user has sent a text."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text_sent = text

    def __init__(self, *, widget_id: str | None = None, placeholder: str = "") -> None:
        super().__init__(id=widget_id, placeholder=placeholder, compact=True, show_line_numbers=False, highlight_cursor_line=False)
        self.sent_before = History()

    async def _on_key(self, event: events.Key) -> None:
        """Send, break the line, or call back; all other keys are those of a TextArea."""
        match event.key:
            case "enter":
                self._send()
            case "ctrl+j" | "shift+enter" | "alt+enter":
                self.insert("\n")
            case "up" if self.cursor_at_first_line and self._put(self.sent_before.older(self.text)):
                pass
            case "down" if self.cursor_at_last_line and self._put(self.sent_before.newer()):
                pass
            case _:
                return  # Textual goes on with the handler of TextArea
        event.stop()
        event.prevent_default()

    def _send(self) -> None:
        text = self.text.strip()
        if not text:
            return
        self.sent_before.add(text)
        self.text = ""
        self.post_message(self.Sent(text))

    def _put(self, text: str | None) -> bool:
        """Show a text of the history with the cursor at its end; tell if there was one."""
        if text is None:
            return False
        self.text = text
        self.move_cursor(self.document.end)
        return True
