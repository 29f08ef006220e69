"""SQLite files, read through ADBC: the embedded default.

Each page is one statement on a connection that the source lends for its time, so a thousand streams share as many connections as there
are threads. A file is opened for reading only. Between two pages others may write: a row that moves behind the reader's key is not seen
twice, one that moves ahead of it may be. ADBC cannot interrupt SQLite: a page that nobody waits for any more goes on in its thread until
it is done.

The key is the INTEGER PRIMARY KEY, else the rowid, else the primary key. A view or SQL text has none, and is then run once, from beginning
to end, by Python's own driver, which can be interrupted. That driver is a second SQLite in this process, and the locks of a process are
one: let nobody write to the file while such a query runs.

Types: SQLite stores a type with each value. A chunk's column has the type of its values, steadied by the declared one (see steady.py);
BOOLEAN columns come as booleans, dates as the text or number that they are stored as. An order or key column must hold values of one type.
"""

from __future__ import annotations

import datetime
import re
import sqlite3
import threading
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import adbc_driver_manager
import adbc_driver_sqlite.dbapi
import polars as pl

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.errors import PipelineError, QueryError, QueryRefusedError, nearest
from floodmark.systems.pipeline.query import Query
from floodmark.systems.pipeline.source.adbc import asked
from floodmark.systems.pipeline.source.base import Cursor, Pager
from floodmark.systems.pipeline.source.forward import ForwardCursor
from floodmark.systems.pipeline.source.pager import PagedCursor
from floodmark.systems.pipeline.source.statement import Column, Dialect, Plan, Statement, Term, plan, quoted, source_text, unknown
from floodmark.systems.pipeline.source.steady import Steady
from floodmark.systems.pipeline.source.threads import SHARED, Lane

DIALECT = Dialect(nulls_are_smallest=True)
COUNTED_ROWS = 10_000  # counting more would delay the first row
BUSY_LIMIT_S = 5.0
BATCH_ROWS = "adbc.sqlite.query.batch_rows"  # also the rows that the driver looks at to find the types: a page is always one batch
MISSING = re.compile(r"no such (column|table|function): ([^\n]+)")
PASSING = re.compile(r"database is locked|database table is locked|busy|interrupted|disk I/O error|out of memory", re.IGNORECASE)


