"""The benchmark of streamed answers, small: real processes, and no figure where the server lied."""

from __future__ import annotations

import pytest

from bench import sse
from bench.__main__ import main
from bench.processes import BenchError


def test_sse_agent_accounts_for_every_token() -> None:
    made = sse.measure_agent(200_000, 16)

    assert made.value > 0
    assert made.check == "200,000 of 200,000 delivered"


def test_sse_agent_repeated_tokens_give_no_figure() -> None:
    with pytest.raises(BenchError, match="does not add up: 20,000 of 20,000 delivered, 3 of them bad"):
        sse.measure_agent(20_000, 1, "--lie", "repeat=3")


def test_sse_client_compares_the_text() -> None:
    made = sse.measure_client(4_000, 4)

    assert made.check == "the text of 4,000 tokens, 1,000 chunks"


def test_sse_client_that_missed_a_token_gives_no_figure() -> None:
    with pytest.raises(BenchError, match="does not add up"):
        sse.measure_client(1_000, 1, "--lie", "drop=1")


def test_sse_benchmark_has_both_contenders(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["sse-16", "--rounds", "1", "--scale", "0.02"])

    table = capsys.readouterr().out
    assert code == 0
    assert "16 to a chunk" in table
    assert "openai client" in table
