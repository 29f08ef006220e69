"""Scripts: what is right is read, what is wrong is one sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from floodmark.core.errors import UsageError
from floodmark.drivers.fleet_figures import FIGURES
from floodmark.drivers.fleet_script import WORDS, Line, parse_script


def test_parse_script_words_keep_their_times_and_arguments() -> None:
    lines = parse_script("0 start 3; 5 kill leader; 5.05 start; 7 slow follower 2; 9 stop count=2; 20 refresh add=20 remove=3; 21 kill 4")

    assert [line.request() for line in lines] == [
        {"do": "start", "count": 3},
        {"do": "kill", "worker": "leader"},
        {"do": "start"},
        {"do": "slow", "worker": "follower", "factor": 2.0},
        {"do": "stop", "count": 2},
        {"do": "refresh", "add": 20, "remove": 3},
        {"do": "kill", "worker": 4},
    ]
    assert [line.at_s for line in lines] == [0, 5, 5.05, 7, 9, 20, 21]


def test_parse_script_empty_is_empty() -> None:
    assert parse_script(" ; ") == ()


@pytest.mark.parametrize("word", WORDS)
def test_parse_script_line_as_it_is_shown_reads_back(word: str) -> None:
    arguments = {"worker": "leader"} if "worker" in WORDS[word][0] else {}
    line = Line(at_s=1.5, word=word, arguments={**arguments, **({"factor": 2.0} if word == "slow" else {})})

    assert parse_script(str(line)) == (line,)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("kill leader", "'kill leader' is not SECONDS WORD ARGUMENTS"),
        ("-1 kill leader", "is not SECONDS WORD ARGUMENTS"),
        ("nan kill leader", "is not SECONDS WORD ARGUMENTS"),
        ("5", "is not SECONDS WORD ARGUMENTS"),
        ("5 kil leader", "unknown word 'kil'; did you mean 'kill'"),
        ("5 kill", "lacks worker"),
        ("5 slow leader", "lacks factor"),
        ("5 kill leader now", "kill takes worker, not 'now'"),
        ("5 measure 3", "measure takes no arguments, not '3'"),
        ("5 kill leader worker=3", "gives worker twice"),
        ("5 start 0", "count must be a whole number above 0, got '0'"),
        ("5 start 1.5", "count must be a whole number above 0, got '1.5'"),
        ("5 slow leader inf", "factor must be a number above 0, got 'inf'"),
        ("5 kill same", "'same' is for resume, heal, unmute"),
        ("5 start; 4 start", "'4 start' stands behind '5 start', which is later"),
    ],
)
def test_parse_script_wrong_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        parse_script(text)

    assert "\n" not in str(caught.value)


def test_page_says_each_word_and_each_figure_as_the_code_does() -> None:
    page = (Path(__file__).parents[2] / "docs/drivers.md").read_text(encoding="utf-8")

    for word, (_, text) in WORDS.items():
        assert re.search(rf"^\| `{word}` \| .* \| {re.escape(text)} \|$", page, re.MULTILINE), word
    for figure, text in FIGURES.items():
        assert f"| `{figure}` | {text} |" in page
