"""What is done to a fleet while it is under load: a script of words, each with its time, as the driver option `script` holds it.

`0 start 3; 5 kill leader; 5.05 start 1; 20 refresh add=20`. Seconds count from the first measured message; the words at 0 come before it:
they bring the fleet up, and the load waits until it stands. Words at one time are said one after the other. A worker is an id, a number
(the n-th that was started), `leader`, `follower`, or `same`: whom `pause`, `isolate` or `mute` struck last, for the word that undoes it.

Pure: whoever says them is `fleet.py`, whoever does them the host; what became of them stands in the record (`fleet_record.py`).
"""

from __future__ import annotations

import difflib
import itertools
import math
from typing import Any

import msgspec

from floodmark.core.errors import UsageError

WHO = "worker"
SAME = "same"
OPPOSITES = {"resume": "pause", "heal": "isolate", "unmute": "mute"}
WORDS: dict[str, tuple[tuple[str, ...], str]] = {
    "start": (("count",), "start so many workers (default 1)"),
    "stop": ((WHO, "count"), "let a worker leave, or `count=N` of them"),
    "kill": ((WHO,), "SIGKILL its process"),
    "pause": ((WHO,), "SIGSTOP its process"),
    "resume": ((WHO,), "SIGCONT it"),
    "isolate": ((WHO,), "cut it off from NATS"),
    "heal": ((WHO,), "let it through again"),
    "slow": ((WHO, "factor"), "multiply the period of its heartbeats"),
    "mute": ((WHO,), "send no heartbeats, and go on working"),
    "unmute": ((WHO,), "send them again"),
    "refresh": (("add", "remove", "double"), "add partitions, remove the last ones, double the weight of the first ones"),
    "server_kill": (("for_s",), "kill nats-server; it is started again after so many seconds (default 1)"),
    "server_restart": ((), "end nats-server gently, and start it again"),
    "measure": ((), "read the memory and the tasks of all workers, by the driver itself"),
}
"""Word -> (its arguments in the order in which they may stand without a name, what it does)."""
NEEDED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("kill", "pause", "resume", "isolate", "heal", "mute", "unmute"), (WHO,)),
    "slow": (WHO, "factor"),
}
Argument = int | float | str


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One word: when, what, and with what."""

    at_s: float
    word: str
    arguments: dict[str, Argument]

    def request(self) -> dict[str, Any]:
        """What the host is sent."""
        return {"do": self.word, **self.arguments}

    def __str__(self) -> str:
        return " ".join([f"{self.at_s:g}", self.word, *(f"{name}={value}" for name, value in self.arguments.items())])


def parse_script(text: str) -> tuple[Line, ...]:
    """Read a script; empty text is an empty one.

    Raises: UsageError for a word, an argument or a time that there is none of, and for times that go back.

    >>> [str(line) for line in parse_script("0 start 3; 5 kill leader")]
    ['0 start count=3', '5 kill worker=leader']
    """
    lines = [_line(part) for part in (part.strip() for part in text.split(";")) if part]
    for before, after in itertools.pairwise(lines):
        if after.at_s < before.at_s:
            raise UsageError(f"script: {str(after)!r} stands behind {str(before)!r}, which is later; put words in the order of their times")
    return tuple(lines)


def _line(part: str) -> Line:
    words = part.split()
    try:
        at_s = float(words[0])
    except ValueError:
        at_s = math.nan
    if not 0 <= at_s < math.inf or len(words) < 2:
        raise UsageError(f"script: {part!r} is not SECONDS WORD ARGUMENTS, such as '5 kill leader'")
    word = words[1]
    if word not in WORDS:
        near = difflib.get_close_matches(word, WORDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"words: {', '.join(WORDS)}"
        raise UsageError(f"script: {part!r}: unknown word {word!r}; {hint}")
    arguments = _arguments(part, word, words[2:])
    if arguments.get(WHO) == SAME and word not in OPPOSITES:
        raise UsageError(f"script: {part!r}: 'same' is for {', '.join(OPPOSITES)}, which undo what was done to somebody")
    missing = [name for name in NEEDED.get(word, ()) if name not in arguments]
    if missing:
        raise UsageError(f"script: {part!r} lacks {' and '.join(missing)}")
    return Line(at_s=at_s, word=word, arguments=arguments)


def _arguments(part: str, word: str, given: list[str]) -> dict[str, Argument]:
    names, found = WORDS[word][0], dict[str, Argument]()
    for place, text in enumerate(given):
        name, equals, value = text.partition("=")
        if not equals:
            name, value = names[place] if place < len(names) else "", text
        if name not in names:
            allowed = ", ".join(names) or "no arguments"
            raise UsageError(f"script: {part!r}: {word} takes {allowed}, not {text!r}")
        if name in found:
            raise UsageError(f"script: {part!r} gives {name} twice")
        found[name] = value if name == WHO and not value.isdecimal() else _number(part, name, value)
    return found


def _number(part: str, name: str, text: str) -> int | float:
    """Read a number: a count is whole, what is measured need not be."""
    whole = name not in ("factor", "for_s")
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = -1
    if not 0 < value < math.inf and not (name == WHO and value == 0):
        raise UsageError(f"script: {part!r}: {name} must be a {'whole ' if whole else ''}number above 0, got {text!r}")
    return value
