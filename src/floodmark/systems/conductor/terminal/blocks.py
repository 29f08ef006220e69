"""Cut Markdown that is still arriving into blocks, so that a frame works on the last block and never on the whole answer.

Input: text in pieces of any length. Output: blocks whose sources, joined, are the text exactly. A block ends at a blank line before a line
that is not indented, around a heading, after a code fence; and at `BLOCK_CHARS`, whatever it is, so that the work of a frame is bounded
however long a paragraph grows. A piece of code or of a table that follows such a cut carries a prefix (its fence, its head) to be shown
alike; a paragraph goes on in a new line. The costs are those of the new text alone. Not here: colours, widths, the screen.
"""

from __future__ import annotations

import re

BLOCK_CHARS = 2048  # what one block holds at most before it is cut, at the next good place; twice this at any place

_FENCE = re.compile(r" {0,12}(`{3,}|~{3,})([^`]*)$")
_HEADING = re.compile(r"#{1,6}(?:\s|$)")
_TABLE_RULE = re.compile(r"\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)+\|?\s*$")


class Block:
    """A part of a Markdown text that can be shown by itself."""

    __slots__ = ("joined", "prefix", "source")

    def __init__(self, source: str, *, prefix: str = "", joined: bool = False) -> None:
        self.source = source
        self.prefix = prefix  # shown before the source and no part of the text: the fence or the head that a cut took away
        self.joined = joined  # goes on where the block before was cut: no blank line between

    @property
    def markup(self) -> str:
        """What to render."""
        return self.prefix + self.source


class Splitter:
    """Cuts a text that arrives in pieces.

    >>> splitter = Splitter()
    >>> splitter.feed("One\\n\\nTwo ")
    >>> splitter.feed("goes on")
    >>> [block.source for block in splitter.take()], splitter.rest().source
    (['One\\n\\n'], 'Two goes on')
    """

    __slots__ = ("_blank", "_closed", "_fence", "_joined", "_lines", "_lines_chars", "_partial", "_prefix")

    def __init__(self) -> None:
        self._closed: list[Block] = []
        self._lines: list[str] = []  # whole lines of the open block
        self._lines_chars = 0
        self._partial = ""  # the line that has not ended yet
        self._fence = ""  # the mark that the open code fence began with
        self._blank = False  # the open block's last line is blank
        self._prefix = ""
        self._joined = False

    def feed(self, text: str) -> None:
        """Take the next piece of the text."""
        *lines, last = (self._partial + text).split("\n")
        for line in lines:
            self._partial = line
            self._shorten()
            self._line(self._partial)
        self._partial = last
        if self._blank and last and not last[0].isspace() and not self._fence:
            self._close()  # however this line goes on, it begins a block
        self._shorten()

    def take(self) -> list[Block]:
        """Hand over the blocks that have ended since the last call."""
        closed, self._closed = self._closed, []
        return closed

    def rest(self) -> Block:
        """The block that is still growing; its source may be empty."""
        return Block("".join(self._lines) + self._partial, prefix=self._prefix, joined=self._joined)

    def _line(self, line: str) -> None:
        """Put a line that has ended into the open block, and close that before or after it if it must be."""
        if self._fence:
            self._keep(line)
            if line.strip().startswith(self._fence) and not line.strip().strip(self._fence[0]):
                self._fence = ""
                self._close()
            elif self._lines_chars > BLOCK_CHARS:
                self._cut()
            return
        bare = line.rstrip()
        if not bare:
            self._keep(line)
            self._blank = True
            return
        indented = line[0] in " \t"
        heading = _HEADING.match(line) is not None
        fence = _FENCE.match(bare)
        if self._lines and ((self._blank and not indented) or heading or (fence is not None and not indented)):
            self._close()
        elif self._lines_chars > BLOCK_CHARS and (not indented or self._lines_chars > 2 * BLOCK_CHARS):
            self._cut()
        self._blank = False
        self._keep(line)
        if fence is not None:
            self._fence = fence.group(1)
        elif heading:
            self._close()

    def _keep(self, line: str) -> None:
        self._lines.append(line + "\n")
        self._lines_chars += len(line) + 1

    def _close(self, *, prefix: str = "", joined: bool = False) -> None:
        self._closed.append(Block("".join(self._lines), prefix=self._prefix, joined=self._joined))
        self._lines, self._lines_chars, self._blank = [], 0, False
        self._prefix, self._joined = prefix, joined

    def _cut(self) -> None:
        """Close a block that goes on."""
        self._close(prefix=self._carried(), joined=True)

    def _carried(self) -> str:
        """What the next part needs in front of it to look like this one."""
        if self._prefix:
            return self._prefix
        if self._fence:
            return self._lines[0]
        if len(self._lines) > 1 and _TABLE_RULE.match(self._lines[1]):
            return "".join(self._lines[:2])
        return ""

    def _shorten(self) -> None:
        """Cut as much of the line as makes one block too large."""
        while self._lines_chars + len(self._partial) > 2 * BLOCK_CHARS:
            self._cut_partial()

    def _cut_partial(self) -> None:
        """Cut inside a line: behind its last space within reach, or anywhere; or before it, when much stands there already."""
        if self._lines_chars > BLOCK_CHARS:
            self._cut()
            return
        room = 2 * BLOCK_CHARS - self._lines_chars
        at = self._partial.rfind(" ", room - BLOCK_CHARS, room) + 1 or room
        self._lines.append(self._partial[:at])
        self._partial = self._partial[at:]
        self._cut()
