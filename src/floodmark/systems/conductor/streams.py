"""Many token streams, polled fairly and never waited for.

One `poll` moves a bounded number of tokens from the backends towards the surface, shared by priority, with twice the share for the stream
in focus; the order changes from poll to poll, so that none starves. What the surface has no room for stays with the backend (`HOLD`), or
waits here in a buffer that overflows as declared. With a throttle, tokens gather here and come at most once per interval, earlier when the
buffer is full. INVARIANT: whatever still waits here comes before the end of its stream, whatever the throttle says.

Pure but for the clock that is handed in: no task, no timer, no await; `next_due_s` says when to poll although nothing arrives.
Memory per stream: `buffer_count` tokens, and about `buffer_chars` characters; a poll may go over them by what it moves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from floodmark.core.clock import Clock
from floodmark.systems.conductor.backend.base import Complete, TokenStream
from floodmark.systems.conductor.errors import StreamExistsError, StreamLimitError
from floodmark.systems.conductor.settings import Overflow, StreamSettings

FOCUS_FACTOR: Final = 2
POLL_CHARS: Final = 1024 * 1024  # characters that one poll moves, more or less: long tokens make a poll no longer than short ones do
END_SLOTS: Final = 5  # events that the end of a stream may become: text held back, the end, a notice, two states


class Tokens(NamedTuple):
    """Text that arrived, in order; `counts` says how many tokens each text holds, None that each holds one."""

    stream_id: str
    texts: list[str]
    counts: list[int] | None


class Completed(NamedTuple):
    stream_id: str
    complete: Complete


class Errored(NamedTuple):
    stream_id: str
    reason: str


class BufferOverflow(NamedTuple):
    """So many tokens did not fit since the last poll, and were dropped or made one."""

    stream_id: str
    tokens_count: int
    policy: Overflow


StreamEvent: TypeAlias = Tokens | Completed | Errored | BufferOverflow


class _Lane:
    """One stream on its way through."""

    __slots__ = ("active_s", "chars", "folded", "folded_count", "id", "priority", "released_s", "stream", "texts")

    def __init__(self, stream_id: str, stream: TokenStream, priority: int, now_s: float) -> None:
        self.id, self.stream, self.priority = stream_id, stream, priority
        self.texts: list[str] = []
        self.folded: list[str] = []  # the oldest tokens, to become one text
        self.folded_count = 0
        self.chars = 0  # in both
        self.released_s = -math.inf
        self.active_s = now_s

    @property
    def waiting_count(self) -> int:
        """Texts that wait here; what is folded is one."""
        return len(self.texts) + (1 if self.folded else 0)


def shares(wants: Sequence[int], weights: Sequence[int], limit: int) -> list[int]:
    """Divide `limit` by weight, nobody getting more than wanted; what is left over goes to the first who want it.

    >>> shares([500, 500, 3], [100, 50, 50], 256), shares([1, 2], [1, 1], 256)
    ([189, 64, 3], [1, 2])
    """
    if sum(wants) <= limit:
        return list(wants)
    total = sum(weight for want, weight in zip(wants, weights, strict=True) if want) or 1
    given = [min(want, limit * weight // total) for want, weight in zip(wants, weights, strict=True)]
    left = limit - sum(given)
    for place, want in enumerate(wants):
        more = min(left, want - given[place])
        given[place] += more
        left -= more
    return given


def ready_count(stream: TokenStream, chars_limit: int) -> int:
    """Count the tokens that a poll may take: all there are, or about as many as have `chars_limit` characters, and at least one."""
    count, chars = stream.available_count, stream.chars_count
    return count if chars <= chars_limit else max(1, count * chars_limit // chars)


class StreamManager:
    """The streams of one conductor.

    Args:
        settings: how many, how much waits, what happens beyond.
        clock: for the throttle and for streams that hang.
        wake: called whenever there may be something to poll.
    """

    def __init__(self, settings: StreamSettings, clock: Clock, wake: Callable[[], None]) -> None:
        self.settings, self._clock, self._wake = settings, clock, wake
        self._lanes: dict[str, _Lane] = {}
        self._turn = 0
        self.throttled = False
        self.focus_id: str | None = None
        self.moved_count = 0  # tokens that the last poll took from backends
        self.buffered_max = 0
        self.dropped_count = 0
        self.concatenated_count = 0

    def __len__(self) -> int:
        return len(self._lanes)

    def __contains__(self, stream_id: str) -> bool:
        return stream_id in self._lanes

    def check(self, stream_id: str) -> None:
        """Raise StreamExistsError or StreamLimitError when `start` would."""
        if stream_id in self._lanes:
            raise StreamExistsError(stream_id)
        if len(self._lanes) >= self.settings.limit_count:
            raise StreamLimitError(self.settings.limit_count)

    def start(self, stream_id: str, stream: TokenStream, *, priority: int = 50) -> None:
        """Poll one more stream from now on."""
        self.check(stream_id)
        self._lanes[stream_id] = _Lane(stream_id, stream, priority, self._clock.now_s())
        stream.listen(self._wake)
        self._wake()

    def cancel(self, stream_id: str) -> bool:
        """Stop a stream at once; what it still held is dropped. Returns: whether there was one."""
        lane = self._lanes.pop(stream_id, None)
        if lane is None:
            return False
        lane.stream.listen(None)
        lane.stream.cancel()
        return True

    def cancel_all(self) -> list[str]:
        """Stop every stream. Returns: which there were."""
        stopped = list(self._lanes)
        for stream_id in stopped:
            self.cancel(stream_id)
        return stopped

    def next_due_s(self) -> float | None:
        """Say in how many seconds a poll is due although nothing arrives; None for never."""
        if not self._lanes:
            return None
        now_s, settings = self._clock.now_s(), self.settings
        due_s = math.inf
        for lane in self._lanes.values():
            if lane.waiting_count:
                due_s = min(due_s, lane.released_s + settings.throttle_s)
            else:
                due_s = min(due_s, lane.active_s + settings.idle_limit_s)
        return max(0.0, due_s - now_s)

    def poll(self, *, take_limit: int, slots: int, coalesced: bool = False) -> list[StreamEvent]:
        """Move what there is, without waiting.

        Args:
            take_limit: tokens to take from backends, and to give on, at most.
            slots: events that the surface has room for: one per text, or per stream when `coalesced`; END_SLOTS per end.
            coalesced: the texts of one stream will be one event.
        """
        self.moved_count = 0
        if not self._lanes:
            return []
        lanes = self._in_turn()
        now_s = self._clock.now_s()
        events: list[StreamEvent] = []
        if self.throttled or self.settings.overflow is not Overflow.HOLD:
            self._gather(lanes, take_limit, now_s)
            slots = self._release(lanes, take_limit, slots, coalesced, now_s, events)
            self._overflow(lanes, events)
        else:
            slots = self._pass_through(lanes, take_limit, slots, coalesced, now_s, events)
        self._end(lanes, slots, now_s, events)
        return events

    def _in_turn(self) -> list[_Lane]:
        lanes = list(self._lanes.values())
        if len(lanes) == 1:
            return lanes
        self._turn = (self._turn + 1) % len(lanes)
        return lanes[self._turn :] + lanes[: self._turn]

    def _shares(self, lanes: list[_Lane], wants: list[int], limit: int) -> list[int]:
        weights = [lane.priority * (FOCUS_FACTOR if lane.id == self.focus_id else 1) for lane in lanes]
        return shares(wants, weights, limit)

    def _pass_through(
        self, lanes: list[_Lane], take_limit: int, slots: int, coalesced: bool, now_s: float, events: list[StreamEvent]
    ) -> int:
        """Give tokens on as they are taken: nothing waits here. HOT: once per poll."""
        chars_limit = POLL_CHARS // len(lanes)
        wants = [ready_count(lane.stream, chars_limit) for lane in lanes]
        given = self._shares(lanes, wants, take_limit if coalesced else min(take_limit, slots))
        for lane, want, count in zip(lanes, wants, given, strict=True):
            if want or lane.waiting_count:
                lane.active_s = now_s
            if lane.waiting_count:  # what gathered while there was a throttle goes first
                slots = self._release([lane], take_limit, slots, coalesced, now_s, events)
            elif count > 0 and slots > 0:
                texts = lane.stream.take(count if coalesced else min(count, slots))  # what gathered before may have taken some
                self.moved_count += len(texts)
                slots -= 1 if coalesced else len(texts)
                events.append(Tokens(lane.id, texts, None))
        return slots

    def _gather(self, lanes: list[_Lane], take_limit: int, now_s: float) -> None:
        """Take what has arrived into the buffers. HOT: once per poll."""
        wants: list[int] = []
        chars_limit = POLL_CHARS // len(lanes)
        for lane in lanes:
            available = ready_count(lane.stream, chars_limit)
            if available or lane.waiting_count:
                lane.active_s = now_s
            wants.append(min(available, self._room_for(lane)))
        for lane, count in zip(lanes, self._shares(lanes, wants, take_limit), strict=True):
            if count <= 0:
                continue
            texts = lane.stream.take(count)
            self.moved_count += len(texts)
            lane.texts += texts
            lane.chars += sum(map(len, texts))
            self.buffered_max = max(self.buffered_max, len(lane.texts))

    def _room_for(self, lane: _Lane) -> int:
        if lane.chars >= self.settings.buffer_chars:
            return 0
        if self.settings.overflow is Overflow.HOLD:
            return self.settings.buffer_count - len(lane.texts)
        return lane.stream.available_count

    def _overflow(self, lanes: list[_Lane], events: list[StreamEvent]) -> None:
        """Do what was declared with the tokens that the surface did not take and that are too many to wait."""
        policy = self.settings.overflow
        for lane in lanes:
            over = len(lane.texts) - self.settings.buffer_count
            if over <= 0:
                continue
            events.append(BufferOverflow(lane.id, over, policy))
            at = slice(-over, None) if policy is Overflow.DROP_NEWEST else slice(over)
            gone = lane.texts[at]
            del lane.texts[at]
            if policy is Overflow.CONCATENATE:
                lane.folded.append("".join(gone))
                lane.folded_count += over
                self.concatenated_count += over
            else:
                lane.chars -= sum(map(len, gone))
                self.dropped_count += over

    def _release(self, lanes: list[_Lane], limit: int, slots: int, coalesced: bool, now_s: float, events: list[StreamEvent]) -> int:
        """Give on what waits in the buffers and is due."""
        settings = self.settings
        throttle_s = settings.throttle_s if self.throttled else 0.0
        wants = [
            lane.waiting_count if lane.stream.finished or self._is_full(lane) or now_s - lane.released_s >= throttle_s else 0
            for lane in lanes
        ]
        for lane, count in zip(lanes, self._shares(lanes, wants, limit if coalesced else min(limit, slots)), strict=True):
            if count <= 0 or slots <= 0:
                continue
            counts: list[int] | None = None
            if lane.folded:
                texts = ["".join(lane.folded), *lane.texts[: count - 1]]
                counts = [lane.folded_count] + [1] * (len(texts) - 1)
                del lane.texts[: count - 1]
                lane.folded, lane.folded_count = [], 0
            else:
                texts = lane.texts[:count]
                del lane.texts[:count]
            lane.chars -= sum(map(len, texts))
            if not lane.texts:
                lane.released_s = now_s
            slots -= 1 if coalesced else len(texts)
            events.append(Tokens(lane.id, texts, counts))
        return slots

    def _is_full(self, lane: _Lane) -> bool:
        return len(lane.texts) >= self.settings.buffer_count or lane.chars >= self.settings.buffer_chars

    def _end(self, lanes: list[_Lane], slots: int, now_s: float, events: list[StreamEvent]) -> None:
        for lane in lanes:
            if slots < END_SLOTS:
                return
            if lane.waiting_count or lane.stream.available_count:
                continue
            terminal = lane.stream.terminal
            if terminal is None:
                if now_s - lane.active_s < self.settings.idle_limit_s:
                    continue
                self.cancel(lane.id)
                events.append(Errored(lane.id, f"hung: the backend gave nothing for {self.settings.idle_limit_s:g} s"))
            else:
                del self._lanes[lane.id]
                lane.stream.listen(None)
                events.append(Completed(lane.id, terminal) if isinstance(terminal, Complete) else Errored(lane.id, terminal.reason))
            slots -= END_SLOTS
