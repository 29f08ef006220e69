"""A JSON API read page by page.

The next page is found by a link (`next` in the answer, or a `Link` header), or asked for by `offset` and `limit`, or by a page number. Rows
are a list of objects: the answer itself, or one of its usual places (`RECORDS`), or where `records` says ("data.items").

One connection, kept open; no redirects and no links to another origin are followed, as the headers may hold a token. 5xx, 429, a broken
connection and a time-out may pass (QueryError); any other answer but 200 will not. An answer above `page_bytes_max` is refused.
"""

from __future__ import annotations

import http.client
import math
import re
import socket
import ssl
from collections.abc import Hashable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Literal
from urllib.parse import urlencode, urljoin, urlsplit

import msgspec
import polars as pl

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.errors import QueryError, QueryRefusedError, QueryTimeoutError
from floodmark.systems.pipeline.query import Query
from floodmark.systems.pipeline.source.base import Cursor, Pager
from floodmark.systems.pipeline.source.statement import unknown
from floodmark.systems.pipeline.source.steady import Steady
from floodmark.systems.pipeline.source.threads import SHARED, Lane

RECORDS = ("items", "data", "results", "records", "rows")
NEXT = ("next", "links.next", "paging.next", "_links.next.href")
TOTAL = ("total", "count", "meta.total")
PASSING_STATUSES = (408, 425, 429)
LINK_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next"?')
PAGE_BYTES_MAX = 64 * 1024 * 1024


class Answer(msgspec.Struct, frozen=True):
    """One page as it came."""

    frame: pl.DataFrame
    link: str  # to the next page, or empty
    total: int | None


