"""The leader's calculator: sees who is there, decides when to share anew, and publishes."""

from __future__ import annotations

import random
from collections.abc import Callable

from floodmark.systems.fleet.leader.publisher import Lease
from floodmark.systems.fleet.metrics import Metrics, NullMetrics
from floodmark.systems.fleet.partition import Source
from floodmark.systems.fleet.states import CalculatorState
from floodmark.systems.fleet.store.base import Bucket
from floodmark.systems.fleet.strategy.base import Strategy


class Calculator:
    """Runs while its worker leads: `await run()` ends when it is cancelled, or the lease is lost."""

    def __init__(
        self,
        *,
        settings: object,
        worker_id: str,
        lease: Lease,
        heartbeats: Bucket,
        assignments: Bucket,
        source: Source,
        strategy: Strategy,
        on_state: Callable[[CalculatorState], object] = lambda _state: None,
        on_error: Callable[[Exception], object] = lambda _error: None,
        metrics: Metrics | None = None,
        may_judge: Callable[[], bool] = lambda: True,
        rng: random.Random | None = None,
    ) -> None:
        self.state = CalculatorState.IDLE
        self._lease = lease
        self._metrics = metrics or NullMetrics()

    async def run(self) -> None:
        """Lead until cancelled, or until the lease is lost."""

    async def refresh(self) -> None:
        """Read the source and publish at once, whatever the cooldown says; returns when that is done."""
