"""A worker's stable id: the least number that nobody holds, claimed by creating its key and held by renewing it.

The key's value carries a token of the process, so that a claim whose answer was lost is recognised as our own, and that two processes
that both believe to hold an id are told apart. By its own clock the holder knows when the id may have gone to somebody else. An id that has
expired and was taken by nobody is taken again; one that was taken is lost.
Not here: what a worker does that lost its id (membership.py).
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

from floodmark.systems.fleet.contact import Contact, Retry
from floodmark.systems.fleet.election import MARGIN_RATIO
from floodmark.systems.fleet.errors import DeleteError, IdClaimError, IdLostError, RenewalError
from floodmark.systems.fleet.records import StableIdRecord, decode, encode
from floodmark.systems.fleet.settings import Settings
from floodmark.systems.fleet.store.base import Bucket, Entry, KeyExistsError, StoreError, StoreUnavailableError, WrongRevisionError

RENEWALS: Final = 3  # per time to live
LEAST_PERIOD_S: Final = 0.1
PASSES: Final = 2  # over all numbers: one that was held at first may be free by now


class Identity:
    """One id, from its claim to its release."""

    def __init__(self, bucket: Bucket, contact: Contact, settings: Settings, token: str, rng: random.Random) -> None:
        self.worker_id = ""
        self._bucket = bucket
        self._contact = contact
        self._settings = settings
        self._token = token
        self._retry = Retry(rng.random)
        self._trying = ""  # the key that a claim whose answer we do not have may have made
        self._revision = 0
        self._renewed_s = 0.0
        self._renewing = False

    def held(self) -> bool:
        """Whether it was renewed in time, by our own clock."""
        ends_s = self._renewed_s + self._settings.id_ttl_s * (1 - MARGIN_RATIO)
        return bool(self.worker_id) and asyncio.get_running_loop().time() < ends_s

    async def claim(self) -> str:
        """Take the least free number; while the store does not answer, ask again.

        Raises: IdClaimError when all are held. Cancelled half-way, it may have made a key: `release` removes it.
        """
        settings = self._settings
        names = [settings.worker_id(number) for number in range(settings.id_min, settings.id_max + 1)]
        while True:
            try:
                for _ in range(PASSES):
                    held = {entry.key for entry in await self._contact.ask("list", self._bucket.entries())}
                    for name in names:
                        if (name not in held or name == self._trying) and await self._claim(name):
                            return name
                raise IdClaimError(names[0], names[-1], len(names))
            except StoreUnavailableError:
                await asyncio.sleep(self._retry.pause_s())

    async def _claim(self, name: str) -> bool:
        tried, self._trying = self._trying == name, name
        asked_s = asyncio.get_running_loop().time()
        value = encode(StableIdRecord(worker=name, token=self._token))
        try:
            revision = await self._contact.ask("create", self._bucket.create(name, value))
        except KeyExistsError:
            if not tried:
                return False
            entry = await self._contact.ask("get", self._bucket.get(name))
            if entry is None or not self._is_ours(entry):
                return False
            revision = entry.revision  # an earlier try of ours, whose answer was lost; when it began to count is not known
            asked_s = asyncio.get_running_loop().time()
            try:
                revision = await self._contact.ask("update", self._bucket.update(name, value, revision))
            except WrongRevisionError:
                return False
        self.worker_id, self._revision, self._renewed_s = name, revision, asked_s
        return True

    async def keep(self) -> None:
        """Renew until cancelled. Raises: IdLostError when another worker has the id; RenewalError when it is being kept already."""
        if self._renewing:
            raise RenewalError(f"the id {self.worker_id}")
        self._renewing = True
        loop = asyncio.get_running_loop()
        period_s = max(self._settings.id_ttl_s / RENEWALS, LEAST_PERIOD_S)
        try:
            while True:
                await asyncio.sleep(max(0.0, self._renewed_s + period_s - loop.time()))
                try:
                    await self._renew(period_s)
                    self._retry.reset()
                except StoreUnavailableError:
                    await asyncio.sleep(min(self._retry.pause_s(), period_s))
        finally:
            self._renewing = False

    async def _renew(self, limit_s: float) -> None:
        asked_s = asyncio.get_running_loop().time()
        value = encode(StableIdRecord(worker=self.worker_id, token=self._token))
        try:
            self._revision = await self._contact.ask("renew", self._bucket.update(self.worker_id, value, self._revision), limit_s=limit_s)
        except WrongRevisionError:
            entry = await self._contact.ask("get", self._bucket.get(self.worker_id))
            if entry is not None and not self._is_ours(entry):
                self._renewed_s = -self._settings.id_ttl_s  # from now on `held` says no
                raise IdLostError(self.worker_id) from None
            self._revision = entry.revision if entry else 0  # 0: it has expired, and whoever creates it next has it
            return  # and is renewed at once: nothing was
        self._renewed_s = asked_s

    async def release(self) -> None:
        """Free the id, if it is still ours. Raises: DeleteError when the store does not let us."""
        for name in sorted({self.worker_id, self._trying} - {""}):
            try:
                entry = await self._contact.ask("get", self._bucket.get(name))
                if entry is not None and self._is_ours(entry):
                    await self._contact.ask("delete", self._bucket.delete(name, entry.revision))
            except StoreError as exc:
                raise DeleteError(name, str(exc)) from exc
        self._trying = ""
        self._renewed_s = -self._settings.id_ttl_s  # the name stays, for those who ask who this was

    def _is_ours(self, entry: Entry) -> bool:
        return decode(StableIdRecord, entry.key, entry.value).token == self._token