class HttpSource:
    """One address that gives rows in pages."""

    def __init__(
        self,
        url: str,
        *,
        records: str = "",
        paging: Literal["link", "offset", "page"] = "link",
        parameter: str = "",
        limit_parameter: str = "limit",
        first_page: int = 1,
        headers: Mapping[str, str] | None = None,
        limit_s: float = 30.0,
        page_bytes_max: int = PAGE_BYTES_MAX,
    ) -> None:
        """Name the first page.

        Args: `records`: the dotted path to the rows; `parameter`: what the offset or page number is called (as `paging`); `limit_s`: for
        each wait on the connection.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"an address starts with http:// or https:// and names a host, got {url!r}")
        if parts.username or parts.password:
            raise UsageError("credentials do not belong into an address; give an Authorization header")
        if not 0 < limit_s < math.inf:
            raise UsageError(f"limit_s must be finite and more than 0 s, got {limit_s!r}")
        self._url = url
        self._records = records
        self._paging = paging
        self._parameter = parameter or paging
        self._limit_parameter = limit_parameter
        self._first_page = first_page
        self._headers = {"Accept": "application/json", **(headers or {})}
        self._limit_s = limit_s
        self._page_bytes_max = page_bytes_max
        self._is_held = False

    @property
    def name(self) -> str:
        """The address without its parameters, which may hold a token."""
        return self._url.split("?")[0]

    async def open(self, query: Query, *, pager: Pager = "keyset") -> Cursor:
        """Begin before the first page; the query's parameters join those of the address, its table joins the path."""
        for what, given in (("sql", query.sql), ("where", query.where), ("order_by", query.order_by), ("key", query.key)):
            if given:
                raise QueryRefusedError(f"{self.name} knows no {what}; put what it understands into the query's parameters")
        if not self._is_held:
            self._is_held = True
            SHARED.hold()
        base = self.name.rstrip("/") + "/" + query.table if query.table else self.name
        given = urlsplit(self._url).query
        url = "?".join(part for part in (base, "&".join(part for part in (given, urlencode(dict(query.parameters))) if part)) if part)
        return _HttpCursor(self, url, query)

    async def close(self) -> None:
        """Give the threads back; connections belong to the cursors."""
        if self._is_held:
            self._is_held = False
            SHARED.release()

    def address(self, url: str, rows_count: int, pages_count: int, count: int) -> str:
        """The page to ask for, where pages are asked for by number."""
        if self._paging == "link":
            return url
        place = rows_count if self._paging == "offset" else self._first_page + pages_count
        return f"{url}{'&' if '?' in url else '?'}{urlencode({self._parameter: place, self._limit_parameter: count})}"

    def connection(self) -> http.client.HTTPConnection:
        """A connection, not open yet."""
        parts = urlsplit(self._url)
        assert parts.hostname is not None
        if parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=self._limit_s, context=context)
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=self._limit_s)

    def asked(self, connection: http.client.HTTPConnection, url: str) -> Answer:
        """Get one page."""
        parts = urlsplit(url)
        try:
            connection.request("GET", parts.path + (f"?{parts.query}" if parts.query else ""), headers=self._headers)
            response = connection.getresponse()
            body = response.read(self._page_bytes_max + 1)
        except TimeoutError as exc:
            raise QueryTimeoutError(self._limit_s) from exc
        except ssl.SSLCertVerificationError as exc:
            raise QueryRefusedError(f"{self.name}: {exc}") from exc
        except (OSError, http.client.HTTPException) as exc:
            raise QueryError(f"{self.name}: {type(exc).__name__}: {exc}") from exc
        # A read of at most so many bytes does not say by itself that the connection has ended before the body.
        if response.length and len(body) <= self._page_bytes_max:
            raise QueryError(f"{self.name} broke off an answer {response.length:,} bytes before its end")
        if response.status >= 500 or response.status in PASSING_STATUSES:
            raise QueryError(f"{self.name} answered {response.status} {response.reason}")
        if response.status != 200:
            target = response.getheader("Location")
            hint = f"; it points to {target}: name that address" if target else ""
            raise QueryRefusedError(f"{self.name} answered {response.status} {response.reason}{hint}")
        if len(body) > self._page_bytes_max:
            raise QueryRefusedError(f"{self.name} gave a page of more than {self._page_bytes_max:,} bytes; ask for smaller pages")
        return self._read(body, url, response.getheader("Link") or "")

    def _read(self, body: bytes, url: str, link_header: str) -> Answer:
        try:
            payload = msgspec.json.decode(body)
        except msgspec.DecodeError as exc:
            raise QueryRefusedError(f"{self.name} gave no JSON: {exc}") from exc
        places = (self._records,) if self._records else RECORDS
        rows = (
            payload
            if isinstance(payload, list)
            else next((found for place in places if isinstance(found := _at(payload, place), list)), None)
        )
        if rows is None or not all(isinstance(row, dict) for row in rows):
            raise QueryRefusedError(f"{self.name} gave no list of objects at {' or '.join(places)}; say where with `records`")
        link = next((found for place in NEXT if isinstance(found := _at(payload, place), str) and found), "")
        if not link and (match := LINK_NEXT.search(link_header)):
            link = match[1]
        link = urljoin(url, link) if link else ""
        if link and urlsplit(link)[:2] != urlsplit(self._url)[:2]:
            raise QueryRefusedError(
                f"{self.name} links to another origin, {link.split('?')[0]}, which is not followed: headers may hold a token"
            )
        total = next((found for place in TOTAL if isinstance(found := _at(payload, place), int)), None)
        names = dict.fromkeys(name for row in rows for name in row)
        frame = pl.DataFrame([{name: row.get(name) for name in names} for row in rows], infer_schema_length=None, strict=False)
        return Answer(frame, link, total)

    @property
    def paging(self) -> str:
        """How the next page is found."""
        return self._paging


