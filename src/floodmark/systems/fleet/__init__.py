"""A fleet: equal workers that share partitions without a scheduler of their own, with all their state in a key-value store.

Start with `Worker`; docs/systems/fleet.md tells the rest. The store over NATS is `floodmark.systems.fleet.store.nats.NatsStore` and the
durable consumer is in `floodmark.systems.fleet.consumer`: both are imported by who uses them, since the NATS client is large.
"""

from floodmark.systems.fleet.assignment import Assignment
from floodmark.systems.fleet.errors import (
    AlreadyStartedError,
    AssignmentTimeoutError,
    ConnectivityError,
    ConsumerUpdateError,
    DegradedError,
    FleetError,
    HookError,
    IdClaimError,
    IdLostError,
    InvalidSettingsError,
    NotLeaderError,
    NotStartedError,
    StateTimeoutError,
)
from floodmark.systems.fleet.hooks import AssignmentChange, Hooks, StateChange
from floodmark.systems.fleet.metrics import Counters, Metric, Metrics, NullMetrics
from floodmark.systems.fleet.partition import Partition, Source, StaticSource
from floodmark.systems.fleet.profiles import PROFILES, profile
from floodmark.systems.fleet.settings import CutOff, Handover, Settings
from floodmark.systems.fleet.states import CalculatorState, WorkerState
from floodmark.systems.fleet.store import MemoryBackend, MemoryStore, Store, StoreError, StoreUnavailableError
from floodmark.systems.fleet.worker import Worker

__all__ = [
    "PROFILES",
    "AlreadyStartedError",
    "Assignment",
    "AssignmentChange",
    "AssignmentTimeoutError",
    "CalculatorState",
    "ConnectivityError",
    "ConsumerUpdateError",
    "Counters",
    "CutOff",
    "DegradedError",
    "FleetError",
    "Handover",
    "HookError",
    "Hooks",
    "IdClaimError",
    "IdLostError",
    "InvalidSettingsError",
    "MemoryBackend",
    "MemoryStore",
    "Metric",
    "Metrics",
    "NotLeaderError",
    "NotStartedError",
    "NullMetrics",
    "Partition",
    "Settings",
    "Source",
    "StateChange",
    "StateTimeoutError",
    "StaticSource",
    "Store",
    "StoreError",
    "StoreUnavailableError",
    "Worker",
    "WorkerState",
    "profile",
]
