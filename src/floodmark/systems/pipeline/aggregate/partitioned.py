"""The same aggregates over several processes, merged exactly.

    with PartitionedAggregates(functions, groupings, partition_count=4) as aggregates:
        update = aggregates.update(frame)
        snapshot = aggregates.snapshot()

A record goes to the worker that its key in the first grouping hashes to; without groupings, batches take turns. Whom a grouping
rejects is decided here, in the order of the records, before they are spread: so limits are exact, which they could not be if each
worker counted for itself. Groups of the further groupings may live in several workers: their figures add up exactly all the same.

Rows wait here until ROWS_SENT of them are there; a worker whose pipe is full holds `update` up, as a fold would: memory is bounded. Nothing
here awaits, so it takes the place of `Aggregates` anywhere; what it blocks for is bounded by ANSWER_LIMIT_S. Worth it only where
aggregation itself is the bottleneck (many functions and fields) and cores are free: spreading a row costs about as much as summing some
numbers. The processes start with the first rows.
"""

from __future__ import annotations

import os
import pickle
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import msgspec
import polars as pl

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.aggregate.aggregates import Aggregates, Rows
from floodmark.systems.pipeline.aggregate.config import Grouping, checked_functions
from floodmark.systems.pipeline.aggregate.exact import is_number
from floodmark.systems.pipeline.aggregate.groups import key_names
from floodmark.systems.pipeline.aggregate.paths import root
from floodmark.systems.pipeline.aggregate.projection import Projection
from floodmark.systems.pipeline.aggregate.snapshot import GroupingUpdate, Snapshot, Update
from floodmark.systems.pipeline.aggregate.worker import ACCEPTED, HEAD, packed, packed_frame
from floodmark.systems.pipeline.errors import PipelineError

WORKER = "floodmark.systems.pipeline.aggregate"
ROWS_SENT = 16_384
STOP_LIMIT_S = 5.0
ANSWER_LIMIT_S = 60.0  # for a worker to take or give the next bytes


class WorkerGoneError(PipelineError):
    """A process that aggregated a share of the stream has ended; its figures are lost, and the whole with them."""

    kind = "aggregation_worker_gone"

    def __init__(self, worker: int, exit_code: int | None) -> None:
        super().__init__(worker, exit_code)
        self.worker, self.exit_code_of_worker = worker, exit_code

    def __str__(self) -> str:
        end = "does not answer" if self.exit_code_of_worker is None else f"has ended (exit code {self.exit_code_of_worker})"
        return f"aggregation worker {self.worker} {end}; its share of the figures is lost: start the stream again"


