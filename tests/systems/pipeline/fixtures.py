"""Data and doubles for the tests of the pipeline: rows whose totals are known, and a source that does what a test tells it to.

`FakeSource` keeps a journal of every query (offset, count) and can fail, hang or break at chosen ones. It works in memory and at
once, so that a `ManualClock` alone decides when something happens.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
import polars as pl

from floodmark.core.clock import Clock, ManualClock
from floodmark.core.telemetry import TelemetryBus
from floodmark.systems.pipeline import Pipeline, PipelineSettings, Query, Snapshot, Stream
from floodmark.systems.pipeline.source.base import Source

LIMIT_S = 20.0  # of any wait in a test
Given = TypeVar("Given")
TERRITORIES = ("north", "south", "east", "west")


def with_source(source: Source, work: Callable[[Source], Awaitable[Given]], *, limit_s: float = LIMIT_S) -> Given:
    """Do something with a source in an event loop, and close it."""

    async def run() -> Given:
        async with asyncio.timeout(limit_s):
            try:
                return await work(source)
            finally:
                await source.close()

    return asyncio.run(run())


def sample_records(count: int, groups: int = 10, *, start: int = 1) -> list[dict[str, Any]]:
    """Records of the stress scenarios: value 10 x id, amount 1.5 x id, category by id modulo groups."""
    moment = datetime(2026, 1, 1)
    return [
        {
            "id": number,
            "name": f"Record {number}",
            "value": 10 * number,
            "amount": 1.5 * number,
            "category": f"group_{number % groups}",
            "timestamp": moment + timedelta(seconds=number),
        }
        for number in range(start, start + count)
    ]


def sample_frame(count: int, groups: int = 10, *, start: int = 1) -> pl.DataFrame:
    """The same as a frame, fast enough for millions."""
    numbers = pl.int_range(start, start + count, eager=True).alias("id")
    return pl.DataFrame({"id": numbers}).with_columns(
        name=pl.format("Record {}", "id"),
        value=pl.col("id") * 10,
        amount=pl.col("id") * 1.5,
        category=pl.format("group_{}", pl.col("id") % groups),
    )


def sales_by_territory(territories: Iterable[str] = TERRITORIES, per_territory: int = 25) -> list[dict[str, Any]]:
    """Sales, the territories taking turns: amount is a decimal with two places, quantity an integer."""
    names = list(territories)
    return [
        {
            "id": index + 1,
            "territory": names[index % len(names)],
            "product_category": ("tea", "coffee")[index // len(names) % 2],
            "customer_name": f"Customer {index % 7}",
            "amount": Decimal(index + 1) / 4 + Decimal("0.01"),
            "quantity": index % 5 + 1,
            "sale_date": date(2026, 1, 1) + timedelta(days=index % 365),
        }
        for index in range(len(names) * per_territory)
    ]


def records_with_relationships(count: int) -> list[dict[str, Any]]:
    """Sales with their customer (one) and products (several) beside them."""
    return [
        {
            "id": number,
            "amount": number,
            "customer": {"name": f"Customer {number % 3}", "territory": TERRITORIES[number % 4]},
            "products": [{"name": f"Product {number}-{index}", "price": index + 1} for index in range(number % 3)],
        }
        for number in range(1, count + 1)
    ]


class FakeCursor:
    """A place in a frame, which does at each query what its source says."""

    def __init__(self, source: FakeSource, *, total: int | None) -> None:
        self._source = source
        self._offset = 0
        self.total = total
        self.closed = False

    @property
    def position(self) -> Hashable:
        return self._offset

    @property
    def exhausted(self) -> bool:
        return self._offset >= len(self._source.frame)

    async def fetch(self, count: int) -> pl.DataFrame:
        source = self._source
        number = len(source.queries)
        source.queries.append((self._offset, count))
        if source.clock is not None:
            source.asked_s.append(source.clock.now_s())
        act = source.acts.get(number)
        if act is None and source.always is not None:
            act = source.always
        if act is not None:
            answer = act()
            if answer is not None:
                await answer
        rows = source.frame.slice(self._offset, count)
        self._offset += len(rows)
        return rows

    def seek(self, position: Hashable) -> None:
        assert isinstance(position, int)
        self._offset = position

    async def close(self) -> None:
        self.closed = True


class FakeSource:
    """Rows from memory. `queries` is the journal; `acts[n]` is called at query n (from 0): to raise, or to give something to await."""

    def __init__(self, rows: pl.DataFrame | list[dict[str, Any]], *, counted: bool = True) -> None:
        self.frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows, infer_schema_length=None)
        self.counted = counted
        self.queries: list[tuple[int, int]] = []
        self.asked_s: list[float] = []  # when, if there is a clock
        self.clock: Clock | None = None
        self.acts: dict[int, Callable[[], Awaitable[object] | None]] = {}
        self.always: Callable[[], Awaitable[object] | None] | None = None
        self.cursors: list[FakeCursor] = []
        self.refusal: Exception | None = None
        self.closed = False

    @property
    def name(self) -> str:
        return f"fake:{id(self):x}"

    @property
    def offsets(self) -> list[int]:
        """Where each query began."""
        return [offset for offset, _ in self.queries]

    def fail(self, *numbers: int, error: Exception) -> FakeSource:
        """Raise at these queries."""
        for number in numbers:
            self.acts[number] = raising(error)
        return self

    async def open(self, query: Query, *, pager: str = "keyset") -> FakeCursor:
        if self.refusal is not None:
            raise self.refusal
        self.cursors.append(FakeCursor(self, total=len(self.frame) if self.counted else None))
        return self.cursors[-1]

    async def close(self) -> None:
        self.closed = True


def raising(error: Exception) -> Callable[[], None]:
    """A function that raises this."""

    def act() -> None:
        raise error

    return act


class Event(msgspec.Struct, frozen=True):
    """One telemetry event as it was emitted, its name without the prefix."""

    tail: str
    measurements: Mapping[str, Any]
    metadata: Mapping[str, Any]


class Journal:
    """Keeps every event of a bus."""

    def __init__(self, bus: TelemetryBus) -> None:
        self.events: list[Event] = []
        bus.attach("floodmark.pipeline", self._keep)

    def _keep(self, event: str, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        self.events.append(Event(event.removeprefix("floodmark.pipeline."), dict(measurements), dict(metadata)))

    def of(self, tail: str) -> list[Event]:
        """The events of one name."""
        return [event for event in self.events if event.tail == tail]


class Bench:
    """A pipeline on a clock that the test moves, with a journal of its telemetry."""

    def __init__(self, *, settings: PipelineSettings | None = None, clock: Clock | None = None) -> None:
        self.manual = ManualClock()
        self.clock: Clock = clock or self.manual
        self.bus = TelemetryBus()
        self.journal = Journal(self.bus)
        self.pipeline = Pipeline(settings=settings, bus=self.bus, clock=self.clock)

    async def __aenter__(self) -> Bench:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.pipeline.aclose()

    async def start(self, rows: FakeSource | pl.DataFrame | list[dict[str, Any]], **options: Any) -> Stream:
        """Start a stream over rows or a source."""
        source = rows if isinstance(rows, FakeSource) else FakeSource(rows)
        source.clock = self.clock
        _, stream = await self.pipeline.start_pipeline(**{"source": source, "query": Query(), **options})
        return stream


start_test_pipeline = Bench


async def until(condition: Callable[[], object], *, limit_s: float = LIMIT_S) -> None:
    """Let tasks run until something is so; fails after a limit."""
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, "what the test waits for did not come"
        await asyncio.sleep(0)


class Consumed(msgspec.Struct, frozen=True, kw_only=True):
    """What a consumer saw."""

    records: list[Mapping[str, Any]]
    seconds: float
    first_record_s: float
    in_flight_count_max: int
    held_bytes_max: int

    @property
    def records_per_second(self) -> float:
        return len(self.records) / self.seconds


async def consume_with_monitoring(stream: Stream, *, each: Callable[[], Awaitable[object]] | None = None) -> Consumed:
    """Read a stream to its end, record by record, looking at what is in flight on the way."""
    started_s = time.perf_counter()
    first_s = 0.0
    records: list[Mapping[str, Any]] = []
    in_flight_count_max = 0
    async for record in stream:
        if not records:
            first_s = time.perf_counter() - started_s
        records.append(record)
        in_flight_count_max = max(in_flight_count_max, stream.figures().in_flight_count)
        if each is not None:
            await each()
    return Consumed(
        records=records,
        seconds=time.perf_counter() - started_s,
        first_record_s=first_s,
        in_flight_count_max=in_flight_count_max,
        held_bytes_max=stream.figures().held_bytes_max,
    )


def assert_aggregations(snapshot: Snapshot | Any, expected: Mapping[str, Any]) -> None:
    """Compare the totals of one field or more: {"count": 3, "sum": {"amount": 6}}; fields that are not named are not looked at."""
    for function, figures in expected.items():
        found = snapshot.aggregations[function]
        if isinstance(figures, Mapping):
            found = {field: found[field] for field in figures}
        assert found == figures, function


def measure_memory(stream: Stream) -> int:
    """What the stream holds now, in bytes."""
    return stream.figures().held_bytes


def measure_throughput(consumed: Consumed) -> float:
    """Records per second."""
    return consumed.records_per_second
