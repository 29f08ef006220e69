"""The benchmark of NATS messages, small: real processes on a real server, and an account that does not add up gives no figure."""

from __future__ import annotations

import pytest

from bench import jetstream
from bench.__main__ import main
from bench.measure import Reading
from bench.processes import BenchError


@pytest.mark.parametrize("kind", ["pull", "ordered", "core"])
def test_nats_benchmark_has_both_contenders(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main([f"nats-{kind}", "--rounds", "1", "--scale", "0.2"])

    table = capsys.readouterr().out
    assert code == 0
    assert "80,000 of 80,000 delivered" in table
    assert "nothing was checked" in table


def test_nats_agent_that_got_less_than_was_sent_gives_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jetstream, "LIMIT_S", 3.0)
    fill = jetstream.fill
    monkeypatch.setattr(jetstream, "fill", lambda url, kind, count: fill(url, kind, count - 1))

    with pytest.raises(BenchError, match="took 19,999 of 20,000 messages"):
        jetstream.measure_agent(20_000, "jetstream", jetstream.ORDERED)


def test_nats_reading_is_a_rate() -> None:
    made = jetstream.measure_bare(40_000, "ordered")

    assert isinstance(made, Reading)
    assert made.value > 0
