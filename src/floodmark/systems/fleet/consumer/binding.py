"""The durable of one worker on the server: made with its subjects, taken from whoever else has them, narrowed, released.

Why a durable is made anew when a subject comes: the server does not rewind a durable whose filter grows. What had been published to the
new subject below the durable's position would never be delivered (measured: nats-server 2.15). A new one begins with all that is
unacknowledged.

On a work queue each subject has one consumer, and the server refuses a second. So a subject is taken by deleting the durable that has it:
its owner learns of it at once, and makes it anew without what was taken. It is not enough to take the subject out of its filter: the
server would still deliver to it again what it had not acknowledged (measured), and two workers that change one durable would write over
each other. A durable is written by its owner alone.

On a stream that keeps what was read (limits) nothing is taken, and a durable begins where those who had its subjects stood; who
gives up a subject leaves word of where it stood. A stream that keeps only what somebody wants (interest) is refused: between two owners
nobody wants it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from floodmark.systems.fleet.consumer.claims import UNVERSIONED, Holder, Version, floors, is_ahead, plan
from floodmark.systems.fleet.consumer.control import Control
from floodmark.systems.fleet.consumer.errors import EXISTS, NOT_UNIQUE, ServerError, UnsuitableStreamError
from floodmark.systems.fleet.consumer.settings import ConsumerSettings

_log = logging.getLogger("floodmark.fleet.consumer")
_TURNS = 10  # against others who make theirs in the same moment


class Binding:
    """What the server has of us.

    Attributes:
        name: of the durable; empty: there is none.
        subjects: in its filter.
        refused: subjects that we wanted and a newer assignment has, or a newer worker of our name.
        floors: up to where each subject is done with, on a stream that keeps what was read.
    """

    def __init__(self, control: Control, settings: ConsumerSettings) -> None:
        self.name = ""
        self.subjects: tuple[str, ...] = ()
        self.refused: tuple[str, ...] = ()
        self.version: Version = UNVERSIONED
        self.floors: dict[str, int] = {}
        self._control = control
        self._settings = settings
        self._start = 0
        self._left: dict[str, tuple[Version, int]] = {}
        self._work_queue: bool | None = None
        self._unsure = False  # a change was asked for and not answered: the filter is the old one or the new one

    def has_had(self, subjects: Sequence[str]) -> bool:
        """Tell if the durable has had all of these in its filter ever since it was made."""
        return bool(self.name) and not self._unsure and set(subjects) <= set(self.subjects)

    async def make(self, name: str, subjects: Sequence[str], version: Version, *, take: bool) -> None:
        """Make the durable anew with these subjects, or with those of them that no newer assignment has.

        Args:
            take: subjects that another has at the same version are taken; otherwise they are left.

        Raises: UnsuitableStreamError; ServerError, there may be no durable then, `name` is empty if so.
        """
        for _ in range(_TURNS):
            try:
                work_queue = await self._is_work_queue()
                holders = await self._control.holders()
                namesake = next((holder for holder in holders if holder.name == name), None)
                if namesake is not None and is_ahead(namesake, version, self._control.owner, take=take):
                    self.name, self.subjects, self.version, self.refused = "", (), version, tuple(subjects)
                elif work_queue:
                    await self._make_on_work_queue(name, subjects, version, holders, take=take)
                else:
                    await self._make_on_log(name, subjects, version, holders, namesake)
                return
            except ServerError as exc:
                if exc.error_code not in (NOT_UNIQUE, EXISTS):
                    raise
                refusal = exc
        raise refusal

    async def narrow(self, subjects: Sequence[str], version: Version) -> None:
        """Take subjects out of the filter, where it is; or tell only the new version.

        Raises: ServerError; with Failure.MISSING when the durable is gone.
        """
        left: dict[str, tuple[Version, int]] = {}
        if not await self._is_work_queue():
            mine = await self._control.holder(self.name)
            gone = set(self.subjects).difference(subjects)
            left = self._newest_of({**self._left, **dict.fromkeys(sorted(gone), (self.version, mine.ack_floor if mine else 0))})
        self._unsure = True
        await self._control.change(self.name, subjects, version, start=self._start, left=left)
        self._unsure = False
        self.subjects, self.version, self.refused, self._left = tuple(subjects), version, (), left

    async def release(self) -> None:
        """Give up all subjects. A work queue's durable goes, so that nobody has to take it; another one stays: it knows where it stood."""
        name, self.name, self.subjects, self.refused = self.name, "", (), ()
        if name and await self._is_work_queue():
            await self._delete_if_ours(name)

    async def forget(self, name: str) -> None:
        """Remove the durable of a former name, unless another has that name by now: then it is the other's."""
        await self._delete_if_ours(name)

    async def is_missing(self) -> bool:
        """Look whether the server lacks our durable; while it is being made there is nothing to look for."""
        return bool(self.name) and await self._control.holder(self.name) is None

    async def is_ours(self) -> bool:
        """Look whether the server has our durable, and not that of another under our name; while it is being made it counts as ours."""
        if not self.name:
            return True
        found = await self._control.holder(self.name)
        return found is not None and found.owner == self._control.owner

    async def has_lost(self, last: int) -> bool:
        """Tell if the server has delivered more than the delivery numbered `last`, or has no durable of ours."""
        return not self.name or await self._control.delivered(self.name) != last

    async def _delete_if_ours(self, name: str) -> None:
        found = await self._control.holder(name)
        if found is not None and found.owner == self._control.owner:
            await self._control.delete(name)

    async def _is_work_queue(self) -> bool:
        if self._work_queue is None:
            retention = await self._control.retention()
            if retention not in ("workqueue", "limits"):
                raise UnsuitableStreamError(self._settings.stream, retention)
            self._work_queue = retention == "workqueue"
        return self._work_queue

    def _newest_of(self, left: Mapping[str, tuple[Version, int]]) -> dict[str, tuple[Version, int]]:
        """Keep as many words about former subjects as there may be subjects: metadata has a limit, and the newest matter most."""
        newest = sorted(left.items(), key=lambda item: item[1], reverse=True)
        return dict(newest[: self._settings.max_subjects_count])

    async def _make_on_work_queue(
        self, name: str, subjects: Sequence[str], version: Version, holders: Sequence[Holder], *, take: bool
    ) -> None:
        planned = plan(subjects, version, [holder for holder in holders if holder.name != name], take=take)
        for holder in planned.rob:
            now = await self._control.holder(holder.name)  # it may have been made anew since, without what we take
            if now is not None and now.version == holder.version and set(now.subjects) & set(planned.subjects):
                _log.info("%s takes subjects from %s", name, holder.name)
                await self._control.delete(holder.name)
        seen = any(holder.name == name for holder in holders)
        await self._replace(name, planned.subjects, version, seen=seen, start=0)
        self.refused = planned.refused

    async def _make_on_log(
        self, name: str, subjects: Sequence[str], version: Version, holders: Sequence[Holder], namesake: Holder | None
    ) -> None:
        told: dict[str, tuple[Version, int]] = dict(self._left)
        if namesake is not None:
            told.update(namesake.left)
            told.update(dict.fromkeys(namesake.subjects, (namesake.version, namesake.ack_floor)))
        known = floors(subjects, holders, told)
        start = min(known.values()) + 1 if len(known) == len(subjects) else 1
        self._left = told  # all of it until the new durable is there: when making it fails, nobody else knows where the old one stood
        await self._replace(
            name,
            subjects,
            version,
            seen=namesake is not None,
            start=start,
            left=self._newest_of({key: word for key, word in told.items() if key not in subjects}),
        )
        self.floors, self.refused = known, ()

    async def _replace(
        self,
        name: str,
        subjects: Sequence[str],
        version: Version,
        *,
        seen: bool,
        start: int,
        left: Mapping[str, tuple[Version, int]] = MappingProxyType({}),
    ) -> None:
        self.name = ""  # until the new one is there, nobody knows which there is
        if seen:  # one that was not there and is by now is another's, under our name: the creation fails, and we look again
            await self._control.delete(name)
        self.subjects = ()
        if subjects:
            await self._control.create(name, subjects, version, start=start, left=left)
            self.name = name
            self._left = dict(left)
        self.subjects, self.version, self._start, self._unsure = tuple(subjects), version, start, False
