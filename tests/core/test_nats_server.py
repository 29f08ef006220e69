"""The embedded nats-server: what it tells is read when it is whole, and what keeps it is not silent about its own end."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from floodmark.core import nats_server
from floodmark.core.errors import UsageError
from floodmark.core.nats_server import EmbeddedNats

LIMIT_S = 20.0
_STAND_IN = """#!/bin/sh
root=$(dirname "$2")
ports="$root/nats-server_$$.ports"
{words}
exec sleep 60
"""


def stand_in(folder: Path, words: str) -> str:
    """A program in the place of nats-server, which writes its file of ports in its own way; returns its path."""
    made = folder / "nats-server"
    made.write_text(_STAND_IN.replace("{words}", words))
    made.chmod(made.stat().st_mode | stat.S_IXUSR)
    return str(made)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event announces; the caller limits it."""
    while not condition():  # noqa: ASYNC110  nothing signals it
        await asyncio.sleep(0.01)


def listens(url: str) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("half", ['{"nats": ["na', "", "[]", '{"nats": []}', '{"nats": "\\303'])
def test_ports_file_that_is_half_written_is_read_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: str) -> None:
    words = f"printf '{half}' > $ports; sleep 0.1; " + """printf '{"nats": ["nats://127.0.0.1:4999"]}' > $ports"""
    binary = stand_in(tmp_path, words)
    monkeypatch.setattr(nats_server, "find_binary", lambda: binary)

    async def play() -> str:
        async with asyncio.timeout(LIMIT_S), EmbeddedNats() as server:
            return server.url

    assert asyncio.run(play()) == "nats://127.0.0.1:4999"


def test_ports_file_that_stays_half_written_is_told_within_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = stand_in(tmp_path, """printf '{"nats": ["na' > $ports""")
    monkeypatch.setattr(nats_server, "find_binary", lambda: binary)
    monkeypatch.setattr(nats_server, "_START_LIMIT_S", 0.3)

    async def play() -> None:
        async with asyncio.timeout(LIMIT_S), EmbeddedNats():
            raise AssertionError("it came up")

    with pytest.raises(UsageError, match=r"did not come up within 0\.3 s \(its file of ports, nats-server_\d+\.ports, names no port\)"):
        asyncio.run(play())


def test_restart_whose_ports_file_is_half_written_at_first_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = json.loads
    broken: list[str] = []

    def loads(text: str) -> object:
        """As the file looks when it is read while it is written: at the first look after the first start."""
        if text and server.restart_count and not broken:
            broken.append(text)
            return whole(text[: len(text) // 2])
        return whole(text)

    server = EmbeddedNats(keep=True, again_after_s=0.05)
    monkeypatch.setattr(json, "loads", loads)

    async def play() -> tuple[str, str]:
        async with asyncio.timeout(LIMIT_S), server:
            before = server.url
            for count in (1, 2):  # the second time shows that it is still kept
                assert server.process is not None
                killed = server.process
                killed.kill()
                await until(lambda: server.restart_count == count and server.process is not killed and bool(broken))  # noqa: B023
            await until(lambda: listens(server.url))
            return before, server.url

    before, after = asyncio.run(play())

    assert before == after
    assert broken


def test_keeping_that_breaks_is_told_at_once_and_to_whoever_leaves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = EmbeddedNats(keep=True, again_after_s=0.01)

    async def play() -> None:
        async with asyncio.timeout(LIMIT_S), server:
            monkeypatch.setattr(server, "_start", broken)
            assert server.process is not None
            server.process.kill()
            await until(lambda: bool(caplog.records) and "any more" in caplog.records[-1].getMessage())

    async def broken(root: Path) -> None:
        raise RuntimeError("planted")

    with caplog.at_level(logging.WARNING, "floodmark.nats"), pytest.raises(RuntimeError, match="planted"):
        asyncio.run(play())

    assert caplog.records[-1].getMessage() == "nats-server is not started again any more (RuntimeError: planted)"


def test_error_of_the_block_goes_before_that_of_the_keeping(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    server = EmbeddedNats(keep=True, again_after_s=0.01)

    async def play() -> None:
        async with asyncio.timeout(LIMIT_S), server:
            monkeypatch.setattr(server, "_start", broken)
            assert server.process is not None
            server.process.kill()
            await until(lambda: bool(caplog.records) and "any more" in caplog.records[-1].getMessage())
            raise ValueError("of the block")

    async def broken(root: Path) -> None:
        raise RuntimeError("planted")

    with pytest.raises(ValueError, match="of the block"):
        asyncio.run(play())
