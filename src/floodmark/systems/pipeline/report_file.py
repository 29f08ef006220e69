"""A report out of a Python file: run the file, take its `report`, and tell every mistake in one sentence with its line.

The file is the reader's own program and is run as such: do not open one that you would not run. What it prints goes to stderr, so that
stdout stays free for the rows.
"""

from __future__ import annotations

import contextlib
import runpy
import sys
import traceback
from pathlib import Path

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.errors import nearest
from floodmark.systems.pipeline.report.model import Report

NAME = "report"


def read_report(path: Path) -> Report:
    """Run a Python file and return the Report that it calls `report`.

    Raises: UsageError when it is not there, when it raises (with the line that did), or when `report` is missing or something else.
    """
    if not path.is_file():
        what = "this is not a file" if path.exists() else "there is no such file" + _meant(path)
        raise UsageError(f"{path}: {what}; give the path of a Python file that defines {NAME} = Report(...)")
    try:
        with contextlib.redirect_stdout(sys.stderr):
            names = runpy.run_path(str(path))
    except (Exception, SystemExit) as error:
        raise UsageError(f"{path}{_line_of(error, path)}: {_told(error)}") from error
    found = names.get(NAME)
    if isinstance(found, Report):
        return found
    others = [name for name, value in names.items() if isinstance(value, Report)]
    if found is not None:
        raise UsageError(f"{path}: {NAME} is a {type(found).__name__}; it has to be a Report")
    hint = f"; it calls one {others[0]!r}: name that {NAME}" if others else ""
    raise UsageError(f"{path}: the file defines no {NAME} = Report(...){hint}")


def _meant(path: Path) -> str:
    near = nearest(path.name, [other.name for other in path.parent.glob("*.py")]) if path.parent.is_dir() else ""
    return f" (did you mean {path.with_name(near)}?)" if near else ""


def _line_of(error: BaseException, path: Path) -> str:
    """The line of the file that is to blame: the last one of it on the way to the error."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f":{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f":{lines[-1]}" if lines else ""


def _told(error: BaseException) -> str:
    """The error in one line; our own are sentences already."""
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    if isinstance(error, UsageError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
