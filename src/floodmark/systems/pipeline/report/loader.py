"""Start a report: bind its parameters, build its query, guard its memory, start its stream, and hand over what a renderer needs.

    async with await stream_for_typst(report, source=source, parameters={"since": "2026-01-01"}) as document:
        async for rows in document.batches(): ...

`stream_for_typst` always streams; `load` chooses: a report that prints no rows is aggregated and keeps a sample of them, one that is
limited to 10,000 rows is read into memory, any other is streamed.

Contract: the document owns its stream; leaving its block ends it, whatever state it is in. A source given as text is opened here and closed
with the document; a source object stays open. Memory: what the stream's settings allow, and one chunk.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import enum
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec
import polars as pl

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.aggregate import Grouping
from floodmark.systems.pipeline.errors import PipelineError, QueryRefusedError, ReportError, reason_of
from floodmark.systems.pipeline.pipeline import AggregationSnapshot, Pipeline, default_pipeline
from floodmark.systems.pipeline.query import Query
from floodmark.systems.pipeline.report.bands import BandKind
from floodmark.systems.pipeline.report.bridge import Estimate, Plan, guard, plan_of
from floodmark.systems.pipeline.report.check import group_keys
from floodmark.systems.pipeline.report.errors import PlacedError, nearest
from floodmark.systems.pipeline.report.feed import ShapedSource
from floodmark.systems.pipeline.report.model import Report
from floodmark.systems.pipeline.report.parameters import bind
from floodmark.systems.pipeline.report.shape import Shape
from floodmark.systems.pipeline.source.base import Source
from floodmark.systems.pipeline.stream import Stream

MEMORY_ROWS_LIMIT = 10_000  # a report limited to so many rows is read at once
SAMPLE_ROWS = 100  # kept of a report that prints none


class ReportNotFoundError(ReportError):
    """No report has this name."""

    kind = "report_not_found"


class QueryBuildError(PipelineError, UsageError):
    """The source refuses the report's query; its own error is the cause."""

    kind = "query_build_failed"


class StreamingPipelineError(PipelineError):
    """The report's stream could not be started; the reason is the cause."""

    kind = "streaming_pipeline_failed"


class ReportTimeoutError(PipelineError):
    """The rows of a report were not read within its limit."""

    kind = "timeout"

    def __init__(self, report_name: str, limit_s: float) -> None:
        super().__init__(report_name, limit_s)
        self.report_name, self.limit_s = report_name, limit_s

    def __str__(self) -> str:
        return f"the rows of report {self.report_name!r} were not all read within {self.limit_s:g} s; raise timeout_s, or read less"


class Strategy(enum.StrEnum):
    """How a report's rows are read."""

    AGGREGATION = "aggregation"
    MEMORY = "memory"
    STREAMING = "streaming"


class DocumentOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a report is streamed; what is not here is the pipeline's default."""

    chunk_size: int = 500
    max_demand: int = 1000
    buffer_size: int = 1000
    memory_limit_bytes: int = 500_000_000
    timeout_s: float | None = 300.0  # from the start to the last row
    pager: str = "keyset"
    enable_telemetry: bool = True
    enable_cache: bool = True
    load_config: Any = None
    cumulative: bool = True  # whether level k is grouped by the fields of all levels down to k
    aggregations: tuple[str, ...] | None = None  # None: what the report needs
    grouped_aggregations: tuple[Grouping, ...] | None = None  # None: what the report needs


