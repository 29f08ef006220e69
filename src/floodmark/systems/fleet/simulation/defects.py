"""The defects that the fleet was built against, each put back by a patch of the real classes, to see that the simulation finds it.

A defect is a context manager: inside of it every fleet of this process has the defect, after it none has. A patch replaces a method of a
class by what the original system did in its place; a name that is no longer there is an error, so that no patch can go dead in silence.
Not here: D9 (settings without effect) and D10 (work at every heartbeat): no history goes wrong by them. They are tested with the leader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from floodmark.core.errors import UsageError
from floodmark.systems.fleet.apply import Applier
from floodmark.systems.fleet.assignment import Assignment, Receiver
from floodmark.systems.fleet.leader.absence import Absences
from floodmark.systems.fleet.leader.calculator import Calculator
from floodmark.systems.fleet.leader.decide import Lifecycle, Planner, Step, Window
from floodmark.systems.fleet.leader.publisher import Publisher
from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.records import AssignmentRecord, assignment_key, encode


@contextmanager
def _patched(*patches: tuple[type, str, object]) -> Iterator[None]:
    """Replace methods of classes, inside of the block."""
    originals = [(kind, name, kind.__dict__[name]) for kind, name, _ in patches]
    for kind, name, substitute in patches:
        setattr(kind, name, substitute)
    try:
        yield
    finally:
        for kind, name, original in originals:
            setattr(kind, name, original)


def _d1() -> AbstractContextManager[None]:
    """A change is classed by head count: who is lost while another joins waits for the window of those who join."""
    check = Planner.check

    def by_head_count(planner: Planner, now_s: float, present: AbstractSet[str], *, may_judge: bool = True) -> Step:
        if not planner.known or len(present) < len(planner.known) or present == planner.known:
            return check(planner, now_s, present, may_judge=may_judge)
        if planner.window is None:
            planner.window = Window(reason=Lifecycle.PLANNED_SCALE, ends_s=now_s + planner.settings.planned_scale_s)
        if now_s < planner.window.ends_s:
            return Step(wake_s=planner.window.ends_s)
        return Step(reason=planner.window.reason, workers=frozenset(present), ends_window=True)

    return _patched((Planner, "check", by_head_count))


def _d2() -> AbstractContextManager[None]:
    """The time since when a worker is missed is cleared only while somebody is missing: who was back in time has the old one still."""
    note = Absences.note
    stale_s: dict[Absences, dict[str, float]] = {}

    def forgetful_when_whole(absences: Absences, now_s: float, expected: AbstractSet[str], present: AbstractSet[str]) -> None:
        old_s = stale_s.setdefault(absences, {})
        if expected <= present:
            old_s.update(absences._since_s)
            absences._since_s.clear()
            return
        note(absences, now_s, expected, present)
        for worker in list(old_s):
            if worker in absences._since_s:
                absences._since_s[worker] = old_s[worker]
            else:
                del old_s[worker]

    return _patched((Absences, "note", forgetful_when_whole))


def _d3() -> AbstractContextManager[None]:
    """The cooldown comes before everything: nobody is missed in it."""
    check = Planner.check

    def after_the_cooldown(planner: Planner, now_s: float, present: AbstractSet[str], *, may_judge: bool = True) -> Step:
        over_s = planner._last_round_s + planner.settings.rebalance_interval_s
        return Step(wake_s=over_s) if now_s < over_s else check(planner, now_s, present, may_judge=may_judge)

    return _patched((Planner, "check", after_the_cooldown))


def _d4() -> AbstractContextManager[None]:
    """What happens in a window is looked at when it ends."""
    check = Planner.check

    def after_the_window(planner: Planner, now_s: float, present: AbstractSet[str], *, may_judge: bool = True) -> Step:
        if planner.window is not None and now_s < planner.window.ends_s:
            return Step(wake_s=planner.window.ends_s)
        return check(planner, now_s, present, may_judge=may_judge)

    return _patched((Planner, "check", after_the_window))


def _d5() -> AbstractContextManager[None]:
    """The known workers are updated before the round, and neither a write nor a round that failed is repeated."""
    check = Planner.check

    async def once(_publisher: Publisher, write: Callable[[bool], Awaitable[object]]) -> object:
        return await write(False)

    def done_before_it_is(planner: Planner, now_s: float, present: AbstractSet[str], *, may_judge: bool = True) -> Step:
        step = check(planner, now_s, present, may_judge=may_judge)
        if step.reason is not None:
            planner.done(now_s, step)
        return step

    return _patched(
        (Planner, "check", done_before_it_is),
        (Publisher, "_until_answered", once),
        (Calculator, "_is_rule_broken", lambda _calculator: False),
    )


def _d6() -> AbstractContextManager[None]:
    """Records are put one by one, whatever is there and whoever leads by now; nobody looks whether the round is whole."""

    async def write(publisher: Publisher, worker: str, lifecycle: str, partitions: list[Partition]) -> None:
        record = AssignmentRecord(epoch=publisher._lease.epoch, version=publisher.version, lifecycle=lifecycle, partitions=partitions)
        publisher._revisions[worker] = await publisher._assignments.put(assignment_key(worker), encode(record))

    async def remove(publisher: Publisher, worker: str) -> None:
        await publisher._assignments.delete(assignment_key(worker))
        publisher._removed[worker] = publisher._revisions.pop(worker)

    return _patched((Publisher, "_write", write), (Publisher, "_remove", remove), (Publisher, "_check_lease", lambda _publisher: None))


def _d7() -> AbstractContextManager[None]:
    """A worker goes on with what it has when its record is deleted, and when its own lease has lapsed."""
    return _patched((Receiver, "_give_up", lambda _receiver: None), (Receiver, "suspend", lambda _receiver: None))


def _d8() -> AbstractContextManager[None]:
    """Each assignment starts an update of the consumer of its own; the last one to end wins."""
    updates: set[asyncio.Task[None]] = set()

    def at_once(applier: Applier, assignment: Assignment | None) -> None:
        async def update() -> None:
            await applier._apply(assignment)
            applier.applied = applier._wanted
            applier._on_applied()

        applier._wanted = assignment
        task = asyncio.create_task(update())
        updates.add(task)
        task.add_done_callback(ended)

    def ended(task: asyncio.Task[None]) -> None:
        updates.discard(task)
        if not task.cancelled():
            task.exception()  # seen, and nobody is told

    return _patched((Applier, "want", at_once))


DEFECTS: Final[Mapping[str, Callable[[], AbstractContextManager[None]]]] = {
    "D1": _d1,
    "D2": _d2,
    "D3": _d3,
    "D4": _d4,
    "D5": _d5,
    "D6": _d6,
    "D7": _d7,
    "D8": _d8,
}


def put_back(name: str) -> AbstractContextManager[None]:
    """Have the fleet make this mistake again, inside of the block. Raises: UsageError for a name that there is not."""
    if name not in DEFECTS:
        raise UsageError(f"no defect {name!r}; there are: {', '.join(DEFECTS)}")
    return DEFECTS[name]()
