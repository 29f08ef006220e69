"""The bench of tokens: it accounts for what it gives, and has no figure for an account that does not add up."""

from __future__ import annotations

import pytest

from bench import tokens
from bench.processes import BenchError


@pytest.mark.parametrize(("tokens_per_chunk", "chunks_per_read"), [(256, 1), (1, 64), (1, 1)])
@pytest.mark.parametrize("rate_hz", [0.0, 1e6])
def test_measure_accounts_for_every_token_in_whatever_pieces_they_come(tokens_per_chunk: int, chunks_per_read: int, rate_hz: float) -> None:
    reading = tokens.measure(1_000, tokens_per_chunk=tokens_per_chunk, chunks_per_read=chunks_per_read, rate_hz=rate_hz)

    assert reading.value > 0
    assert reading.check == "4,000 of 4,000 delivered, all timed"


def test_measure_of_text_that_belongs_to_other_numbers_has_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "base_of", lambda stream: 0)

    with pytest.raises(BenchError, match="does not add up"):
        tokens.measure(1_000, tokens_per_chunk=16, chunks_per_read=1)


def test_main_says_in_the_table_which_contender_has_no_figure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(tokens, "base_of", lambda stream: 0)

    code = tokens.main(["--rounds", "1", "--scale", "0.001"])

    assert code == 1
    assert "| chunks of 256 tokens | no figure: account does not add up" in capsys.readouterr().out