class Document:
    """A report on its way: its stream of rows and everything else that is printed."""

    def __init__(
        self,
        report: Report,
        *,
        stream_id: str,
        stream: Stream,
        pipeline: Pipeline,
        parameters: Mapping[str, Any],
        plan: Plan,
        estimate: Estimate,
        shapes: Sequence[Shape],
        timeout_s: float | None,
        owned: Source | None = None,
    ) -> None:
        self.report, self.stream_id, self.stream = report, stream_id, stream
        self.parameters, self.plan, self.estimate = dict(parameters), plan, estimate
        self.started_at = datetime.datetime.now(datetime.UTC)
        self.records_count = 0
        self._pipeline, self._shapes, self._owned = pipeline, shapes, owned
        self._timeout_s = timeout_s
        self._deadline_s = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s

    @property
    def skipped_count(self) -> int:
        """Return how many rows were left out, because a value could not be read as its kind."""
        return sum(shape.skipped_count for shape in self._shapes)

    @property
    def skipped_reason(self) -> str:
        """Return what was wrong with the first of them."""
        return next((shape.skipped_reason for shape in self._shapes if shape.skipped_reason), "")

    async def batches(self) -> AsyncIterator[pl.DataFrame]:
        """Give the rows in shape: fields, parameters (":since"), computed groups, derived values.

        Raises: what the stream raises, and ReportTimeoutError.
        """
        batches = self.stream.batches()
        async with contextlib.aclosing(batches):  # type: ignore[type-var]  # an async generator, declared as an iterator
            while True:
                try:
                    async with asyncio.timeout_at(self._deadline_s) as limit:
                        batch = await anext(batches, None)
                except TimeoutError as exc:
                    if not limit.expired() or self._timeout_s is None:
                        raise
                    raise ReportTimeoutError(self.report.name, self._timeout_s) from exc
                if batch is None:
                    return
                rows = self._shapes[-1].rows(batch.frame())
                self.records_count += len(rows)
                if len(rows):
                    yield rows

    def snapshot(self) -> AggregationSnapshot:
        """Return the aggregates so far."""
        return self._pipeline.get_aggregation_snapshot(self.stream_id)

    def data(self) -> dict[str, Any]:
        """Return the document's data but for its rows, as plain values: config, variables, groups, metadata, charts.

        This is the contract with templates. It is whole once the rows have been read; before, counts and groups are those so far.
        """
        report, snapshot = self.report, self.snapshot()
        return {
            "config": {
                "name": report.name,
                "title": report.title,
                "description": report.description,
                "author": report.author,
                "parameters": self.parameters,
                "fields": {name: str(kind) for name, kind in report.kinds.items()},
                "outputs": list(report.outputs),
            },
            "variables": {
                variable.name: {"type": str(variable.type), "expression": variable.expression, "reset_on": str(variable.reset_on)}
                for variable in report.variables
            },
            "groups": [
                {
                    "level": key.level,
                    "name": key.name,
                    "column": key.column,
                    "sort": "desc" if key.descending else "asc",
                    "group_count": next((entry.group_count for entry in snapshot.grouped_aggregations[index : index + 1]), 0),
                }
                for index, key in enumerate(group_keys(report))
            ],
            "metadata": {
                "stream_id": self.stream_id,
                "started_at": self.started_at.isoformat(timespec="seconds"),
                "record_count": self.records_count,
                "skipped_count": self.skipped_count,
                "status": str(snapshot.progress.status.value),
                "aggregations": snapshot.aggregations,
            },
            "charts": [],
        }

    async def aclose(self) -> None:
        """End the stream, and the source if it was opened for it."""
        try:
            await self.stream.aclose()
        finally:
            if self._owned is not None:
                await self._owned.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What `load` gives: `records` is everything, a sample, or None with the strategy to stream."""

    strategy: Strategy
    document: Document
    records: pl.DataFrame | None


def query_for(report: Report, parameters: Mapping[str, Any]) -> Query:
    """Return the report's query with its parameters bound and its rows ordered by group.

    Groups that the source cannot order by (computed ones, relationships) need `query.order_by`, which then stands alone.
    """
    query, keys = report.rows, group_keys(report)
    order = query.order_by
    if keys and not report.presorted and all(key.formula is None and "." not in key.column for key in keys):
        order = (*(f"-{key.column}" if key.descending else key.column for key in keys), *query.order_by)
    return msgspec.structs.replace(query, parameters={**query.parameters, **parameters}, order_by=order)


def report_named(name: str, reports: Mapping[str, Report]) -> Report:
    """Return a report by its name. Raises: ReportNotFoundError that names the nearest one."""
    if name not in reports:
        raise ReportNotFoundError(f"there is no report {name!r}; there are: {', '.join(reports) or 'none'}", nearest(name, reports))
    return reports[name]


async def stream_for_typst(
    report: Report | str,
    *,
    source: Source | str | None = None,
    parameters: Mapping[str, Any] | None = None,
    reports: Mapping[str, Report] | None = None,
    pipeline: Pipeline | None = None,
    **options: Any,
) -> Document:
    """Start a report's stream.

    Args:
        report: the report, or its name in `reports`.
        source: where the rows are; None: the report's own source. Text is opened here, and closed with the document.
        parameters: by name; text is read as the parameter's kind.
        options: those of DocumentOptions.
    Raises: ReportNotFoundError, ReportError for parameters, TooManyGroupsError, QueryBuildError, StreamingPipelineError, UsageError.
        Nothing is left open then.
    """
    report = report if isinstance(report, Report) else report_named(report, reports or {})
    settings = _options(options)
    bound = bind(report.parameters, parameters or {})
    plan = plan_of(report, cumulative=settings.cumulative)
    estimate = guard(plan)
    pipeline = pipeline or default_pipeline()
    opened, owned = _open(report, source)
    shapes = [Shape(report, bound, plan.derived, at_source=True), Shape(report, bound, plan.derived)]
    query = query_for(report, bound)
    try:
        stream_id, stream = await pipeline.start_pipeline(
            source=ShapedSource(opened, shapes[0], query),
            query=query,
            report_name=report.name,
            chunk_size=settings.chunk_size,
            max_demand=settings.max_demand,
            buffer_size=settings.buffer_size,
            memory_limit_bytes=settings.memory_limit_bytes,
            pager=settings.pager,
            enable_telemetry=settings.enable_telemetry,
            enable_cache=settings.enable_cache,
            load_config=settings.load_config,
            aggregations=plan.aggregations if settings.aggregations is None else settings.aggregations,
            grouped_aggregations=plan.groupings if settings.grouped_aggregations is None else settings.grouped_aggregations,
        )
    except BaseException as exc:
        if owned is not None:
            await owned.close()
        if isinstance(exc, QueryRefusedError):
            raise QueryBuildError(f"report {report.name!r}: {reason_of(exc)}") from exc
        if isinstance(exc, PipelineError) and not isinstance(exc, UsageError):
            raise StreamingPipelineError(f"report {report.name!r}: {reason_of(exc)}") from exc
        raise
    return Document(
        report,
        stream_id=stream_id,
        stream=stream,
        pipeline=pipeline,
        parameters=bound,
        plan=plan,
        estimate=estimate,
        shapes=shapes,
        timeout_s=settings.timeout_s,
        owned=owned,
    )


async def load(
    report: Report | str, *, source: Source | str | None = None, strategy: Strategy | str | None = None, **options: Any
) -> Loaded:
    """Start a report and read what its strategy reads.

    Args:
        strategy: None chooses by the report.
        options: those of stream_for_typst.
    Returns: with the strategies aggregation and memory everything has been read and the stream has ended.
    """
    report = report if isinstance(report, Report) else report_named(report, options.pop("reports", None) or {})
    chosen = Strategy(strategy) if strategy is not None else strategy_for(report)
    document = await stream_for_typst(report, source=source, **options)
    if chosen is Strategy.STREAMING:
        return Loaded(strategy=chosen, document=document, records=None)
    kept: list[pl.DataFrame] = []
    kept_count = 0
    async with document:
        async for rows in document.batches():
            wanted = rows if chosen is Strategy.MEMORY else rows.head(SAMPLE_ROWS - kept_count)
            kept_count += len(wanted)
            kept += [wanted] if len(wanted) else []
    return Loaded(strategy=chosen, document=document, records=pl.concat(kept) if kept else pl.DataFrame())


def strategy_for(report: Report) -> Strategy:
    """Return how a report is read best: by what it prints and how many rows it may have."""
    if not report.bands_of(BandKind.DETAIL):
        return Strategy.AGGREGATION
    limit = report.rows.limit
    return Strategy.MEMORY if limit is not None and limit <= MEMORY_ROWS_LIMIT else Strategy.STREAMING


def _options(options: Mapping[str, Any]) -> DocumentOptions:
    for name in options:
        if name not in DocumentOptions.__struct_fields__:
            raise PlacedError(f"there is no option {name!r}", near=nearest(name, DocumentOptions.__struct_fields__))
    return DocumentOptions(**options)


def _open(report: Report, source: Source | str | None) -> tuple[Source, Source | None]:
    """Return the source to read from and, if it was opened here, the one to close."""
    chosen = source if source is not None else report.source
    if not isinstance(chosen, str):
        return chosen, None
    if not chosen:
        raise PlacedError("no source: give one when it is run, or declare the report with source='...'", report.place)
    from floodmark.systems.pipeline.source import source_from  # here: it brings the database drivers

    opened = source_from(chosen)
    return opened, opened
