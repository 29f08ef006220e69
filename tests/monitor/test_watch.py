"""The watch over real processes, driven by its own task."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import time

import msgspec
import pytest

from floodmark.core.errors import UsageError
from floodmark.monitor.process import ProcessTree
from floodmark.monitor.sample import ProcessSample
from floodmark.monitor.watch import MARKS_COUNT, Watch

from .children import child, until

MB = 1_000_000


class Scripted(ProcessTree):
    """A tree with figures from a list; it is gone when they run out."""

    def __init__(self, resident: list[int], high_water: int | None = None) -> None:
        super().__init__(os.getpid())
        self._resident = iter(resident)
        self._high_water = high_water
        self.asked_unique: list[bool] = []

    def sample(self, now_ns: int, *, unique: bool = False, apart: frozenset[int] = frozenset()) -> ProcessSample | None:
        self.asked_unique.append(unique)
        size = next(self._resident, None)
        if size is None:
            return None
        return ProcessSample(
            t_ns=now_ns,
            resident_bytes=size,
            unique_bytes=None,
            high_water_bytes=self._high_water,
            cpu_s=1.0,
            descriptors=None,
            threads=1,
            processes=1,
        )


@pytest.mark.parametrize("interval_s", [0.0, 0.099, -1.0, math.nan, math.inf])
def test_watch_interval_too_short_is_a_usage_error(interval_s: float) -> None:
    with pytest.raises(UsageError, match="interval_s"):
        Watch({}, interval_s=interval_s)


def test_watch_run_samples_at_its_interval_until_cancelled() -> None:
    four = asyncio.Event()

    class Counting(Watch):
        def sample_now(self, now_ns: int) -> dict[str, ProcessSample | None]:
            found = super().sample_now(now_ns)
            if self.cost.samples == 4:
                four.set()
            return found

    async def watched(watch: Watch) -> None:
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            task = group.create_task(watch.run())
            await four.wait()
            task.cancel()

    with child() as process:
        watch = Counting({"target": process.pid, "harness": os.getpid()}, interval_s=0.1)
        asyncio.run(watched(watch))

    times = [row.t_ns for row in watch.rows() if row.tree == "target"]
    assert len(times) == 4
    # A busy machine may delay a sample, which brings the next one nearer; together they cannot come faster than the grid.
    assert times[-1] - times[0] >= 0.19e9
    assert {row.tree for row in watch.rows()} == {"target", "harness"}
    assert all(row.processes == 1 for row in watch.rows() if row.tree == "harness")
    assert 0 < watch.cost.longest_s <= watch.cost.busy_s


def test_watch_mark_samples_at_once_and_the_latest_of_a_label_counts() -> None:
    with child() as process:
        watch = Watch({"target": process.pid})
        watch.mark("start", 1)
        process.do("kept.append(b'x' * 50_000_000)")
        watch.mark("full", 2)
        watch.mark("full", 3)

    start, full = watch.at("start"), watch.at("full")
    assert start is not None
    assert full is not None
    assert full.t_ns == 3
    before, after = start.samples["target"], full.samples["target"]
    assert before is not None
    assert after is not None
    assert after.resident_bytes - before.resident_bytes > 45 * MB
    assert watch.at("never") is None


def test_watch_marks_beyond_the_limit_are_counted_and_not_kept() -> None:
    watch = Watch({})

    for number in range(MARKS_COUNT + 5):
        watch.mark("fault", number)

    assert len(watch.marks) == MARKS_COUNT
    assert watch.marks_dropped == 5


def test_watch_peak_between_two_samples_is_found_by_the_high_water_mark() -> None:
    with child() as process:
        watch = Watch({"target": process.pid})
        before = watch.sample_now(1)["target"]
        process.do("kept.append(b'x' * 50_000_000)")
        process.do("kept.clear()")
        watch.sample_now(2)

    peak = watch.peak("target")
    assert before is not None
    assert peak is not None
    assert peak.sampled_bytes < before.resident_bytes + 10 * MB
    assert peak.resident_bytes == peak.high_water_bytes
    assert peak.resident_bytes > before.resident_bytes + 45 * MB
    assert "high-water" in peak.covers


def test_watch_peak_outlives_thinning() -> None:
    sizes = [1000] * 100
    sizes[37] = 9000  # an odd place: dropped by the first thinning
    watch = Watch({"target": Scripted(sizes)}, capacity_count=10)

    for now_ns in range(100):
        watch.sample_now(now_ns)

    peak = watch.peak("target")
    assert peak is not None
    assert (peak.resident_bytes, peak.samples) == (9000, 100)
    assert peak.descriptors is None
    assert len(watch.rows()) <= 10
    assert len(watch.system()) <= 10
    assert max(row.resident_bytes for row in watch.rows()) == 1000


def test_watch_tree_that_is_gone_leaves_no_rows_and_no_zeros() -> None:
    watch = Watch({"target": Scripted([7])})

    watch.sample_now(1)
    assert watch.sample_now(2) == {"target": None}

    assert [row.t_ns for row in watch.rows()] == [1]
    assert watch.peak("harness") is None


def test_watch_unique_memory_is_read_every_two_seconds_at_most() -> None:
    tree = Scripted([1] * 50)
    watch = Watch({"target": tree})

    for tenth in range(50):
        watch.sample_now(tenth * 100_000_000)

    assert list(itertools.compress(range(50), tree.asked_unique)) == [0, 20, 40]


def test_watch_follow_continues_a_restarted_target_under_its_name() -> None:
    watch = Watch({})
    with child() as first:
        watch.follow("target", first.pid)
        watch.sample_now(1)
        first.end()
        assert until(lambda: watch.sample_now(2)["target"], lambda found: found is None) is None
    with child() as second:
        watch.follow("target", second.pid)
        watch.sample_now(3)

    assert [row.t_ns for row in watch.rows()] == [1, 3]


def test_watch_row_has_every_figure_of_a_sample() -> None:
    watch = Watch({"harness": os.getpid()})
    watch.sample_now(time.monotonic_ns())

    row = watch.rows()[0]

    assert set(row._fields) == {"tree", *ProcessSample.__struct_fields__}
    assert msgspec.json.encode(row._asdict())
