"""What a conductor counts about itself; names end in their unit. Plain integers: nothing here costs a call per token."""

from __future__ import annotations


class Figures:
    """The counts of one conductor, or of several added up."""

    __slots__ = (
        "coalesced_count",
        "errors_count",
        "poll_cpu_max_ns",
        "poll_max_ns",
        "polls_count",
        "published_count",
        "quit_max_ns",
        "refused_count",
        "streams_cancelled_count",
        "streams_completed_count",
        "streams_failed_count",
        "streams_started_count",
        "tokens_emitted_count",
        "tokens_polled_count",
        "tokens_sent_count",
    )

    LARGEST = frozenset({"poll_cpu_max_ns", "poll_max_ns", "quit_max_ns"})  # the worst of several, not their sum

    def __init__(self) -> None:
        self.published_count = 0  # messages of users that were taken
        self.refused_count = 0  # messages and commands that were not
        self.tokens_sent_count = 0  # put into their streams by backends, of the streams that are over
        self.tokens_polled_count = 0  # taken from backends
        self.tokens_emitted_count = 0  # told to the surface, as the counts of events say
        self.coalesced_count = 0  # tokens that had no event of their own
        self.streams_started_count = 0
        self.streams_completed_count = 0
        self.streams_failed_count = 0
        self.streams_cancelled_count = 0
        self.errors_count = 0  # streams that failed, and errors of the surface
        self.polls_count = 0
        self.poll_max_ns = 0  # by the wall clock: on a busy machine, with what others took in between
        self.poll_cpu_max_ns = 0  # of our own thread: what a poll takes by itself
        self.quit_max_ns = 0

    def add(self, other: Figures) -> None:
        """Add the counts of another conductor."""
        for name in self.__slots__:
            ours, theirs = getattr(self, name), getattr(other, name)
            setattr(self, name, max(ours, theirs) if name in self.LARGEST else ours + theirs)

    def report(self) -> dict[str, float]:
        """Give them by the names of a statistics report; durations in seconds."""
        return {
            (name[:-3] + "_s" if name.endswith("_ns") else name.removesuffix("_count")): (
                getattr(self, name) / 1e9 if name.endswith("_ns") else float(getattr(self, name))
            )
            for name in self.__slots__
        }
