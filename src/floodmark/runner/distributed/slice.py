"""One slice of a run on this machine: a process of its own, as a local agent is, and its frames relayed to the runner and back.

However it comes to its end, the process is ended with it. What is written to the process waits in its pipe's buffer; what it says waits
there too while the runner takes no more, so that nothing grows here.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error

from floodmark.core import tasks
from floodmark.runner.agents import last_words, start_process
from floodmark.runner.distributed.carrier import Carrier
from floodmark.runner.distributed.stream import END, Heard, PacketError
from floodmark.runner.distributed.words import Answer, Claim, Last, claims_subject, down_subject, pack, unpack, up_subject

CLAIM_AGAIN_S = 0.25
CLAIM_LIMIT_S = 20.0
LAST_WORD_LIMIT_S = 5.0
END_LIMIT_S = 5.0
READ_BYTES = 64 * 1024
PIECE_BYTES = 128 * 1024


class Slice:
    """Slice `index` of run `run`, played by agent `name`, which answers calls by `token`."""

    def __init__(self, client: Client, *, name: str, token: str, run: str, index: int, folder: Path) -> None:
        self.run, self.index = run, index
        self._client = client
        self._name, self._token = name, token
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._carrier: Carrier | None = None

    @property
    def pid(self) -> int | None:
        """Its process, while it is there."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def play(self) -> str:
        """Play it to its end; returns why the runner did not want it, empty when it did. Cancelled, it says so to the runner first."""
        log = self._folder / f"{self.run}-{self.index}-{os.urandom(3).hex()}.log"
        with log.open("wb") as file:
            self._process = process = await start_process(file)
        try:
            return await self._join(process, log)
        finally:
            await _end(process)
            log.unlink(missing_ok=True)

    async def _join(self, process: asyncio.subprocess.Process, log: Path) -> str:
        client, link = self._client, os.urandom(6).hex()
        up = up_subject(self.run, link)
        carrier = self._carrier = Carrier(
            lambda packet: client.publish(up, packet), self._hand_on, piece_bytes=max(1024, min(PIECE_BYTES, client.max_payload // 2))
        )

        async def hear(message: Msg) -> None:
            with suppress(PacketError):  # nobody of ours sent that
                carrier.heard(message.data)

        subscription = await client.subscribe(down_subject(self.run, link), cb=hear)
        try:
            refused = await self._claimed(Claim(name=self._name, token=self._token, index=self.index, link=link, pid=process.pid))
            if refused:
                return refused
            async with tasks.group() as group:
                sending = group.create_task(carrier.run())
                last = Last()
                try:
                    await self._read(process, carrier)
                    last = Last(code=await process.wait(), words=_last_line(last_words(log)))
                finally:
                    carrier.end(pack(last))
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LAST_WORD_LIMIT_S if last.code is not None else 1.0):
                            await carrier.flushed()
                    sending.cancel()
            return ""
        finally:
            with suppress(Error):
                await subscription.unsubscribe()

    async def _claimed(self, claim: Claim) -> str:
        """Tell the runner until it has taken it, or has refused it for good."""
        data = pack(claim)
        why = "the runner did not answer"
        with suppress(TimeoutError):
            async with asyncio.timeout(CLAIM_LIMIT_S):
                while True:
                    try:
                        reply = await self._client.request(claims_subject(self.run), data, timeout=1.0)
                    except (Error, TimeoutError, OSError) as exc:
                        why = f"the runner did not answer: {exc or type(exc).__name__}"
                        await asyncio.sleep(CLAIM_AGAIN_S)
                        continue
                    answer = unpack(reply.data, Answer)
                    if answer is None:
                        return "the runner spoke in other words"
                    if not answer.again:
                        return answer.refused
                    why = answer.refused
                    await asyncio.sleep(CLAIM_AGAIN_S)
        return why

    def _hand_on(self, piece: Heard) -> None:
        """From the runner to the process."""
        process = self._process
        if piece.kind == END or process is None or process.stdin is None or process.stdin.is_closing():
            return
        process.stdin.write(piece.data)

    async def _read(self, process: asyncio.subprocess.Process, carrier: Carrier) -> None:
        """From the process to the runner, until it closes its end."""
        assert process.stdout is not None
        while data := await process.stdout.read(READ_BYTES):
            carrier.write(data)
            await carrier.room()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close its input, which is how it learns that it is over; then kill it."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(END_LIMIT_S):
                await process.wait()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    await process.wait()


def _last_line(text: str) -> str:
    lines = [line for line in (each.strip(" |+-") for each in text.splitlines()) if line]
    return lines[-1][:500] if lines else ""
