"""What was sent before: fifty texts, walked with Up and Down, and the draft is not lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from floodmark.systems.conductor.terminal.history import HISTORY_COUNT, History


def test_history_more_than_it_keeps_forgets_the_oldest() -> None:
    history = History()
    for number in range(HISTORY_COUNT + 7):
        history.add(f"text {number}")

    walked = [history.older("draft") for _ in range(HISTORY_COUNT + 1)]

    assert len(history) == HISTORY_COUNT == 50
    assert walked[0] == f"text {HISTORY_COUNT + 6}"
    assert walked[-2] == "text 7"
    assert walked[-1] is None


def test_history_same_text_twice_is_kept_once() -> None:
    history = History()
    for text in ("one", "one", "two", "one", ""):
        history.add(text)

    assert [history.older("") for _ in range(4)] == ["one", "two", "one", None]


def test_history_sending_from_the_past_stands_at_the_draft_again() -> None:
    history = History()
    history.add("one")
    history.add("two")
    history.older("draft")
    history.older("two")

    history.add("three")

    assert history.newer() is None
    assert history.older("") == "three"


@given(texts=st.lists(st.text(min_size=1, max_size=3), max_size=70), steps=st.lists(st.booleans(), max_size=120))
def test_history_any_walk_agrees_with_a_list(texts: list[str], steps: list[bool]) -> None:
    history = History()
    kept: list[str] = []
    for text in texts:
        history.add(text)
        if not kept or kept[-1] != text:
            kept.append(text)
    kept = [*kept[-HISTORY_COUNT:], "the draft"]
    at = len(kept) - 1

    for back in steps:
        expected = at - 1 if back else at + 1
        shown = history.older("the draft") if back else history.newer()
        if 0 <= expected < len(kept):
            at = expected
            assert shown == kept[at]
        else:
            assert shown is None
