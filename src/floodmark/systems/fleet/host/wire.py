"""What the host and a process of workers say to each other: JSON, one line each, over the process's stdin and stdout."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec

from floodmark.core.errors import FloodmarkError
from floodmark.systems.fleet.host.options import Options
from floodmark.systems.fleet.partition import Partition

LINE_BYTES = 64 * 1024 * 1024  # a line may hold the names of all partitions
Line = TypeVar("Line")


class Begin(msgspec.Struct, frozen=True, kw_only=True):
    """The first line to a process: the workers it is to run, by their numbers."""

    options: Options
    url: str
    numbers: tuple[int, ...]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A word for one worker, or for all of the process (number 0)."""

    ask: int
    do: str
    number: int = 0
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


def write(writer: asyncio.StreamWriter, line: msgspec.Struct) -> None:
    """Send one line."""
    writer.write(msgspec.json.encode(line) + b"\n")


async def read(reader: asyncio.StreamReader, kind: type[Line]) -> Line | None:
    """Take one line; None at the end."""
    line = await reader.readline()
    return msgspec.json.decode(line, type=kind) if line.endswith(b"\n") else None
