"""What one conversation shows, as parts in order: heads, questions, answers in blocks, feet, errors, notes. And where each part stands.

Text of an answer is gathered by `push` and cut into blocks by `absorb`, once per frame, shown or not. `lay` paints what is not painted yet,
newest first and within a limit of time, so that a page of any length is on the screen at once; what is older follows in later frames.
Memory: `PAGE_CHARS` of text and `PAGE_PARTS` parts are kept, the oldest go first and are counted. Not here: scrolling, events.
"""

from __future__ import annotations

import itertools
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable

from textual.strip import Strip

from floodmark.systems.conductor.terminal.blocks import Splitter
from floodmark.systems.conductor.terminal.paint import Kind, Painter

PAGE_CHARS = 1_048_576
PAGE_PARTS = 4000


class Part:
    """A block on a page, with its lines once they are painted."""

    __slots__ = ("gap", "joined", "kind", "painter", "prefix", "source", "strips")

    def __init__(self, kind: Kind, source: str, *, gap: int = 0, prefix: str = "", joined: bool = False) -> None:
        self.kind, self.source, self.prefix, self.joined = kind, source, prefix, joined
        self.gap = gap  # blank lines before it
        self.strips: list[Strip] = []
        self.painter: Painter | None = None  # the one that painted the strips; None: they are out of date


class Answer:
    """An answer in progress."""

    __slots__ = ("pending", "splitter", "tail")

    def __init__(self, tail: Part) -> None:
        self.pending: list[str] = []
        self.splitter = Splitter()
        self.tail = tail  # the part that is still growing


