"""What users may send: one clear sentence for each refusal."""

from __future__ import annotations

import asyncio

import pytest

from floodmark.core.clock import ManualClock
from floodmark.systems.conductor.errors import RefusedError
from floodmark.systems.conductor.limits import RateLimit, check_command, check_text, read_command
from floodmark.systems.conductor.settings import InputLimits
from floodmark.systems.conductor.vocabulary import UserCommand

LIMITS = InputLimits()


@pytest.mark.parametrize("text", ["hello", "two\nlines\twith a tab\r\n", "x" * 100_000, "\N{GRINNING FACE} [yolla:mood happy]"])
def test_text_that_is_allowed_passes(text: str) -> None:
    check_text(text, LIMITS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the message is empty"),
        (" \n\t ", "the message is empty"),
        ("x" * 100_001, "100,001 bytes, and 100,000 are allowed"),
        ("é" * 50_001, "100,002 bytes"),
        ("a\x00b", r"control character U\+0000 at position 1"),
        ("a\x1b[31m", r"control character U\+001B at position 1"),
        ("a\x7f", r"U\+007F"),
        ("a\x85", r"U\+0085"),
        ("a\ud800", r"U\+D800"),
    ],
)
def test_text_beyond_a_limit_is_refused_with_its_reason(text: str, said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        check_text(text, LIMITS)


@pytest.mark.parametrize(
    ("command", "args", "said"),
    [
        ("", (), "is no command"),
        ("x" * 51, (), "is no command"),
        ("rm -rf", (), "is no command"),
        ("größe", (), "is no command"),
        ("model", ("a",) * 11, "got 11 arguments, and 10 are allowed"),
        ("model", ("a" * 1001,), "argument 1 of /model has 1,001 characters, and 1,000"),
        ("model", ("fine", "a\nb"), r"argument 2 of /model holds the control character U\+000A"),
    ],
)
def test_command_beyond_a_limit_is_refused_with_its_reason(command: str, args: tuple[str, ...], said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        check_command(UserCommand(command=command, args=args), LIMITS)


def test_command_at_every_limit_passes() -> None:
    check_command(UserCommand(command="a-Z_0" * 10, args=("x" * 1000,) * 10), LIMITS)


@pytest.mark.parametrize(("text", "name"), [("/quit", "quit"), ("/model a b", "model"), ("hello /quit", None), ("/", None), ("", None)])
def test_line_is_read_as_a_command_only_with_a_slash_and_a_name(text: str, name: str | None) -> None:
    command = read_command(text)

    assert (command and command.command) == name


def test_rate_limit_takes_thirty_in_any_minute_and_says_when_it_takes_more() -> None:
    async def main() -> None:
        clock = ManualClock()
        limit = RateLimit(30, clock)
        for _ in range(15):
            limit.take()
        await clock.advance(40)
        for _ in range(15):
            limit.take()
        with pytest.raises(RefusedError, match=r"30 messages a minute are allowed; the next one can be sent in 20 s"):
            limit.take()
        await clock.advance(20)
        for _ in range(15):
            limit.take()
        with pytest.raises(RefusedError):
            limit.take()

    asyncio.run(main())


def test_rate_limit_of_none_takes_everything() -> None:
    limit = RateLimit(None, ManualClock())

    for _ in range(10_000):
        limit.take()
