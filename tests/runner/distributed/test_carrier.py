"""A carrier over a path that is cut for a while: what was written arrives, once it is there again; and nobody writes without bound."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from floodmark.runner.distributed import carrier as module
from floodmark.runner.distributed.carrier import Carrier
from floodmark.runner.distributed.stream import DATA, Heard

LIMIT_S = 20


class Path:
    """Joins two carriers; what is sent while it is cut is lost."""

    def __init__(self) -> None:
        self.cut = False
        self.sent = 0
        self.enough = asyncio.Event()
        self.got: list[Heard] = []
        self.ours = Carrier(self.there, lambda piece: None, piece_bytes=1000)
        self.theirs = Carrier(self.back, self.got.append, piece_bytes=1000)

    async def there(self, packet: bytes) -> None:
        self.sent += 1
        if self.sent == 5:
            self.enough.set()
        await asyncio.sleep(0)
        if not self.cut:
            self.theirs.heard(packet)

    async def back(self, packet: bytes) -> None:
        await asyncio.sleep(0)
        if not self.cut:
            self.ours.heard(packet)


def on_a_path(job: Callable[[Path], Awaitable[None]]) -> Path:
    """Do a job while both carriers run."""

    async def main() -> Path:
        path = Path()
        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
            running = [group.create_task(end.run()) for end in (path.ours, path.theirs)]
            await job(path)
            for task in running:
                task.cancel()
        return path

    return asyncio.run(main())


def test_carrier_hands_over_far_more_than_its_window() -> None:
    data = bytes(range(256)) * 4000  # 1 MB in pieces of 1,000 bytes

    async def job(path: Path) -> None:
        path.ours.write(data)
        path.ours.end(b"bye")
        await path.ours.flushed()

    path = on_a_path(job)

    assert b"".join(piece.data for piece in path.got if piece.kind == DATA) == data
    assert path.got[-1].data == b"bye"


def test_carrier_sends_again_what_a_cut_swallowed() -> None:
    async def job(path: Path) -> None:
        path.cut = True
        path.ours.write(b"x" * 5000)
        await path.enough.wait()
        path.cut = False
        await path.ours.flushed()

    path = on_a_path(job)

    assert b"".join(piece.data for piece in path.got) == b"x" * 5000
    assert path.sent >= 10


def test_writer_waits_for_room_while_the_other_end_takes_nothing() -> None:
    blocked: list[bool] = []

    async def job(path: Path) -> None:
        path.cut = True
        path.ours.write(b"x" * (module.WAITING_BYTES + 100_000))
        waiting = asyncio.ensure_future(path.ours.room())  # awaited below
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        blocked.append(not done)
        path.cut = False
        await waiting

    on_a_path(job)

    assert blocked == [True]