class SqliteSource:
    """One SQLite file."""

    def __init__(self, path: str | Path, *, counted_rows: int | None = COUNTED_ROWS) -> None:
        """Name a file; it is opened with the first query.

        Args: `counted_rows`: how far rows are counted when a query is opened, to know the total; None counts to the end.
        """
        self._path = Path(path)
        if str(path) == ":memory:":
            raise UsageError("a SQLite database in memory belongs to the connection that made it; write it to a file, or use an iterable")
        self._counted_rows = counted_rows
        self._lock = threading.Lock()
        self._idle: list[Any] = []
        self._is_held = False
        self._is_closed = False
        self._columns: dict[str, tuple[dict[str, Column], tuple[Term, ...]]] = {}

    @property
    def name(self) -> str:
        """The file's address."""
        return f"sqlite:///{self._path}"

    async def open(self, query: Query, *, pager: Pager = "keyset") -> Cursor:
        """Check the query against the file. Raises QueryRefusedError for a name that is not there, UsageError without the file."""
        self._start()
        lane = Lane()
        checked, steady, total = await lane.run(partial(self._lent, partial(self._checked, query)))
        if not checked.is_total and pager == "keyset":
            return ForwardCursor(
                start=partial(self._run_whole, checked),
                lane=lane,
                steady=steady,
                names=checked.names,
                hidden=checked.hidden,
                limit=query.limit,
                total=total,
            )
        return PagedCursor(
            checked,
            pager=pager,
            ask=lambda statement, count: self._lent(partial(_page, statement, count)),
            lane=lane,
            steady=steady,
            total=total,
        )

    async def close(self) -> None:
        """Close the connections that are not in use, and those in use when they come back."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
            was_held, self._is_held = self._is_held, False
        for connection in idle:
            connection.close()
        if was_held:
            SHARED.release()

    def _start(self) -> None:
        if self._is_closed:
            raise QueryRefusedError(f"{self.name} is closed")
        if not self._path.is_file():
            raise UsageError(f"there is no file {self._path}")
        if not self._is_held:
            self._is_held = True
            SHARED.hold()

    def _connected(self) -> Any:
        try:
            connection = adbc_driver_sqlite.dbapi.connect(_uri(self._path), autocommit=True)
        except adbc_driver_manager.Error as exc:
            raise QueryError(f"{self.name} cannot be opened: {_said(exc)}") from exc
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_LIMIT_S * 1000)}")
            cursor.fetch_polars()
        return connection

    def _lent(self, use: Callable[[Any], Any]) -> Any:
        """Call `use` with a cursor on a connection that nobody else uses meanwhile; errors come out as ours."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        try:
            connection = connection or self._connected()
            with connection.cursor() as cursor:
                return use(cursor)
        except (adbc_driver_manager.Error, pl.exceptions.PolarsError) as exc:
            raise self._error(exc) from exc
        finally:
            self._given_back(connection)

    def _given_back(self, connection: Any) -> None:
        if connection is None:
            return
        with self._lock:
            is_kept = not self._is_closed
            if is_kept:
                self._idle.append(connection)
        if not is_kept:
            connection.close()

    def _run_whole(self, checked: Plan, _place: Any) -> _WholeRun:
        try:
            return _WholeRun(self._path, checked.whole())
        except sqlite3.Error as exc:
            raise self._error(exc) from exc

    def _checked(self, query: Query, cursor: Any) -> tuple[Plan, Steady, int | None]:
        key: tuple[Term, ...] = ()
        if query.table is not None:
            columns, key = self._table(query.table, cursor)
            source: tuple[str, tuple[Any, ...]] = (quoted(query.table), ())
            place = f"table {query.table!r}"
        elif query.sql is not None:
            source = source_text(query)
            place = "the query's columns"
            statement = DIALECT.finished(f"SELECT * FROM {source[0]} LIMIT 0", source[1])
            columns = {name: Column(name=name) for name in asked(cursor, statement.text, storable(statement.values)).columns}
        else:
            raise QueryRefusedError(
                f"{self.name} holds tables; name one, or give SQL text. There are: {', '.join(_tables(cursor)) or 'none'}"
            )
        terms = {name: Term(expression=quoted(name), nullable=column.nullable) for name, column in columns.items()}
        checked = plan(query, dialect=DIALECT, source=source, columns=columns, key=key, where_it_is=place, term_of=terms)
        steady = Steady({name: found for name in checked.names if (found := affinity(columns[name].declared)) is not None})
        return checked, steady, self._total(query, checked, cursor)

    def _total(self, query: Query, checked: Plan, cursor: Any) -> int | None:
        if not query.counted:
            return None
        most = -1 if self._counted_rows is None else self._counted_rows + 1
        statement = checked.counted(most)
        found = int(asked(cursor, statement.text, storable(statement.values)).item())
        if query.limit is not None and (found >= query.limit):
            return query.limit
        return None if found == most else found

    def _table(self, name: str, cursor: Any) -> tuple[dict[str, Column], tuple[Term, ...]]:
        known = self._columns.get(name)
        if known is None:
            known = self._columns[name] = _table(name, cursor)
        return known

    def _error(self, exc: Exception) -> PipelineError:
        """Say what SQLite complains about; what may pass is told apart from what will not."""
        said = _said(exc)
        missing = MISSING.search(said)
        if missing:
            known = sorted(
                {column for columns, _ in self._columns.values() for column in columns} if missing[1] == "column" else self._columns
            )
            near = nearest(missing[2].split(".")[-1].strip('"'), known)
            return QueryRefusedError(f"{missing[0]}" + (f"; did you mean {near!r}?" if near else ""))
        if PASSING.search(said) or isinstance(exc, adbc_driver_manager.OperationalError):
            return QueryError(said)
        if isinstance(exc, (adbc_driver_manager.Error, sqlite3.Error, pl.exceptions.DuplicateError)):
            return QueryRefusedError(said)
        return QueryError(said)


def affinity(declared: str) -> pl.DataType | None:
    """The type that a declared type stands for, by SQLite's rules; None where values of any type are at home.

    >>> affinity("VARCHAR(20)"), affinity("BIGINT"), affinity("DECIMAL(10,2)"), affinity("DATE")
    (String, Int64, Float64, String)
    """
    text = declared.upper()
    rules: tuple[tuple[tuple[str, ...], pl.DataType], ...] = (
        (("BOOL",), pl.Boolean()),
        (("INT",), pl.Int64()),
        (("CHAR", "CLOB", "TEXT", "DATE", "TIME"), pl.String()),
        (("BLOB",), pl.Binary()),
        (("REAL", "FLOA", "DOUB", "NUM", "DEC"), pl.Float64()),
    )
    return next((found for words, found in rules if any(word in text for word in words)), None)


def _uri(path: Path) -> str:
    return f"file:{quote(str(path.resolve()))}?mode=ro"


