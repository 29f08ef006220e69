"""Count and time the answers of one agent: what they came to, how long they took, and whether they kept to the terms.

Input: an `Answer` at each of its moments, the last of which (`settled`) comes when its text has been read. Output: histograms of
nanoseconds and figures that add up over the agents (`close_up`). An answer that did not end properly has no time, no usage and no share in
goodput; what nobody can tell, such as the tokens of a chunk of unknown text, is not counted rather than guessed.

Where a client of ours did not read for a while (a slow consumer, a fault), the gap in which that was is not the target's: only the time
that it did read in counts, and where that is no more than READ_SOON_NS the gap says nothing and is left out.

HOT: `came`, once per read; times are put aside and go into the histograms in batches (`settle_times`).
Not here: which tokens came (answers.py), what is lost (ledger/), what is good enough (judge/). Memory: two lists of times between two calls
of `settle_times`, and at most REASONS_COUNT reasons of each kind.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from floodmark.ledger.histogram import Histogram
from floodmark.runner.agent.answer import Answer, Ending
from floodmark.runner.agent.terms import Terms
from floodmark.runner.wire import Answered

REASONS_COUNT = 1000
READ_SOON_NS = 10_000_000
"""What waits in the socket of a client that reads again comes within this; what took longer had not been there."""


class Measures:
    """What all answers of one agent come to."""

    def __init__(self, terms: Terms) -> None:
        self.ack, self.ttft, self.gap, self.stream_time = Histogram(), Histogram(), Histogram(), Histogram()
        self.refused: Counter[str] = Counter()
        self.failed_for: Counter[str] = Counter()
        self.odd_for: Counter[str] = Counter()
        self.asked_count = self.completed_count = self.failed_count = self.unanswered_count = self.left_count = 0
        self.stall_count = self.gaps_unread_count = self.odd_count = self.usage_count = self.usage_wrong_count = 0
        self.chunk_count = self.token_count = self.good_count = self.good_token_count = self.paced_count = 0
        self.chunk_tokens_max = self.pace_error_max = 0.0
        self._terms = terms
        self._gaps_ns: list[int] = []
        self._no_gap_count = 0
        self._ttft_ns: list[int] = []
        self._ack_ns: list[int] = []
        self._stream_ns: list[int] = []

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
                "gaps_unread": self.gaps_unread_count,
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

    # -- the moments of an answer -------------------------------------------------------------------------------------------------------

    def accepted(self, answer: Answer, now_ns: int) -> None:
        """The target took the request."""
        answer.accepted_ns = now_ns
        if answer.reading.has_paused:
            self._unread_ns(answer, now_ns)
        self._ack_ns.append(now_ns - answer.sent_ns)

    def came(self, answer: Answer, came_bytes: int, chunk_count: int, longest_bytes: int, declared_count: int, received_ns: int) -> None:
        """HOT: one read brought so many bytes of text, in so many chunks, the longest so long, which declared so many tokens in all."""
        if answer.last_ns:
            gap_ns = received_ns - answer.last_ns
            if answer.reading.has_paused:
                gap_ns = self._read_gap_ns(answer, gap_ns, received_ns)
            if gap_ns >= 0:
                self._gaps_ns.append(gap_ns)
                if gap_ns > answer.gap_max_ns:
                    answer.gap_max_ns = gap_ns
        elif not answer.accepted_ns:  # text says it too
            self.accepted(answer, received_ns)
        elif answer.reading.has_paused:
            self._unread_ns(answer, received_ns)
        if not answer.first_ns:
            self._begin(answer, came_bytes, received_ns)
        self._no_gap_count += chunk_count - 1
        answer.last_ns = received_ns
        answer.chunk_count += chunk_count
        answer.declared_count += declared_count
        if longest_bytes > answer.chunk_bytes_max:
            answer.chunk_bytes_max = longest_bytes

    def ended(self, answer: Answer, now_ns: int) -> None:
        """It is over, though its text may still wait to be read."""
        ending = answer.ending
        if ending in (Ending.COMPLETED, Ending.FAILED) and (answer.last_ns or answer.accepted_ns):
            self._look_for_stall(answer, answer.last_ns or answer.accepted_ns, now_ns)
        if ending is Ending.COMPLETED:
            if not answer.accepted_ns:
                self.accepted(answer, now_ns)
            self._stream_ns.append(now_ns - answer.intended_ns)

    def hung(self, answer: Answer, now_ns: int) -> None:
        """It is about to be given up, at the end of the drain."""
        self._look_for_stall(answer, answer.last_ns or answer.accepted_ns or answer.sent_ns, now_ns)

    def settled(self, answer: Answer) -> None:
        """It is over, and all of its text has been read."""
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

    def odd(self, what: str) -> None:
        """Something came that should not have."""
        self.odd_count += 1
        _note(self.odd_for, f"odd: {what}")

    def never_came(self, count: int, why: str) -> None:
        """So many requests could not even be sent, by the target's doing."""
        self.unanswered_count += count
        if count:
            self.failed_for[f"not asked, {why}"] += count

    # -- parts of them ------------------------------------------------------------------------------------------------------------------

    def _begin(self, answer: Answer, came_bytes: int, received_ns: int) -> None:
        """A token is there when it is whole; of unknown text nobody can tell where the first one ends."""
        answer.first_bytes += came_bytes
        if self._terms.numbered and answer.first_bytes < self._terms.size_of(answer.channel):
            return
        answer.first_ns = received_ns
        self._ttft_ns.append(received_ns - answer.intended_ns)

    def _unread_ns(self, answer: Answer, now_ns: int) -> int:
        """Give for how long the client did not read since anything of the answer last came; asked anew it is 0."""
        before_ns, answer.unread_ns = answer.unread_ns, answer.reading.unread_ns(now_ns)
        unread_ns = answer.unread_ns - before_ns
        answer.was_unread |= unread_ns > 0
        return unread_ns

    def _read_gap_ns(self, answer: Answer, gap_ns: int, received_ns: int) -> int:
        """Give how much of a gap the client did read in, -1 if the gap says nothing."""
        unread_ns = self._unread_ns(answer, received_ns)
        if not unread_ns:
            return gap_ns
        self.gaps_unread_count += 1
        read_ns = gap_ns - unread_ns
        return read_ns if read_ns > READ_SOON_NS else -1

    def _look_for_stall(self, answer: Answer, since_ns: int, now_ns: int) -> None:
        if now_ns - since_ns - self._unread_ns(answer, now_ns) > self._terms.stall_ns:
            self.stall_count += 1

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
        right = (answer.untouched and count == answer.count) if terms.numbered else answer.chunk_count > 0
        if right and terms.rate_hz and count > 1 and not answer.was_unread:
            due_ns = (count - 1) * terms.period_ns
            self.pace_error_max = max(self.pace_error_max, abs((answer.last_ns - answer.sent_ns) / due_ns - 1))
            self.paced_count += 1
        in_time = not terms.ttft_limit_ns or (answer.first_ns and answer.first_ns - answer.intended_ns <= terms.ttft_limit_ns)
        if right and in_time and (not terms.gap_limit_ns or answer.gap_max_ns <= terms.gap_limit_ns):
            self.good_count += 1
            self.good_token_count += count

    def settle_times(self) -> None:
        """Once per batch: move collected times into the histograms."""
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