class PartitionedAggregates:
    """Aggregates spread over processes. Close it, or leave its context, and the processes are gone; not to be used afterwards."""

    def __init__(self, functions: Sequence[str] = (), groupings: Sequence[Grouping] = (), *, partition_count: int) -> None:
        if partition_count < 1:
            raise UsageError(f"partition_count must be at least 1, got {partition_count!r}")
        self.functions = checked_functions(functions)
        self.groupings = tuple(groupings)
        self.partition_count = partition_count
        self.record_count = 0
        self._blank = Aggregates(self.functions, self.groupings, limited=False)  # knows the columns, makes frames of records
        # Knows all keys, and nothing about numbers: decides who is rejected.
        self._door = Aggregates((), [msgspec.structs.replace(each, aggregations=("count",)) for each in self.groupings])
        self._rejected = [0] * len(self.groupings)
        self._workers: list[subprocess.Popen[bytes]] = []
        self._waiting: list[tuple[pl.DataFrame, Mapping[str, str]]] = []
        self._waiting_rows = 0
        self._turn = 0
        self._is_closed = False

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The columns that are looked at; None for all numeric ones."""
        return self._blank.columns

    @property
    def size_bytes(self) -> int:
        """Estimate of the memory held in this process."""
        return self._door.size_bytes + sum(int(frame.estimated_size()) for frame, _ in self._waiting)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, by force where one does not end within STOP_LIMIT_S; figures that were not asked for are lost."""
        workers, self._workers, self._is_closed = self._workers, [], True
        self._waiting, self._waiting_rows = [], 0
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.close()
        for worker in workers:
            assert worker.stdout is not None
            try:
                worker.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
            worker.stdout.close()

    def _start(self) -> None:
        if self._is_closed:
            raise PipelineError("the aggregation workers are gone: these aggregates have been closed")
        for number in range(len(self._workers), self.partition_count):
            command = [sys.executable, "-m", WORKER]
            worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
            assert worker.stdin is not None
            os.set_blocking(worker.stdin.fileno(), False)
            self._workers.append(worker)
            self._send(number, packed("settings", self.functions, self.groupings))

    def update(self, rows: Rows) -> Update:
        """Take a batch into account; as `Aggregates.update`. Raises: WorkerGoneError."""
        rejected = [0] * len(self.groupings)
        for frame, aliases in self._blank.frames(rows):
            accepted = self._door.admit(frame, aliases)
            for place, mask in accepted.items():
                rejected[place] += frame.height - int(mask.sum())
            needed = self._needed(frame, aliases)
            self._waiting.append((needed.with_columns(mask.alias(f"{ACCEPTED}{place}") for place, mask in accepted.items()), aliases))
            self._waiting_rows += frame.height
        self.record_count += len(rows)
        self._rejected = [sum(both) for both in zip(self._rejected, rejected, strict=True)]
        if self._waiting_rows >= ROWS_SENT:
            self._spread()
        counts = [len(view.groups) for view in self._door.views]
        return Update(
            records=len(rows),
            groupings=tuple(
                GroupingUpdate(
                    group_by=each.group_by, rejected=number, limit_reached=number > 0, group_count=count, max_groups=each.max_groups
                )
                for each, number, count in zip(self.groupings, rejected, counts, strict=True)
            ),
        )

    def fold(self) -> None:
        """Send the rows that wait, and see that every worker is still there. Raises: WorkerGoneError."""
        self._spread()
        for number, worker in enumerate(self._workers):
            if worker.poll() is not None:
                raise self._gone(number)

    def snapshot(self) -> Snapshot:
        """Merge the workers' figures. Raises: WorkerGoneError."""
        self._spread()
        merged = Aggregates(self.functions, self.groupings, limited=False)
        for number in range(len(self._workers)):
            self._send(number, packed("states"))
        for number in range(len(self._workers)):
            record_count, states = pickle.loads(self._read(number, HEAD.unpack(self._read(number, HEAD.size))[0]))
            merged.merge_states(states, record_count)
        found = merged.snapshot()
        return msgspec.structs.replace(
            found,
            records=self.record_count,
            groupings=tuple(
                msgspec.structs.replace(each, rejected=number) for each, number in zip(found.groupings, self._rejected, strict=True)
            ),
        )

    def _needed(self, frame: pl.DataFrame, aliases: Mapping[str, str]) -> pl.DataFrame:
        """Leave away what no worker looks at."""
        schema, chosen = frame.schema, self.columns
        starts = {root(path, schema) for each in self.groupings for path in each.group_by}
        if chosen is None:
            wanted = {name for name, kind in schema.items() if is_number(kind)}
            wanted |= {root(path, schema) for each in self.groupings for path in each.fields or ()}
        else:
            wanted = {name for name in schema if aliases.get(name, name) in chosen}
        return frame.select([name for name in schema if name in starts or name in wanted] or frame.columns[:1])

    def _spread(self) -> None:
        """Send the rows that wait, each to its worker."""
        if self._waiting:
            self._start()
        waiting, self._waiting, self._waiting_rows = self._waiting, [], 0
        while waiting:
            alike = [waiting.pop(0)]
            while waiting and waiting[0][1] == alike[0][1] and waiting[0][0].schema == alike[0][0].schema:
                alike.append(waiting.pop(0))
            frame = pl.concat([each for each, _ in alike], rechunk=True)
            for number, share in self._shares(frame):
                self._send(number, packed("rows", packed_frame(share), dict(alike[0][1])))

    def _shares(self, frame: pl.DataFrame) -> list[tuple[int, pl.DataFrame]]:
        """Divide rows among the workers."""
        if not self.groupings:
            self._turn = (self._turn + 1) % self.partition_count
            return [(self._turn, frame)]
        group_by = self.groupings[0].group_by
        keys = Projection(frame.schema, group_by=group_by, values=False)(frame).select(key_names(len(group_by)))
        owner = keys.hash_rows() % self.partition_count
        shares = [(number, frame.filter(owner == number)) for number in range(self.partition_count)]
        return [(number, share) for number, share in shares if share.height]

    def _send(self, number: int, message: bytes) -> None:
        worker = self._workers[number]
        assert worker.stdin is not None
        left = memoryview(message)
        try:
            while left:
                self._await(number, worker.stdin.fileno(), select.POLLOUT)
                left = left[os.write(worker.stdin.fileno(), left) :]
        except BrokenPipeError as exc:
            raise self._gone(number) from exc

    def _read(self, number: int, size: int) -> bytes:
        worker = self._workers[number]
        assert worker.stdout is not None
        got = bytearray()
        while len(got) < size:
            self._await(number, worker.stdout.fileno(), select.POLLIN)
            more = os.read(worker.stdout.fileno(), size - len(got))
            if not more:
                raise self._gone(number)
            got += more
        return bytes(got)

    def _await(self, number: int, descriptor: int, event: int) -> None:
        """Wait until a worker's pipe can be used, or has been closed."""
        poll = select.poll()
        poll.register(descriptor, event)
        if not poll.poll(ANSWER_LIMIT_S * 1000):
            raise self._gone(number)

    def _gone(self, number: int) -> WorkerGoneError:
        try:
            return WorkerGoneError(number, self._workers[number].wait(STOP_LIMIT_S))
        except subprocess.TimeoutExpired:
            return WorkerGoneError(number, None)