class _WholeRun:
    """A query run from beginning to end by Python's own driver: slower than ADBC's, and it can be stopped."""

    def __init__(self, path: Path, statement: Statement) -> None:
        self._connection = sqlite3.connect(_uri(path), uri=True, check_same_thread=False, timeout=BUSY_LIMIT_S)
        try:
            self._cursor = self._connection.execute(statement.text, storable(statement.values))
        except BaseException:
            self._connection.close()
            raise
        self._names = [column[0] for column in self._cursor.description]

    def more(self, count: int) -> pl.DataFrame:
        """The next rows; none at the end."""
        try:
            rows = self._cursor.fetchmany(count)
        except sqlite3.Error as exc:
            raise QueryError(str(exc)) from exc
        return pl.DataFrame(
            [pl.Series(name, values, strict=False) for name, values in zip(self._names, zip(*rows, strict=True), strict=False)]
        )

    def interrupt(self) -> None:
        """Stop what runs."""
        with suppress(sqlite3.ProgrammingError):  # closed by now
            self._connection.interrupt()

    def close(self) -> None:
        """Close the connection, and the statement with it."""
        self._connection.close()


def storable(values: Sequence[Any]) -> tuple[Any, ...]:
    """Values as SQLite stores them: dates as ISO text with a space, decimals and UUIDs as text, booleans as 0 and 1.

    >>> storable([datetime.datetime(2024, 5, 1, 8, 30), Decimal("1.50"), True])
    ('2024-05-01 08:30:00', '1.50', 1)
    """
    found: list[Any] = []
    for value in values:
        if isinstance(value, datetime.datetime):
            found.append(value.isoformat(" "))
        elif isinstance(value, (datetime.date, datetime.time)):
            found.append(value.isoformat())
        elif isinstance(value, bool):
            found.append(int(value))
        else:
            found.append(str(value) if isinstance(value, (Decimal, uuid.UUID)) else value)
    return tuple(found)


def _page(statement: Statement, count: int, cursor: Any) -> pl.DataFrame:
    return asked(cursor, statement.text, storable(statement.values), {BATCH_ROWS: str(count + 1)})


def _tables(cursor: Any) -> list[str]:
    frame = asked(cursor, "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'", ())
    return [str(name) for name in frame["name"]]


def _table(name: str, cursor: Any) -> tuple[dict[str, Column], tuple[Term, ...]]:
    """Read a table's columns and what orders its rows. Hidden columns of virtual tables are left out."""
    frame = asked(cursor, 'SELECT name, type, "notnull", pk, hidden FROM pragma_table_xinfo(?)', (name,))
    kinds = asked(cursor, "SELECT type, wr FROM pragma_table_list(?)", (name,))
    if not frame.height or not kinds.height:
        tables = _tables(cursor)
        raise unknown("table", name, tables, "the database")
    kind, is_without_rowid = kinds.row(0)
    rows = [row for row in frame.iter_rows(named=True) if row["hidden"] != 1]
    primary = [row["name"] for row in sorted((row for row in rows if row["pk"]), key=lambda row: row["pk"])]
    is_rowid = kind == "table" and not is_without_rowid
    alias = primary[0] if is_rowid and len(primary) == 1 and _is_integer_key(name, primary[0], rows, cursor) else None
    columns = {
        row["name"]: Column(
            name=row["name"],
            declared=row["type"] or "",
            nullable=not (row["notnull"] or row["name"] == alias or (is_without_rowid and row["pk"])),
        )
        for row in rows
    }
    if alias is not None:
        return columns, (Term(expression=quoted(alias), nullable=False),)
    if is_rowid:
        taken = {column.lower() for column in columns}
        free = next((word for word in ("rowid", "_rowid_", "oid") if word not in taken), None)
        if free is not None:
            return columns, (Term(expression=free, nullable=False),)
    return columns, tuple(Term(expression=quoted(column), nullable=columns[column].nullable) for column in primary)


def _is_integer_key(table: str, column: str, rows: list[dict[str, Any]], cursor: Any) -> bool:
    """Whether a column is the rowid under another name: INTEGER PRIMARY KEY, which then has no index of its own."""
    declared = next(row["type"] for row in rows if row["name"] == column)
    if (declared or "").upper() != "INTEGER":
        return False
    return not asked(cursor, "SELECT 1 AS one FROM pragma_index_list(?) WHERE origin = 'pk'", (table,)).height


def _said(exc: Exception) -> str:
    """SQLite's own words, without the driver's wrapping and the text of the query."""
    text = str(exc).split("\nquery: ")[0].strip()
    return text.rsplit("Failed to prepare query: ", 1)[-1].split("[SQLite] ")[-1]
