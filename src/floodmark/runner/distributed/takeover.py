"""What a newcomer must be told of a run that it joins half-way: the steps that made the lost agent's state, then those still open. Pure.

Only in a phase is a slice taken over: before the first one nothing has been measured, after the last one there is no load to keep up.
Of faults in the clients those strike in the newcomer that were under way or come later; what stood from the beginning is over for it.
"""

from __future__ import annotations

import msgspec

from floodmark.runner.wire import Do

LIVES = 4
"""A slice may be taken over three times."""
STATE = ("connect", "window")


class Steps:
    """The steps that one slice was asked to take."""

    def __init__(self) -> None:
        self._open: dict[int, Do] = {}
        self._state: list[Do] = []
        self.phase_index = 0
        """Which phase was played last, or is being played."""

    def asked(self, step: Do) -> None:
        """A step was sent, or will be."""
        self._open[step.number] = step
        if step.step == "phase":
            self.phase_index = step.index

    def answered(self, number: int) -> None:
        """A step was taken."""
        step = self._open.pop(number, None)
        if step is not None and step.step in STATE:
            self._state.append(step)

    @property
    def phase(self) -> Do | None:
        """The phase being played."""
        return next((step for step in self._open.values() if step.step == "phase"), None)

    def done(self) -> list[Do]:
        """The steps to take again before all others, in their order: connections first."""
        return sorted(self._state, key=lambda step: STATE.index(step.step))

    def pending(self, *, resume_ns: int) -> list[Do]:
        """The steps that are still to be answered; the phase goes on from `resume_ns`."""
        return [msgspec.structs.replace(step, resume_ns=resume_ns) if step.step == "phase" else step for step in self._open.values()]