class _HttpCursor:
    """One walk along the pages. A page larger than asked for waits here for the next fetch."""

    def __init__(self, source: HttpSource, url: str, query: Query) -> None:
        self._source = source
        self._first_url = url
        self._url = url
        self._query = query
        self._connection = source.connection()
        self._lane = Lane()
        self._steady = Steady()
        self._held: pl.DataFrame | None = None
        self._held_count = 0
        self._skip_count = 0
        self._came_count = 0  # rows of all pages, also those not handed out yet
        self._pages_count = 0
        self._page_size = 0  # of the first request: an API that counts pages must be asked for the same size every time
        self._rows_count = 0
        self._total: int | None = None
        self._is_ended = query.limit == 0

    @property
    def position(self) -> Hashable:
        """Rows before it."""
        return self._rows_count

    @property
    def total(self) -> int | None:
        """What the API says, from the first page on."""
        if self.exhausted:
            return self._rows_count
        return self._total if self._query.limit is None or self._total is None else min(self._total, self._query.limit)

    @property
    def exhausted(self) -> bool:
        """Known when there is no next page."""
        at_limit = self._query.limit is not None and self._rows_count >= self._query.limit
        return at_limit or (self._is_ended and self._held is None)

    async def fetch(self, count: int) -> pl.DataFrame:
        """Get pages until they make a chunk."""
        left = count if self._query.limit is None else min(count, self._query.limit - self._rows_count)
        if self.exhausted or left <= 0:
            return self._steady.empty(self._query.columns or self._steady.names)
        # A cancelled request leaves an answer on its way: the connection is of no more use.
        await self._lane.run(partial(self._fill, left), interrupt=self._cut)
        held = self._held
        if held is None:
            return self._steady.empty(self._query.columns or self._steady.names)
        frame = held.head(left)
        for name in self._query.columns:
            if name not in frame.columns:
                raise unknown("column", name, frame.columns, self._source.name)
        frame = self._steady.settled(frame.select(self._query.columns) if self._query.columns else frame)
        self._held = held.slice(left) if held.height > left else None
        self._rows_count += frame.height
        return frame

    def seek(self, position: Hashable) -> None:
        """Start again, and pass over the rows before the position; with offsets, ask from there on."""
        if not isinstance(position, int):
            raise QueryRefusedError(f"{self._source.name} has no place {position!r}")
        self._url, self._held, self._is_ended, self._pages_count = self._first_url, None, False, 0
        is_offset = self._source.paging == "offset"
        self._came_count, self._skip_count = (position, 0) if is_offset else (0, position)
        self._rows_count = position

    async def close(self) -> None:
        """Close the connection."""
        self._cut()
        await self._lane.settled()
        self._connection.close()

    def _cut(self) -> None:
        sock = self._connection.sock
        if sock is not None:
            with suppress(OSError):  # it is broken already
                sock.shutdown(socket.SHUT_RDWR)

    def _fill(self, count: int) -> None:
        """In a thread: have `count` rows at hand, or all there are. A page counts only when it is here, whole."""
        while (0 if self._held is None else self._held.height) < count and not self._is_ended:
            self._page_size = self._page_size or count
            asked_count = self._page_size if self._source.paging == "page" else count
            url = self._source.address(self._url, self._came_count, self._pages_count, asked_count)
            try:
                answer = self._source.asked(self._connection, url)
            except (QueryError, QueryRefusedError):
                self._connection.close()  # opens again by itself with the next request
                raise
            self._pages_count += 1
            self._came_count += answer.frame.height
            self._total = answer.total if answer.total is not None else self._total
            if self._source.paging == "link":
                self._url, self._is_ended = answer.link, not answer.link
            else:
                self._is_ended = answer.frame.height == 0 or self._came_count == self._total
            rows = answer.frame.slice(self._skip_count)
            self._skip_count -= min(self._skip_count, answer.frame.height)
            if rows.height:
                self._held = rows if self._held is None else pl.concat([self._held, rows], how="diagonal_relaxed")


def _at(payload: Any, path: str) -> Any:
    for part in path.split("."):
        payload = payload.get(part) if isinstance(payload, dict) else None
    return payload
