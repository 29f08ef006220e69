"""Send one signal to many processes in one go: they stand still, each gets the signal, they go on."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from floodmark.faults.process.freeze import frozen
from floodmark.faults.process.journal import Entry
from floodmark.faults.process.spec import Scene, Whom
from floodmark.faults.process.tree import Process


async def send_at_once(scene: Scene, kind: str, whom: Whom, number: signal.Signals, *, name: str = "") -> Entry:
    """Send a signal to the chosen processes and write down who got it. Cancelled before that, nobody has got it."""
    act = scene.journal.act(kind, scene.occasion)
    if scene.ratio == 0:
        return act.nothing("ratio is 0")
    async with frozen(scene.tree) as still:
        got = [process for process in scene.victims(still.processes, whom, name) if process.send(number)]
    return act.applied(got) if got else act.nothing(none_left(still.processes, name))


def none_left(processes: Sequence[Process], name: str = "") -> str:
    """Say why nobody was hit."""
    if not processes:
        return "no process of the target is left"
    return f"no process of the target was chosen that is named {name!r}" if name else "none was chosen"
