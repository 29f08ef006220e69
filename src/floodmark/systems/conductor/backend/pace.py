"""When tokens fall due: token k at start + k/rate, whatever happened before, so that no delay adds up. Pure: the time is handed in.

Hand in `time.monotonic()`: an event loop's time may go by whole milliseconds, and a token that comes before it is due looks like a miracle.
"""

from __future__ import annotations

TICK_S = 0.001  # the event loop's timers go by milliseconds; less would spin
_EARLY = 1e-6  # of a token: what a timer or a float may be early


class Pace:
    """The deadlines of one answer; a rate of 0 makes everything due at once."""

    __slots__ = ("_rate_hz", "start_s")

    def __init__(self, rate_hz: float, start_s: float) -> None:
        self._rate_hz = rate_hz
        self.start_s = start_s

    def due_count(self, now_s: float, total: int) -> int:
        """Tokens due by now, out of `total`."""
        if not self._rate_hz:
            return total
        elapsed_s = now_s - self.start_s
        return 0 if elapsed_s < 0 else min(total, int(elapsed_s * self._rate_hz + _EARLY) + 1)

    def due_s(self, count: int) -> float:
        """When `count` tokens will be due."""
        return self.start_s + (count - 1) / self._rate_hz if self._rate_hz else self.start_s

    def wait_s(self, count: int, now_s: float) -> float:
        """How long to wait until `count` tokens are due, a tick at least."""
        return max(TICK_S, self.due_s(count) - now_s)

    def pause_s(self, count: int, total: int, now_s: float) -> float:
        """How long to rest after `count` of `total` tokens went out: not at all while more of them were due by `now_s`, else as `wait_s`.

        Without the rest a quick loop would find one token due each time it looks, and spin.
        """
        return 0.0 if count >= total or self.due_count(now_s, total) > count else self.wait_s(count + 1, now_s)
