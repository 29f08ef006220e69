"""Take in what the connections receive: batch it, decode it, account for it, time it.

HOT: `put` is the list's own append; everything else happens once per batch. Memory: a batch is bounded in messages and, by an adapting
limit, in bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from floodmark.drivers.base import Encoding
from floodmark.ledger.accounts import Accounts
from floodmark.ledger.block import Block, decode_block
from floodmark.ledger.decode import decode
from floodmark.ledger.histogram import Histogram
from floodmark.ledger.inbox import Deliveries, Ints, joined
from floodmark.runner.agent import clock

BATCH_COUNT = 4096
BATCH_BYTES = 4 * 1024 * 1024


class Intake:
    """The agent's one inbox. `on_frames`, where set, sees each batch (for consumers that count bytes, and for resuming); `on_deliveries`
    sees it decoded, blocks too."""

    def __init__(self, accounts: Accounts, encoding: Encoding, run: int) -> None:
        self._accounts = accounts
        self._encoding: Encoding = encoding
        self._run = run
        self._inbox: list[tuple[int, bytes, int]] = []
        self.put = self._inbox.append
        self._blocks: list[tuple[int, Block]] = []
        """Blocks, each with the number of single frames that came before it."""
        self._limit_count = 64
        self._block_bytes = 0
        self._phase_starts: list[tuple[int, str]] = []
        self._windows: list[tuple[int, str]] = []
        self.window_response: dict[str, Histogram] = {}
        self.response: dict[str, Histogram] = {}
        self.service: dict[str, Histogram] = {}
        self.interval_response = Histogram()
        self.interval_service = Histogram()
        self.last_received_ns = 0
        self.frames_count = 0
        self.on_frames: list[Callable[[list[tuple[int, bytes, int]]], None]] = []
        self.on_deliveries: list[Callable[[Deliveries], None]] = []
        self.feeds: list[Callable[[], None]] = []
        """Who else has something to hand in (by `take`) when the inbox is emptied."""

    def turn(self) -> None:
        """HOT: called at the end of each read."""
        if len(self._inbox) >= self._limit_count:
            self.flush()

    @property
    def takes_blocks(self) -> bool:
        """Whether nobody needs to see every single frame."""
        return not self.on_frames

    def put_block(self, block: Block) -> None:
        """HOT: many frames at once, in their place among the others."""
        self._blocks.append((len(self._inbox), block))
        self._block_bytes += len(block.data)
        if self._block_bytes >= BATCH_BYTES:
            self.flush()

    def phase(self, name: str, start_ns: int) -> None:
        """From `start_ns` on, what is intended belongs to this phase's histograms."""
        self.response[name], self.service[name] = Histogram(), Histogram()
        self._phase_starts.append((start_ns, name))

    def window(self, name: str, start_ns: int) -> None:
        """From `start_ns` on, what is sent belongs to this window: before, during or after the faults.

        A further blow turns what looked like the time after into a part of the time during.
        """
        if self._windows and self._windows[-1][1] == name:
            return
        if name == "during" and self._windows and self._windows[-1][1] == "after":
            self._windows.pop()
            self.window_response["during"].merge(self.window_response.pop("after"))
            return
        self.window_response[name] = Histogram()
        self._windows.append((start_ns, name))

    def flush(self) -> None:
        """Account for all that has come in."""
        for feed in self.feeds:
            feed()
        if not self._inbox and not self._blocks:
            return
        batch, blocks = self._inbox[:], self._blocks
        self._inbox.clear()
        self._blocks, self._block_bytes = [], 0
        if batch:
            total_bytes = sum([len(frame) for _, frame, _ in batch])
            self._limit_count = max(8, min(BATCH_COUNT, BATCH_BYTES * len(batch) // (total_bytes + 1)))
        deliveries = self._decoded(batch, blocks)
        if clock.shift_ns:
            deliveries = dataclasses.replace(deliveries, received_ns=deliveries.received_ns + clock.shift_ns)
        self.take(deliveries)
        for look in self.on_frames:
            look(batch)

    def take(self, deliveries: Deliveries) -> None:
        """Account for a batch that is decoded, its times those of the run."""
        self.frames_count += len(deliveries)
        self._accounts.receive(deliveries)
        for see in self.on_deliveries:
            see(deliveries)
        self._time(deliveries)

    def _decoded(self, batch: list[tuple[int, bytes, int]], blocks: list[tuple[int, Block]]) -> Deliveries:
        """Everything in the order in which it came."""
        if not blocks:
            return decode(batch, self._encoding)
        parts: list[Deliveries] = []
        done = 0
        for before, block in blocks:
            if before > done:
                parts.append(decode(batch[done:before], self._encoding))
                done = before
            parts.append(decode_block(block, self._encoding))
        if len(batch) > done:
            parts.append(decode(batch[done:], self._encoding))
        return parts[0] if len(parts) == 1 else joined(parts)

    def _time(self, deliveries: Deliveries) -> None:
        """Put the latencies of intact messages of this run into the histograms; what nobody sent was due at no time."""
        measured = deliveries.intact & (deliveries.run == self._run) & (deliveries.publisher < self._accounts.publishers)
        if not measured.all():
            deliveries = deliveries.where(measured)
        if not len(deliveries):
            return
        self.last_received_ns = int(deliveries.received_ns[-1])
        response_ns = deliveries.received_ns - deliveries.intended_ns
        service_ns = deliveries.received_ns - deliveries.sent_ns
        if clock.error_ns:
            response_ns, service_ns = _forgiven(response_ns, clock.error_ns), _forgiven(service_ns, clock.error_ns)
        self.interval_response.record(response_ns)
        self.interval_service.record(service_ns)
        self._sort_into_windows(deliveries, response_ns)
        if not self._phase_starts:
            return  # who joins half-way receives before it is told of a phase
        ends = [start for start, _ in self._phase_starts[1:]] + [2**63 - 1]
        for (start_ns, name), end_ns in zip(self._phase_starts, ends, strict=True):
            if len(self._phase_starts) == 1:
                self.response[name].record(response_ns)
                self.service[name].record(service_ns)
                return
            inside = (deliveries.intended_ns >= start_ns) & (deliveries.intended_ns < end_ns)
            if inside.any():
                self.response[name].record(response_ns[inside])
                self.service[name].record(service_ns[inside])

    def _sort_into_windows(self, deliveries: Deliveries, response_ns: Ints) -> None:
        """By the time of sending, as the ledger does."""
        if not self._windows:
            return
        ends = [start for start, _ in self._windows[1:]] + [2**63 - 1]
        for (start_ns, name), end_ns in zip(self._windows, ends, strict=True):
            inside = (deliveries.sent_ns >= start_ns) & (deliveries.sent_ns < end_ns)
            if inside.any():
                self.window_response[name].record(response_ns[inside])


def _forgiven(latencies_ns: Ints, error_ns: int) -> Ints:
    """What two clocks make less than nothing, by no more than they may differ, is nothing."""
    return np.where((latencies_ns < 0) & (latencies_ns >= -error_ns), 0, latencies_ns)
