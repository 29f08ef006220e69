"""A pulled stream: a query's rows go through demand-driven stages to whoever reads them, and never more of them than was asked for.

    stream_id, stream = await start_pipeline(source="sales.db", query="sales", aggregations=["sum", "count"])
    async for record in stream: ...                      # or: async for batch in stream.batches(): batch.frame()
    get_aggregation_snapshot(stream_id).aggregations

`errors` holds what can go wrong, `settings` every option, `telemetry` every event.
"""

from floodmark.systems.pipeline.aggregate import Grouping, GroupSnapshot, Snapshot
from floodmark.systems.pipeline.batch import Batch
from floodmark.systems.pipeline.pipeline import (
    AggregationSnapshot,
    AggregationState,
    Pipeline,
    Progress,
    default_pipeline,
    get_aggregation_snapshot,
    get_aggregation_state,
    get_pipeline_info,
    list_pipelines,
    pause,
    pipeline_counts,
    resume,
    start_pipeline,
    stop,
)
from floodmark.systems.pipeline.query import Query, Relation
from floodmark.systems.pipeline.registry import PipelineInfo, Status
from floodmark.systems.pipeline.relations import LoadConfig
from floodmark.systems.pipeline.settings import Ladder, PipelineSettings, StreamSettings
from floodmark.systems.pipeline.stream import Stream, StreamFigures

__all__ = [
    "AggregationSnapshot",
    "AggregationState",
    "Batch",
    "GroupSnapshot",
    "Grouping",
    "Ladder",
    "LoadConfig",
    "Pipeline",
    "PipelineInfo",
    "PipelineSettings",
    "Progress",
    "Query",
    "Relation",
    "Snapshot",
    "Status",
    "Stream",
    "StreamFigures",
    "StreamSettings",
    "default_pipeline",
    "get_aggregation_snapshot",
    "get_aggregation_state",
    "get_pipeline_info",
    "list_pipelines",
    "pause",
    "pipeline_counts",
    "resume",
    "start_pipeline",
    "stop",
]
