"""How the parts of a worker speak to the store: each question has a limit, is timed, and its outcome tells how healthy the store is.

Contract: what is not answered in time raises StoreUnavailableError; it may have been done, and who asks again must find out. The first
failure after an answer is told as a ConnectivityError, the others only counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from floodmark.systems.fleet.degraded import Health
from floodmark.systems.fleet.errors import ConnectivityError
from floodmark.systems.fleet.metrics import Metric, Metrics
from floodmark.systems.fleet.settings import Settings
from floodmark.systems.fleet.store.base import StoreError, StoreUnavailableError

T = TypeVar("T")
Tell = Callable[[Exception], None]

RETRY_LEAST_S: Final = 0.05
RETRY_MOST_S: Final = 2.0


class Contact:
    """One worker's line to its store."""

    def __init__(self, settings: Settings, metrics: Metrics, tell: Tell) -> None:
        self.health = Health(settings)
        self.tell = tell
        self._limit_s = settings.operation_limit_s
        self._metrics = metrics
        self._failing = False  # since the last answer

    async def ask(self, what: str, operation: Awaitable[T], *, limit_s: float | None = None) -> T:
        """Await one operation of a bucket.

        Args:
            what: names it in errors and metrics.
            limit_s: less than operation_limit_s where an answer would come too late to be of use.
        Raises: StoreUnavailableError, and whatever the operation refuses with.
        """
        loop = asyncio.get_running_loop()
        limit_s = self._limit_s if limit_s is None else min(limit_s, self._limit_s)
        began_s = loop.time()
        try:
            async with asyncio.timeout(limit_s):
                answer = await operation
        except TimeoutError as exc:
            raise self._failed(StoreUnavailableError(what, f"no answer within {limit_s:g} s")) from exc
        except StoreUnavailableError as exc:
            raise self._failed(exc) from exc.__cause__
        except StoreError:  # a refusal is an answer
            self._answered(what, began_s)
            raise
        self._answered(what, began_s)
        return answer

    def _answered(self, what: str, began_s: float) -> None:
        now_s = asyncio.get_running_loop().time()
        self.health.answered(now_s)
        self._failing = False
        self._metrics.duration(Metric.STORE_OPERATION_S, now_s - began_s, what)

    def _failed(self, error: StoreUnavailableError) -> StoreUnavailableError:
        if not self._failing:
            self._failing = True
            self.tell(ConnectivityError(error.operation, error.reason))
        self.health.failed(asyncio.get_running_loop().time())
        return error


class Retry:
    """Pauses that grow, drawn at random so that many who wait for the same store do not come back together."""

    def __init__(self, draw: Callable[[], float], *, least_s: float = RETRY_LEAST_S, most_s: float = RETRY_MOST_S) -> None:
        self._draw = draw
        self._least_s = least_s
        self._most_s = most_s
        self._next_s = least_s

    def reset(self) -> None:
        """It went well: the next pause is the shortest again."""
        self._next_s = self._least_s

    def pause_s(self) -> float:
        """Give the next pause: between half and the whole of twice the one before."""
        pause_s = self._next_s * (0.5 + 0.5 * self._draw())
        self._next_s = min(2 * self._next_s, self._most_s)
        return pause_s
