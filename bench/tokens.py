"""Tokens of numbered text that an agent reads, checks and accounts for in a CPU-second, as they come: without a socket, so that this is the
price of the account alone. Chunks of 256 tokens, and chunks of one token of which a read brings 64; tokens of 10 bytes.

The account is checked after every round: every token delivered, once, intact, in order, and each one timed.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

from bench.alone import main_of
from bench.measure import Outcome, Reading, rate, take_turns
from bench.processes import BenchError
from floodmark.ledger.accounts import Accounts
from floodmark.ledger.numbered import base_of, tokens
from floodmark.ledger.publications import Publications
from floodmark.runner.agent.answer import Answer
from floodmark.runner.agent.answers import Answers
from floodmark.runner.agent.reading import Reading as Reads
from floodmark.runner.agent.receiving import Intake
from floodmark.runner.agent.terms import Terms

RUN, SIZE_BYTES, STREAMS = 0xB0A7, 10, 4
TOKENS_COUNT = 1_000_000  # of each stream


def _terms(rate_hz: float) -> Terms:
    return Terms(
        tokens=(TOKENS_COUNT,),
        sizes_bytes=(SIZE_BYTES,),
        rate_hz=rate_hz,
        numbered=True,
        prompt="",
        extra="",
        extra_every=1,
        ttft_limit_ns=0,
        gap_limit_ns=0,
        stall_ns=10**9,
    )


def measure(count: int, *, tokens_per_chunk: int, chunks_per_read: int, rate_hz: float = 0.0) -> Reading:
    """Give `count` tokens of each stream to an agent's account, in turns of one read each."""
    accounts = Accounts(run=RUN, warmup_run=RUN ^ 1, channels=STREAMS, publishers=STREAMS)
    publications = Publications(publishers=STREAMS)
    intake = Intake(accounts, "text", RUN)
    begun_ns = time.monotonic_ns()
    intake.phase("steady", begun_ns)
    answers = Answers(terms=_terms(rate_hz), publications=publications, intake=intake, run=RUN, nobody=STREAMS, forgiving=False)
    reads: list[list[list[bytes]]] = []
    read_bytes = tokens_per_chunk * chunks_per_read * SIZE_BYTES
    for stream in range(STREAMS):
        slot = accounts.open(stream, begun_ns)
        publications.next_seqs(stream, count)
        publications.sent(stream, 0, begun_ns)
        answer = Answer(token=stream + 1, slot=slot, channel=stream, connection=None, reading=Reads(), first=0, end=count, count=count)
        answer.intended_ns = answer.sent_ns = begun_ns
        answers.begin(answer)
        answers.accepted(stream + 1)
        text = tokens(stream, base_of(stream), count, SIZE_BYTES)
        chunk_bytes = tokens_per_chunk * SIZE_BYTES
        parts = [text[at : at + read_bytes] for at in range(0, len(text), read_bytes)]
        reads.append([[part[at : at + chunk_bytes] for at in range(0, len(part), chunk_bytes)] for part in parts])
    gc.collect()
    before_s = time.process_time()
    for turn in zip(*reads, strict=True):
        for stream, chunks in enumerate(turn):
            if len(chunks) == 1:
                answers.text(stream + 1, chunks[0], 0, time.monotonic_ns())
            else:
                answers.chunks(stream + 1, chunks, time.monotonic_ns())
            answers.turn()
    for stream in range(STREAMS):
        answers.finished(stream + 1, count)
    answers.flush()
    spent_s = time.process_time() - before_s
    total = count * STREAMS
    wrong = accounts.duplicated_count + accounts.reordered_count + accounts.corrupted_count + accounts.unexpected_count
    timed = intake.response["steady"].count
    if accounts.delivered_count != total or wrong or timed != total or answers.measures.usage_wrong_count:
        raise BenchError(f"account does not add up: {accounts.delivered_count:,} of {total:,} delivered, {timed:,} timed, {wrong:,} wrong")
    return Reading(value=rate(total, spent_s), check=f"{total:,} of {total:,} delivered, all timed")


def run(rounds: int, progress: Callable[[str, int, str], None], *, scale: float = 1.0) -> Outcome:
    """Run the benchmark."""
    count = max(1, int(TOKENS_COUNT * scale))
    figures = take_turns(
        {
            "chunks of 256 tokens": lambda: measure(count, tokens_per_chunk=256, chunks_per_read=1),
            "chunks of 256 tokens, paced": lambda: measure(count, tokens_per_chunk=256, chunks_per_read=1, rate_hz=1e6),
            "chunks of one token, 64 in a read": lambda: measure(count, tokens_per_chunk=1, chunks_per_read=64),
            "chunks of one token, one in a read": lambda: measure(count, tokens_per_chunk=1, chunks_per_read=1),
        },
        rounds=rounds,
        progress=progress,
    )
    return Outcome(title="Tokens of answers accounted for", unit="tokens / CPU-second", better="higher", figures=figures)


def main(arguments: list[str]) -> int:
    """`python -m bench tokens`: print one line for each way in which tokens come."""
    return main_of(run, name="tokens", description="tokens of answers accounted for in a CPU-second", arguments=arguments, checked=False)
