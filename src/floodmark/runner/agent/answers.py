"""Take in answers: which tokens of each came, when, and how each answer ended.

It is the agent's `AskingSink`. Numbered text becomes deliveries, one for each token, which go the way of all others (`Intake`, `Accounts`,
the judge); text that nobody knows beforehand becomes one delivery for each answer that ended properly. What is owed is settled when an
answer ends, not before, so that an answer cut off by us is never held against the target:

    it ended properly, or the target failed it     every token is acknowledged: what did not come is lost
    refused, or never accepted                     none is: the send failed
    we left, or came back to a lost connection     what came is acknowledged, the rest is indeterminate

HOT: `text` and `chunks` put pieces aside; everything else happens once per `flush`, for runs of tokens, never one by one. Memory: at most
`PIECES_BYTES` wait to be read; an answer keeps a few numbers and what its text is compared with (ledger/numbered.py).
"""

from __future__ import annotations

import enum
import time
from collections import Counter
from collections.abc import Callable

import numpy as np

from floodmark.drivers.asking import CUT_OFF
from floodmark.ledger.histogram import Histogram
from floodmark.ledger.inbox import Bools, Deliveries, Ints
from floodmark.ledger.numbered import Text
from floodmark.ledger.publications import Publications
from floodmark.runner.agent.receiving import Intake
from floodmark.runner.agent.terms import Terms
from floodmark.runner.wire import Answered

PIECES_BYTES = 65_536
PIECES_COUNT = 1024
LEFT_COUNT = 100_000
REASONS_COUNT = 1000


class Ending(enum.Enum):
    """How an answer ended: by itself, by the target's doing, before it was accepted, by ours, or not at all."""

    COMPLETED, FAILED, REFUSED, LEFT, HUNG = range(5)


class Answer:
    """One request and what came for it. Numbers of tokens are [`first`, `end`); without numbered text that is one message."""

    __slots__ = (
        "accepted_ns",
        "acked",
        "channel",
        "chunk_bytes_max",
        "chunk_count",
        "connection",
        "count",
        "declared_count",
        "end",
        "ending",
        "first",
        "first_ns",
        "gap_max_ns",
        "intended_ns",
        "last_ns",
        "pieces",
        "queued",
        "reason",
        "sent_ns",
        "slot",
        "text",
        "token",
        "token_count",
        "told_count",
        "untouched",
    )

    def __init__(self, *, token: int, slot: int, channel: int, connection: object, first: int, end: int, count: int) -> None:
        self.token, self.slot, self.channel, self.connection = token, slot, channel, connection
        self.first, self.end, self.count = first, end, count
        self.acked = first
        self.intended_ns = self.sent_ns = self.accepted_ns = self.first_ns = self.last_ns = self.gap_max_ns = 0
        self.text: Text | None = None
        self.pieces: list[tuple[bytes, int]] = []
        self.queued = False
        self.chunk_count = self.chunk_bytes_max = self.declared_count = self.token_count = 0
        self.told_count = -1
        self.untouched = True
        """Whether all that came so far is what was asked for, in order."""
        self.ending: Ending | None = None
        self.reason = ""


