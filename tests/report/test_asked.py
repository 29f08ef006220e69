"""What a run asked for, in words."""

from __future__ import annotations

import msgspec
import pytest

from floodmark.model.arrival import Burst, Flood, Spike
from floodmark.model.scenario import Fault, Phase, Population, Slow
from floodmark.report import asked
from tests.report import made


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        (Phase(arrival=Flood(in_flight=50), messages=1_000), "steady: flood in flight 50 for 1,000 messages, 200 B each"),
        (
            Phase(name="peak", arrival=Spike(rate_hz=100, peak_hz=900, at_s=1, for_s=0.5), duration_s=4, payload_bytes=100_000),
            "peak: spike at 100 /s peak 900 /s at 1.00 s for 500 ms for 4.00 s, 97.7 KiB each",
        ),
        (
            Phase(arrival=Burst(count=10, every_s=2.0), duration_s=6, messages=30),
            "steady: burst count 10 every 2.00 s for 6.00 s or 30 messages, 200 B each",
        ),
    ],
)
def test_phase_tells_its_arrival_its_end_and_its_size(phase: Phase, words: str) -> None:
    assert asked.phase(phase) == words


def test_population_tells_of_many_subscriptions_and_of_slow_readers() -> None:
    people = Population(
        connections=500, subscriptions_per_connection=100, channels=50, consumer=Slow(rate_bytes_per_s=5), consumer_ratio=0.2, waves=5
    )

    words = asked.population(people)

    assert words == "500 connections with 100 subscriptions each, 0.2 of them slow, in 5 waves on 50 channels, 1 publisher"


def test_fault_tells_switches_as_they_are_written() -> None:
    assert asked.fault(Fault(kind="drop", options={"back": False, "backoff_s": 0.1})).startswith("drop (back = false, backoff_s = 0.1)")


def test_asked_of_a_configuration_from_another_version_leaves_it_out() -> None:
    document = msgspec.structs.replace(made.document_of(made.passed(1)), configuration=({"id": "x", "word_of_tomorrow": 1},))

    assert asked.asked(document) == {}


def test_asked_reads_back_what_run_json_keeps() -> None:
    wanted = made.configuration_of()
    document = msgspec.structs.replace(
        made.document_of(made.passed(1)), configuration=tuple(msgspec.to_builtins(scenario) for scenario in wanted)
    )

    assert asked.asked(document) == {scenario.id: scenario for scenario in wanted}
