"""What the host and a process of workers say to each other: JSON, one line each, over the process's stdin and stdout.

A line that is none of these is an error of whoever said it (`WireError`), never the end of a conversation.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec

from floodmark.core.errors import FloodmarkError
from floodmark.systems.fleet.host.options import Options
from floodmark.systems.fleet.partition import Partition

LINE_BYTES = 64 * 1024 * 1024  # a line may hold the names of all partitions
SHOWN_BYTES = 200  # of a line that is none of ours, in the error
Line = TypeVar("Line")


class Begin(msgspec.Struct, frozen=True, kw_only=True):
    """The first line to a process: the workers it is to run, by their numbers."""

    options: Options
    url: str
    numbers: tuple[int, ...]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A word for one worker, or for all of the process (number 0); `begin` is for workers that are not there yet, `numbers`."""

    ask: int
    do: str
    number: int = 0
    numbers: tuple[int, ...] = ()
    factor: float = 1.0
    partitions: tuple[Partition, ...] = ()


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One worker as it sees itself; `error` says why it is no more."""

    number: int
    worker: str = ""
    state: str = "Init"
    leader: bool = False
    epoch: int = 0
    version: int = 0
    partitions: tuple[str, ...] = ()
    error: str = ""


class News(msgspec.Struct, frozen=True, kw_only=True):
    """A line from a process: `answer` to an order, `members` when one of them changed, `felt` when a planted fault has struck."""

    kind: str
    ask: int = 0
    error: str = ""
    members: tuple[Member, ...] = ()
    tasks: int = 0
    felt: str = ""


class ProcessEndedError(FloodmarkError):
    """A process of workers ended while it was asked."""


class WireError(FloodmarkError):
    """What came is no line of this conversation."""


def write(writer: asyncio.StreamWriter, line: msgspec.Struct) -> None:
    """Send one line."""
    writer.write(msgspec.json.encode(line) + b"\n")


async def read(reader: asyncio.StreamReader, kind: type[Line]) -> Line | None:
    """Take one line; None at the end, also in the midst of a line. Raises: WireError."""
    line = b""
    try:
        line = await reader.readline()
        return msgspec.json.decode(line, type=kind) if line.endswith(b"\n") else None
    except (msgspec.MsgspecError, ValueError) as exc:  # ValueError: it is longer than LINE_BYTES, or is not UTF-8
        said = f": {line[:SHOWN_BYTES].decode(errors='replace').strip()!r}" if line else ""
        raise WireError(f"{exc}{said}") from exc
