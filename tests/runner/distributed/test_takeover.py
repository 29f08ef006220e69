"""What a newcomer is told: the steps that were taken, connections first, then those still open, the phase from now on."""

from __future__ import annotations

from floodmark.model.scenario import Population
from floodmark.runner.distributed.takeover import Steps
from floodmark.runner.plan import publishers_in, source_offset, sources_of
from floodmark.runner.wire import Do


def test_newcomer_connects_again_and_goes_on_in_the_phase() -> None:
    steps = Steps()
    for step in (
        Do(step="window", number=2, index=0),
        Do(step="connect", number=1, index=0),
        Do(step="probe", number=3),
        Do(step="phase", number=4, index=1, at_ns=7),
        Do(step="seen", number=5),
    ):
        steps.asked(step)
    for number in (1, 2, 3):
        steps.answered(number)

    assert [step.step for step in steps.done()] == ["connect", "window"]
    assert steps.pending(resume_ns=99) == [Do(step="phase", number=4, index=1, at_ns=7, resume_ns=99), Do(step="seen", number=5)]


def test_nothing_is_taken_over_when_no_phase_is_played() -> None:
    steps = Steps()
    steps.asked(Do(step="phase", number=1))
    steps.answered(1)

    assert steps.phase is None


def test_each_life_publishes_under_numbers_of_its_own_to_the_same_channels_over_the_same_connections() -> None:
    population = Population(connections=60, channels=6, publishers=4)
    mine = sources_of(population, 1, 3)

    later = mine + source_offset(population, 2)

    assert (later % 6 == mine % 6).all()
    assert (later % 4 == mine % 4).all()
    assert later.min() >= publishers_in(population, 2)
    assert later.max() < publishers_in(population, 3)
    assert source_offset(population, 0) == 0
    assert publishers_in(population, 1) == population.sources
