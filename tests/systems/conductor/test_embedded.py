"""Embedded commands are taken out of the text wherever it is cut, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.systems.conductor.embedded import ALLOWED, LONGEST_CHARS, MOST, EmbeddedCommands


def filtered(parts: list[str]) -> tuple[str, EmbeddedCommands]:
    commands = EmbeddedCommands()
    shown = "".join(commands.feed(part) for part in parts)
    return shown + commands.flush(), commands


@pytest.mark.parametrize(
    ("text", "shown", "remembered"),
    [
        ("plain", "plain", []),
        ("a[yolla:mood happy]b", "ab", ["mood happy"]),
        ("[yolla:react:wave][yolla:wander]", "", ["react:wave", "wander"]),
        ("a [yolla:format_disk now] b", "a  b", []),  # not on the allow-list: out of the text, and never heard of
        ("a [link](there) [yolla] [yolla:] [yolla:Mood]", "a [link](there) [yolla] [yolla:] [yolla:Mood]", []),
        ("[yolla:mood never closed", "[yolla:mood never closed", []),
        ("[yolla:mood\n]", "[yolla:mood\n]", []),
        ("[[yolla:size 3]]", "[]", ["size 3"]),
        ("[yolla:[yolla:show]", "[yolla:", ["show"]),
        (f"[yolla:mood {'x' * LONGEST_CHARS}]", f"[yolla:mood {'x' * LONGEST_CHARS}]", []),
    ],
)
def test_text_loses_its_commands_whole_or_cut_anywhere(text: str, shown: str, remembered: list[str]) -> None:
    for cut in range(len(text) + 1):
        found, commands = filtered([text[:cut], text[cut:]])

        assert (found, commands.commands) == (shown, remembered)
    assert filtered(list(text))[0] == shown


def test_commands_beyond_the_most_are_taken_out_and_not_remembered() -> None:
    shown, commands = filtered(["x[yolla:wander]"] * (MOST + 5))

    assert shown == "x" * (MOST + 5)
    assert (len(commands.commands), commands.removed_count) == (MOST, MOST + 5)


PIECES = st.sampled_from(["[", "]", "[yolla:", "mood", "yol", "la:", " ", "x", "\n", "[yolla:show]", "[yolla:nope a]", "é" * 30])


@given(st.lists(PIECES, max_size=30), st.data())
def test_text_cut_in_any_way_is_filtered_as_the_whole_is(pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    shown, commands = filtered(parts)
    whole, whole_commands = filtered([text])

    assert (shown, commands.commands) == (whole, whole_commands.commands)
    assert all(command.split(":")[0].split()[0] in ALLOWED for command in commands.commands)


@given(st.lists(PIECES, max_size=30))
def test_filter_holds_back_less_than_a_command_may_be_long(pieces: list[str]) -> None:
    commands = EmbeddedCommands()

    for piece in pieces:
        commands.feed(piece)

        assert len(commands.held) < LONGEST_CHARS
