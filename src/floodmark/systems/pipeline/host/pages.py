"""A JSON API in a process of its own: the rows of the tables in a folder, page by page, for streams whose rows come over a network.

    GET /NAME/records?offset=200&limit=100    {"total": 1000, "rows": [{"id": 200, ..., "payload": BASE64}, ...]}

NAME is the file NAME.db in the folder, which may be written at any time. `python -I pages.py FOLDER records` says on stdout which port it
took, and ends when its stdin does: with the host that started it, however that ends. Bodies have a Content-Length, so that an answer that
is cut off on its way is known to be cut off. Run as a file of its own that imports none of floodmark, it starts in a fifth of the time.
"""

from __future__ import annotations

import base64
import re
import sqlite3
import sys
import threading
from contextlib import closing
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec

LIMIT_MAX = 100_000  # rows of a page
PATH = re.compile(r"/([0-9a-f]+)/(\w+)")


def page(path: Path, table: str, offset: int, limit: int) -> bytes:
    """One page as JSON. Raises: sqlite3.Error."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        (total,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        found = connection.execute(
            f"SELECT * FROM {table} WHERE id >= ? ORDER BY id LIMIT ?",  # ids count from 0, without a gap
            (offset, limit),
        )
        names = [column[0] for column in found.description]
        rows = [dict(zip(names, values, strict=True)) for values in found]
    for row in rows:
        row["payload"] = base64.b64encode(row["payload"]).decode()
    return msgspec.json.encode({"total": total, "rows": rows})


class Pages(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or the body waits for the acknowledgement of the head, 40 ms
    folder: Path
    table: str

    def do_GET(self) -> None:
        """Give a page."""
        parts = urlsplit(self.path)
        match = PATH.fullmatch(parts.path)
        asked = parse_qs(parts.query)
        path = self.folder / f"{match[1]}.db" if match and match[2] == self.table else None
        try:
            offset, limit = int(asked["offset"][0]), int(asked["limit"][0])
        except (KeyError, ValueError):
            self._answer(HTTPStatus.BAD_REQUEST, b'{"error": "offset and limit are whole numbers"}')
            return
        if path is None or not path.is_file():
            self._answer(HTTPStatus.NOT_FOUND, b'{"error": "no such table"}')
            return
        if offset < 0 or not 0 < limit <= LIMIT_MAX:
            self._answer(HTTPStatus.BAD_REQUEST, f'{{"error": "limit is 1 to {LIMIT_MAX}, offset not negative"}}'.encode())
            return
        self._answer(HTTPStatus.OK, page(path, self.table, offset, limit))

    def handle(self) -> None:
        """A client that breaks off is nothing to write about."""
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def finish(self) -> None:
        """What it did not read it does not get."""
        try:
            super().finish()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name it has in the base class
        """A line for each page is for nobody."""

    def _answer(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


def serve(folder: Path, table: str) -> None:
    """Serve until stdin ends."""
    if not folder.is_dir():
        sys.exit(f"{folder} is no folder")
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("FolderPages", (Pages,), {"folder": folder, "table": table}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.buffer.read()
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2])
