"""Take embedded commands such as `[yolla:mood happy]` out of an answer, also where one is split over several tokens.

A command is the opening, a name, an optional argument and a closing bracket, on one line and at most LONGEST_CHARS long; anything else
that looks like one is text and stays. Every command is taken out; the first MOST of those whose name is on the allow-list are remembered,
for the metadata of the answer. Pure. Memory: fewer than LONGEST_CHARS held back, and MOST commands.
"""

from __future__ import annotations

import re
from typing import Final

OPENING: Final = "[yolla:"
LONGEST_CHARS: Final = 80
MOST: Final = 10
ALLOWED: Final = frozenset({"move", "mood", "size", "gesture", "react", "show", "hide", "wander", "point"})
_COMMAND = re.compile(r"\[yolla:([a-z_]+)(?:[ :][^\[\]\n]*)?\]")


class EmbeddedCommands:
    """The commands of one answer.

    >>> filter = EmbeddedCommands()
    >>> filter.feed("Hi [yol"), filter.feed("la:mood happy] there"), filter.commands
    ('Hi ', ' there', ['mood happy'])
    """

    __slots__ = ("commands", "held", "removed_count")

    def __init__(self) -> None:
        self.held = ""  # the end of the text so far, when a command may have begun in it
        self.commands: list[str] = []
        self.removed_count = 0

    def passes(self, text: str) -> bool:
        """Tell if `feed` would give the text back as it is. HOT: once per batch."""
        return not self.held and "[" not in text

    def feed(self, text: str) -> str:
        """Give what of the text so far can be shown."""
        if self.held:
            text, self.held = self.held + text, ""
        shown: list[str] = []
        start = 0
        while (at := text.find("[", start)) >= 0:
            shown.append(text[start:at])
            candidate = text[at : at + LONGEST_CHARS]
            match = _COMMAND.match(candidate)
            if match is not None:
                self._take_out(match)
                start = at + match.end()
            elif len(candidate) < LONGEST_CHARS and _may_become_a_command(candidate):
                self.held = text[at:]
                return "".join(shown)
            else:
                shown.append("[")
                start = at + 1
        shown.append(text[start:])
        return "".join(shown)

    def flush(self) -> str:
        """Give what was held back: the answer is over, and no command came of it."""
        held, self.held = self.held, ""
        return held

    def _take_out(self, match: re.Match[str]) -> None:
        self.removed_count += 1
        if match[1] in ALLOWED and len(self.commands) < MOST:
            self.commands.append(match[0][len(OPENING) : -1])


def _may_become_a_command(text: str) -> bool:
    """Tell if more text could make a command of this one, which starts with a bracket and is none yet."""
    if len(text) <= len(OPENING):
        return OPENING.startswith(text)
    return text.startswith(OPENING) and not any(mark in text[1:] for mark in "[]\n")