class Page:
    """The parts of one conversation."""

    def __init__(self) -> None:
        self._parts: deque[Part] = deque()
        self._chars = 0
        self._answers: dict[str, Answer] = {}
        self._starts: list[int] = [0]  # of the parts that are laid, from `_first` on, and the end of the last
        self._laid: list[Part] = []
        self.dirty = True  # something has changed since `lay`
        self.dropped_chars = 0

    # What is shown

    def ask(self, text: str) -> None:
        """Show what the user has sent."""
        self._add(Part(Kind.YOU, "you", gap=1))
        self._add(Part(Kind.USER, text))

    def say(self, head: str, text: str) -> None:
        """Show a message that is complete."""
        self._add(Part(Kind.HEAD, head, gap=1))
        self._blocks(text)

    def note(self, text: str, *, kind: Kind = Kind.NOTE) -> None:
        """Show a line of the surface's own."""
        self._add(Part(kind, text, gap=1))

    def begin(self, message_id: str, head: str) -> None:
        """Open an answer; text for one that was not opened is not shown."""
        if message_id in self._answers:
            return
        self._add(Part(Kind.HEAD, head, gap=1))
        tail = Part(Kind.MARKDOWN, "")
        self._add(tail)
        self._answers[message_id] = Answer(tail)

    def push(self, message_id: str, text: str) -> None:  # HOT: once per token event
        """Gather text of an answer for the next frame."""
        self._answers[message_id].pending.append(text)

    def end(self, message_id: str, foot: str, *, kind: Kind = Kind.FOOT) -> None:
        """Close an answer with a last line."""
        answer = self._answers.get(message_id)
        if answer is None:
            return
        self._absorb(answer)
        del self._answers[message_id]
        answer.tail.source = answer.tail.source.rstrip("\n")
        part = Part(kind, foot)
        at = self._parts.index(answer.tail)
        self._parts.insert(at + 1, part)
        self._count(part)

    def is_open(self, message_id: str) -> bool:
        """Tell if an answer is in progress."""
        return message_id in self._answers

    def clear(self) -> None:
        """Take away everything but the answers in progress, which go on in an empty page."""
        tails = [answer.tail for answer in self._answers.values()]
        self._parts = deque(tails)
        self._chars = sum(len(tail.source) for tail in tails)
        self.dropped_chars = 0
        self.dirty = True

    def absorb(self) -> None:
        """Cut what was gathered into blocks; once per frame."""
        for answer in self._answers.values():
            if answer.pending:
                self._absorb(answer)

    @property
    def text(self) -> str:
        """The sources of all parts that are text of answers, joined: what was received, as far as it is kept."""
        return "".join(part.source for part in self._parts if part.kind is Kind.MARKDOWN)

    def __len__(self) -> int:
        return len(self._parts)

    def _absorb(self, answer: Answer) -> None:
        text = "".join(answer.pending)
        answer.pending.clear()
        splitter, tail = answer.splitter, answer.tail
        splitter.feed(text)
        blocks = [*splitter.take(), splitter.rest()]
        at = self._parts.index(tail) if len(blocks) > 1 else 0
        self._chars -= len(tail.source)
        for number, block in enumerate(blocks):
            if number:
                tail = Part(Kind.MARKDOWN, "")
                tail.gap = 0 if block.joined else 1
                self._parts.insert(at + number, tail)
            tail.source, tail.prefix, tail.joined = block.source, block.prefix, block.joined
            tail.painter = None
            self._count(tail)
        answer.tail = tail

    def _blocks(self, text: str) -> None:
        splitter = Splitter()
        splitter.feed(text)
        for number, block in enumerate((*splitter.take(), splitter.rest())):
            if block.source:
                gap = 0 if block.joined or not number else 1
                self._add(Part(Kind.MARKDOWN, block.source, gap=gap, prefix=block.prefix, joined=block.joined))

    def _add(self, part: Part) -> None:
        self._parts.append(part)
        self._count(part)

    def _count(self, part: Part) -> None:
        """Note that a part has come or grown, and let the oldest go if that is too much; one that is growing stays."""
        self.dirty = True
        self._chars += len(part.source)
        growing = [answer.tail for answer in self._answers.values()] if self._is_full else ()
        while self._is_full and self._parts[0] is not part and self._parts[0] not in growing:
            gone = self._parts.popleft()
            self._chars -= len(gone.source)
            self.dropped_chars += len(gone.source)

    @property
    def _is_full(self) -> bool:
        return self._chars > PAGE_CHARS or len(self._parts) > PAGE_PARTS

    # Where it stands

    def lay(self, painter: Painter, *, limit_s: float, hold: Part | None = None) -> bool:
        """Paint what is not painted, and work out where everything stands.

        Args:
            limit_s: after this time no further part is begun; one part is painted in any case.
            hold: the part to begin with, then down to the end, then upwards: what is being read. None: from the end upwards.
        Returns: whether all is painted; if not, the other parts stand nowhere yet and follow in later calls.
        """
        self.dirty = False
        end_s = time.perf_counter() + limit_s
        parts = list(self._parts)
        at = parts.index(hold) if hold is not None and hold in self._parts else len(parts)
        brush = _Brush(painter, end_s)
        below = brush.paint(parts[at:])
        above = brush.paint(reversed(parts[:at]))
        self._laid = [*reversed(above), *below]
        heights = ((part.gap if number else 0) + len(part.strips) if part.strips else 0 for number, part in enumerate(self._laid))
        self._starts = [0, *itertools.accumulate(heights)]
        return len(self._laid) == len(parts)

    def forget_lines(self) -> None:
        """Let go of what was painted, which is many times the text: the page is not on the screen any more."""
        for part in self._parts:
            part.strips, part.painter = [], None
        self._laid, self._starts = [], [0]

    @property
    def height(self) -> int:
        """Lines of all parts that are laid."""
        return self._starts[-1]

    def line(self, y: int) -> Strip | None:
        """Return one line, or None for a blank one and beyond the end."""
        if not 0 <= y < self.height:
            return None
        number = bisect_right(self._starts, y) - 1
        part = self._laid[number]
        row = y - self._starts[number + 1] + len(part.strips)
        return part.strips[row] if row >= 0 else None

    def at(self, y: int) -> tuple[Part, int] | None:
        """Return the part at a line and how far below its beginning that is, to find the place again when all has moved."""
        if not 0 <= y < self.height:
            return None
        number = bisect_right(self._starts, y) - 1
        return self._laid[number], y - self._starts[number]

    def place(self, part: Part, below: int) -> int:
        """Return the line of what `at` returned: the beginning, if the part is gone."""
        try:
            number = self._laid.index(part)
        except ValueError:
            return 0
        height = self._starts[number + 1] - self._starts[number]
        return self._starts[number] + min(below, max(height - 1, 0))


class _Brush:
    """Paints parts until its time is over, one in any case."""

    __slots__ = ("_end_s", "_painter", "_used")

    def __init__(self, painter: Painter, end_s: float) -> None:
        self._painter, self._end_s, self._used = painter, end_s, False

    def paint(self, parts: Iterable[Part]) -> list[Part]:
        """Return the parts, in this order, up to the first that there was no time for; painted ones take none."""
        done: list[Part] = []
        for part in parts:
            if part.painter is not self._painter:
                if self._used and time.perf_counter() > self._end_s:
                    break
                part.strips = self._painter.paint(part.kind, part.prefix + part.source) if part.source else []
                part.painter = self._painter
                self._used = True
            done.append(part)
        return done
