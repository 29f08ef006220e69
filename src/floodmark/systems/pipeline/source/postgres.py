"""PostgreSQL, read through ADBC with cursors on the server: the result stays there, a chunk travels when it is asked for.

Each open cursor holds one connection in a read-only transaction, so all chunks show the data of one moment. There are at most
`connections_max` of them; who comes later waits. A lost connection is opened again after the last row, by its key: the primary key, or
the query's own; the data is then that of a later moment. Without a key a broken query cannot go on, and says so.

Types without a place in Arrow come as text (uuid, json, enums, intervals ...). `numeric(p, s)` comes as an exact decimal, `numeric` without
a scale as a float. SQL text keeps no scale: cast in it what has to stay exact.
"""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import adbc_driver_manager
import adbc_driver_postgresql.dbapi
import polars as pl

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.errors import PipelineError, QueryError, QueryRefusedError, nearest
from floodmark.systems.pipeline.query import Query
from floodmark.systems.pipeline.source import statement as sql
from floodmark.systems.pipeline.source.adbc import asked, parameters
from floodmark.systems.pipeline.source.base import Cursor, Pager
from floodmark.systems.pipeline.source.forward import ForwardCursor
from floodmark.systems.pipeline.source.pager import after, last_of
from floodmark.systems.pipeline.source.steady import Steady
from floodmark.systems.pipeline.source.threads import SHARED, Lane

DIALECT = sql.Dialect(numbered=True)
NO_COPY = {"adbc.postgresql.use_copy": "false"}  # FETCH is no query that COPY could wrap
COUNTED_ROWS = 10_000
CONNECTIONS_MAX = 20
CANCEL_LIMIT_S = 10.0
PLAIN = re.compile(
    r"(bool(ean)?|smallint|integer|bigint|real|double precision|text|character varying|character|bytea|date|"
    r"time without time zone|timestamp with(out)? time zone)(\(\d+\))?"
)
SCALED = re.compile(r"numeric\((\d+),(\d+)\)")
MISSING_COLUMN = re.compile(r'column "?([^"\s]+)"? does not exist')
# Classes of SQLSTATE that may pass: connection, rollback, resources, state, operator (time-outs, shutdown), system, internal.
PASSING_CLASSES = ("08", "40", "53", "55", "57", "58", "XX")
ARITHMETIC = ("division by zero", "out of range", "invalid input syntax")

