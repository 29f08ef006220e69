"""Hold a wait to an upper bound on a machine that has other work to do: of several tries the shortest counts.

What else the machine does makes a wait longer, never shorter. So what takes too long by itself does in every try, and what was held up
once is not the next time: the first try within the bound ends the measuring, and an honest wait costs one try.
A lower bound needs none of this: it holds in every try, and so in the shortest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

TRIES_COUNT = 10


def soonest(measure: Callable[[], float], within_s: float) -> float:
    """Measure again as long as it takes `within_s` or more, 10 times at most. Returns: the shortest, which the test holds to its bound."""
    shortest_s = measure()
    for _ in range(TRIES_COUNT - 1):
        if shortest_s < within_s:
            break
        shortest_s = min(shortest_s, measure())
    return shortest_s


async def soonest_in_loop(measure: Callable[[], Awaitable[float]], within_s: float) -> float:
    """The same inside of an event loop."""
    shortest_s = await measure()
    for _ in range(TRIES_COUNT - 1):
        if shortest_s < within_s:
            break
        shortest_s = min(shortest_s, await measure())
    return shortest_s
