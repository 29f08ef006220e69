"""Painting: the words are all there, nothing steers the terminal, and every colour of both themes can be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.color import Color
from textual.theme import BUILTIN_THEMES

from floodmark.systems.conductor.terminal.paint import Kind, Painter, Palette

THEMES = ["textual-dark", "textual-light"]


def painter(*, width: int = 60, theme: str = "textual-dark") -> Painter:
    return Painter(Palette(BUILTIN_THEMES[theme].to_color_system().generate()), width)


def text(markup: str, *, kind: Kind = Kind.MARKDOWN, width: int = 60) -> str:
    return "\n".join(strip.text.rstrip() for strip in painter(width=width).paint(kind, markup))


def test_paint_html_of_a_model_is_shown_and_not_left_out() -> None:
    painted = text("<think>\nFirst, the tide.\n</think>\n\nThe <b>answer</b>.")

    assert "<think>" in painted
    assert "First, the tide." in painted
    assert "<b>answer</b>" in painted


@pytest.mark.parametrize("kind", list(Kind))
def test_paint_control_characters_never_reach_the_terminal(kind: Kind) -> None:
    strips = painter().paint(kind, "before \x1b[31mred\x1b]52;c;aGk=\x07 \x9b2J after\r\n")

    painted = "".join(strip.text for strip in strips)
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in painted)
    assert "before" in painted
    assert "after" in painted


def test_paint_code_keeps_every_line_and_its_indentation() -> None:
    painted = text("```python\ndef f():\n\n\treturn 1  # why\n```")

    assert painted.split("\n") == [" def f():", "", "     return 1  # why"]


@pytest.mark.parametrize("language", ["python", "no-such-language", "", "../../etc/passwd"])
def test_paint_code_of_any_language_is_shown(language: str) -> None:
    assert text(f"```{language}\nx = 'é'\n```").strip() == "x = 'é'"


@given(markup=st.text(max_size=200), width=st.integers(8, 100))
def test_paint_any_text_fits_into_the_width(markup: str, width: int) -> None:
    for kind in (Kind.MARKDOWN, Kind.USER, Kind.ERROR):
        for strip in painter(width=width).paint(kind, markup):
            assert strip.cell_length <= width


def test_paint_question_is_shown_as_it_was_typed() -> None:
    assert text("# no heading\n*as it is*", kind=Kind.USER) == "▌ # no heading\n▌ *as it is*"


@pytest.mark.parametrize("theme", THEMES)
def test_palette_words_can_be_read_on_their_ground(theme: str) -> None:
    variables = BUILTIN_THEMES[theme].to_color_system().generate()
    background = Color.parse(variables["background"])

    styles = Palette(variables).theme.styles

    ours = {name: style for name, style in styles.items() if name.startswith(("chat.", "code.", "markdown.h")) and style.color}
    assert len(ours) > 15
    for name, style in ours.items():
        assert style.color is not None
        assert style.color.triplet is not None
        contrast = _contrast(Color(*style.color.triplet), background)
        assert contrast >= 4.4, f"{name} has a contrast of {contrast:.2f}"


def _contrast(one: Color, other: Color) -> float:
    """WCAG's, written once more so that the code's own is held against something."""

    def luminance(colour: Color) -> float:
        red, green, blue = ((c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for c in (v / 255 for v in colour.rgb))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    lighter, darker = max(luminance(one), luminance(other)), min(luminance(one), luminance(other))
    return (lighter + 0.05) / (darker + 0.05)