TABLES = """
SELECT relname::text AS name FROM pg_class
WHERE relkind IN ('r', 'v', 'm', 'p', 'f') AND pg_table_is_visible(oid) AND relnamespace <> 'pg_catalog'::regnamespace
"""
COLUMNS = """
SELECT attname::text AS name, format_type(atttypid, atttypmod) AS declared, attnotnull AS is_given
FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
KEY = """
SELECT a.attname::text AS name FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = to_regclass($1) AND i.indisprimary ORDER BY k.place
"""


class PostgresSource:
    """One PostgreSQL database."""

    def __init__(self, uri: str, *, connections_max: int = CONNECTIONS_MAX, counted_rows: int = COUNTED_ROWS) -> None:
        """Name a database as libpq does, `postgresql://user:password@host:port/name`; it is connected to with the first query."""
        if connections_max < 1:
            raise UsageError(f"connections_max must be at least 1, got {connections_max}")
        self._uri = uri
        self._counted_rows = counted_rows
        self._free = asyncio.Semaphore(connections_max)
        self._lock = threading.Lock()
        self._idle: list[Any] = []
        self._is_held = False
        self._is_closed = False

    @property
    def name(self) -> str:
        """The address without its password."""
        return without_password(self._uri)

    async def open(self, query: Query, *, pager: Pager = "keyset") -> Cursor:
        """Wait for a connection and check the query against the database. Both pagers read the one result from a cursor on the server."""
        if self._is_closed:
            raise QueryRefusedError(f"{self.name} is closed")
        if not self._is_held:
            self._is_held = True
            SHARED.hold()
        await self._free.acquire()
        lane = Lane()
        try:
            checked, steady, total = await lane.run(partial(self._checked, query))
        except BaseException:
            self._free.release()
            raise
        return ForwardCursor(
            start=partial(self._run, checked),
            lane=lane,
            steady=steady,
            names=checked.names,
            hidden=checked.hidden,
            mark=partial(last_of, checked.terms) if checked.is_total else None,
            limit=query.limit,
            total=total,
            on_close=self._free.release,
        )

    async def close(self) -> None:
        """Close the connections that no cursor holds, and the others with their cursors."""
        self._is_closed = True
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            _closed(connection)
        if self._is_held:
            self._is_held = False
            SHARED.release()

    def _borrowed(self) -> Any:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        try:
            connection = adbc_driver_postgresql.dbapi.connect(self._uri)
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
            connection.commit()
        except adbc_driver_manager.Error as exc:
            said = str(exc).replace(self._uri, self.name)
            if "authentication failed" in said or "does not exist" in said:
                raise QueryRefusedError(said) from None  # the driver's own words may hold the password
            raise QueryError(said) from None
        return connection

    def _given_back(self, connection: Any, *, is_good: bool = True) -> None:
        try:
            if is_good:
                connection.rollback()
        except adbc_driver_manager.Error:
            is_good = False
        with self._lock:
            is_kept = is_good and not self._is_closed
            if is_kept:
                self._idle.append(connection)
        if not is_kept:
            _closed(connection)

    def _run(self, checked: sql.Plan, last: tuple[Any, ...] | None) -> _ServerRun:
        connection = self._borrowed()
        try:
            return _ServerRun(connection, checked.whole(after(checked.terms, last)), give_back=self._given_back)
        except (adbc_driver_manager.Error, pl.exceptions.PolarsError) as exc:
            self._given_back(connection, is_good=False)
            raise error(exc) from exc

    def _checked(self, query: Query) -> tuple[sql.Plan, Steady, int | None]:
        connection = self._borrowed()
        columns: dict[str, sql.Column] = {}
        is_good = False
        try:
            with connection.cursor() as cursor:
                cursor.adbc_statement.set_options(**NO_COPY)
                key: list[str] = []
                if query.table is not None:
                    source: tuple[str, tuple[Any, ...]] = (sql.quoted_path(query.table), ())
                    columns, key = _table(query.table, source[0], cursor)
                    place, scope = f"table {query.table!r}", source[0]
                elif query.sql is not None:
                    source, place, scope = sql.source_text(query), "the query's columns", "given"
                    columns = _described(source, cursor)
                else:
                    raise QueryRefusedError(f"{self.name} holds tables; name one, or give SQL text")
                terms = {name: _term(column, scope) for name, column in columns.items()}
                checked = sql.plan(
                    query,
                    dialect=DIALECT,
                    source=source,
                    columns=columns,
                    key=tuple(terms[name] for name in key),
                    where_it_is=place,
                    term_of=terms,
                )
                total = self._total(query, checked, cursor)
            is_good = True
        except (adbc_driver_manager.Error, pl.exceptions.PolarsError) as exc:
            raise error(exc, columns) from exc
        except PipelineError:
            is_good = True
            raise
        finally:
            self._given_back(connection, is_good=is_good)
        scales = {name: SCALED.fullmatch(columns[name].declared) for name in checked.names}
        return checked, Steady({name: pl.Decimal(38, int(found[2])) for name, found in scales.items() if found}, is_typed=True), total

    def _total(self, query: Query, checked: sql.Plan, cursor: Any) -> int | None:
        if not query.counted:
            return None
        most = self._counted_rows + 1
        statement = checked.counted(most)
        found = int(asked(cursor, statement.text, statement.values).item())
        if query.limit is not None and found >= query.limit:
            return query.limit
        return None if found == most else found


class _ServerRun:
    """A cursor on the server, in a transaction of its own."""

    def __init__(self, connection: Any, statement: sql.Statement, *, give_back: Any) -> None:
        self._connection = connection
        self._give_back = give_back
        self._is_good = True
        self._cancelling: threading.Thread | None = None
        self._cursor = connection.cursor()
        try:
            self._cursor.adbc_statement.set_options(**NO_COPY)
            self._cursor.execute(f"DECLARE floodmark_rows NO SCROLL CURSOR FOR {statement.text}", parameters(statement.values))
        except BaseException:
            self._cursor.close()
            raise

    def more(self, count: int) -> pl.DataFrame:
        """The next rows; none at the end."""
        try:
            return asked(self._cursor, f"FETCH FORWARD {int(count)} FROM floodmark_rows", ())
        except (adbc_driver_manager.Error, pl.exceptions.PolarsError) as exc:
            self._is_good = False
            raise error(exc) from exc

    def interrupt(self) -> None:
        """Ask the server to stop, in a thread: it is a connection of its own, to a server that may not answer."""
        self._is_good = False  # the next statement on this connection might be the one that is stopped
        self._cancelling = threading.Thread(target=self._cancelled, name="floodmark-cancel", daemon=True)
        self._cancelling.start()

    def close(self) -> None:
        """End the transaction and give the connection back, or close it after an interrupt."""
        if self._cancelling is not None:
            self._cancelling.join(CANCEL_LIMIT_S)
        with suppress(adbc_driver_manager.Error):
            self._cursor.close()
        self._give_back(self._connection, is_good=self._is_good)

    def _cancelled(self) -> None:
        with suppress(Exception):  # nothing to cancel, or nobody to tell
            self._cursor.adbc_cancel()


def without_password(uri: str) -> str:
    """Leave out what must not stand in a log.

    >>> without_password("postgresql://ann:secret@db.example:5433/sales?sslmode=require&password=secret")
    'postgresql://ann@db.example:5433/sales'
    """
    parts = urlsplit(uri)
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit((parts.scheme, user.split(":")[0] + at + host, parts.path, "", ""))


def _table(name: str, path: str, cursor: Any) -> tuple[dict[str, sql.Column], list[str]]:
    rows = asked(cursor, COLUMNS, (path,))
    if not rows.height:
        raise sql.unknown("table", name, [str(found) for found in asked(cursor, TABLES, ())["name"]], "the database")
    columns = {row["name"]: _column(row["name"], row["declared"], nullable=not row["is_given"]) for row in rows.iter_rows(named=True)}
    return columns, [str(found) for found in asked(cursor, KEY, (path,))["name"]]


def _described(source: tuple[str, tuple[Any, ...]], cursor: Any) -> dict[str, sql.Column]:
    """The columns of a SQL text: the server plans it twice and runs it never, as nothing is joined to the one row."""
    empty = DIALECT.finished(f"SELECT * FROM {source[0]} LIMIT 0", source[1])
    names = asked(cursor, empty.text, empty.values).columns
    types = ", ".join(f"pg_typeof(given.{sql.quoted(name)})::text AS {sql.quoted(name)}" for name in names)
    typed = DIALECT.finished(f"SELECT {types} FROM (SELECT 1) AS one LEFT JOIN {source[0]} ON false", source[1])
    row = asked(cursor, typed.text, typed.values).row(0)
    return {name: _column(name, declared) for name, declared in zip(names, row, strict=True)}


def _column(name: str, declared: str, *, nullable: bool = True) -> sql.Column:
    selected_as = ""
    if declared == "numeric":
        selected_as = f"{sql.quoted(name)}::float8 AS {sql.quoted(name)}"
    elif not PLAIN.fullmatch(declared.removesuffix("[]")):
        selected_as = f"{sql.quoted(name)}::text AS {sql.quoted(name)}"
    return sql.Column(name=name, declared=declared, nullable=nullable, selected_as=selected_as)


def _term(column: sql.Column, scope: str) -> sql.Term:
    """Key values travel as text: that is exact for every type, and the server knows how to read it again.

    The name is qualified, or ORDER BY would take it for the column that comes out, which may be a text of the one that is meant.
    """
    name = f"{scope}.{sql.quoted(column.name)}"
    return sql.Term(expression=name, nullable=column.nullable, placeholder=f"?::text::{column.declared}", selected_as=f"{name}::text")


def _closed(connection: Any) -> None:
    with suppress(adbc_driver_manager.Error):
        connection.close()


def error(exc: Exception, columns: dict[str, sql.Column] | None = None) -> PipelineError:
    """Tell what may pass from what will not, by SQLSTATE, or by the words where the driver has lost it."""
    said = str(exc).split("\n\nQuery was")[0].split(". SQLSTATE")[0].rsplit("ERROR:", 1)[-1].strip()
    state = getattr(exc, "sqlstate", None)
    missing = MISSING_COLUMN.search(said)
    if missing and columns:
        near = nearest(missing[1].rsplit(".", 1)[-1], columns)
        return QueryRefusedError(said.splitlines()[0] + (f"; did you mean {near!r}?" if near else ""))
    if state:
        return QueryError(said) if state[:2] in PASSING_CLASSES else QueryRefusedError(said)
    if isinstance(exc, (adbc_driver_manager.ProgrammingError, pl.exceptions.DuplicateError)) or any(word in said for word in ARITHMETIC):
        return QueryRefusedError(said)
    return QueryError(said)
