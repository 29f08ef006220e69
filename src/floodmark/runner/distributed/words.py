"""What runner and agents of other machines say to each other over NATS, apart from the frames of a run, which go as before.

`Roll`: the runner calls everybody, half a second apart; it says which slices of its run there are to play, and a run whose runner has
fallen silent is over. `Here`: an agent answers each call, for the runner and for the other agents to hear; its answer is also the round
trip by which clocks are compared. `Claim`: an agent has started the process of a slice; the runner takes it, or says why not. `Last`: how
a slice's process ended. MessagePack; an agent of another version is refused by name, so fields may change between versions.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

ROLL = "floodmark.roll"
HERE = "floodmark.here"
ROLL_S = 0.5
SILENT_ROLLS = 8
"""So many calls without an answer, and an agent is lost: 4 s."""
RUN_SILENT_S = 5.0
"""A runner that did not call for so long is gone."""
Word = TypeVar("Word", bound=msgspec.Struct)


class Roll(msgspec.Struct, frozen=True, kw_only=True):
    """Who is there? `slices` of run `run` are to be played, 0 when it is over. `version` is the runner's."""

    run: str
    slices: int
    number: int
    version: str


class Here(msgspec.Struct, frozen=True, kw_only=True):
    """An agent: `number` is that of the call, `now_ns` its monotonic clock when it heard it. It plays at most `capacity` slices at once and
    has `playing` now. `worker` is its place in the fleet, empty until it has one. What it costs is its own process and its slices'. `token`
    is of this one process: two agents of one name would be taken for one, with two clocks."""

    name: str
    token: str
    host: str
    version: str
    worker: str
    capacity: int
    playing: int
    run: str
    number: int
    now_ns: int
    rss_bytes: int
    cpu_s: float
    leaving: bool = False


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The process of slice `index` waits for its set-up at `link`. `token` is that of the agent's answers; its name may be that of two."""

    name: str
    token: str
    index: int
    link: str
    pid: int


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """To a claim; `refused` says why not, empty: it is taken. `again`: not yet, so it is to be made again."""

    refused: str = ""
    again: bool = False


class Last(msgspec.Struct, frozen=True, kw_only=True):
    """How a slice's process ended: its exit code, None when the agent itself is leaving, and the last that it printed."""

    code: int | None = None
    words: str = ""


def claims_subject(run: str) -> str:
    """Where the claims of a run go."""
    return f"floodmark.run.{run}.claim"


def up_subject(run: str, link: str) -> str:
    """From a slice's process to the runner."""
    return f"floodmark.run.{run}.up.{link}"


def down_subject(run: str, link: str) -> str:
    """From the runner to a slice's process."""
    return f"floodmark.run.{run}.down.{link}"


_encode = msgspec.msgpack.Encoder().encode


def pack(word: msgspec.Struct) -> bytes:
    """Encode one of these."""
    return _encode(word)


def unpack(data: bytes, kind: type[Word]) -> Word | None:
    """Decode one; None for what is none, which other versions may send."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except msgspec.DecodeError:
        return None
