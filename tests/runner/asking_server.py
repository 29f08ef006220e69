"""A small system that answers with numbered text over lines on TCP, honestly or with one planted fault; prints its URL when it is ready.

    from the client   OPEN channel · SHUT channel · ASK token channel prompt
    to the client     DONE · OK token · T token text · END token count · ERR token why · NO token why · CUT token · ODD token

Run as `asking_server.py [FAULT=N] [per_chunk=K] [gap_s=S] [tells=T]`: the fault strikes every N-th request, counted over all connections;
the log tells when T tokens are out.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from itertools import count

FAULTS = (
    *("refuse", "mute", "error", "cut", "hang", "reset", "short", "drop", "duplicate", "swap", "flip", "other"),
    *("extra", "usage", "twice", "late", "eager", "unread", "die", "cross", "stall"),
)
STALL_S = 1.0
LINE = re.compile(r"numbered: stream=(\d+) first=(\d+) count=(\d+) size=(\d+) rate=(\S+)")
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def token(stream: int, seq: int, size: int) -> str:
    """One token, worked out the slow way."""
    rest = seq % 36**4
    digits: list[int] = []
    for _ in range(4):
        rest, digit = divmod(rest, 36)
        digits.insert(0, digit)
    check = (7 * digits[0] + 5 * digits[1] + 3 * digits[2] + digits[3] + stream) % 36
    filler = " " + "abcdefghijklmnopqrstuvwxyz" * (size // 26 + 1)
    return "".join(DIGITS[digit] for digit in (*digits, check)) + filler[: size - 5]


class Server:
    """Everything asked is numbered over all connections, so that a fault strikes a known number of requests."""

    def __init__(self, options: dict[str, float]) -> None:
        self.fault = next((name for name in FAULTS if name in options), "")
        self.every = int(options.get(self.fault, 1))
        self.per_chunk = int(options.get("per_chunk", 1))
        self.gap_s = options.get("gap_s", 0.0)
        self.tells = int(options.get("tells", 0))
        self.told_count = 0
        self.numbers = count(1)
        self.firsts: dict[int, int] = {}
        self.news = asyncio.Condition()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it is closed."""
        try:
            async with asyncio.TaskGroup() as group:
                answers: list[asyncio.Task[None]] = []
                while line := (await reader.readline()).decode().rstrip("\n"):
                    word, _, rest = line.partition(" ")
                    if word in ("OPEN", "SHUT"):
                        for task in answers if word == "SHUT" else ():
                            task.cancel()
                        writer.write(b"DONE\n")
                    else:
                        name, _, prompt = rest.partition(" ")
                        answers.append(group.create_task(self.answer(writer, name, prompt, next(self.numbers))))
                for task in answers:
                    task.cancel()
        except (OSError, ExceptionGroup):
            pass
        finally:
            writer.close()

    async def answer(self, writer: asyncio.StreamWriter, name: str, prompt: str, number: int) -> None:
        """Answer one request."""
        fault = self.fault if number % self.every == 0 else ""

        def say(*words: object) -> None:
            writer.write((" ".join(map(str, words)) + "\n").encode())

        if fault == "mute":
            return
        if fault == "refuse":
            say("NO", name, "too many of you")
            return
        say("OK", name)
        found = LINE.search(prompt)
        wanted = tuple(int(one) for one in found.groups()[:4]) if found else (0, 0, 20, 10)
        stream, first, asked, size = wanted
        rate_hz = float(found[5]) if found else 0.0
        if fault == "cross":  # the text of whoever has the same check digits, once that one has asked
            async with self.news:
                self.firsts[stream] = first
                self.news.notify_all()
                stream = stream + 36 if stream < 36 else stream - 36
                await self.news.wait_for(lambda: stream in self.firsts)
                first = self.firsts[stream]
        texts = [token(stream, first + i, size) for i in range(asked)]
        half = asked // 2
        match fault:
            case "error" | "cut" | "hang" | "reset" | "short" | "die":
                texts = texts[:half]
            case "drop":
                del texts[half]
            case "duplicate":
                texts.insert(half, texts[half])
            case "swap":
                texts[half], texts[half + 1] = texts[half + 1], texts[half]
            case "flip":
                texts[half] = texts[half][:3] + chr(ord(texts[half][3]) ^ 1) + texts[half][4:]
            case "other":
                texts[half] = token(stream + 1, first + half, size)
            case "extra":
                texts += [token(stream, first + asked + i, size) for i in range(3)]
            case "eager":
                rate_hz *= 2
            case "unread":
                say("ODD", name)
        begun_s = asyncio.get_running_loop().time()
        for at in range(0, len(texts), self.per_chunk):
            wait_s = begun_s + at / rate_hz - asyncio.get_running_loop().time() if rate_hz else self.gap_s
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            if fault == "stall" and at <= half < at + self.per_chunk:
                await asyncio.sleep(STALL_S)
                begun_s += STALL_S
            say("T", name, "".join(texts[at : at + self.per_chunk]))
            self.told_count += self.per_chunk
            if self.told_count == self.tells:
                print(f"{self.tells} tokens are out of pid {os.getpid()}", flush=True)
            await writer.drain()
        match fault:
            case "error":
                say("ERR", name, "the model fell over")
            case "cut":
                say("CUT", name)
            case "reset":
                writer.transport.abort()
            case "hang":
                print("an answer hangs", flush=True)
                return
            case "die":
                print("half an answer is out", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            case _:
                say("END", name, len(texts) + (fault == "usage"))
                if fault == "twice":
                    say("END", name, len(texts))
                if fault == "late":
                    say("T", name, texts[-1])


async def main(words: list[str]) -> None:
    """Serve until the process is ended."""
    options = {name: float(value or 1) for name, _, value in (word.partition("=") for word in words)}
    server = await asyncio.start_server(Server(options).serve, "127.0.0.1", 0, limit=1 << 22)
    print(f"asking ready tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
