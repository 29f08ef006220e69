"""Aggregation of a stream: exact, batch by batch, in one process or several."""

from floodmark.systems.pipeline.aggregate.aggregates import Aggregates
from floodmark.systems.pipeline.aggregate.config import FUNCTIONS, Grouping
from floodmark.systems.pipeline.aggregate.partitioned import PartitionedAggregates, WorkerGoneError
from floodmark.systems.pipeline.aggregate.snapshot import GroupingUpdate, GroupSnapshot, Snapshot, Update

__all__ = [
    "FUNCTIONS",
    "Aggregates",
    "GroupSnapshot",
    "Grouping",
    "GroupingUpdate",
    "PartitionedAggregates",
    "Snapshot",
    "Update",
    "WorkerGoneError",
]
