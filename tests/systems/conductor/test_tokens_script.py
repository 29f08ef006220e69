"""The script of one answer, played with a clock of the test's: pace, chunks, endings, stalls."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.systems.conductor.backend.numbered import Numbered, Source, text_of
from floodmark.systems.conductor.tokens.lies import Lies
from floodmark.systems.conductor.tokens.script import STALL_S, TURN_CHUNKS, USAGE_ERROR, Script, plan_of
from floodmark.systems.conductor.tokens.wire import ChunkWriter
from tests.systems.conductor.serving import documents, text_in


def script_of(order: Numbered, *lies: str, group: int = 1, limit: int = 0, counts: bool = False) -> Script:
    """A script that starts at 100 s and tells its usage."""
    plan = plan_of(order, 0, rate_hz=0, group=group, limit=limit, tells_usage=True)
    writer = ChunkWriter("id", 1, "m", prompt_tokens=3, counts=counts, escapes=False)
    return Script(plan, Source(order), writer, Lies(lies), 100.0)


def played(script: Script) -> bytes:
    """All that it writes while the clock jumps to whatever it waits for; stops when it hangs."""
    out, now_s = b"", 100.0
    while not script.over:
        data = script.turn(now_s)
        out += data
        if not data:
            wait_s = script.wait_s(now_s)
            if math.isinf(wait_s):
                break
            now_s += wait_s
    return out


def usage_in(body: bytes) -> int:
    found: int = documents(body)[-2]["usage"]["completion_tokens"]
    return found


@given(st.integers(0, 3000), st.integers(1, 40), st.integers(5, 300), st.sampled_from([0.0, 3.0, 5000.0]), st.integers(0, 100))
def test_script_honest_says_the_text_once_and_ends_properly(count: int, group: int, size: int, rate: float, limit: int) -> None:
    script = script_of(Numbered(stream=2, count=count, size=size, rate=rate), group=group, limit=limit)

    found = documents(played(script))

    total = min(count, limit) if limit else count
    assert text_in(found) == text_of(2, 0, total, size)
    assert found[0]["choices"][0]["delta"]["role"] == "assistant"
    assert found[-1] == "[DONE]"
    assert found[-2]["usage"] == {"prompt_tokens": 3, "completion_tokens": total, "total_tokens": total + 3}
    assert found[-3]["choices"][0]["finish_reason"] == ("length" if total < count else "stop")
    assert [one["choices"][0]["finish_reason"] for one in found[:-3]] == [None] * (len(found) - 3)
    assert script.proper
    assert script.tokens_sent == total
    assert script.chunks_sent == -(-total // group) == len(found) - 4


@given(st.integers(1, 200), st.integers(1, 9), st.sampled_from([0.5, 30.0, 1000.0]), st.lists(st.floats(0.0, 3.0), max_size=40))
def test_script_paced_sends_whole_chunks_when_their_last_token_is_due(count: int, group: int, rate: float, steps: list[float]) -> None:
    script = script_of(Numbered(count=count, size=5, rate=rate), group=group)
    now_s = 100.0

    for step_s in steps:
        now_s += step_s
        if not script.over:
            script.turn(now_s)

        due = min(count, int((now_s - 100) * rate + 1e-6) + 1)
        assert script.tokens_sent == (count if due == count else due - due % group)


def test_script_turn_is_bounded_however_late_it_is() -> None:
    script = script_of(Numbered(count=10**9, size=5))
    assert len(documents(script.turn(100.0))) == TURN_CHUNKS + 1

    long = script_of(Numbered(count=10**9, size=65_536))
    assert len(documents(long.turn(100.0))) == 2


def test_script_tells_the_count_so_far_when_asked() -> None:
    found = documents(played(script_of(Numbered(count=7, size=5), group=3, counts=True)))

    assert [one["usage"]["completion_tokens"] for one in found[1:4]] == [3, 6, 7]


@pytest.mark.parametrize(("key", "last"), [("fail_after", "error"), ("cut_after", None), ("hang_after", None)])
@pytest.mark.parametrize("after", [0, 1, 599, 700])
def test_script_broken_by_its_prompt_ends_after_exactly_so_many(key: str, last: str | None, after: int) -> None:
    script = script_of(Numbered(count=700, size=5, **{key: after}), "truncate=1")

    found = documents(played(script))

    assert text_in(found) == text_of(0, 0, after, 5)
    assert "[DONE]" not in found
    assert ("error" in found[-1]) is (last == "error")
    assert script.over is (key != "hang_after")
    assert not script.proper


def test_script_broken_beyond_its_end_is_honest() -> None:
    assert script_of(Numbered(count=5, fail_after=6)).turn(100.0).endswith(b"data: [DONE]\n\n")


def test_script_truncating_ends_after_half_with_a_proper_end_and_the_full_usage() -> None:
    body = played(script_of(Numbered(count=100, size=5), "truncate=1"))

    assert text_in(documents(body)) == text_of(0, 0, 50, 5)
    assert usage_in(body) == 100
    assert body.endswith(b'"finish_reason":"stop"}]}\n\n' + body[body.rindex(b'data: {"id"') :])


def test_script_erring_breaks_off_with_an_error_event() -> None:
    found = documents(played(script_of(Numbered(count=100, size=5), "error=1")))

    assert text_in(found) == text_of(0, 0, 50, 5)
    assert found[-1]["error"]["message"] == "the stream broke off on purpose"


def test_script_without_end_gives_all_tokens_and_no_terminal_event() -> None:
    found = documents(played(script_of(Numbered(count=100, size=5), "no-end=1")))

    assert text_in(found) == text_of(0, 0, 100, 5)
    assert all(one["choices"][0]["finish_reason"] is None for one in found)


@pytest.mark.parametrize("rate", [0.0, 1000.0])
def test_script_stalling_is_silent_for_its_time_and_then_goes_on(rate: float) -> None:
    script = script_of(Numbered(count=100, size=5, rate=rate), "stall=1")
    now_s = 100.0 + 49.5 / 1000
    out = script.turn(now_s)
    assert text_in(documents(out)) == text_of(0, 0, 50, 5)

    assert script.turn(now_s + STALL_S - 0.001) == b""
    assert script.wait_s(now_s + 1) == pytest.approx(STALL_S - 1)
    out += script.turn(now_s + STALL_S + 1)

    assert text_in(documents(out)) == text_of(0, 0, 100, 5)
    assert script.proper


def test_script_with_wrong_usage_is_honest_but_for_it() -> None:
    body = played(script_of(Numbered(count=100, size=5), "usage=1"))

    assert text_in(documents(body)) == text_of(0, 0, 100, 5)
    assert usage_in(body) == 100 + USAGE_ERROR


def test_script_going_on_after_its_end_sends_one_chunk_more() -> None:
    found = documents(played(script_of(Numbered(count=100, size=5), "after=1")))

    assert found[-2] == "[DONE]"
    assert found[-1]["choices"][0]["delta"]["content"] == "after the end"


def test_script_with_lies_about_chunks_counts_what_really_went_out() -> None:
    script = script_of(Numbered(count=100, size=5), "drop=3", "repeat=1", group=4)

    text = text_in(documents(played(script)))

    assert len(text) == 5 * (100 - 3 * 4 + 4)
    assert script.tokens_sent == 92
    assert script.chunks_sent == 23


def test_script_abandoned_gives_its_lie_back_unless_it_was_told() -> None:
    for name, told in (("truncate", 0), ("stall", 1)):
        lies = Lies([f"{name}=1"])
        order = Numbered(count=100, size=5, rate=10)
        plan = plan_of(order, 0, rate_hz=0, group=1, limit=0, tells_usage=False)
        script = Script(plan, Source(order), ChunkWriter("id", 1, "m", prompt_tokens=0, counts=False, escapes=False), lies, 100.0)
        script.turn(104.95 if name == "stall" else 101.0)

        script.abandon()

        assert lies.told == {name: told}
        assert (name in [lies.of_stream(100, tells_usage=False) for _ in range(3)]) is (told == 0)
