"""Page through ten million rows of SQLite: is a chunk at the end as cheap as one at the beginning, and does memory stay flat?

`python -m bench.pipeline_sources [--rows N] [--chunk N] [--pager keyset|offset]` builds the table in a temporary folder, reads it to the
end through `source_from`, checks count and sum, and prints chunk times by tenths of the way. Exit code 1 when the last tenth is slower than
1.2 times the first. Needs about 500 MB of disk for the default.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import psutil

from floodmark.systems.pipeline.query import Query
from floodmark.systems.pipeline.source import Pager, source_from

GROUPS_COUNT = 1000
RATIO_MAX = 1.2
FILL = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ? - 1)
INSERT INTO sales SELECT i, 'group_' || (i % ?), i * 0.5, i % 100 FROM n
"""


def build(path: Path, rows_count: int) -> None:
    """Make the table: a key, a text, a fraction, a whole number."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("CREATE TABLE sales(id INTEGER PRIMARY KEY, territory TEXT, amount REAL, quantity INTEGER)")
    connection.execute(FILL, (rows_count, GROUPS_COUNT))
    connection.commit()
    connection.close()


async def read(path: Path, *, chunk_count: int, pager: Pager) -> tuple[list[float], int, int, int]:
    """Read everything; give the seconds of each chunk, rows, the sum of `quantity`, and how many bytes memory grew after 100 chunks."""
    process = psutil.Process()
    source = source_from(str(path))
    cursor = await source.open(Query(table="sales"), pager=pager)
    chunks_s: list[float] = []
    rows_count = total = 0
    settled_bytes = peak_bytes = 0
    while not cursor.exhausted:
        began_s = time.perf_counter()
        frame = await cursor.fetch(chunk_count)
        chunks_s.append(time.perf_counter() - began_s)
        rows_count += frame.height
        total += int(frame["quantity"].sum())
        if len(chunks_s) % 100 == 0:
            peak_bytes = max(peak_bytes, process.memory_info().rss)
            settled_bytes = settled_bytes or peak_bytes
    await cursor.close()
    await source.close()
    return chunks_s, rows_count, total, max(0, peak_bytes - settled_bytes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, read, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--chunk", type=int, default=1000)
    parser.add_argument("--pager", choices=["keyset", "offset"], default="keyset")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="floodmark-bench-") as folder:
        path = Path(folder) / "sales.db"
        build(path, options.rows)
        began_s = time.perf_counter()
        chunks_s, rows_count, total, grown_bytes = asyncio.run(read(path, chunk_count=options.chunk, pager=options.pager))
        spent_s = time.perf_counter() - began_s
    wanted = sum(range(100)) * (options.rows // 100) + sum(range(options.rows % 100))
    if rows_count != options.rows or total != wanted:
        print(f"account does not add up: {rows_count:,} of {options.rows:,} rows, quantity {total:,} of {wanted:,}", file=sys.stderr)
        return 1
    tenth = max(1, len(chunks_s) // 10)
    tenths_us = [median(chunks_s[place : place + tenth]) * 1e6 for place in range(0, tenth * 10, tenth) if chunks_s[place : place + tenth]]
    ratio = tenths_us[-1] / tenths_us[0]
    print(f"{options.pager}, {rows_count:,} rows in chunks of {options.chunk:,}: {spent_s:.1f} s, {rows_count / spent_s:,.0f} rows/s")
    print("median chunk by tenths of the way, us: " + " ".join(f"{value:,.0f}" for value in tenths_us))
    print(f"last / first: {ratio:.2f} (at most {RATIO_MAX}); memory grew by {grown_bytes / 1e6:.1f} MB on the way")
    return 0 if ratio <= RATIO_MAX else 1


if __name__ == "__main__":
    raise SystemExit(main())
