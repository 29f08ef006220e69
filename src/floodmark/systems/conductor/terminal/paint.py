"""Turn a block of text into lines of a given width, in the colours of the theme.

Markdown is parsed without HTML: what a model writes in angle brackets is shown as it is, and not left out. Control characters other than
line ends and tabs are shown as U+FFFD, so that no text can steer the terminal. Not here: which blocks are on the screen (transcript.py),
where a text is cut into blocks (blocks.py).
"""

from __future__ import annotations

import enum
import functools
import io
from typing import ClassVar

from markdown_it import MarkdownIt
from pygments.lexer import Lexer  # type: ignore[import-untyped]
from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]
from pygments.token import Comment, Error, Generic, Keyword, Literal, Name, Number, Operator, String, _TokenType  # type: ignore[import-untyped]
from pygments.util import ClassNotFound  # type: ignore[import-untyped]
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown
from rich.padding import Padding
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from rich.theme import Theme
from textual.color import Color
from textual.strip import Strip

PARSER = MarkdownIt("commonmark", {"html": False}).enable("strikethrough").enable("table")
SHOWN = {code: "�" for code in (*range(32), 127, *range(128, 160)) if chr(code) not in "\n\t"} | {ord("\r"): None}

_CODE_STYLES: tuple[tuple[_TokenType, str], ...] = (
    (Comment, "code.comment"),
    (Keyword, "code.keyword"),
    (String, "code.string"),
    (Number, "code.number"),
    (Literal, "code.string"),
    (Name.Function, "code.name"),
    (Name.Class, "code.name"),
    (Name.Decorator, "code.name"),
    (Name.Tag, "code.keyword"),
    (Name.Builtin, "code.builtin"),
    (Operator.Word, "code.keyword"),
    (Generic.Deleted, "code.deleted"),
    (Generic.Inserted, "code.inserted"),
    (Error, "code.plain"),
)


class Kind(enum.Enum):
    """What a block of the transcript is."""

    MARKDOWN = "markdown"  # of an answer
    USER = "user"  # what was typed, as it was typed
    YOU = "you"  # the user speaks
    HEAD = "head"  # somebody else does
    FOOT = "foot"  # what an answer came to
    ERROR = "error"
    NOTE = "note"  # of the surface itself


class Palette:
    """The colours of a theme, worked out once."""

    __slots__ = ("accent", "error", "theme")

    def __init__(self, variables: dict[str, str]) -> None:
        def colour(name: str) -> Color:
            return Color.parse(variables[name])

        background, foreground = colour("background"), colour("foreground")
        muted = _legible(background.blend(foreground, 0.6), background, foreground)
        code_ground = background.blend(foreground, 0.07)
        primary, secondary, accent = (_legible(colour(name), background, foreground) for name in ("primary", "secondary", "accent"))
        success, warning, error = (_legible(colour(name), background, foreground) for name in ("success", "warning", "error"))
        self.accent, self.error = accent, error

        def style(colour: Color, *, bold: bool = False, italic: bool = False, underline: bool = False) -> Style:
            return Style(color=colour.rich_color, bold=bold or None, italic=italic or None, underline=underline or None)

        on_code = Style(bgcolor=code_ground.rich_color)
        self.theme = Theme(
            {
                "chat.user": style(foreground),
                "chat.bar": style(accent),
                "chat.head": style(primary, bold=True),
                "chat.you": style(accent, bold=True),
                "chat.foot": style(muted),
                "chat.error": style(error, bold=True),
                "chat.note": style(muted, italic=True),
                "code.ground": on_code,
                "code.plain": style(foreground) + on_code,
                "code.comment": style(muted, italic=True),
                "code.keyword": style(primary, bold=True),
                "code.string": style(success),
                "code.number": style(warning),
                "code.name": style(accent),
                "code.builtin": style(secondary),
                "code.deleted": style(error),
                "code.inserted": style(success),
                "markdown.code": style(warning) + on_code,
                "markdown.strong": Style(bold=True),
                "markdown.block_quote": style(muted, italic=True),
                "markdown.item.bullet": style(primary, bold=True),
                "markdown.item.number": style(primary, bold=True),
                "markdown.hr": style(muted),
                "markdown.h1": style(primary, bold=True, underline=True),
                "markdown.h2": style(primary, bold=True),
                "markdown.h3": style(secondary, bold=True),
                "markdown.h4": style(secondary, bold=True),
                "markdown.h5": style(secondary),
                "markdown.h6": style(muted, bold=True),
                "markdown.link": style(accent, underline=True),
                "markdown.link_url": style(muted),
                "markdown.table.border": style(muted),
                "markdown.table.header": style(primary, bold=True),
            },
            inherit=True,
        )


