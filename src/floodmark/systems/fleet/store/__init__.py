"""Where a fleet keeps its state: one interface (`base.py`), NATS JetStream (`nats.py`) and memory (`memory.py`).

`store.nats` is imported by who uses it: nats-py costs more than the rest of the fleet together.
"""

from floodmark.systems.fleet.store.base import (
    Bucket,
    BucketMismatchError,
    Entry,
    KeyExistsError,
    KeyNotFoundError,
    Store,
    StoreError,
    StoreUnavailableError,
    Watch,
    WrongRevisionError,
)
from floodmark.systems.fleet.store.memory import MemoryBackend, MemoryStore

__all__ = [
    "Bucket",
    "BucketMismatchError",
    "Entry",
    "KeyExistsError",
    "KeyNotFoundError",
    "MemoryBackend",
    "MemoryStore",
    "Store",
    "StoreError",
    "StoreUnavailableError",
    "Watch",
    "WrongRevisionError",
]
