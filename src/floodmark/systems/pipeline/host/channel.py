"""One channel: a worker that runs one stream after another, fed from its intake and drained by one client, who says how much he wants.

A stream is started when somebody asks and its first chunk is there, so that the time to its first record is the pipeline's own. Demand
goes to the running stream as it comes; what a stream did not serve is asked of the next one. When a stream has ended, its figures are
added up, its groups go to the client, and the registry forgets it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from floodmark.systems.pipeline import Grouping, Pipeline, Query, Status, Stream
from floodmark.systems.pipeline.errors import PipelineError
from floodmark.systems.pipeline.host.edges import EdgeSource
from floodmark.systems.pipeline.host.feed import WRITTEN_COUNT, FeedSource, spool
from floodmark.systems.pipeline.host.figures import Figures, Group, Groups, groups_of
from floodmark.systems.pipeline.host.intake import Intake
from floodmark.systems.pipeline.host.lies import LATE_S, Lies
from floodmark.systems.pipeline.host.network import Network, table_name
from floodmark.systems.pipeline.host.options import Options
from floodmark.systems.pipeline.host.rows import TABLE
from floodmark.systems.pipeline.source.base import Source

LEAST_INTAKE_COUNT = 1000
STALL_S = 3600.0  # records come when the feeder sends them: a stream that waits for them has not stalled


class Drain(Protocol):
    """The client who drains a channel."""

    def rows(self, payloads: list[bytes]) -> None:
        """Give him records."""

    def groups(self, groups: Groups) -> None:
        """Give him the groups of a stream that has ended."""

    def ended(self, reason: str) -> None:
        """A stream failed, and nothing more comes."""

    async def room(self) -> None:
        """Wait while he does not read."""


class Channel:
    """See the module's docstring."""

    def __init__(
        self,
        name: str,
        options: Options,
        *,
        pipeline: Pipeline,
        drain: Drain,
        figures: Figures,
        lies: Lies,
        folder: Path,
        network: Callable[[], Network | None],
    ) -> None:
        self.name = name
        self.options = options
        least_count = LEAST_INTAKE_COUNT if options.store == "memory" else WRITTEN_COUNT
        # What is waited for at once must fit: a chunk, or what is written into a table in one transaction.
        self.intake = Intake(max(2 * options.chunk_size, least_count, lies.left("ahead") + options.chunk_size))
        self._pipeline = pipeline
        self._drain = drain
        self._figures = figures
        self._lies = lies
        self._folder = folder
        self._network = network
        self._stream: Stream | None = None
        self._demanded = asyncio.Event()
        self._asked_count = 0  # over all streams, as are the next two
        self._taken_count = 0
        self._drained_count = 0

    def ask(self, count: int) -> None:
        """The client wants so many more."""
        self._asked_count += count
        self._demanded.set()
        if self._stream is not None:
            self._stream.ask(count)

    async def run(self) -> None:
        """Run streams until cancelled, or until one fails."""
        try:
            while True:
                await self._one()
        except PipelineError as exc:  # the stream failed, or could not be started
            self._drain.ended(str(exc))
        finally:
            self.intake.close()

    # -- one stream

    async def _one(self) -> None:
        options = self.options
        while self._asked_count <= self._drained_count:
            self._demanded.clear()
            await self._demanded.wait()
        if options.store == "memory":
            await self.intake.wait(min(options.chunk_size, options.records))
            await self._play(FeedSource(self.intake, records=options.records, groups=options.groups))
            return
        name = table_name()
        path = self._folder / f"{name}.db"
        try:
            await spool(self.intake, path, records=options.records, groups=options.groups)
            await self._play(self._table(name, path))
        finally:
            path.unlink(missing_ok=True)

    def _table(self, name: str, path: Path) -> Source:
        if self.options.store == "http":
            network = self._network()
            if network is None:
                raise PipelineError("there is no network to the rows")
            return network.source(name)
        from floodmark.systems.pipeline.source.sqlite import SqliteSource

        return SqliteSource(str(path))

    async def _play(self, inner: Source) -> None:
        try:
            await self._run(EdgeSource(inner, self.options, self._lies, self._figures, self._took))
        finally:
            await inner.close()

    async def _run(self, source: EdgeSource) -> None:
        options, pipeline = self.options, self._pipeline
        started_ns = time.monotonic_ns()
        stream_id, stream = await pipeline.start_pipeline(
            source=source,
            query=Query(table=TABLE),
            pager=options.pager,
            enable_cache=False,
            chunk_size=options.chunk_size,
            max_demand=options.max_demand,
            min_demand=options.min_demand,
            buffer_size=options.buffer_size,
            retry_delay_s=options.retry_delay_s,
            query_timeout_s=None,
            stall_timeout_s=STALL_S,
            transformer=self._transform if options.transform or options.fail_id is not None else None,
            grouped_aggregations=grouping(options.groups, options.aggregations),
        )
        self._stream = stream
        try:
            stream.ask(self._asked_count - self._drained_count)
            await self._hand_on(stream, started_ns)
        finally:
            self._stream = None
            await stream.aclose()
            self._settle(stream_id, stream)

    async def _hand_on(self, stream: Stream, started_ns: int) -> None:
        """Give the client what the stream gives."""
        options, figures = self.options, self._figures
        batch = await stream.receive()
        if batch is not None:
            figures.first_record.note((time.monotonic_ns() - started_ns) / 1e9)
            if self._lies.tell("late"):
                await asyncio.sleep(LATE_S)  # the lie itself
        while batch is not None:
            payloads = [record["payload"] for record in batch.records()] if not batch.has_frame else batch.frame()["payload"].to_list()
            self._drained_count += len(payloads)
            if self._drained_count >= self._asked_count:
                payloads += await self._beyond(stream)
            figures.delivered += len(payloads)
            self._drain.rows(payloads)
            if options.pause_s:
                await asyncio.sleep(options.pause_s)  # a slow drain is what the client has ordered
            await self._drain.room()
            batch = await stream.receive()

    async def _beyond(self, stream: Stream) -> list[bytes]:
        """What a liar gives though nobody has asked for it."""
        wanted_count = self._lies.tell_all("overemit")
        beyond: list[bytes] = []
        if wanted_count:
            stream.ask(wanted_count)
        while len(beyond) < wanted_count and (batch := await stream.receive(wanted_count - len(beyond))) is not None:
            beyond += batch.frame()["payload"].to_list()
        return beyond

    def _took(self, count: int) -> None:
        """The pipeline has fetched so many records."""
        self._taken_count += count
        figures = self._figures
        figures.ahead_max = max(figures.ahead_max or 0, self._taken_count - self._asked_count)
        figures.in_flight_max = max(figures.in_flight_max or 0, self._taken_count - self._drained_count)

    def _transform(self, record: dict[str, Any]) -> Mapping[str, Any]:
        if record["id"] == self.options.fail_id:
            raise ValueError(f"record {record['id']} fails, as the client has ordered")
        return {"id": record["id"], "value": record["value"], "category": record["category"], "payload": record["payload"]}

    def _settle(self, stream_id: str, stream: Stream) -> None:
        """Add up what a stream was, and forget it."""
        figures, last, pipeline = self._figures, stream.figures(), self._pipeline
        status = pipeline.get_pipeline_info(stream_id).status
        snapshot = pipeline.get_aggregation_snapshot(stream_id).grouped_aggregations
        pipeline.registry.deregister(stream_id)
        figures.skipped += last.records_failed
        figures.retries += last.retried_count
        # What the pipeline took and did not give is gone with the stream: skipped, or dropped by a stop.
        self._taken_count = self._drained_count
        if status is Status.COMPLETED:
            figures.completed += 1
            if snapshot:
                self._drain.groups(self._told(groups_of(snapshot[0], records=self.options.records, groups=self.options.groups)))
        elif status is Status.FAILED:
            figures.failed += 1
        else:
            figures.stopped += 1

    def _told(self, groups: Groups) -> Groups:
        """The groups as a liar tells them."""
        wrong_count = self._lies.tell_all("miscount", most=len(groups.found))
        if not wrong_count:
            return groups
        wrong = [Group(key=one.key, count=one.count + 1, value_sum=one.value_sum) for one in groups.found[:wrong_count]]
        return msgspec.structs.replace(groups, found=[*wrong, *groups.found[wrong_count:]])


def grouping(groups: int, functions: tuple[str, ...]) -> tuple[Grouping, ...]:
    """Group by category; sum and count are always among it, since the client checks them."""
    functions = tuple(dict.fromkeys(("sum", "count", *functions)))
    return (Grouping(group_by=("category",), aggregations=functions, fields=("value",), max_groups=groups),)
