"""One streamed answer as a script: what to write now, and how long to wait until there is more. No I/O, no clock of its own.

Text goes out by deadline, whole chunks at a time, a bounded number of them per turn, so that one answer cannot keep the loop to itself. A
chunk is due when its last token is. How the answer ends is one of ENDINGS: properly, or broken by its prompt or by a lie.
"""

from __future__ import annotations

import math
from typing import Protocol

import msgspec

from floodmark.systems.conductor.backend.numbered import Numbered, Source
from floodmark.systems.conductor.backend.pace import Pace
from floodmark.systems.conductor.backend.prose import Words
from floodmark.systems.conductor.tokens.lies import Lies
from floodmark.systems.conductor.tokens.wire import ChunkWriter

ENDINGS = ("proper", "error", "nothing", "hang")
TURN_CHUNKS = 512
TURN_BYTES = 65_536
STALL_S = 3.0
USAGE_ERROR = 7  # tokens that a wrong count is above the true one
BROKEN = "the stream broke off on purpose"


class Text(Protocol):
    """Where the tokens come from."""

    def texts(self, count: int, group: int = 1) -> list[str]: ...

    def count_of(self, piece: str) -> int: ...


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer is meant to be."""

    total: int  # tokens that an honest answer has
    stop: int  # tokens that come before the ending
    ending: str = "proper"  # one of ENDINGS
    reason: str = "stop"  # why a proper answer ends: stop or length
    rate_hz: float = 0.0
    group: int = 1  # tokens per chunk
    token_bytes: int = 16  # of text, about
    tells_usage: bool = False


def plan_of(order: Numbered | None, word_count: int, *, rate_hz: float, group: int, limit: int, tells_usage: bool) -> Plan:
    """Put together what was asked for. `rate_hz`: of prose; `limit`: the most tokens, 0 for any number."""
    asked = word_count if order is None else order.count
    total = min(asked, limit) if limit else asked
    stop, ending = total, "proper"
    if order is not None:
        for after, how in ((order.fail_after, "error"), (order.hang_after, "hang"), (order.cut_after, "nothing")):
            if 0 <= after <= stop and (after < stop or ending == "proper"):
                stop, ending = after, how
    return Plan(
        total=total,
        stop=stop,
        ending=ending,
        reason="length" if total < asked else "stop",
        rate_hz=rate_hz if order is None else order.rate,
        group=group,
        token_bytes=16 if order is None else order.size,
        tells_usage=tells_usage,
    )


def text_of(order: Numbered | None, prompt: str) -> Text:
    """The tokens of an answer."""
    return Words(prompt) if order is None else Source(order)


class Script:
    """Plays a plan, with the lie that fell to it. After every turn either `over` holds, or `wait_s` tells when to come back."""

    def __init__(self, plan: Plan, text: Text, writer: ChunkWriter, lies: Lies, start_s: float) -> None:
        self._plan = plan
        self._text = text
        self._writer = writer
        self._lies = lies
        self._pace = Pace(plan.rate_hz, start_s)
        self._turn_tokens = plan.group * max(1, min(TURN_CHUNKS, TURN_BYTES // (plan.token_bytes * plan.group)))
        self._lie = lies.of_stream(plan.total, tells_usage=plan.tells_usage) if plan.ending == "proper" else ""
        self._stop = plan.total // 2 if self._lie in ("truncate", "error", "stall") else plan.stop
        self._taken = 0  # tokens of the text that are dealt with
        self._opened = False
        self._stalls_until_s = 0.0
        self._hangs = False
        self.over = False
        self.proper = False  # whether it ended with [DONE]
        self.tokens_sent = 0  # what really went out
        self.chunks_sent = 0

    def turn(self, now_s: float) -> bytes:
        """HOT: what to write now; empty when nothing is due."""
        out = b""
        if not self._opened:
            self._opened = True
            out = self._writer.first()
        if self._hangs or now_s < self._stalls_until_s:
            return out
        due = min(self._pace.due_count(now_s, self._stop), self._taken + self._turn_tokens)
        count = due - self._taken
        if due < self._stop:
            count -= count % self._plan.group
        if count > 0:
            out += self._chunks(count)
        if self._taken >= self._stop:
            out += self._end(now_s)
        return out

    def wait_s(self, now_s: float) -> float:
        """How long nothing will be due; infinite for an answer that hangs."""
        if self._hangs:
            return math.inf
        if now_s < self._stalls_until_s:
            return self._stalls_until_s - now_s
        return self._pace.wait_s(min(self._taken + self._plan.group, self._stop), now_s)

    def pause_s(self, now_s: float) -> float:
        """How long to rest after a turn that wrote something; 0 while it has left something that was due."""
        if self.over or (not self._hangs and now_s >= self._stalls_until_s and self._pace.due_count(now_s, self._stop) > self._taken):
            return 0.0
        return self.wait_s(now_s)

    def _chunks(self, count: int) -> bytes:
        pieces = self._text.texts(count, self._plan.group)
        self._taken += count
        if self._lies.of_chunks and not self._lie and self._plan.ending == "proper":
            honest = pieces
            pieces = self._lies.edit(pieces)
            if len(pieces) != len(honest) or pieces != honest:
                count = sum(map(self._text.count_of, pieces))
        sent_before = self.tokens_sent
        self.tokens_sent += count
        self.chunks_sent += len(pieces)
        return self._writer.chunks(pieces, self._text.count_of, sent_before) if pieces else b""

    def _end(self, now_s: float) -> bytes:
        """The text is out up to where something happens."""
        plan, lie = self._plan, self._lie
        if lie == "stall" and not self._stalls_until_s:
            self._lies.tell(lie)
            self._stalls_until_s = now_s + STALL_S
            self._pace.start_s += STALL_S
            self._stop = plan.total
            return b""
        if lie and lie != "stall":
            self._lies.tell(lie)
        ending = {"error": "error", "no-end": "nothing"}.get(lie, plan.ending)
        if ending == "hang":
            self._hangs = True
            return b""
        self.over = True
        if ending == "error":
            return self._writer.error(BROKEN)
        if ending == "nothing":
            return b""
        self.proper = True
        usage = plan.total + USAGE_ERROR if lie == "usage" else plan.total
        out = self._writer.end(plan.reason, usage if plan.tells_usage else None)
        return out + self._more() if lie == "after" else out

    def _more(self) -> bytes:
        """A chunk that nobody should see: it says no token that was not said before."""
        self.chunks_sent += 1
        return self._writer.chunks(["after the end"], self._text.count_of, self.tokens_sent)

    def abandon(self) -> None:
        """The client is gone: a lie that was not told is free for another stream."""
        if self._lie and not self.over and not self._stalls_until_s:
            self._lies.give_back(self._lie)
