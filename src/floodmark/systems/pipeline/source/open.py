"""Make a source of what a person types: a file's name, or an address.

A driver is imported when a source needs it: together they take a third of a second, and most programs use one.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.errors import nearest
from floodmark.systems.pipeline.source.base import Source
from floodmark.systems.pipeline.source.kinds import DATABASES, READERS, SQLITE

SCHEMES = ("sqlite", "duckdb", "postgresql", "postgres", "http", "https", "file")
SHAPES = "sqlite:///sales.db, sales.db, postgresql://user@host/name, sales.duckdb, sales.parquet, sales.csv, sales.jsonl, https://host/rows"


def source_from(text: str) -> Source:
    """Make a source; files must be there.

    >>> source_from("postgresql://ann:secret@localhost/sales").name
    'postgresql://ann@localhost/sales'

    Raises: UsageError with what is allowed.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _file(text)
    if scheme in ("postgresql", "postgres"):
        return _postgres(text)
    if scheme in ("http", "https"):
        return _http(text)
    if scheme not in SCHEMES:
        near = nearest(scheme, SCHEMES)
        raise UsageError(
            f"unknown kind of source {scheme}://" + (f"; did you mean {near}://?" if near else f"; a source is one of: {SHAPES}")
        )
    # Three slashes before a relative path, four before an absolute one; after three, an absolute path is taken if only that is there.
    if not rest.startswith("/"):
        raise UsageError(f"{scheme}:// takes a path after a third slash, {scheme}:///{rest or 'sales.db'}; got {text!r}")
    path = unquote(urlsplit(text).path)
    local = path[1:]
    if not Path(local).exists() and Path(path).exists():
        local = path
    if scheme == "file":
        return _file(local)
    return _sqlite(_existing(local)) if scheme == "sqlite" else _duck(_existing(local))


def _file(text: str) -> Source:
    ending = Path(text).suffix.lower()
    if ending in SQLITE:
        return _sqlite(_existing(text))
    if ending in READERS or ending in DATABASES:
        return _duck(text if any(sign in text for sign in "*?[") else _existing(text))
    known = (*SQLITE, *DATABASES, *READERS)
    near = nearest(ending, known) if ending else ""
    hint = f"did you mean {near}?" if near else f"a source is one of: {SHAPES}"
    raise UsageError(f"cannot tell what kind of source {text!r} is; {hint}")


def _existing(text: str) -> str:
    path = Path(text)
    if path.is_file():
        return text
    others = [other.name for other in path.parent.iterdir() if other.is_file()] if path.parent.is_dir() else []
    near = nearest(path.name, others)
    raise UsageError(f"there is no file {text!r}" + (f"; did you mean {str(path.with_name(near))!r}?" if near else ""))


def _sqlite(path: str) -> Source:
    from floodmark.systems.pipeline.source.sqlite import SqliteSource

    return SqliteSource(path)


def _duck(path: str) -> Source:
    from floodmark.systems.pipeline.source.duck import DuckSource

    return DuckSource(path)


def _postgres(uri: str) -> Source:
    from floodmark.systems.pipeline.source.postgres import PostgresSource

    return PostgresSource(uri)


def _http(url: str) -> Source:
    from floodmark.systems.pipeline.source.http import HttpSource

    return HttpSource(url)
