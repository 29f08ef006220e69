"""Does to the fleet what the plan says: one method per word, and the end of whatever lasts.

A fault in a round strikes at the nth write to an assignment from now on, whoever writes it. The last live member is spared: a fleet of none
has nothing to judge.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.simulation.member import Member
from floodmark.systems.fleet.simulation.plan import Act

if TYPE_CHECKING:
    from floodmark.systems.fleet.simulation.world import World


class Director:
    """Performs acts in one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._loop = world.loop
        self._lasting: dict[Member, None] = {}  # whoever may be frozen, cut or muted
        self._strikes: list[tuple[int, Callable[[Member, Act], None], Act]] = []  # at which write, what
        self._writes_count = 0
        self._partitions_made_count = world.plan.partitions_count
        self._refresh_wanted = False
        self._refreshing: Member | None = None

    def perform(self, act: Act) -> None:
        """Do one act."""
        word = WORDS[act.do]
        self._world.note("world", f"{act.do} {act.who} for {act.for_s:.3f} s, {act.count}")
        if act.do in ALONE:
            word(self, None, act)
        elif (member := self._find(act.who)) is not None:
            word(self, member, act)

    def end_all(self) -> None:
        """End everything that lasts: thaw, heal, restart the server."""
        self._strikes.clear()
        if self._world.server.down:
            self._server_up()
        for member in list(self._lasting):
            self._end(member)

    def saw_assignment(self, node: str) -> None:
        """Somebody wrote an assignment: strike if it is the one."""
        self._writes_count += 1
        for strike in [strike for strike in self._strikes if strike[0] == self._writes_count]:
            self._strikes.remove(strike)
            member = next((member for member in self._world.live() if member.name == node), None)
            if member is not None:
                self._world.note("world", f"{strike[2].do}: {node}")
                self._loop.call_in(self._loop.world, 0.0, strike[1], member, strike[2])

    def repeat_refresh(self) -> None:
        """Ask the leader of the moment to refresh, when one that was asked could not."""
        if self._refresh_wanted:
            self._ask_refresh()

    def _find(self, who: str | int) -> Member | None:
        live = self._world.live()
        if not live:
            return None
        if isinstance(who, int):
            return live[who % len(live)]
        leads = [member for member in live if member.is_leader]
        if who == "leader":
            return leads[0] if leads else None
        follows = [member for member in live if not member.is_leader]
        return follows[int(self._world.rng.random() * len(follows))] if follows else None

    # --- words ---

    def _start(self, _member: Member | None, act: Act) -> None:
        for _ in range(act.count):
            self._world.add_member()

    def _crash(self, member: Member, _act: Act) -> None:
        if len(self._world.live()) > 1:
            worker, led = member.worker_id, member.is_leader
            member.crashed = True
            self._loop.drop(member.node)
            self._world.ownership.pause(self._loop.now_s, member.name)
            self._world.losses.lost(worker, left=False, led=led)
            self._world.note("world", f"{member.name} ({worker}) is dead")

    def _leave(self, member: Member, _act: Act) -> None:
        if len(self._world.live()) > 1 and not member.node.frozen:
            worker, led = member.worker_id, member.is_leader
            self._world.keep(member.leave())
            self._world.losses.lost(worker, left=True, led=led)

    def _freeze(self, member: Member, act: Act) -> None:
        self._loop.freeze(member.node)
        self._world.ownership.pause(self._loop.now_s, member.name)
        self._last(member, act)

    def _cut(self, member: Member, act: Act, *, out: bool = True, back: bool = True) -> None:
        member.link.cut(out=out, back=back)
        self._last(member, act)

    def _mute(self, member: Member, act: Act) -> None:
        member.link.muted_bucket = self._world.settings.heartbeat_bucket
        self._last(member, act)

    def _break_watches(self, member: Member, _act: Act) -> None:
        for watch in list(member.link.watches):
            self._loop.call_in(member.node, 0.0, watch.lose, "planted: the watch broke")

    def _outage(self, _member: Member | None, act: Act) -> None:
        if not self._world.server.down:
            self._world.server.set_down(True)
            self._loop.call_in(self._loop.world, act.for_s, self._server_up)

    def _server_up(self) -> None:
        if self._world.server.down:
            self._world.note("world", "the server is back")
            for link in self._world.server.links:
                link.disturbed_s = self._loop.now_s
            self._world.server.set_down(False)

    def _add(self, _member: Member | None, act: Act) -> None:
        first = self._partitions_made_count
        self._partitions_made_count += act.count
        self._share([*self._world.partitions, *(Partition(keys=(f"p{first + number}",)) for number in range(act.count))])

    def _remove(self, _member: Member | None, act: Act) -> None:
        kept = self._world.partitions[act.count :]
        if kept:
            self._share(kept)

    def _share(self, partitions: list[Partition]) -> None:
        self._world.partitions = partitions
        self._world.source.update(partitions)
        self._refresh_wanted = True
        self._ask_refresh()

    def _ask_refresh(self) -> None:
        leader = self._find("leader")
        if leader is None or leader.node.frozen or (self._refreshing is not None and self._refreshing.live):
            return
        self._refresh_wanted = False
        self._refreshing = leader
        task = leader.refresh()
        task.add_done_callback(self._refreshed)

    def _refreshed(self, task: object) -> None:
        self._refreshing = None

    def _strike(self, _member: Member | None, act: Act, *, word: Callable[[Director, Member, Act], None]) -> None:
        self._strikes.append((self._writes_count + act.count, functools.partial(word, self), act))

    def _fail(self, _member: Member | None, act: Act) -> None:
        self._world.server.plant_failure(self._world.settings.assignment_bucket, act.count)

    # --- how it ends ---

    def _last(self, member: Member, act: Act) -> None:
        self._lasting[member] = None
        self._loop.call_in(self._loop.world, act.for_s, self._end, member)

    def _end(self, member: Member) -> None:
        self._lasting.pop(member, None)
        if member.crashed:
            return
        member.link.disturbed_s = self._loop.now_s
        member.link.muted_bucket = ""
        member.link.heal()
        if member.node.frozen:
            self._loop.thaw(member.node)
            self._world.ownership.resume(self._loop.now_s, member.name)


WORDS: Final[Mapping[str, Callable[..., None]]] = {
    "start": Director._start,
    "crash": Director._crash,
    "leave": Director._leave,
    "freeze": Director._freeze,
    "cut": Director._cut,
    "deafen": functools.partial(Director._cut, out=False),  # its requests arrive, and it hears nothing
    "gag": functools.partial(Director._cut, back=False),  # it hears, and cannot be heard
    "mute": Director._mute,  # its heartbeats alone do not arrive
    "break-watches": Director._break_watches,
    "outage": Director._outage,
    "add": Director._add,
    "remove": Director._remove,
    "freeze-in-round": functools.partial(Director._strike, word=Director._freeze),
    "crash-in-round": functools.partial(Director._strike, word=Director._crash),
    "cut-in-round": functools.partial(Director._strike, word=Director._cut),
    "fail-in-round": Director._fail,
}
ALONE: Final = frozenset(
    {"start", "outage", "add", "remove", "freeze-in-round", "crash-in-round", "cut-in-round", "fail-in-round"}
)  # not done to anybody in particular
