"""Stress tests in pytest: the fixture `floodmark` plays a scenario and fails the test unless the verdict is the one that was expected.

    def test_chat_loses_nothing(floodmark):
        floodmark.run("chat.toml", scale=0.1)

Contract: a test passes on PASS alone. FAIL, UNKNOWN, an interrupt and a mistake in a scenario each fail it, with what was observed, where
the run folder is and how to run it again.

Here are the hooks that pytest calls, and the options; what a test gets is `pytest_fixture.py`. pytest loads this module in every run of
whoever has floodmark installed: so it imports nothing else of floodmark before a test asks for the fixture.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from floodmark import __version__

if TYPE_CHECKING:
    from floodmark.pytest_fixture import Floodmark

SEED_LIMIT = 2**63
SEED_DIGITS = len(str(SEED_LIMIT))  # Python reads no number of more than a few thousand
_MARK = "floodmark: a stress test; every test that asks for the fixture `floodmark` has this mark by itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for on pytest's command line or in its configuration file. `out` is None for the test's own `tmp_path`."""

    scale: float
    seed: int
    out: Path | None
    skips_unknown: bool


_OPTIONS = pytest.StashKey[Options]()


# -- options ---------------------------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Each option can be written into the configuration file too, as `floodmark_scale` and so on."""
    group = parser.getgroup("floodmark", "stress tests")
    for name, metavar, text in (
        ("scale", "F", "multiplies the scale of every run"),
        ("seed", "N", "fixes every random choice; a new one for each session unless given, told in the header"),
        ("out", "DIR", "where run folders go, a folder for each test; the test's tmp_path unless given"),
        ("unknown", "fail|skip", "what an UNKNOWN verdict does to a test: no evidence is no pass, so fail unless given"),
    ):
        group.addoption(f"--floodmark-{name}", metavar=metavar, help=f"floodmark: {text}")
        parser.addini(f"floodmark_{name}", f"floodmark: {text}", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Read the options, once, so that a mistake in them is told before the first test."""
    config.addinivalue_line("markers", _MARK)
    config.stash[_OPTIONS] = Options(
        scale=_scale(_asked(config, "scale") or "1"),
        seed=_seed(config, _asked(config, "seed")),
        out=_out(config),
        skips_unknown=_unknown(_asked(config, "unknown") or "fail") == "skip",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """pytest-xdist: all workers play with the one seed that the header tells."""
    node.workerinput["floodmark_seed"] = node.config.stash[_OPTIONS].seed  # type: ignore[attr-defined]


def pytest_report_header(config: pytest.Config) -> str:
    """Say what it takes to play the same runs again."""
    options = config.stash[_OPTIONS]
    scale = f", scale {options.scale:g}" if options.scale != 1 else ""
    return f"floodmark {__version__}: seed {options.seed}{scale}{f', runs in {options.out}' if options.out else ''}"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark stress tests, so that `-m 'not floodmark'` leaves them out."""
    if "floodmark" in getattr(item, "fixturenames", ()):
        item.add_marker("floodmark")


def _asked(config: pytest.Config, name: str) -> str:
    given = config.getoption(f"floodmark_{name}")
    return str(config.getini(f"floodmark_{name}") if given is None else given).strip()


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not 0 < scale < math.inf:
        raise pytest.UsageError(f"--floodmark-scale must be a number greater than 0, got {text!r}")
    return scale


def _seed(config: pytest.Config, text: str) -> int:
    chosen = getattr(config, "workerinput", {}).get("floodmark_seed")
    if chosen is not None:
        return int(chosen)
    if not text:
        return int.from_bytes(os.urandom(4), "big") >> 1
    if not (text.isascii() and text.isdecimal() and len(text) <= SEED_DIGITS and int(text) < SEED_LIMIT):
        raise pytest.UsageError(f"--floodmark-seed must be a whole number between 0 and 2^63 - 1, got {text!r}")
    return int(text)


def _out(config: pytest.Config) -> Path | None:
    """From the command line it starts where pytest was started, from a configuration file where that file is."""
    text = _asked(config, "out")
    beside = config.inipath if config.getoption("floodmark_out") is None else None
    return ((beside.parent if beside is not None else config.invocation_params.dir) / text) if text else None


def _unknown(text: str) -> str:
    if text not in ("fail", "skip"):
        raise pytest.UsageError(f"--floodmark-unknown must be fail or skip, got {text!r}")
    return text


# -- the fixture -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(name="floodmark")
def floodmark_fixture(request: pytest.FixtureRequest) -> Iterator[Floodmark]:
    """Play scenarios and judge them: `floodmark.run(...)`, and in an async test `await floodmark.arun(...)`."""
    from floodmark.pytest_fixture import Floodmark, slug

    node: pytest.Item = request.node
    options = request.config.stash[_OPTIONS]
    if options.out is None:
        out: Path = request.getfixturevalue("tmp_path") / "floodmark"
    else:
        out = options.out / slug(node.nodeid)
    played = Floodmark(options, out, node)
    yield played
    played.end()
