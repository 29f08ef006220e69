"""The rows of a stream: what a record that was offered becomes.

    id 0, 1, 2 ...   name "Record i"   value 10 i   amount 1.5 i   category "group_" and i modulo the groups   timestamp   payload

All but the payload follow from the id, so whoever knows how many records went in knows every sum.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import polars as pl

BEGIN = datetime.datetime(2026, 1, 1)
TABLE = "records"
COLUMNS = ("id", "name", "value", "amount", "category", "timestamp", "payload")


@lru_cache(maxsize=64)
def _categories(groups: int) -> pl.Series:
    return pl.Series("category", [f"group_{number}" for number in range(groups)])


def rows_of(first_id: int, payloads: Sequence[bytes], groups: int) -> pl.DataFrame:
    """Make rows of records, in order."""
    # HOT: once per chunk.
    ids = np.arange(first_id, first_id + len(payloads), dtype=np.int64)
    category = _categories(groups).gather(ids % groups)
    frame = pl.DataFrame([pl.Series("id", ids), category, pl.Series("payload", payloads, dtype=pl.Binary)])
    ident = pl.col("id")
    return frame.select(
        ident,
        pl.format("Record {}", ident).alias("name"),
        (ident * 10).alias("value"),
        (ident * 1.5).alias("amount"),
        "category",
        (pl.lit(BEGIN) + pl.duration(seconds=ident)).alias("timestamp"),
        "payload",
    )
