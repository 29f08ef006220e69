"""The pages hold together: the reference is what the code says, links lead somewhere, and options that are named exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from floodmark import suites
from floodmark.drivers import DRIVERS
from floodmark.faults import FAULTS
from floodmark.model.metrics import METRICS
from floodmark.model.result import ScenarioResult
from floodmark.model.trial import Trial
from floodmark.model.verdict import Verdict
from floodmark.reference import EXIT_CODES, PAGE, reference, renew
from floodmark.runner.implied import CALM

ROOT = Path(__file__).parents[2]
GUIDES = ("README.md", "docs/index.md", "docs/design.md", "docs/verdicts.md", "docs/glossary.md", "docs/own-system.md", "docs/reference.md")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
ELSEWHERE = {"--strict"}  # options of other programs that the guides name


def anchors(page: str) -> set[str]:
    """The names that a page's headings can be linked by.

    >>> anchors("## Exit codes\\n### `run.json`, whole\\n") == {"exit-codes", "runjson-whole"}
    True
    """
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_reference_page_holds_exactly_what_is_written_from_the_code() -> None:
    page = (ROOT / "docs" / PAGE).read_text(encoding="utf-8")

    assert page == reference(), "docs/reference.md is behind the code: run python -m floodmark.reference docs"


def test_renew_writes_the_page_anew(tmp_path: Path) -> None:
    (tmp_path / PAGE).write_text("old", encoding="utf-8")

    renew(tmp_path)

    assert (tmp_path / PAGE).read_text(encoding="utf-8") == reference()


def test_reference_names_every_entry_of_every_registry() -> None:
    text = reference()

    for name in (*suites.entries(), *DRIVERS, *FAULTS):
        assert f"| `{name}` |" in text
    assert all(f"`{name}`" in text for name in METRICS)
    assert all(f"| `{field}` |" in text for field in ScenarioResult.__struct_fields__)


@pytest.mark.parametrize("command", ["run", "list", "report", "doctor", "init", "version", "serve hub"])
def test_reference_has_a_section_for_every_command(command: str) -> None:
    assert f"### `floodmark {command}`\n" in reference()


def test_reference_shows_what_a_parameter_takes_and_its_default() -> None:
    text = reference()

    assert "| `--tier` | one of `quick`, `full` | not set |" in text
    assert "| `--out` | a path | `runs` |" in text
    assert "| `--json` | nothing: a switch | not set |" in text


def test_exit_codes_are_told_apart_and_cover_every_verdict() -> None:
    codes = [code for code, _ in EXIT_CODES]

    assert len(set(codes)) == len(codes)
    assert {verdict.exit_code for verdict in Verdict} <= set(codes)


@pytest.mark.parametrize("name", GUIDES)
def test_links_of_a_page_lead_somewhere(name: str) -> None:
    page = ROOT / name
    links = LINK.findall(CODE.sub("", page.read_text(encoding="utf-8")))

    assert links or name == "docs/glossary.md"
    for link in links:
        if "://" in link:
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), f"{name} links to {link}"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{name} links to {link}"


@pytest.mark.parametrize("name", GUIDES[:-1])
def test_options_named_in_a_page_exist(name: str) -> None:
    text = reference()
    named = set(OPTION.findall((ROOT / name).read_text(encoding="utf-8").replace("<!--", "").replace("-->", "")))

    assert {option for option in named - ELSEWHERE if f"`{option}`" not in text} == set()


def test_index_names_every_page() -> None:
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")} - {"index.md"}

    assert pages - set(LINK.findall(index)) == set()


def test_pictures_are_small_enough_to_load() -> None:
    pictures = list((ROOT / "docs/images").iterdir())

    assert pictures
    assert all(picture.stat().st_size < 300_000 for picture in pictures)


def test_verdicts_page_shows_every_lie_of_the_suite_as_it_is_told() -> None:
    page = (ROOT / "docs/verdicts.md").read_text(encoding="utf-8")
    told = []
    for entry in suites.SUITES["liars"]:
        trial = entry.build(1.0)
        assert isinstance(trial, Trial)
        arguments = trial.lying.target.args
        told.append(arguments[arguments.index("--lie") + 1])

    assert re.findall(r"^\| `([a-z-]+=[^`]+)` \|", page, re.MULTILINE) == told


def test_verdicts_page_names_everything_that_goes_without_saying() -> None:
    page = (ROOT / "docs/verdicts.md").read_text(encoding="utf-8")

    for text, others, excused in CALM:
        (row,) = [line.strip(" |") for line in page.splitlines() if line.strip().startswith(f"| `{text}` |")]
        assert re.findall(r"`(\w+)`", row) == list(others)
        assert row.endswith("yes" if excused else "no")
