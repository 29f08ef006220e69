"""DuckDB databases, Parquet, CSV and JSON files, read by DuckDB.

A query is run once and its Arrow batches are taken as they are asked for; DuckDB reads no further ahead than its own buffer, and sorts
beyond its memory limit on disk, in a temporary folder that goes with the source. A file is a table called `data`, and by its name without
ending (`sales/2024.parquet` is "2024"); a pattern (`sales/*.parquet`) reads all files it matches.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.errors import PipelineError, QueryError, QueryRefusedError
from floodmark.systems.pipeline.query import Query
from floodmark.systems.pipeline.source.base import Cursor, Pager
from floodmark.systems.pipeline.source.forward import BatchRun, ForwardCursor
from floodmark.systems.pipeline.source.kinds import DATABASES, READERS
from floodmark.systems.pipeline.source.pager import PagedCursor, after, last_of
from floodmark.systems.pipeline.source.statement import (
    Column,
    Dialect,
    Plan,
    Statement,
    Term,
    plan,
    quoted,
    quoted_path,
    source_text,
    unknown,
)
from floodmark.systems.pipeline.source.steady import Steady
from floodmark.systems.pipeline.source.threads import SHARED, Lane

DIALECT = Dialect(numbered=True)
DATA = "data"  # what a file's rows are called
MEMORY_LIMIT_BYTES = 256 * 1024 * 1024
THREADS_MAX = 4
PASSING = (duckdb.InterruptException, duckdb.OutOfMemoryException, duckdb.ConnectionException, duckdb.TransactionException)


class DuckSource:
    """One DuckDB database, or the rows of one or several files."""

    def __init__(self, path: str | Path, *, memory_limit_bytes: int = MEMORY_LIMIT_BYTES) -> None:
        """Name a file or a pattern; it is opened with the first query."""
        self._path = Path(path)
        ending = self._path.suffix.lower()
        self._reader = READERS.get(ending)
        if self._reader is None and ending not in DATABASES:
            raise UsageError(f"cannot tell what {self._path} is; known endings: {', '.join([*READERS, *DATABASES])}")
        self._memory_limit_bytes = memory_limit_bytes
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._lane = Lane()
        self._is_closed = False

    @property
    def name(self) -> str:
        """The file's address."""
        return f"duckdb:///{self._path}"

    async def open(self, query: Query, *, pager: Pager = "keyset") -> Cursor:
        """Check the query against the files. Both pagers are there; `keyset` reads the one result from beginning to end."""
        if self._is_closed:
            raise QueryRefusedError(f"{self.name} is closed")
        if self._connection is None:
            self._connect()
        assert self._connection is not None
        connection = self._connection.cursor()
        lane = Lane()
        try:
            checked, total = await lane.run(partial(self._checked, connection, query), interrupt=connection.interrupt)
        except BaseException:
            await lane.settled()
            connection.close()
            raise
        steady = Steady(is_typed=True)
        if pager == "offset":
            return _ClosingCursor(
                checked,
                pager=pager,
                ask=lambda statement, count: _asked(connection, statement),
                lane=lane,
                steady=steady,
                interrupt=connection.interrupt,
                total=total,
                connection=connection,
            )
        return ForwardCursor(
            start=partial(_run, connection, checked),
            lane=lane,
            steady=steady,
            names=checked.names,
            hidden=checked.hidden,
            mark=partial(last_of, checked.terms) if checked.is_total else None,
            limit=query.limit,
            total=total,
            on_close=connection.close,
        )

    async def close(self) -> None:
        """Close the database and remove what was spilled to disk."""
        self._is_closed = True
        connection, self._connection = self._connection, None
        folder, self._folder = self._folder, None
        if connection is not None:
            connection.close()
            SHARED.release()
        if folder is not None:
            folder.cleanup()

    def _connect(self) -> None:
        text = str(self._path)
        if not (_files_match(self._path) if self._reader else self._path.is_file()):
            raise UsageError(f"there is no file {self._path}")
        folder = tempfile.TemporaryDirectory(prefix="floodmark-duckdb-")
        settings: dict[str, Any] = {
            "memory_limit": f"{self._memory_limit_bytes // 2**20}MiB",
            "temp_directory": folder.name,
            "threads": str(min(THREADS_MAX, os.cpu_count() or 1)),
        }
        try:
            if self._reader is None:
                connection = duckdb.connect(text, read_only=True, config=settings)
            else:
                connection = duckdb.connect(config=settings)
                files = "'" + text.replace("'", "''") + "'"
                for view in dict.fromkeys((DATA, self._path.stem)):
                    connection.execute(f"CREATE VIEW {quoted(view)} AS SELECT * FROM {self._reader}({files})")
        except duckdb.Error as exc:
            folder.cleanup()
            raise _error(exc) from exc
        self._connection, self._folder = connection, folder
        SHARED.hold()

    def _checked(self, connection: duckdb.DuckDBPyConnection, query: Query) -> tuple[Plan, int | None]:
        try:
            if query.sql is not None:
                source, place = source_text(query), "the query's columns"
            else:
                tables = [str(row[0]) for row in connection.execute("SELECT table_name FROM information_schema.tables").fetchall()]
                table = query.table or (DATA if self._reader else None)
                if table is None:
                    raise QueryRefusedError(
                        f"{self.name} holds tables; name one, or give SQL text. There are: {', '.join(tables) or 'none'}"
                    )
                if table.split(".")[-1] not in tables and table not in tables:
                    raise unknown("table", table, tables, "the database")
                source, place = (quoted_path(table, tables), ()), f"table {table!r}"
            statement = DIALECT.finished(f"SELECT * FROM {source[0]} LIMIT 0", source[1])
            columns = {name: Column(name=name) for name in connection.sql(statement.text, params=list(statement.values)).columns}
            terms = {name: Term(expression=quoted(name)) for name in columns}
            checked = plan(query, dialect=DIALECT, source=source, columns=columns, key=(), where_it_is=place, term_of=terms)
            return checked, self._total(connection, query, checked)
        except duckdb.Error as exc:
            raise _error(exc) from exc

    def _total(self, connection: duckdb.DuckDBPyConnection, query: Query, checked: Plan) -> int | None:
        """The number of rows stands in a Parquet file and in a database; CSV and JSON would have to be read."""
        if not query.counted or query.sql is not None or query.where or self._reader in ("read_csv", "read_json"):
            return None
        found = int(connection.execute(f"SELECT count(*) FROM {checked.source}").fetchall()[0][0])
        return found if query.limit is None else min(found, query.limit)