class Painter:
    """Paints blocks at one width with one palette."""

    __slots__ = ("_console", "_options", "width")

    def __init__(self, palette: Palette, width: int) -> None:
        self.width = max(width, 8)
        self._console = Console(
            file=io.StringIO(),
            width=self.width,
            color_system="truecolor",
            force_terminal=True,
            legacy_windows=False,
            theme=palette.theme,
            _environ={},
        )
        self._options = self._console.options.update(width=self.width, height=None)

    def paint(self, kind: Kind, markup: str) -> list[Strip]:
        """Return the block's lines, none longer than the width."""
        clean = markup.translate(SHOWN)
        match kind:
            case Kind.MARKDOWN:
                lines = _trimmed(self._lines(_Markdown(clean)))
            case Kind.USER:
                bar = Segment("▌ ", self._console.get_style("chat.bar"))
                options = self._options.update(width=self.width - 2)
                text = Text(clean.strip("\n"), "chat.user", overflow="fold")
                lines = [[bar, *line] for line in self._console.render_lines(text, options, pad=False)]
            case _:
                lines = self._lines(Text(clean, _STYLES[kind], overflow="fold"))
        return [Strip(line) for line in lines]

    def _lines(self, renderable: Text | Markdown) -> list[list[Segment]]:
        return self._console.render_lines(renderable, self._options, pad=False)


_STYLES = {Kind.YOU: "chat.you", Kind.HEAD: "chat.head", Kind.FOOT: "chat.foot", Kind.ERROR: "chat.error", Kind.NOTE: "chat.note"}


def _trimmed(lines: list[list[Segment]]) -> list[list[Segment]]:
    """Leave out blank lines at both ends: what stands between blocks is the page's to say."""
    first, last = 0, len(lines)
    while first < last and _is_blank(lines[first]):
        first += 1
    while last > first and _is_blank(lines[last - 1]):
        last -= 1
    return lines[first:last]


def _is_blank(line: list[Segment]) -> bool:
    return all(not segment.text.strip() and (segment.style is None or segment.style.bgcolor is None) for segment in line)


def _legible(colour: Color, background: Color, foreground: Color) -> Color:
    """Move a colour towards the text's own until it can be read on the background: a contrast of 4.5, as WCAG asks for."""
    share = 0.0
    while _contrast(colour.blend(foreground, share), background) < 4.5 and share < 1:
        share += 0.1
    return colour.blend(foreground, min(share, 1.0))


def _contrast(one: Color, other: Color) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: Color) -> float:
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour.normalized]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


class _Heading(Heading):
    """A heading at the left, wherever Rich would centre it."""

    LEVEL_ALIGN: ClassVar = {}


class _Code(CodeBlock):
    """Code in the theme's colours: an eighth of the time of `rich.syntax.Syntax`, which the answer in progress pays on every frame."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        source = str(self.text).rstrip("\n").expandtabs(4)
        text = Text(style="code.plain", overflow="fold", end="")
        lexer = _lexer(self.lexer_name)
        if lexer is None:
            text.append(source)
        else:
            for token, value in lexer.get_tokens(source):
                text.append(value, _code_style(token))
            text.right_crop(1)  # the lexer ends with a line end of its own
        yield Padding(text, (0, 1), style="code.ground", expand=True)


_LEXERS: dict[str, Lexer | None] = {}


def _lexer(name: str) -> Lexer | None:
    """The lexer of a language, looked up once; None for plain text and for what Pygments does not know."""
    if name not in _LEXERS:
        if len(_LEXERS) > 100:  # names come from models
            _LEXERS.clear()
        try:
            _LEXERS[name] = None if name == "text" else get_lexer_by_name(name, stripnl=False)
        except ClassNotFound:
            _LEXERS[name] = None
    return _LEXERS[name]


@functools.cache  # Pygments has some hundred kinds of token
def _code_style(token: _TokenType) -> str:
    return next((style for kind, style in _CODE_STYLES if token in kind), "")


class _Markdown(Markdown):
    """Rich's Markdown, with our parser, heading and code."""

    elements: ClassVar = Markdown.elements | {"heading_open": _Heading, "fence": _Code, "code_block": _Code}

    def __init__(self, markup: str) -> None:
        super().__init__("", hyperlinks=False)
        self.markup = markup
        self.parsed = PARSER.parse(markup)
