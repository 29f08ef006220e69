"""A page: every line stands where it should, what is not painted yet comes later, the oldest goes first, and places are found again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.theme import BUILTIN_THEMES

from floodmark.systems.conductor.terminal import page as page_room
from floodmark.systems.conductor.terminal.page import Page
from floodmark.systems.conductor.terminal.paint import Kind, Painter, Palette

PALETTE = Palette(BUILTIN_THEMES["textual-dark"].to_color_system().generate())
FOREVER_S = 60.0


def lines(page: Page, *, width: int = 40) -> list[str]:
    """Lay the whole page and read it from top to bottom."""
    assert page.lay(Painter(PALETTE, width), limit_s=FOREVER_S)
    return [strip.text.rstrip() if (strip := page.line(y)) is not None else "" for y in range(page.height)]


def numbered_page(count: int) -> Page:
    page = Page()
    page.begin("m", "model")
    page.push("m", "\n\n".join(f"Paragraph {number}" for number in range(count)))
    page.absorb()
    return page


def test_page_conversation_reads_from_top_to_bottom() -> None:
    page = Page()
    page.ask("Why?")
    page.begin("m", "model")
    for token in ("Be", "cause.\n", "\nAnd ", "so **on**."):
        page.push("m", token)
        page.absorb()
    page.end("m", "4 tokens")
    page.note("oh", kind=Kind.ERROR)

    assert lines(page) == ["you", "▌ Why?", "", "model", "Because.", "", "And so on.", "4 tokens", "", "oh"]
    assert page.text == "Because.\n\nAnd so **on**."


def test_page_answer_goes_on_above_what_was_said_meanwhile() -> None:
    page = Page()
    page.begin("m", "model")
    page.push("m", "First.\n\nSec")
    page.absorb()
    page.note("a notice")
    page.push("m", "ond.\n\nThird.\n")
    page.absorb()
    page.end("m", "done")

    assert lines(page) == ["model", "First.", "", "Second.", "", "Third.", "done", "", "a notice"]


@settings(max_examples=20)
@given(cuts=st.lists(st.integers(1, 30), min_size=1, max_size=20))
def test_page_any_pieces_give_the_lines_of_the_whole(cuts: list[int]) -> None:
    text = "# Head\n\n" + "Some *text* goes on and on. " * 3 + "\n\n- a\n- b\n\n```py\nx = 1\n```\nThe end\n"
    whole, pieces = Page(), Page()
    for page in (whole, pieces):
        page.begin("m", "model")
    whole.push("m", text)
    at, turn = 0, 0
    while at < len(text):
        pieces.push("m", text[at : at + cuts[turn % len(cuts)]])
        pieces.absorb()
        pieces.lay(Painter(PALETTE, 40), limit_s=FOREVER_S)
        at += cuts[turn % len(cuts)]
        turn += 1
    whole.absorb()

    assert lines(pieces) == lines(whole)
    assert pieces.text == whole.text == text


def test_page_without_time_shows_the_end_first_and_the_rest_later() -> None:
    page, painter = numbered_page(50), Painter(PALETTE, 40)

    complete = page.lay(painter, limit_s=0.0)
    first_height = page.height
    while not page.lay(painter, limit_s=0.0):
        assert page.height >= first_height

    last = page.line(page.height - 1)
    assert not complete
    assert first_height < page.height
    assert last is not None
    assert last.text.strip() == "Paragraph 49"


def test_page_place_on_the_screen_is_found_again_in_another_width() -> None:
    page = numbered_page(200)
    lines(page, width=40)
    found = page.at(101)
    assert found is not None
    before = page.line(101)

    complete = page.lay(Painter(PALETTE, 20), limit_s=0.0, hold=found[0])

    after = page.line(page.place(*found))
    assert not complete  # the rest is painted later
    assert before is not None
    assert after is not None
    assert before.text.strip() == after.text.strip()


def test_page_more_text_than_it_keeps_drops_the_oldest_and_counts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_room, "PAGE_CHARS", 5_000)
    page = Page()
    page.ask("old question")
    page.begin("m", "model")
    text = "".join(f"Paragraph {number}\n\n" for number in range(1_000))
    for at in range(0, len(text), 100):
        page.push("m", text[at : at + 100])
        page.absorb()

    assert text.endswith(page.text)
    assert 4_000 < len(page.text) <= 5_000
    assert page.dropped_chars == len("you" + "old question" + "model" + text) - len(page.text)
    assert "old question" not in "\n".join(lines(page))


def test_page_cleared_in_mid_answer_goes_on_with_it() -> None:
    page = numbered_page(3)

    page.clear()
    page.push("m", " and more\n")
    page.absorb()

    assert lines(page) == ["Paragraph 2 and more"]


def test_page_ending_an_answer_that_was_never_open_changes_nothing() -> None:
    page = Page()

    page.end("nobody", "foot")

    assert lines(page) == []
    assert page.line(0) is None
    assert page.at(0) is None
