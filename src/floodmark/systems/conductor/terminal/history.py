"""What was sent before, to be called back with the arrow keys: the last `HISTORY_COUNT` texts and the draft they were left for.

Pure. A text that equals the one before it is kept once; an empty one is not kept.
"""

from __future__ import annotations

from collections import deque

HISTORY_COUNT = 50


class History:
    """A bounded list of texts with a place in it.

    >>> history = History()
    >>> history.add("one")
    >>> history.add("two")
    >>> history.older("a draft"), history.older(""), history.older(""), history.newer(), history.newer(), history.newer()
    ('two', 'one', None, 'two', 'a draft', None)
    """

    __slots__ = ("_draft", "_place", "_texts")

    def __init__(self, *, kept_count: int = HISTORY_COUNT) -> None:
        self._texts: deque[str] = deque(maxlen=kept_count)
        self._place = 0  # how far back: 0 is the draft, 1 the newest text
        self._draft = ""

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, text: str) -> None:
        """Keep a text that was sent, and stand at the draft again."""
        self._place, self._draft = 0, ""
        if text and (not self._texts or self._texts[-1] != text):
            self._texts.append(text)

    def older(self, shown: str) -> str | None:
        """Return the text before the one in place, or None at the oldest; `shown` is kept as the draft when it is left."""
        if self._place == len(self._texts):
            return None
        if self._place == 0:
            self._draft = shown
        self._place += 1
        return self._texts[-self._place]

    def newer(self) -> str | None:
        """Return the text after the one in place, at last the draft; None when that is in place already."""
        if self._place == 0:
            return None
        self._place -= 1
        return self._texts[-self._place] if self._place else self._draft
