"""The page that F1 and /help open: every key and every command. What it says is what the app binds; a test compares the two."""

from __future__ import annotations

from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

KEYS: Final[tuple[tuple[str, str], ...]] = (
    ("Enter", "send"),
    ("Ctrl-J", "new line"),
    ("Up, Down", "what was sent before"),
    ("Esc", "stop the answer"),
    ("PgUp, PgDn", "scroll; the end follows"),
    ("Ctrl-N, Ctrl-P", "next, previous conversation"),
    ("Ctrl-T", "new conversation"),
    ("Tab", "to the text; q quits there"),
    ("F2", "light or dark"),
    ("F1", "this page"),
    ("Ctrl-Q, Ctrl-C", "quit (exit code 0, 130)"),
)
COMMANDS: Final[dict[str, str]] = {
    "help": "this page",
    "new": "[TITLE] new conversation",
    "close": "remove this conversation",
    "clear": "forget this conversation",
    "model": "[NAME] show or change the model",
    "quit": "leave",
}


class Help(ModalScreen[None]):
    """Shows keys and commands until a key closes it."""

    DEFAULT_CSS = """
    Help { align: center middle; background: $background 60%; }
    Help > Vertical {
        width: 52; max-width: 100%; height: auto; max-height: 100%;
        border: round $accent; padding: 0 1; background: $surface;
        border-title-color: $text-accent;
        overflow-y: auto;
    }
    Help Static { width: 1fr; height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, "dismiss_help", show=False) for key in ("escape", "f1", "q", "enter", "space", "ctrl+q")
    ]

    def compose(self) -> ComposeResult:
        """The two tables."""
        lines = [Content.assemble((f"{keys:<16}", "bold $text-accent"), what) for keys, what in KEYS]
        lines.append(Content(""))
        lines += [Content.assemble((f"/{name:<15}", "bold $text-accent"), what) for name, what in COMMANDS.items()]
        box = Vertical(Static(Content("\n").join(lines)))
        box.border_title = "Keys and commands"
        yield box

    def action_dismiss_help(self) -> None:
        """Close the page."""
        self.dismiss()
