"""Where rows come from: SQLite, PostgreSQL, DuckDB and its files, Python iterables, paged JSON over HTTP. One source per file."""

from __future__ import annotations

from floodmark.systems.pipeline.source.base import Cursor, Pager, Source
from floodmark.systems.pipeline.source.open import source_from

__all__ = ["Cursor", "Pager", "Source", "source_from"]
