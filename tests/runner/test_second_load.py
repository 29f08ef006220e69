"""A second load in whole runs: the same phases again under the same ledger, faults in the first one only; and the rest between the two."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.scenario import Phase, Population, Scenario
from floodmark.monitor.process import ProcessTree
from floodmark.monitor.sample import ProcessSample
from floodmark.monitor.watch import Watch
from floodmark.runner import second
from tests.runner.played import play, write_scenario
from tests.soonest import soonest

HUB = 'system = "hub"\nargs = ["--no-rate-limits"]'


class Swelling(ProcessTree):
    """A tree whose memory is what the test says."""

    def __init__(self, sizes: Iterator[int]) -> None:
        self.pid, self._sizes = 1, sizes

    def sample(self, now_ns: int, *, unique: bool = False, apart: frozenset[int] = frozenset()) -> ProcessSample | None:
        return ProcessSample(
            t_ns=now_ns,
            resident_bytes=next(self._sizes),
            unique_bytes=None,
            high_water_bytes=None,
            cpu_s=0.0,
            descriptors=None,
            threads=1,
            processes=1,
        )


async def rested_s(sizes: Iterator[int]) -> float:
    """How long the rest took while memory went through these sizes, one each tenth of a second."""
    loop = asyncio.get_running_loop()
    watch = Watch({"target": Swelling(sizes)}, interval_s=0.1, unique=False)
    watching = loop.create_task(watch.run())  # ended and awaited below; a group would outlive nothing here
    begun_s = loop.time()
    try:
        await second.rest(watch)
    finally:
        watching.cancel()
        await asyncio.wait([watching])
    return loop.time() - begun_s


def test_unfolded_writes_both_loads_out_once() -> None:
    scenario = Scenario(
        id="x",
        population=Population(connections=1),
        phases=(Phase(name="a", arrival=Constant(rate_hz=1), messages=1), Phase(name="b", messages=2)),
        criteria=(parse("lost == 0"),),
        second_load=True,
    )

    unfolded = second.unfolded(scenario)

    assert [(phase.name, phase.messages) for phase in unfolded.phases] == [("a", 1), ("b", 2), ("a-again", 1), ("b-again", 2)]
    assert second.unfolded(unfolded) is unfolded


def test_rest_of_a_level_target_takes_a_second() -> None:
    took_s = soonest(lambda: asyncio.run(rested_s(iter(lambda: 50_000_000, 0))), second.REST_LIMIT_S - 1)

    assert second.LEVEL_S - 0.001 < took_s < second.REST_LIMIT_S - 1


def test_rest_of_a_target_that_keeps_growing_has_an_end() -> None:
    took_s = asyncio.run(rested_s(iter(range(50_000_000, 10**12, 1_000_000))))

    assert took_s > second.REST_LIMIT_S - 0.001


def test_second_load_is_accounted_with_the_first_and_faults_strike_the_first_only(tmp_path: Path) -> None:
    path = write_scenario(
        tmp_path,
        target=HUB,
        top="second_load = true",
        population="connections = 10\nchannels = 5",
        phase='name = "steady"\narrival = { kind = "constant", rate_hz = 500 }\nmessages = 500',
        criteria=("lost == 0", "delivered == 2000", "latency_p99 @ steady-again < 5s", "rss_kept_per_connection < 100MB"),
        tail='[[faults]]\nkind = "process.pause"\nat_s = 0.2\nfor_s = 0.3',
    )

    played = play(tmp_path, "run", str(path))

    assert played.code == 0, played.stderr
    result = played.result
    assert result["delivery"]["delivered"] == 2000
    assert len(result["faults"]) == 1
    assert result["metrics"]["rss_kept_per_connection"] != 0


def test_second_load_too_short_for_the_leak_verdict_is_unknown_and_says_why(tmp_path: Path) -> None:
    path = write_scenario(
        tmp_path,
        target=HUB,
        top="second_load = true",
        criteria=("leak_bytes_per_message < 5B", "leak_descriptors_per_thousand < 1", "leak_slope_upper < 1GB"),
    )

    played = play(tmp_path, "run", str(path))

    assert played.code == 11, played.stderr
    told = {one["text"].split()[0]: one for one in played.result["criteria"]}
    assert told["leak_bytes_per_message"]["verdict"] == "UNKNOWN"
    assert "second load" in told["leak_bytes_per_message"]["note"]
    assert told["leak_descriptors_per_thousand"]["verdict"] == "UNKNOWN"


def test_leak_limit_of_nothing_at_all_is_a_usage_error(tmp_path: Path) -> None:
    path = write_scenario(tmp_path, target=HUB, criteria=("leak_bytes_per_message <= 0B",))

    played = play(tmp_path, "run", str(path))

    assert played.code == 2
    assert "needs a limit above 0" in played.sentence
