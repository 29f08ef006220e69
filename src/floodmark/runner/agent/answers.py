"""Take in answers: which tokens of each came, when, and how each answer ended.

It is the agent's `AskingSink`. Numbered text becomes deliveries, one for each token, which go the way of all others (`Intake`, `Accounts`,
the judge); text that nobody knows beforehand becomes one delivery for each answer that ended properly and was not empty. What answers come
to in figures and times is counted in `measures.py`. What is owed is settled when an answer ends, not before, so that an answer cut off by
us is never held against the target:

    it ended properly, or the target failed it     every token is acknowledged: what did not come is lost
    refused, or never accepted                     none is: the send failed
    we left, or came back to a lost connection     what came is acknowledged, the rest is indeterminate

HOT: `text` and `chunks` put pieces aside; everything else happens once per `flush`, for runs of tokens, never one by one. Memory: at most
`PIECES_BYTES` wait to be read; an answer keeps a few numbers and what its text is compared with (ledger/numbered.py).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from floodmark.drivers.asking import CUT_OFF
from floodmark.ledger.inbox import Bools, Deliveries, Ints
from floodmark.ledger.numbered import Text, base_of
from floodmark.ledger.publications import Publications
from floodmark.runner.agent import clock
from floodmark.runner.agent.answer import Answer, Ending
from floodmark.runner.agent.measures import Measures
from floodmark.runner.agent.receiving import Intake
from floodmark.runner.agent.terms import Terms

PIECES_BYTES = 65_536
PIECES_COUNT = 1024
LEFT_COUNT = 100_000


class Answers:
    """All answers of one agent. `forgiving`: clients come back by themselves, so a connection that was lost excuses what was on it."""

    def __init__(self, *, terms: Terms, publications: Publications, intake: Intake, run: int, nobody: int, forgiving: bool) -> None:
        self.live: dict[int, Answer] = {}
        self.measures = Measures(terms)
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
        self._dirty: list[Answer] = []
        self._waiting_bytes = self._waiting_count = 0
        self._runs: list[tuple[int, int, int, int, int, int, int, int]] = []
        self._left: dict[int, None] = {}
        self._over = False

    # -- what connections tell --------------------------------------------------------------------------------------------------------

    def begin(self, answer: Answer) -> None:
        """A request was sent."""
        self.measures.asked_count += 1
        if self._terms.numbered:
            self._read_from(answer)
        self.live[answer.token] = answer

    def accepted(self, token: int) -> None:
        """The target took a request."""
        answer = self.live.get(token)
        if answer is not None and not answer.accepted_ns:
            self.moved_ns = now_ns = clock.now_ns()
            self.measures.accepted(answer, now_ns)

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
        received_ns += clock.shift_ns
        self.measures.came(answer, len(data), chunk_count, longest_bytes, declared_count, received_ns)
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
        self.measures.odd(what)

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

    def give_up(self) -> None:
        """The end of the drain: answers that have not ended are over, and nothing is taken in any more."""
        now_ns = clock.now_ns()
        for answer in list(self.live.values()):
            del self.live[answer.token]
            if not self._over:
                self.measures.hung(answer, now_ns)
            self._end(answer, Ending.HUNG, "never ended")
        self.flush()
        self._over = True

    # -- once per chunk or answer, but only the first or the last -----------------------------------------------------------------------

    def _read_from(self, answer: Answer) -> None:
        channel = answer.channel
        answer.text = Text(stream=channel, first=answer.first, size=self._terms.size_of(channel), base=base_of(channel))

    def _end(self, answer: Answer, ending: Ending, reason: str) -> None:
        now_ns = clock.now_ns()
        self.moved_ns = now_ns
        answer.ending, answer.reason = ending, reason
        self.measures.ended(answer, now_ns)
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
        self.measures.settle_times()

    def _show(self, dirty: list[Answer]) -> None:
        """Let those see the bytes who count them: slow readers, and faults that wait for something to come."""
        if self._intake.on_frames:
            frames = [(answer.slot, data, received_ns) for answer in dirty for data, received_ns in answer.pieces]
            for look in self._intake.on_frames:
                look(frames)

    def _read(self, answer: Answer, text: Text, pieces: list[tuple[bytes, int]]) -> None:
        for place, (data, received_ns) in enumerate(pieces):  # HOT: once per piece
            first = text.due_seq
            count = text.follow(data)
            if count < 0:
                self._read_odd(answer, text, pieces[place:])
                break
            if count:
                answer.token_count += count
                self._put_run(answer, first, count, received_ns)
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
        offsets: Ints = (np.maximum(indices, 0) * self._terms.period_ns).astype(np.int64)
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
        if self._terms.period_ns:
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
        elif answer.ending is Ending.COMPLETED and answer.chunk_count:
            self._runs.append(
                (answer.slot, answer.channel, answer.first, 1, answer.first, answer.intended_ns, answer.sent_ns, clock.now_ns())
            )
        self._owe(answer)
        self.measures.settled(answer)
        answer.text = None

    def _owe(self, answer: Answer) -> None:
        excused = answer.ending is Ending.LEFT or (self._forgiving and answer.reason.startswith(CUT_OFF))
        if answer.accepted_ns and not excused:
            self._publications.acknowledged_range(answer.channel, answer.acked, answer.end, clock.now_ns())
        else:
            self._publications.failed_range(answer.channel, answer.acked, answer.end)
