"""The benches of the fleet: each checks what it measured, and has no figure for what does not add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from nats.aio.client import Client

from bench import fleet_consumer, fleet_strategies
from bench.processes import BenchError
from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.strategy import STRATEGIES, RoundRobin


class Forgetful:
    """A strategy that leaves one partition out."""

    def assign(
        self, workers: Sequence[str], partitions: Sequence[Partition], current: Mapping[str, Sequence[Partition]]
    ) -> dict[str, list[Partition]]:
        return RoundRobin().assign(workers, partitions[1:], current)


def test_strategies_measured_on_a_small_shape_give_a_row() -> None:
    row = fleet_strategies.measure("consistent-hash", ["worker-0", "worker-1", "worker-2"], fleet_strategies.equal(300), 2)

    assert len(row.again_ms) == 2
    assert row.lightest < 1 < row.heaviest <= 1.25
    assert 0 < row.moved < 2


def test_strategy_that_leaves_a_partition_out_has_no_figure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(STRATEGIES, "round-robin", Forgetful)

    with pytest.raises(BenchError, match="299 given away"):
        fleet_strategies.measure("round-robin", ["worker-0"], fleet_strategies.equal(300), 1)
    assert fleet_strategies.main(["--rounds", "1", "--scale", "0.01"]) == 1
    assert "round-robin | no figure: shares do not add up" in capsys.readouterr().out


def test_consumer_measured_on_few_messages_has_all_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    code = fleet_consumer.main(["--rounds", "1", "--scale", "0.02"])

    said = capsys.readouterr().out
    assert code == 0
    assert said.count("400 of 400 handled once, in order") == 4


def test_consumer_that_handles_a_message_twice_has_no_figure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    honest = fleet_consumer.ours

    async def twice(nc: Client, count: int, batch_count: int) -> list[int]:
        handled = await honest(nc, count, batch_count)
        return [*handled, handled[-1]]

    monkeypatch.setattr(fleet_consumer, "ours", twice)

    assert fleet_consumer.main(["--rounds", "1", "--scale", "0.01"]) == 1
    assert "no figure: not every message once and in order: 201 handled, 200 different" in capsys.readouterr().out
