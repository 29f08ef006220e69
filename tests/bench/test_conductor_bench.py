"""The conductor's benchmark: its contenders measure what they say, and an answer that is not whole is no figure."""

from __future__ import annotations

import pytest

from bench import conductor
from bench.processes import BenchError
from floodmark.systems.conductor.surface import Seen


def test_contenders_stream_every_token_and_check_it() -> None:
    assert conductor.conducted(20_000).check == "20,000 tokens in order, 1 ended once"
    assert conductor.conducted(20_000, streams=16, coalesce=True).check == "20,000 tokens in order, 16 ended once"
    assert conductor.by_hand(20_000).check == "20,000 tokens in order"


@pytest.mark.parametrize("wrong", ["short", "swapped", "no end", "two ends"])
def test_answer_that_is_not_whole_is_no_figure(wrong: str) -> None:
    seen, sent = Seen(), conductor.texts(100)
    seen.texts = {"short": sent[:-1], "swapped": [sent[1], sent[0], *sent[2:]]}.get(wrong, list(sent))
    seen.tokens_count = len(seen.texts)
    seen.ends_count = {"no end": 0, "two ends": 2}.get(wrong, 1)

    with pytest.raises(BenchError, match="0 of 1 answers are whole"):
        conductor.checked([seen], 100, 1)
