"""Which ending of a file's name means which kind of source."""

from __future__ import annotations

SQLITE = (".db", ".sqlite", ".sqlite3", ".db3")
DATABASES = (".duckdb", ".ddb")
# what DuckDB reads a file with
READERS = {
    ".parquet": "read_parquet",
    ".csv": "read_csv",
    ".tsv": "read_csv",
    ".json": "read_json",
    ".jsonl": "read_json",
    ".ndjson": "read_json",
}
