"""The requests about consumers that a durable needs, over a NATS connection; what the server refuses is a `ServerError`.

Creating and changing are two requests: a creation fails when the durable is there, a change fails when it is not. So who was robbed of its
durable cannot write over what came after it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from floodmark.core.nats_client import ask
from floodmark.systems.fleet.consumer.claims import Holder, Version, holder_of, metadata_of
from floodmark.systems.fleet.consumer.errors import NO_ANSWER_CODE, NOT_FOUND, ServerError
from floodmark.systems.fleet.consumer.settings import ConsumerSettings

if TYPE_CHECKING:
    from nats.aio.client import Client

_API = "$JS.API"
_NANOSECONDS = 1_000_000_000


class Control:
    """Speaks about the consumers of one stream."""

    def __init__(self, nc: Client, settings: ConsumerSettings, owner: str) -> None:
        self.owner = owner  # written into every durable
        self._nc = nc
        self._settings = settings

    async def retention(self) -> str:
        """Tell what the stream keeps: "workqueue", "limits" or "interest"."""
        return str((await self._ask("STREAM.INFO"))["config"]["retention"])

    async def holders(self) -> list[Holder]:
        """List the durables of the fleet, sorted by name."""
        found: dict[str, Holder] = {}
        offset = 0
        while True:
            page = await self._ask("CONSUMER.LIST", words={"offset": offset})
            for info in page["consumers"] or ():
                if str(info["name"]).startswith(f"{self._settings.prefix}-"):
                    found[info["name"]] = _holder(info)
            offset += len(page["consumers"] or ())
            if not page["consumers"] or offset >= int(page["total"]):
                return [found[name] for name in sorted(found)]

    async def holder(self, name: str) -> Holder | None:
        """Look at one durable; None when there is none."""
        try:
            return _holder(await self._ask("CONSUMER.INFO", name))
        except ServerError as exc:
            if exc.error_code == NOT_FOUND:
                return None
            raise

    async def delivered(self, name: str) -> int | None:
        """Tell how many deliveries a durable has made; None when there is none."""
        try:
            return int((await self._ask("CONSUMER.INFO", name))["delivered"]["consumer_seq"])
        except ServerError as exc:
            if exc.error_code == NOT_FOUND:
                return None
            raise

    async def create(
        self, name: str, subjects: Sequence[str], version: Version, *, start: int = 0, left: Mapping[str, tuple[Version, int]] | None = None
    ) -> None:
        """Make a durable that begins with the first message there is, or with the sequence `start`."""
        await self._write("create", name, subjects, version, start, left or {})

    async def change(
        self, name: str, subjects: Sequence[str], version: Version, *, start: int = 0, left: Mapping[str, tuple[Version, int]] | None = None
    ) -> None:
        """Change the subjects and the version of a durable; `start` must be the one it was made with."""
        await self._write("update", name, subjects, version, start, left or {})

    async def delete(self, name: str) -> None:
        """Remove a durable; one that is gone already is no error."""
        try:
            await self._ask("CONSUMER.DELETE", name)
        except ServerError as exc:
            if exc.error_code != NOT_FOUND:
                raise

    async def _write(
        self, action: str, name: str, subjects: Sequence[str], version: Version, start: int, left: Mapping[str, tuple[Version, int]]
    ) -> None:
        settings = self._settings
        config: dict[str, Any] = {
            "name": name,
            "durable_name": name,
            "ack_policy": "explicit",
            "ack_wait": round(settings.ack_wait_s * _NANOSECONDS),
            "max_deliver": settings.max_deliver_count,
            "inactive_threshold": round(settings.inactive_s * _NANOSECONDS),
            "max_waiting": settings.max_waiting_count,
            "max_ack_pending": settings.max_ack_pending_count,
            "filter_subjects": list(subjects),
            "deliver_policy": "by_start_sequence" if start else "all",
            "metadata": metadata_of(version, self.owner, left),
        }
        if start:
            config["opt_start_seq"] = start
        await self._ask("CONSUMER.CREATE", name, {"stream_name": settings.stream, "config": config, "action": action})

    async def _ask(self, what: str, name: str = "", words: dict[str, Any] | None = None) -> dict[str, Any]:
        import nats.errors  # here: whoever has no durable consumer need not load the client

        subject = f"{_API}.{what}.{self._settings.stream}" + (f".{name}" if name else "")
        try:
            answer = await ask(self._nc, subject, json.dumps(words).encode() if words else b"", limit_s=self._settings.operation_s)
        except nats.errors.NoRespondersError as exc:
            raise ServerError(what, 503, 0, "nobody answers; is JetStream enabled?") from exc
        except (TimeoutError, nats.errors.Error) as exc:  # or a connection that is not there
            raise ServerError(what, NO_ANSWER_CODE, 0, f"no answer: {exc!r}") from exc
        said: dict[str, Any] = json.loads(answer.data)
        if "error" in said:
            error = said["error"]
            raise ServerError(what, int(error.get("code", 0)), int(error.get("err_code", 0)), str(error.get("description", "")))
        return said


def _holder(info: Mapping[str, Any]) -> Holder:
    config = info["config"]
    subjects = config.get("filter_subjects") or ([config["filter_subject"]] if config.get("filter_subject") else [])
    return holder_of(str(info["name"]), subjects, int(info["ack_floor"]["stream_seq"]), config.get("metadata") or {})