class _ClosingCursor(PagedCursor):
    """A paged cursor with a connection of its own."""

    def __init__(self, checked: Plan, *, connection: duckdb.DuckDBPyConnection, **options: Any) -> None:
        super().__init__(checked, **options)
        self._connection = connection

    async def close(self) -> None:
        """Close the connection, too."""
        await super().close()
        self._connection.close()


def _files_match(path: Path) -> bool:
    """Whether a file is there, or at least one that a pattern matches."""
    if not any(sign in str(path) for sign in "*?["):
        return path.is_file()
    return next(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))), None) is not None


def _run(connection: duckdb.DuckDBPyConnection, checked: Plan, last: tuple[Any, ...] | None) -> BatchRun:
    statement = checked.whole(after(checked.terms, last))
    try:
        result = connection.sql(statement.text, params=list(statement.values))
        return BatchRun(result, interrupt=connection.interrupt, close=lambda: None, error=_error)
    except (duckdb.Error, pl.exceptions.PolarsError) as exc:
        raise _error(exc) from exc


def _asked(connection: duckdb.DuckDBPyConnection, statement: Statement) -> pl.DataFrame:
    try:
        return pl.scan_arrow_c_stream(connection.sql(statement.text, params=list(statement.values))).collect()
    except (duckdb.Error, pl.exceptions.PolarsError) as exc:
        raise _error(exc) from exc


def _error(exc: Exception) -> PipelineError:
    """DuckDB names the nearest column by itself. What comes through Polars has lost its kind and is told by its words."""
    said = str(exc).strip()
    if isinstance(exc, duckdb.Error):
        return QueryError(said) if isinstance(exc, PASSING) else QueryRefusedError(said)
    refused = ("Conversion Error", "Invalid Input Error", "Out of Range Error", "Binder Error", "Parser Error")
    return QueryRefusedError(said) if any(word in said for word in refused) else QueryError(said)
