"""Lines as a run writes them, and a folder that holds them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from floodmark.model.finding import Anomaly, Finding
from floodmark.report.display import Planned
from floodmark.report.live import LIVE, AnyLine, Began, Closed, Done, Figures, Opened
from tests.report import made

FINDING = Finding(
    anomaly=Anomaly.LOST, subscription=1, channel=0, publisher=0, count=2, first_seq=5, last_seq=6, violation=True, detail="missing 5, 6"
)
PLANNED = (Planned(id="a.first", title="The first", load_s=10.0), Planned(id="a.second", parts=("a.second.honest-twin", "a.second")))


def opened(*planned: Planned, pid: int = 0) -> Opened:
    """The first line; its process is this one unless another is given."""
    return Opened(
        run="20260131-142501-a",
        version="1",
        seed=7,
        command="floodmark run a",
        pid=pid or os.getpid(),
        started_s=0.0,
        planned=planned or PLANNED,
    )


def figures(t_s: float, phase: str = "steady", **changes: object) -> Figures:
    """Figures of a small load that goes well."""
    plain = Figures(
        t_s=t_s,
        phase=phase,
        connections=100,
        published=500,
        delivered=5_000,
        offered_hz=500.0,
        published_hz=499.0,
        delivered_hz=4_990.0,
        p50_ns=1_500_000,
        p99_ns=9_000_000,
        target_rss_bytes=60 * 2**20,
        harness_rss_bytes=120 * 2**20,
    )
    return msgspec.structs.replace(plain, **changes)


def running() -> list[AnyLine]:
    """A run in the middle of its first scenario."""
    return [opened(), Began(t_s=0.1, id="a.first", title="The first"), *(figures(1.0 + step / 4) for step in range(20))]


def whole() -> list[AnyLine]:
    """A run from its first line to its last; the second scenario fails."""
    return [
        *running(),
        Done(t_s=8.0, result=made.passed(id="a.first", title="The first")),
        Began(t_s=8.1, id="a.second.honest-twin"),
        figures(9.0),
        Began(t_s=10.0, id="a.second"),
        figures(11.0),
        Done(t_s=15.0, result=made.failed(id="a.second", findings=(FINDING,))),
        Closed(t_s=15.5),
    ]


def encoded(lines: Sequence[AnyLine]) -> bytes:
    """Lines as the file holds them."""
    return msgspec.json.Encoder().encode_lines(lines)


def write(folder: Path, lines: Sequence[AnyLine], *, end: bytes = b"") -> Path:
    """Make a folder whose live.jsonl holds these, and `end` after them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LIVE).write_bytes(encoded(lines) + end)
    return folder
