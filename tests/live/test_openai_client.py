"""The official OpenAI client for Python against `floodmark serve tokens`: honest answers, and what each lie looks like from its side.

Of the eight lies the client notices one, the error event. The others are here to show why somebody has to count: it takes a stream
without an end for an answer, and a missing chunk for silence.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from floodmark.systems.conductor.backend.numbered import text_of
from tests.live.conftest import require

PROMPT = "numbered: stream=1 count=40 size=6"
WHOLE = text_of(1, 0, 40, 6)
LIMIT_S = 20.0
STALL_S = 3.0


@pytest.fixture(autouse=True)
def needs() -> None:
    require(importlib.util.find_spec("openai") is not None, "the Python package openai is not installed (requirements-dev.lock)")


@contextlib.contextmanager
def served(*arguments: str) -> Iterator[str]:
    """The token server in a process of its own; gives its URL."""
    command = [sys.executable, "-m", "floodmark", "serve", "tokens", "--rate", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"NO_COLOR": "1"}) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("floodmark tokens ready "), line
            yield line.split()[-1]
        finally:
            process.terminate()


@contextlib.contextmanager
def client(url: str) -> Iterator[Any]:
    from openai import OpenAI

    with OpenAI(base_url=f"{url}/v1", api_key="none", timeout=LIMIT_S, max_retries=0) as opened:
        yield opened


class Answer:
    """What the client saw of one stream."""

    def __init__(self, opened: Any, prompt: str = PROMPT) -> None:
        from openai import APIError

        self.text, self.chunk_count, self.reason, self.usage, self.error = "", 0, None, None, ""
        try:
            chunks = opened.chat.completions.create(
                model="floodmark-numbered",
                messages=[{"role": "user", "content": prompt}],
                stream=True,
                stream_options={"include_usage": True},
            )
            for chunk in chunks:
                if chunk.usage is not None:
                    self.usage = chunk.usage.completion_tokens
                if chunk.choices:
                    self.reason = chunk.choices[0].finish_reason or self.reason
                    self.text += chunk.choices[0].delta.content or ""
                    self.chunk_count += bool(chunk.choices[0].delta.content)
        except APIError as exc:
            self.error = str(exc)

    @property
    def honest(self) -> bool:
        """Whether everything is as asked for."""
        return (self.text, self.reason, self.usage, self.error) == (WHOLE, "stop", 40, "")


@pytest.mark.parametrize(("per_chunk", "chunk_count"), [(1, 40), (16, 3)])
def test_openai_client_streams_every_token(per_chunk: int, chunk_count: int) -> None:
    with served("--per-chunk", str(per_chunk)) as url, client(url) as opened:
        answer = Answer(opened)

    assert answer.honest
    assert answer.chunk_count == chunk_count


def test_openai_client_gets_a_whole_answer_the_models_and_refusals() -> None:
    from openai import BadRequestError, InternalServerError

    with served() as url, client(url) as opened:
        whole = opened.chat.completions.create(model="m", messages=[{"role": "user", "content": PROMPT}], max_tokens=7)
        models = [model.id for model in opened.models.list()]
        with pytest.raises(BadRequestError, match="size=1"):
            opened.chat.completions.create(model="m", messages=[{"role": "user", "content": "numbered: size=1"}])
        with pytest.raises(InternalServerError, match="on purpose"):
            opened.chat.completions.create(model="m", messages=[{"role": "user", "content": "numbered: fail_after=3"}])

    assert whole.choices[0].message.content == text_of(1, 0, 7, 6)
    assert (whole.choices[0].finish_reason, whole.usage.completion_tokens) == ("length", 7)
    assert models == ["floodmark-numbered"]


def test_openai_client_shows_prose_to_a_human() -> None:
    with served() as url, client(url) as opened:
        answer = Answer(opened, "who are you?")

    assert answer.text.startswith("## ")
    assert (answer.reason, answer.error) == ("stop", "")
    assert answer.usage == answer.chunk_count


@pytest.mark.parametrize(("key", "error"), [("fail_after", "the stream broke off on purpose"), ("cut_after", "")])
def test_openai_client_of_a_stream_broken_by_its_prompt(key: str, error: str) -> None:
    with served() as url, client(url) as opened:
        answer = Answer(opened, f"{PROMPT} {key}=9")

    assert (answer.text, answer.error, answer.reason) == (WHOLE[: 9 * 6], error, None)


def liar(answer: Answer) -> str:
    """Which lie a client that knows the right answer sees in this one; "" for an honest answer, or for what a client cannot see."""
    if answer.honest:
        return ""
    if answer.error:
        return "error"
    if answer.reason is None:
        return "no-end"
    if answer.text == WHOLE:
        return "usage"
    if answer.text == WHOLE[: len(WHOLE) // 2]:
        return "truncate"
    return "repeat" if len(answer.text) > len(WHOLE) else "drop"


@pytest.mark.parametrize("lie", ["truncate", "error", "no-end", "usage", "repeat", "drop"])
def test_openai_client_sees_each_lie_exactly_so_often(lie: str) -> None:
    with served("--lie", f"{lie}=2", "--per-chunk", "8") as url, client(url) as opened:
        seen = [liar(Answer(opened)) for _ in range(6)]

    assert {name: seen.count(name) for name in set(seen)} == {lie: 2, "": 4}


def test_openai_client_does_not_see_what_comes_after_the_end() -> None:
    with served("--lie", "after=2") as url, client(url) as opened:
        assert [liar(Answer(opened)) for _ in range(4)] == [""] * 4


def test_openai_client_waits_through_a_stall() -> None:

    with served("--lie", "stall=1") as url, client(url) as opened:
        started_s = time.monotonic()
        answer = Answer(opened)
        took_s = time.monotonic() - started_s
        honest_s = time.monotonic()
        assert Answer(opened).honest
        honest_s = time.monotonic() - honest_s

    assert answer.honest
    assert took_s >= STALL_S
    assert honest_s < STALL_S
