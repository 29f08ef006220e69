"""Cutting Markdown that is still arriving: nothing is lost or moved, and no block outgrows its bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.systems.conductor.terminal.blocks import BLOCK_CHARS, Block, Splitter

MARKDOWN = st.text(alphabet="ab #`~-|>*1.\n\t 	é", max_size=300)


def split(text: str, sizes: list[int]) -> tuple[list[Block], Block]:
    """Feed a text in pieces of these sizes, round and round."""
    splitter = Splitter()
    closed: list[Block] = []
    at, turn = 0, 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        splitter.feed(text[at : at + size])
        closed += splitter.take()
        at += size
        turn += 1
    return closed, splitter.rest()


@given(text=MARKDOWN, sizes=st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_splitter_any_text_in_any_pieces_keeps_every_character(text: str, sizes: list[int]) -> None:
    closed, rest = split(text, sizes)

    assert "".join(block.source for block in closed) + rest.source == text


@given(text=MARKDOWN, sizes=st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_splitter_any_pieces_gives_the_blocks_of_the_whole(text: str, sizes: list[int]) -> None:
    in_pieces, rest = split(text, sizes)
    at_once, rest_at_once = split(text, [10_000])

    assert [block.markup for block in (*in_pieces, rest)] == [block.markup for block in (*at_once, rest_at_once)]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("x" * 20_000, id="no-space"),
        pytest.param("word " * 5_000, id="one-line"),
        pytest.param("word word word\n" * 2_000, id="one-paragraph"),
        pytest.param("```python\n" + "x = 1\n" * 4_000 + "```\n", id="code"),
        pytest.param("- a\n" * 5_000, id="list"),
        pytest.param("- a\n" + "  more\n" * 5_000, id="indented"),
    ],
)
def test_splitter_endless_block_is_cut_within_its_bound(text: str) -> None:
    closed, rest = split(text, [997])

    assert len(closed) > 3
    assert max(len(block.source) for block in (*closed, rest)) <= 2 * BLOCK_CHARS + 100
    assert all(block.joined for block in closed[1:])


def test_splitter_prose_breaks_at_blank_lines_headings_and_fences() -> None:
    text = "# Title\nOne\ntwo\n\nThree\n```\ncode\n\nmore\n```\n- a\n\n  b\n- c\n\nLast\n"

    closed, rest = split(text, [3])

    assert [block.source for block in closed] == [
        "# Title\n",
        "One\ntwo\n\n",
        "Three\n",
        "```\ncode\n\nmore\n```\n",
        "- a\n\n  b\n- c\n\n",
    ]
    assert rest.source == "Last\n"


def test_splitter_code_cut_in_two_begins_its_fence_again() -> None:
    closed, rest = split("```python\n" + "x = 1\n" * 1_000 + "```\n", [64])

    assert all(block.prefix == "```python\n" for block in closed[1:])
    assert rest.source == ""


def test_splitter_table_cut_in_two_shows_its_head_again() -> None:
    closed, _ = split("| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 1_000, [64])

    assert closed[1].prefix == "| a | b |\n|---|---|\n"
    assert closed[1].joined
