"""The same aggregates over several processes, merged exactly.

    with PartitionedAggregates(functions, groupings, partition_count=4) as aggregates:
        update = aggregates.update(frame)
        snapshot = aggregates.snapshot()

A record goes to the worker that its key in the first grouping hashes to; without groupings, batches take turns. Whom a grouping
rejects is decided here, in the order of the records, before they are spread: so limits are exact, which they could not be if each
worker counted for itself. Groups of the further groupings may live in several workers: their figures add up exactly all the same.

Rows wait here until ROWS_SENT of them are there, then go as far as the pipes take them; before the next ones go, those have to be gone, so
memory is bounded. In an event loop, `await settled()` after an update and `await gathered()` for the figures wait without holding it up,
and `peek` does for no longer than PEEK_LIMIT_S. Elsewhere `update` and `snapshot` wait by themselves. A worker that neither takes nor gives
a byte for ANSWER_LIMIT_S is a WorkerGoneError. Worth it only where aggregation itself is the bottleneck (many functions and fields) and
cores are free: spreading a row costs about as much as summing some numbers. The processes start with the first rows.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import select
import subprocess
import sys
import time
from collections import deque
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
from floodmark.systems.pipeline.errors import CallTimeoutError, PipelineError

WORKER = "floodmark.systems.pipeline.aggregate"
ROWS_SENT = 16_384
EXIT_LIMIT_S = 1.0  # for a worker that has closed its pipes to be gone
ANSWER_LIMIT_S = 20.0  # for a worker to take or give the next bytes
PEEK_LIMIT_S = 0.5  # that an event loop may be held up for
READ_BYTES = 262_144


class WorkerGoneError(PipelineError):
    """A process that aggregated a share of the stream has ended; its figures are lost, and the whole with them."""

    kind = "aggregation_worker_gone"

    def __init__(self, worker: int, exit_code: int | None) -> None:
        super().__init__(worker, exit_code)
        self.worker, self.exit_code_of_worker = worker, exit_code

    def __str__(self) -> str:
        end = (
            f"has not moved for {ANSWER_LIMIT_S:g} s"
            if self.exit_code_of_worker is None
            else f"has ended (exit code {self.exit_code_of_worker})"
        )
        return f"aggregation worker {self.worker} {end}; its share of the figures is lost: start the stream again"


class _Request:
    """The figures that the workers were asked for, and what goes with them: the counts of that moment."""

    __slots__ = ("answers", "record_count", "rejected", "workers_count")

    def __init__(self, workers_count: int, record_count: int, rejected: Sequence[int]) -> None:
        self.workers_count, self.record_count, self.rejected = workers_count, record_count, tuple(rejected)
        self.answers: dict[int, bytearray] = {number: bytearray() for number in range(workers_count)}

    def lacks(self, number: int) -> int:
        """How many bytes of a worker's answer are missing, as far as is known."""
        got = self.answers.get(number)
        if got is None:
            return 0
        return HEAD.size - len(got) if len(got) < HEAD.size else HEAD.size + int(HEAD.unpack(got[: HEAD.size])[0]) - len(got)

    @property
    def is_complete(self) -> bool:
        """Whether all workers have answered."""
        return not any(map(self.lacks, self.answers))


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
        self._outboxes: list[deque[memoryview]] = []  # on their way to each worker
        self._request: _Request | None = None  # that the workers have not answered yet
        self._lost: WorkerGoneError | None = None
        self._waiting: list[tuple[pl.DataFrame, Mapping[str, str]]] = []
        self._waiting_rows = 0
        self._turn = 0
        self._is_closed = False
        self._lock = asyncio.Lock()  # a pipe can be watched for one task at a time
        self._woken: asyncio.Future[None] | None = None

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
        """End the workers; figures that were not asked for are lost. At once, for there is nothing else that they could lose."""
        workers, self._workers, self._is_closed = self._workers, [], True
        self._waiting, self._waiting_rows, self._outboxes, self._request = [], 0, [], None
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)
        self._unwatch(workers)
        for worker in workers:
            worker.kill()
            worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                assert pipe is not None
                pipe.close()

    def _start(self) -> None:
        for number in range(len(self._workers), self.partition_count):
            command = [sys.executable, "-m", WORKER]
            worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
            assert worker.stdin is not None
            assert worker.stdout is not None
            os.set_blocking(worker.stdin.fileno(), False)
            os.set_blocking(worker.stdout.fileno(), False)
            self._workers.append(worker)
            self._outboxes.append(deque())
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
        """Merge the workers' figures, and wait for them. Raises: WorkerGoneError."""
        self._spread()
        return self._merged(self._answered(None))

    def peek(self) -> Snapshot:
        """Merge the workers' figures if they come soon. Raises: WorkerGoneError, CallTimeoutError after PEEK_LIMIT_S: ask again."""
        deadline_s = time.monotonic() + PEEK_LIMIT_S
        self._drain(deadline_s)
        self._spread()
        return self._merged(self._answered(deadline_s))

    async def settled(self) -> None:
        """Wait until the rows that were sent are with the workers: the next update will not have to. Raises: WorkerGoneError."""
        while any(self._outboxes):
            async with self._lock:
                await self._moved(None)

    async def gathered(self) -> Snapshot:
        """Merge the workers' figures, as of now, and wait for them. Raises: WorkerGoneError."""
        await self.settled()
        self._spread()
        while self._request is not None and not self._request.is_complete:  # somebody else's
            async with self._lock:
                await self._moved(self._request)
        request = self._ask()
        while not request.is_complete:
            async with self._lock:
                await self._moved(request)
        return self._merged(request)

    def _ask(self) -> _Request:
        """Ask every worker for its figures."""
        self._check()
        request = self._request = _Request(len(self._workers), self.record_count, self._rejected)
        for number in range(len(self._workers)):
            self._send(number, packed("states"))
        self._move()
        return request

    def _answered(self, deadline_s: float | None) -> _Request:
        """Ask and wait, once what was asked for before has come."""
        if self._request is not None:
            self._drain(deadline_s, self._request)
        request = self._ask()
        self._drain(deadline_s, request)
        return request

    def _merged(self, request: _Request) -> Snapshot:
        merged = Aggregates(self.functions, self.groupings, limited=False)
        for answer in request.answers.values():
            record_count, states = pickle.loads(memoryview(answer)[HEAD.size :])
            merged.merge_states(states, record_count)
        found = merged.snapshot()
        return msgspec.structs.replace(
            found,
            records=request.record_count,
            groupings=tuple(
                msgspec.structs.replace(each, rejected=number) for each, number in zip(found.groupings, request.rejected, strict=True)
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
        self._check()
        if self._waiting:
            self._drain(None)
            self._start()
        waiting, self._waiting, self._waiting_rows = self._waiting, [], 0
        while waiting:
            alike = [waiting.pop(0)]
            while waiting and waiting[0][1] == alike[0][1] and waiting[0][0].schema == alike[0][0].schema:
                alike.append(waiting.pop(0))
            frame = pl.concat([each for each, _ in alike], rechunk=True)
            for number, share in self._shares(frame):
                self._send(number, packed("rows", packed_frame(share), dict(alike[0][1])))
        self._move()

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
        self._outboxes[number].append(memoryview(message))

    def _check(self) -> None:
        if self._lost is not None:
            raise self._lost
        if self._is_closed:
            raise PipelineError("the aggregation workers are gone: these aggregates have been closed")

    def _move(self) -> list[tuple[int, int, int]]:
        """Write and read what can be without waiting. Returns: what there is to wait for: worker, descriptor, event of `poll`."""
        self._check()
        waits: list[tuple[int, int, int]] = []
        for number, (worker, outbox) in enumerate(zip(self._workers, self._outboxes, strict=True)):
            assert worker.stdin is not None
            assert worker.stdout is not None
            try:
                while outbox:
                    outbox[0] = outbox[0][os.write(worker.stdin.fileno(), outbox[0]) :]
                    if not outbox[0]:
                        outbox.popleft()
            except BlockingIOError:
                waits.append((number, worker.stdin.fileno(), select.POLLOUT))
            except BrokenPipeError as exc:
                raise self._gone(number) from exc
            try:
                while self._request is not None and (missing := self._request.lacks(number)):
                    more = os.read(worker.stdout.fileno(), min(missing, READ_BYTES))
                    if not more:
                        raise self._gone(number)
                    self._request.answers[number] += more
            except BlockingIOError:
                waits.append((number, worker.stdout.fileno(), select.POLLIN))
        return waits

    def _drain(self, deadline_s: float | None, request: _Request | None = None) -> None:
        """Wait here and now until everything is sent, or a request is answered."""
        while any(self._outboxes) or (request is not None and not request.is_complete):
            poll = select.poll()
            waits = self._move()
            for _, descriptor, event in waits:
                poll.register(descriptor, event)
            limit_s = ANSWER_LIMIT_S if deadline_s is None else max(deadline_s - time.monotonic(), 0.0)
            if waits and not poll.poll(limit_s * 1000):
                if deadline_s is not None:
                    raise CallTimeoutError("the state of the aggregates", PEEK_LIMIT_S)
                raise self._stuck(waits[0][0])

    async def _moved(self, request: _Request | None) -> None:
        """Wait, with the lock, until something has moved on or been closed."""
        waits = self._move() if request is None or not request.is_complete else []
        if not waits:
            return
        loop = asyncio.get_running_loop()
        woken = self._woken = loop.create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        for _, descriptor, event in waits:
            (loop.add_writer if event == select.POLLOUT else loop.add_reader)(descriptor, wake)
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S) as limit:
                await woken
        except TimeoutError as exc:
            if not limit.expired():
                raise
            raise self._stuck(waits[0][0]) from exc
        finally:
            self._unwatch(self._workers)

    def _unwatch(self, workers: Sequence[subprocess.Popen[bytes]]) -> None:
        woken, self._woken = self._woken, None
        if woken is not None:
            for worker in workers:
                assert worker.stdin is not None
                assert worker.stdout is not None
                woken.get_loop().remove_writer(worker.stdin.fileno())
                woken.get_loop().remove_reader(worker.stdout.fileno())

    def _stuck(self, number: int) -> WorkerGoneError:
        self._lost = WorkerGoneError(number, None)
        return self._lost

    def _gone(self, number: int) -> WorkerGoneError:
        try:
            self._lost = WorkerGoneError(number, self._workers[number].wait(EXIT_LIMIT_S))
        except subprocess.TimeoutExpired:
            self._lost = WorkerGoneError(number, None)
        return self._lost
