"""Unequal shares of the load, as the publishers of one agent or of several really send it: in every kind of phase the totals are exact."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from floodmark.drivers.base import Encoding
from floodmark.ledger.stamp import read
from floodmark.model.arrival import Arrival, Burst, Constant, Flood, Poisson
from floodmark.model.scenario import Phase, Population
from floodmark.runner import plan
from floodmark.runner.agent.publishing import Outlet, Publisher

SIZES = (10, 10, 100, 100, 100, 100, 100, 1_000, 1_000, 1_000)  # a tenth of the plan's
EQUAL = (352,) * 10
ARRIVALS: tuple[Arrival, ...] = (
    Constant(rate_hz=100_000),
    Poisson(rate_hz=100_000),
    Burst(count=500, every_s=0.001),
    Flood(in_flight=100),
)


class Line:
    """A publisher connection that notes the source of each message."""

    writable = True

    def __init__(self, sent: list[tuple[int, str]]) -> None:
        self._sent = sent

    def publish(self, channel: str, payload: bytes, token: int) -> None:
        stamp = read(payload, "text")
        assert stamp is not None
        self._sent.append((stamp.publisher, channel))


class Driver:
    """The part of a driver that the publisher looks at."""

    encoding: Encoding = "text"
    resumes = batches = acknowledges = False


def sent_by(population: Population, phase: Phase, *, agents: int, seed: int = 3) -> list[list[tuple[int, str]]]:
    """Play a phase in each agent; what each of them sent, in order."""
    told: list[list[tuple[int, str]]] = []
    for agent in range(agents):
        sent: list[tuple[int, str]] = []
        publisher = Publisher(
            population=population,
            owned=plan.sources_of(population, agent, agents),
            driver=Driver(),  # type: ignore[arg-type]
            run=7,
            seed=seed,
            channel_names=[f"c{number}" for number in range(population.channels)],
        )
        publisher.outlets = {number: Outlet(Line(sent)) for number in plan.publishers_of(population, agent, agents)}  # type: ignore[arg-type]
        asyncio.run(publisher.play(phase, time.monotonic_ns()))
        told.append(sent)
    return told


@pytest.mark.parametrize("arrival", ARRIVALS, ids=lambda arrival: type(arrival).__name__)
@pytest.mark.parametrize(("publishers", "agents"), [(1, 1), (3, 2), (10, 3)])
@pytest.mark.parametrize("shares", [SIZES, ()], ids=["shares", "equal"])
def test_shares_are_sent_exactly(arrival: Arrival, publishers: int, agents: int, shares: tuple[int, ...]) -> None:
    population = Population(connections=10, channels=10, publishers=publishers, shares=shares)
    phase = Phase(arrival=arrival, messages=sum(SIZES), payload_bytes=100)

    told = sent_by(population, phase, agents=agents)

    counts = Counter(channel for sent in told for _, channel in sent)
    assert [counts[f"c{number}"] for number in range(10)] == list(SIZES if shares else EQUAL)


def test_shares_in_a_phase_that_ends_by_time_are_kept_too() -> None:
    population = Population(connections=2, channels=2, shares=(1, 3))

    (sent,) = sent_by(population, Phase(arrival=Constant(rate_hz=10_000), duration_s=0.08, payload_bytes=100), agents=1)

    assert Counter(channel for _, channel in sent) == {"c0": 200, "c1": 600}


def test_shares_are_the_same_for_every_seed_and_in_every_run() -> None:
    population = Population(connections=10, channels=10, shares=SIZES)
    phase = Phase(arrival=Burst(count=352, every_s=3600.0), messages=352, payload_bytes=100)

    told = [sent_by(population, phase, agents=1, seed=seed) for seed in (3, 3, 4)]

    assert told[0] == told[1] == told[2]
