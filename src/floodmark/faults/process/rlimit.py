"""Lower a resource limit of running processes and put it back: prlimit(2), which needs no root for processes of our own user.

Only the soft limit moves and only downwards; the hard one stays, since nobody but root could raise it again. Limits are inherited: what was
forked meanwhile is healed with its parents. A limit that the target itself has changed since is left as it is.
prlimit takes a PID, not a pidfd, so the process is compared before and after; should the PID have changed hands in between, the stranger
gets back what it had.
"""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from floodmark.faults.process import procfs
from floodmark.faults.process.freeze import frozen
from floodmark.faults.process.journal import Entry
from floodmark.faults.process.signals import none_left
from floodmark.faults.process.spec import Scene, Whom
from floodmark.faults.process.tree import ForeignProcessError, Process, Tree

HEAL_ROUNDS = 100
_NAMES = {
    resource.RLIMIT_AS: "limit of its address space",
    resource.RLIMIT_DATA: "limit of its memory",
    resource.RLIMIT_NOFILE: "limit of its descriptors",
}


@dataclass(frozen=True, slots=True)
class Lowered:
    """What a process had, and what it was given."""

    process: Process
    before: int
    soft: int


@asynccontextmanager
async def lowered(
    scene: Scene, kind: str, which: int, whom: Whom, wanted: Callable[[int], int | None], *, name: str = ""
) -> AsyncIterator[Entry]:
    """Hold a limit down for the block; `wanted` gives it for a PID, None when the process is gone. Healing never awaits.

    A process whose limit is not above the wanted one already is no hit.
    """
    act = scene.journal.act(kind, scene.occasion)
    if scene.ratio == 0:
        yield act.nothing("ratio is 0")
        return
    done: list[Lowered] = []
    with scene.tree.claimed(_NAMES[which]):
        try:
            async with frozen(scene.tree) as still:  # nobody grows or forks between the look and the limit
                try:
                    for process in scene.victims(still.processes, whom, name):
                        if (change := lower(process, which, wanted)) is not None:
                            done.append(change)  # noqa: PERF401  when one fails, the others must be known
                except ForeignProcessError:
                    restore(scene.tree, which, done)  # while they all stand still: none has felt it
                    done.clear()
                    raise
            if not done:
                left = none_left(still.processes, name) if name or not still.processes else "no limit was above the wanted one"
                yield act.nothing(left)
                return
            entry = act.applied([change.process for change in done], values=[change.soft for change in done])
            yield entry
        finally:
            if done:
                healed, kept, refused = restore(scene.tree, which, done)
                act.healed(healed, note=f"{kept} had ended or changed the limit themselves" if kept else "")
                if refused is not None:
                    raise refused


def lower(process: Process, which: int, wanted: Callable[[int], int | None]) -> Lowered | None:
    """Lower one soft limit; None when the process is gone or has no more than that already. Raises: ForeignProcessError."""
    try:
        soft = wanted(process.pid)
        before, hard = resource.prlimit(process.pid, which)
        if soft is None or not process.alive or (before != resource.RLIM_INFINITY and before <= soft):
            return None
        if hard != resource.RLIM_INFINITY and hard < soft:
            return None
        return Lowered(process, before, soft) if _swap(process, which, soft, hard) else None
    except ProcessLookupError:
        return None
    except PermissionError as exc:
        raise ForeignProcessError(process.pid, "change its limits") from exc


def restore(tree: Tree, which: int, done: list[Lowered]) -> tuple[list[Process], int, ForeignProcessError | None]:
    """Give back what each had; its heirs get it as well.

    Returns: who was healed, how many of `done` had nothing to give back to, and what is to be raised once all that can be is healed: a
    process that did not let us would have to go on under our limit to the end of the run.
    """
    before = {change.soft: change.before for change in reversed(done)}
    first: list[Process] = []
    refused: list[Process] = []
    for change in done:
        try:
            if _give_back(change.process, which, {change.soft: change.before}):
                first.append(change.process)
        except PermissionError:
            refused.append(change.process)
    healed = list(first)
    for _ in range(HEAL_ROUNDS):
        # A round that finds nobody is the last: all that could still bequeath the limit had theirs back before it.
        heirs = [process for process in tree.processes() if _heal_heir(process, which, before)]
        if not heirs:
            break
        healed += heirs
    left = ForeignProcessError(refused[0].pid, "give it back its limits") if refused else None
    return healed, len(done) - len(first) - len(refused), left


def _heal_heir(process: Process, which: int, before: dict[int, int]) -> bool:
    with suppress(PermissionError):  # one of another user, of which we do not know that it has the limit
        return _give_back(process, which, before)
    return False


def _give_back(process: Process, which: int, before: dict[int, int]) -> bool:
    with suppress(ProcessLookupError):
        if process.alive:
            soft, hard = resource.prlimit(process.pid, which)
            if soft in before:
                old = before[soft]
                wanted = hard if old == resource.RLIM_INFINITY else old if hard == resource.RLIM_INFINITY else min(old, hard)
                return _swap(process, which, wanted, hard)
    return False


def _swap(process: Process, which: int, soft: int, hard: int) -> bool:
    """Set a limit of this very process; False when it has ended."""
    if not process.alive:
        return False
    had = resource.prlimit(process.pid, which, (soft, hard))
    if process.look() is not None:
        return True
    if procfs.stat(process.pid) is not None:
        resource.prlimit(process.pid, which, had)
    return False