class Answers:
    """All answers of one agent. `forgiving`: clients come back by themselves, so a connection that was lost excuses what was on it."""

    def __init__(self, *, terms: Terms, publications: Publications, intake: Intake, run: int, nobody: int, forgiving: bool) -> None:
        self.live: dict[int, Answer] = {}
        self.ack, self.ttft, self.gap, self.stream_time = Histogram(), Histogram(), Histogram(), Histogram()
        self.refused: Counter[str] = Counter()
        self.failed_for: Counter[str] = Counter()
        self.odd_for: Counter[str] = Counter()
        self.asked_count = self.completed_count = self.failed_count = self.unanswered_count = self.left_count = 0
        self.stall_count = self.odd_count = self.usage_count = self.usage_wrong_count = 0
        self.chunk_count = self.token_count = self.good_count = self.good_token_count = self.paced_count = 0
        self.chunk_tokens_max = self.pace_error_max = 0.0
        self.moved_ns = 0
        """When anything last came."""
        self.on_ended: Callable[[Answer], None] = lambda answer: None
        """Told of each answer that ended, at once."""
        self._terms = terms
        self._publications = publications
        self._intake = intake
        self._run = run
        self._nobody = nobody
        self._forgiving = forgiving
        self._period_ns = 1e9 / terms.rate_hz if terms.rate_hz else 0.0
        self._dirty: list[Answer] = []
        self._waiting_bytes = self._waiting_count = 0
        self._runs: list[tuple[int, int, int, int, int, int, int, int]] = []
        self._gaps_ns: list[int] = []
        self._no_gap_count = 0
        self._ttft_ns: list[int] = []
        self._ack_ns: list[int] = []
        self._stream_ns: list[int] = []
        self._left: dict[int, None] = {}
        self._over = False

    def close_up(self) -> Answered:
        """What the runner is told of them."""
        return Answered(
            ttft=self.ttft.to_wire(),
            token_gap=self.gap.to_wire(),
            stream_time=self.stream_time.to_wire(),
            figures={
                "streams": self.asked_count,
                "streams_completed": self.completed_count,
                "streams_failed": self.failed_count,
                "left": self.left_count,
                "stalls": self.stall_count,
                "odd_events": self.odd_count,
                "usages": self.usage_count,
                "usage_wrong": self.usage_wrong_count,
                "chunks": self.chunk_count,
                "tokens": self.token_count,
                "good_streams": self.good_count,
                "good_tokens": self.good_token_count,
                "paced": self.paced_count,
            },
            worst={"tokens_per_chunk": self.chunk_tokens_max, "pace_error": self.pace_error_max},
        )

    # -- what connections tell --------------------------------------------------------------------------------------------------------

    def begin(self, answer: Answer) -> None:
        """A request was sent."""
        self.asked_count += 1
        if self._terms.numbered:
            self._read_from(answer)
        self.live[answer.token] = answer

    def accepted(self, token: int) -> None:
        """The target took a request."""
        answer = self.live.get(token)
        if answer is not None and not answer.accepted_ns:
            self._accept(answer, time.monotonic_ns())

    def text(self, token: int, data: bytes, chunk_tokens: int, received_ns: int) -> None:
        """HOT: once per chunk."""
        self._take(token, data, 1, len(data), chunk_tokens, received_ns)

    def chunks(self, token: int, texts: list[bytes], received_ns: int) -> None:
        """HOT: once per read that brought many chunks; they are joined first."""
        if texts:
            self._take(token, b"".join(texts), len(texts), max(map(len, texts)), 0, received_ns)

    def _take(self, token: int, data: bytes, chunk_count: int, longest_bytes: int, declared_count: int, received_ns: int) -> None:
        answer = self.live.get(token)
        if answer is None:
            self.odd(token, "text after the end")
            return
        if answer.last_ns:
            gap_ns = received_ns - answer.last_ns
            self._gaps_ns.append(gap_ns)
            if gap_ns > answer.gap_max_ns:
                answer.gap_max_ns = gap_ns
        else:
            self._begin_text(answer, received_ns)
        self._no_gap_count += chunk_count - 1
        answer.last_ns = received_ns
        answer.chunk_count += chunk_count
        answer.declared_count += declared_count
        if longest_bytes > answer.chunk_bytes_max:
            answer.chunk_bytes_max = longest_bytes
        answer.pieces.append((data, received_ns))
        self._waiting_bytes += len(data)
        self._waiting_count += 1
        if not answer.queued:
            answer.queued = True
            self._dirty.append(answer)

    def finished(self, token: int, tokens_told: int) -> None:
        """An answer ended properly."""
        answer = self.live.pop(token, None)
        if answer is None:
            self.odd(token, "a second terminal event")
            return
        answer.told_count = tokens_told
        self._end(answer, Ending.COMPLETED, "")

    def failed(self, token: int, reason: str) -> None:
        """An answer ended otherwise, by the target's doing."""
        answer = self.live.pop(token, None)
        if answer is None:
            self.odd(token, f"after its end: {reason}")
            return
        lost = answer.accepted_ns or reason.startswith(CUT_OFF)
        self._end(answer, Ending.FAILED if lost else Ending.REFUSED, reason)

    def odd(self, token: int, what: str) -> None:
        """Something came that should not have."""
        if token in self._left or self._over:
            return
        self.odd_count += 1
        _note(self.odd_for, f"odd: {what}")

    def gone(self, connection: object, reason: str, *, ours: bool) -> None:
        """A connection is gone, and with it the answers that were on it."""
        for answer in [answer for answer in self.live.values() if answer.connection is connection]:
            self.leave(answer) if ours else self.failed(answer.token, reason if reason.startswith(CUT_OFF) else CUT_OFF + reason)

    def leave(self, answer: Answer) -> None:
        """An answer ends by our doing; what still comes of it is nobody's fault."""
        if self.live.pop(answer.token, None) is None:
            return
        self._left[answer.token] = None
        if len(self._left) > LEFT_COUNT:
            del self._left[next(iter(self._left))]
        self._end(answer, Ending.LEFT, "")

    def never_came(self, count: int, why: str) -> None:
        """So many requests could not even be sent, by the target's doing."""
        self.unanswered_count += count
        if count:
            self.failed_for[f"not asked, {why}"] += count

    def give_up(self) -> None:
        """The end of the drain: answers that have not ended are over, and nothing is taken in any more."""
        now_ns = time.monotonic_ns()
        for answer in list(self.live.values()):
            del self.live[answer.token]
            if not self._over and now_ns - (answer.last_ns or answer.accepted_ns or answer.sent_ns) > self._terms.stall_ns:
                self.stall_count += 1
            self._end(answer, Ending.HUNG, "never ended")
        self.flush()
        self._over = True

    # -- once per chunk or answer, but only the first or the last -----------------------------------------------------------------------

    def _read_from(self, answer: Answer) -> None:
        answer.text = Text(stream=answer.channel, first=answer.first, size=self._terms.size_of(answer.channel))

    def _accept(self, answer: Answer, now_ns: int) -> None:
        answer.accepted_ns = now_ns
        self.moved_ns = now_ns
        self._ack_ns.append(now_ns - answer.sent_ns)

    def _begin_text(self, answer: Answer, received_ns: int) -> None:
        if not answer.accepted_ns:  # text says it too
            self._accept(answer, received_ns)
        answer.first_ns = received_ns
        self._ttft_ns.append(received_ns - answer.intended_ns)

    def _end(self, answer: Answer, ending: Ending, reason: str) -> None:
        now_ns = time.monotonic_ns()
        self.moved_ns = now_ns
        answer.ending, answer.reason = ending, reason
        last_ns = answer.last_ns or answer.accepted_ns
        if ending in (Ending.COMPLETED, Ending.FAILED) and last_ns and now_ns - last_ns > self._terms.stall_ns:
            self.stall_count += 1
        if ending is Ending.COMPLETED:
            if not answer.accepted_ns:
                self._accept(answer, now_ns)
            self._stream_ns.append(now_ns - answer.intended_ns)
        if not answer.queued:
            answer.queued = True
            self._dirty.append(answer)
        self.on_ended(answer)

    # -- once per batch -----------------------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """HOT: at the end of each read."""
        if self._waiting_bytes >= PIECES_BYTES or self._waiting_count >= PIECES_COUNT:
            self.flush()

    def flush(self) -> None:
        """Read what has come, and settle what has ended."""
        if not self._dirty:
            return
        dirty, self._dirty = self._dirty, []
        self._waiting_bytes = self._waiting_count = 0
        self._show(dirty)
        for answer in dirty:
            answer.queued = False
            if answer.last_ns > self.moved_ns:
                self.moved_ns = answer.last_ns
            pieces, answer.pieces = answer.pieces, []
            if answer.text is not None and pieces:
                self._read(answer, answer.text, pieces)
            if answer.ending is not None:
                self._settle(answer)
        self._deliver()
        self._settle_times()

    def _show(self, dirty: list[Answer]) -> None:
        """Let those see the bytes who count them: slow readers, and faults that wait for something to come."""
        if self._intake.on_frames:
            frames = [(answer.slot, data, received_ns) for answer in dirty for data, received_ns in answer.pieces]
            for look in self._intake.on_frames:
                look(frames)

    def _read(self, answer: Answer, text: Text, pieces: list[tuple[bytes, int]]) -> None:
        before = answer.token_count
        for place, (data, received_ns) in enumerate(pieces):  # HOT: once per piece
            first = text.due_seq
            count = text.follow(data)
            if count < 0:
                self._read_odd(answer, text, pieces[place:])
                break
            if count:
                answer.token_count += count
                self._put_run(answer, first, count, received_ns)
        self.token_count += answer.token_count - before
        owed = min(text.due_seq, answer.end)
        if owed > answer.acked and not self._over:
            self._publications.acknowledged_range(answer.channel, answer.acked, owed, pieces[-1][1])
            answer.acked = owed

    def _put_run(self, answer: Answer, first: int, count: int, received_ns: int) -> None:
        """HOT: once per piece. Tokens beyond those asked for are of nobody."""
        inside = min(count, max(0, answer.end - first))
        if inside:
            self._runs.append((answer.slot, answer.channel, first, inside, answer.first, answer.intended_ns, answer.sent_ns, received_ns))
        if inside < count:
            answer.untouched = False
            self._runs.append(
                (answer.slot, self._nobody, first + inside, count - inside, answer.first, answer.intended_ns, answer.sent_ns, received_ns)
            )

    def _read_odd(self, answer: Answer, text: Text, pieces: list[tuple[bytes, int]]) -> None:
        """Read text that is not what was expected, token by token."""
        answer.untouched = False
        seqs, intact, ends = text.examine(b"".join([data for data, _ in pieces]))
        came = np.cumsum([len(data) for data, _ in pieces])
        places = np.minimum(np.searchsorted(came, ends), len(pieces) - 1)
        self._put_odd(answer, seqs, intact, np.array([received_ns for _, received_ns in pieces], np.int64)[places])

    def _put_odd(self, answer: Answer, seqs: Ints, intact: Bools, received_ns: Ints) -> None:
        self._deliver()
        answer.token_count += len(seqs)
        if not len(seqs):
            return
        offsets_ns = self._offsets_ns(seqs - answer.first)
        beyond = seqs >= answer.end
        self._intake.take(
            Deliveries(
                slot=np.full(len(seqs), answer.slot, np.int64),
                run=np.full(len(seqs), self._run, np.int64),
                publisher=np.where(beyond & intact, self._nobody, answer.channel),
                seq=seqs,
                intended_ns=np.minimum(answer.intended_ns + offsets_ns, received_ns),
                sent_ns=np.minimum(answer.sent_ns + offsets_ns, received_ns),
                received_ns=received_ns,
                intact=intact,
                readable=np.ones(len(seqs), np.bool_),
            )
        )

    def _offsets_ns(self, indices: Ints) -> Ints:
        """When each token is due after its request, by its place in the answer."""
        offsets: Ints = (np.maximum(indices, 0) * self._period_ns).astype(np.int64)
        return offsets

    def _deliver(self) -> None:
        """HOT: once per flush. Make one batch of all runs of tokens that are as they should be."""
        if not self._runs:
            return
        columns = np.array(self._runs, np.int64).T
        self._runs.clear()
        counts = columns[3]
        slot, publisher, _, _, answer_first, intended_ns, sent_ns, received_ns = np.repeat(columns, counts, axis=1)
        total = len(slot)
        seq = np.arange(total, dtype=np.int64) + np.repeat(columns[2] - (np.cumsum(counts) - counts), counts)
        if self._period_ns:
            # What comes ahead of its time has waited for nothing; whether the pace was kept is another metric's matter.
            offsets_ns = self._offsets_ns(seq - answer_first)
            intended_ns = np.minimum(intended_ns + offsets_ns, received_ns)
            sent_ns = np.minimum(sent_ns + offsets_ns, received_ns)
        self._intake.take(
            Deliveries(
                slot=slot,
                run=np.full(total, self._run, np.int64),
                publisher=publisher,
                seq=seq,
                intended_ns=intended_ns,
                sent_ns=sent_ns,
                received_ns=received_ns,
                intact=np.ones(total, np.bool_),
                readable=np.ones(total, np.bool_),
            )
        )

    # -- once per answer ----------------------------------------------------------------------------------------------------------------

    def _settle(self, answer: Answer) -> None:
        """Say what became of an answer that has ended and whose text has been read."""
        if self._over:
            return
        if answer.text is not None:
            seqs, intact = answer.text.finish()
            if answer.ending is not Ending.LEFT and len(seqs):
                answer.untouched = False
                self._put_odd(answer, seqs, intact, np.full(len(seqs), answer.last_ns, np.int64))
        elif answer.ending is Ending.COMPLETED:
            self._runs.append(
                (answer.slot, answer.channel, answer.first, 1, answer.first, answer.intended_ns, answer.sent_ns, time.monotonic_ns())
            )
        self._owe(answer)
        self._count(answer)
        answer.text = None

    def _owe(self, answer: Answer) -> None:
        excused = answer.ending is Ending.LEFT or (self._forgiving and answer.reason.startswith(CUT_OFF))
        if answer.accepted_ns and not excused:
            self._publications.acknowledged_range(answer.channel, answer.acked, answer.end, time.monotonic_ns())
        else:
            self._publications.failed_range(answer.channel, answer.acked, answer.end)

    def _count(self, answer: Answer) -> None:
        match answer.ending:
            case Ending.COMPLETED:
                self.completed_count += 1
            case Ending.REFUSED:
                _note(self.refused, answer.reason)
            case Ending.LEFT:
                self.left_count += 1
            case _ if answer.accepted_ns:
                self.failed_count += 1
                _note(self.failed_for, answer.reason)
            case _:
                self.unanswered_count += 1
                _note(self.failed_for, f"not accepted, {answer.reason}")
        if answer.chunk_count:
            self._count_chunks(answer)
        if answer.ending is Ending.COMPLETED:
            self._count_usage(answer)
            self._hold_to_terms(answer)

    def _count_chunks(self, answer: Answer) -> None:
        """Of unknown text only the target can tell how many tokens it is; chunks are no tokens."""
        if self._terms.numbered:
            self.chunk_tokens_max = max(self.chunk_tokens_max, answer.chunk_bytes_max / self._terms.size_of(answer.channel))
        else:
            answer.token_count = answer.declared_count or max(answer.told_count, 0)
            self.token_count += answer.token_count
        if answer.token_count:
            self.chunk_count += answer.chunk_count

    def _count_usage(self, answer: Answer) -> None:
        """Whether what was told of the number of tokens, in chunks or at the end, is what came."""
        told = [count for count in (answer.told_count, answer.declared_count or -1) if count >= 0]
        came = [answer.token_count] if self._terms.numbered else []
        if len(told + came) < 2:
            return
        self.usage_count += 1
        self.usage_wrong_count += len(set(told + came)) > 1

    def _hold_to_terms(self, answer: Answer) -> None:
        terms, count = self._terms, answer.token_count
        right = not terms.numbered or (answer.untouched and count == answer.count)
        if right and terms.rate_hz and count > 1:
            due_ns = (count - 1) * self._period_ns
            self.pace_error_max = max(self.pace_error_max, abs((answer.last_ns - answer.sent_ns) / due_ns - 1))
            self.paced_count += 1
        in_time = not terms.ttft_limit_ns or (answer.first_ns and answer.first_ns - answer.intended_ns <= terms.ttft_limit_ns)
        if right and in_time and (not terms.gap_limit_ns or answer.gap_max_ns <= terms.gap_limit_ns):
            self.good_count += 1
            self.good_token_count += count

    def _settle_times(self) -> None:
        if self._gaps_ns:
            gaps_ns = np.array(self._gaps_ns, np.int64)
            self._gaps_ns.clear()
            self.stall_count += int((gaps_ns > self._terms.stall_ns).sum())
            self.gap.record(gaps_ns)
        if self._no_gap_count:  # chunks of one read
            self.gap.counts[0] += self._no_gap_count
            self._no_gap_count = 0
        for histogram, times_ns in ((self.ttft, self._ttft_ns), (self.ack, self._ack_ns), (self.stream_time, self._stream_ns)):
            if times_ns:
                histogram.record(times_ns)
                times_ns.clear()


def _note(reasons: Counter[str], reason: str) -> None:
    """Count a reason, in bounded memory."""
    reasons[reason if reason in reasons or len(reasons) < REASONS_COUNT else "other reasons"] += 1
