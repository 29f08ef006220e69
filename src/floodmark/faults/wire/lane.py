"""One direction of one connection: from a source socket through the stages of its faults, in the order they were added, to a sink socket.

Without stages the source's endpoint writes straight to the sink's. With them, bytes are copied once and handed along; or, where much is
held (a fast stream under latency), read into a block that is handed along itself, as memory is slow beside a loopback. Back-pressure
runs the other way: a sink that takes no more blocks the last stage, a full stage the one before it, a full first stage the source.
A lane whose sink is gone takes and drops what still comes, so that the source is not held up while the news travels back to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from floodmark.faults.wire.shaper import MIB, End, Item
from floodmark.faults.wire.spec import Direction
from floodmark.faults.wire.stage import Stage

if TYPE_CHECKING:
    from floodmark.faults.wire.endpoint import Endpoint
    from floodmark.faults.wire.link import Link


_ROOMY_BYTES = 16 * MIB


class Lane:
    """The chain between two endpoints."""

    __slots__ = (
        "direct",
        "direction",
        "dropped_bytes",
        "finished",
        "link",
        "received_bytes",
        "roomy",
        "sent_bytes",
        "sink",
        "source",
        "stages",
    )

    def __init__(self, direction: Direction, link: Link, source: Endpoint, sink: Endpoint) -> None:
        self.direction = direction
        self.link = link
        self.source = source
        self.sink = sink
        self.stages: list[Stage] = []
        self.direct = True  # nothing between source and sink, and the sink is there
        self.roomy = False  # the first stage may hold so much that it is worth reading into blocks of its own
        self.received_bytes = 0  # read from the source
        self.sent_bytes = 0  # handed to the sink's socket
        self.dropped_bytes = 0  # thrown away because the connection ended
        self.finished = False  # FIN was handed to the sink

    @property
    def held_bytes(self) -> int:
        """Payload bytes in the stages."""
        return sum(stage.waiting_bytes for stage in self.stages)

    def feed(self, item: Item) -> None:
        """Take what the source has."""
        if self.stages:
            self.stages[0].feed(item)
            if self.stages and self.stages[0].full:
                self.update_reading()
        else:
            self._deliver(item)

    def append(self, stage: Stage) -> None:
        """Add a fault's stage behind those that are there."""
        self.stages.append(stage)
        self.direct = False
        self.roomy = self.stages[0].shaper.capacity_bytes >= _ROOMY_BYTES
        if len(self.stages) > 1:
            self.stages[-2].resume()  # it may have waited for the sink, and now has us to wait for
        self.update_reading()

    def unlink(self, stage: Stage) -> None:
        """Take an empty stage out; whoever waited for it goes on."""
        if stage not in self.stages:  # what it let go of was the end of the connection
            return
        index = self.stages.index(stage)
        del self.stages[index]
        self.direct = not self.stages and not self.sink.gone
        self.roomy = bool(self.stages) and self.stages[0].shaper.capacity_bytes >= _ROOMY_BYTES
        if index:
            self.stages[index - 1].resume()
        else:
            self.update_reading()

    def pass_on(self, stage: Stage, item: Item) -> None:
        """Take what a stage let go of."""
        if not self.stages:  # the piece before this one ended the connection
            self.dropped_bytes += 0 if isinstance(item, End) else len(item)
            return
        following = self._after(stage)
        if following is None:
            self._deliver(item)
        else:
            following.feed(item)

    def blocked_after(self, stage: Stage) -> bool:
        """Tell if a stage must keep what it has."""
        following = self._after(stage)
        return self.sink.paused if following is None else following.full

    def freed(self, stage: Stage) -> None:
        """A stage that was full is not any more."""
        if stage not in self.stages:
            return
        index = self.stages.index(stage)
        if index:
            self.stages[index - 1].resume()
        else:
            self.update_reading()

    def sink_ready(self) -> None:
        """The sink takes bytes again."""
        if self.stages:
            self.stages[-1].resume()
        self.update_reading()

    def update_reading(self) -> None:
        """Read from the source exactly when there is room for what it has."""
        self.source.set_reading(not (self.stages[0].full if self.stages else self.sink.paused))

    def abandon(self) -> None:
        """The sink is gone: drop what is held and what comes."""
        self.dropped_bytes += self.held_bytes
        for stage in self.stages:
            if not stage.healed:  # a healed one has given its account
                stage.tally.close()
            stage.cancel()
        self.stages.clear()
        self.direct = self.roomy = False
        self.update_reading()

    def _after(self, stage: Stage) -> Stage | None:
        stages = self.stages
        if stages[-1] is stage:
            return None
        return stages[stages.index(stage) + 1]

    def _deliver(self, item: Item) -> None:
        if self.sink.gone:
            self.dropped_bytes += 0 if isinstance(item, End) else len(item)
        elif not isinstance(item, End):
            self.sent_bytes += len(item)
            self.sink.write(item)
        elif item is End.FIN:
            self.finished = True
            self.sink.finish()
            self.link.lane_finished()
        elif item is End.RST:
            self.sink.reset()
        else:
            self.link.close_gently()
