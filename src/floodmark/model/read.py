"""Read scenarios from TOML and from Python, and say in one sentence what is wrong with them.

A TOML file holds one scenario at its top level, or several as `[[scenario]]` tables. A Python file assigns `scenario` or `scenarios`.
Every mistake is a `UsageError` with the file, the place, what was wrong and what is allowed; never a traceback. Conversion itself is in
`model/walk.py`, writing in `model/record.py`, the reference tables in `model/reference.py`; their public names are offered here too.
"""

from __future__ import annotations

import contextlib
import re
import runpy
import sys
import tomllib
import traceback
from collections import Counter
from pathlib import Path

from floodmark.core.errors import UsageError
from floodmark.model.record import to_toml
from floodmark.model.reference import reference
from floodmark.model.scenario import Scenario, target_from
from floodmark.model.walk import build

__all__ = ["checked", "read_python", "read_text", "read_toml", "reference", "target_from", "to_toml"]

_POSITION = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")


def read_toml(path: Path) -> tuple[Scenario, ...]:
    """Read every scenario of a TOML file, in its order.

    Raises: UsageError when the file cannot be read, is not TOML, or is not a scenario.
    """
    return read_text(_text_of(path), str(path))


def read_text(text: str, where: str) -> tuple[Scenario, ...]:
    """Read the text of a TOML file; `where` names it in errors.

    Raises: UsageError when it is not TOML or not a scenario.
    """
    raw = _parsed(text, where)
    if not raw:
        raise UsageError(f"{where}: the file is empty; it must hold one scenario (id, population, phases, criteria) or [[scenario]] tables")
    try:
        return _distinct(tuple(build(Scenario, table, place) for place, table in _tables(raw)))
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def read_python(path: Path) -> tuple[Scenario, ...]:
    """Run a Python file and take its `scenario` (one) or `scenarios` (a list or tuple of them).

    What it prints goes to stderr, so that stdout stays the result's.
    Raises: UsageError when it cannot be read, when it raises (with the line that did), or when it assigns neither.
    """
    _text_of(path)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            names = runpy.run_path(str(path))
    except (Exception, SystemExit) as error:
        raise UsageError(f"{path}:{_line_of(error, path)}: {_told(error)}") from None
    try:
        return _distinct(tuple(checked(scenario) for scenario in _assigned(names)))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def checked(scenario: Scenario) -> Scenario:
    """Check a scenario that was built from Python once more, types too, which constructors do not look at.

    Returns: an equal scenario in its plain form: tuples for lists, floats for whole numbers of seconds.
    Raises: UsageError in one sentence, with the place.
    """
    if not isinstance(scenario, Scenario):
        raise UsageError(f"a Scenario is needed, got {type(scenario).__name__}")
    try:
        return build(Scenario, scenario)
    except UsageError as error:
        raise UsageError(f"scenario {scenario.id!r}: {error}") from None


def _text_of(path: Path) -> str:
    if not path.exists():
        raise UsageError(f"{path}: there is no such file; give the path of a .toml or .py scenario file")
    if not path.is_file():
        raise UsageError(f"{path}: this is not a file; give the path of a .toml or .py scenario file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: the file cannot be read ({error.strerror}); check its permissions") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line}: the file is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _parsed(text: str, where: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UsageError(f"{where}: the file is nested too deeply to be a scenario; write fewer brackets inside each other") from None
    except ValueError as error:  # TOMLDecodeError is one; so is a number with thousands of digits
        message = str(error)
        match = _POSITION.search(message)
        if match is None:
            raise UsageError(f"{where}: not valid TOML: {_one_line(message)}") from None
        lines = text.split("\n")
        line, column = match.groups() if match[1] else (len(lines), len(lines[-1]) + 1)
        raise UsageError(f"{where}:{line}:{column}: not valid TOML: {_one_line(message[: match.start()])}") from None


def _tables(raw: dict[str, object]) -> list[tuple[str, object]]:
    if "scenario" not in raw:
        return [("", raw)]
    tables = raw["scenario"]
    if not isinstance(tables, list) or not tables:
        raise UsageError("scenario must be written as [[scenario]] tables, with two brackets")
    others = [key for key in raw if key != "scenario"]
    if others:
        raise UsageError(f"the key {others[0]!r} stands beside [[scenario]]; move it into one of these tables")
    return [(f"scenario[{index}]", table) for index, table in enumerate(tables)]


def _distinct(scenarios: tuple[Scenario, ...]) -> tuple[Scenario, ...]:
    for identifier, count in Counter(scenario.id for scenario in scenarios).items():
        if count > 1:
            raise UsageError(f"{count} scenarios have the id {identifier!r}; give each its own")
    return scenarios


def _assigned(names: dict[str, object]) -> tuple[Scenario, ...]:
    given = [name for name in ("scenario", "scenarios") if name in names]
    if len(given) != 1:
        raise UsageError(f"the file assigns {'both' if given else 'neither'} of scenario and scenarios; assign one of them")
    value = names[given[0]]
    entries = (value,) if given == ["scenario"] else value
    if not isinstance(entries, list | tuple) or not entries:
        raise UsageError(f"scenarios must be a list or tuple with at least one Scenario, got {_short(value)}")
    for entry in entries:
        if not isinstance(entry, Scenario):
            raise UsageError(f"{given[0]} must be a Scenario{' in each place' if given == ['scenarios'] else ''}, got {_short(entry)}")
    return tuple(entries)


def _line_of(error: BaseException, path: Path) -> int:
    """The line of the user's own file that raised: the innermost one, since frames below it are libraries."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 1
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return (lines[-1] if lines else None) or 1


def _told(error: BaseException) -> str:
    text = _one_line(error.msg if isinstance(error, SyntaxError) else str(error))
    if isinstance(error, UsageError):
        return text
    return f"{type(error).__name__}: {text}" if text else f"the file raised {type(error).__name__}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _short(value: object) -> str:
    text = _one_line(repr(value))
    return text if len(text) <= 60 else f"{text[:60]}…"
