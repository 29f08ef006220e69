"""The server of pages by itself: what it gives, what it refuses, and that it ends with its input."""

from __future__ import annotations

import http.client
import json
import socket
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest

from floodmark.systems.pipeline.host import pages
from floodmark.systems.pipeline.host.rows import TABLE

LIMIT_S = 30.0


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where it listens; one process for all tests, since none changes anything."""
    folder = tmp_path_factory.mktemp("pages")
    with sqlite3.connect(folder / "a1.db") as database:
        database.execute(f"CREATE TABLE {TABLE}(id INTEGER PRIMARY KEY)")
    database.close()
    words = [sys.executable, "-I", pages.__file__, str(folder), TABLE]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        assert process.wait(LIMIT_S) == 0  # it ends with its input
        process.stdout.close()
        with process.stderr:
            assert process.stderr.read() == b""  # whatever clients did


def answer_to(port: int, path: str) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


@pytest.mark.parametrize("query", ["", "?offset=0", "?offset=0&limit=ten", "?offset=&limit=10"])
def test_pages_question_without_its_numbers_is_a_bad_request(port: int, query: str) -> None:
    assert answer_to(port, f"/a1/{TABLE}{query}") == (400, {"error": "offset and limit are whole numbers"})


@pytest.mark.parametrize("numbers", ["offset=-1&limit=10", "offset=0&limit=0", f"offset=0&limit={pages.LIMIT_MAX + 1}"])
def test_pages_question_beyond_its_limits_is_a_bad_request(port: int, numbers: str) -> None:
    status, told = answer_to(port, f"/a1/{TABLE}?{numbers}")

    assert (status, told) == (400, {"error": f"limit is 1 to {pages.LIMIT_MAX}, offset not negative"})


@pytest.mark.parametrize("path", [f"/b2/{TABLE}", "/a1/sqlite_schema", f"/..%2fa1/{TABLE}", "/a1", "/"])
def test_pages_of_a_table_that_is_not_there_are_not_found(port: int, path: str) -> None:
    assert answer_to(port, f"{path}?offset=0&limit=10") == (404, {"error": "no such table"})


def test_pages_client_that_breaks_off_disturbs_nobody(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as client:
        client.sendall(b"GET /a1/")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset

    assert answer_to(port, f"/a1/{TABLE}?offset=0&limit=10") == (200, {"total": 0, "rows": []})  # nor is it written about: see `port`
