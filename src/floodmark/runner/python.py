"""Which Python runs a target, and whether the profilers can look into it here; found out before anything is started.

Input: a command, or this machine. What can only be known by trying is tried, once. Not here: profiling (profile.py).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

from floodmark.core.errors import UsageError
from floodmark.model.scenario import Scenario
from floodmark.runner.start import recipe_of

TRY_LIMIT_S = 10.0
_PYTHON = re.compile(r"(python|pypy)[\d.]*")
_TAKES_VALUE = ("-X", "-W", "--check-hash-based-pycs")


def python_of(words: list[str]) -> tuple[str, list[str], list[str]] | None:
    """Split a command into interpreter, its flags, and what it runs, by name or by the first line of a script; None if it is not Python.

    >>> python_of(["/usr/bin/python3", "-u", "-m", "app", "--port", "0"])
    ('/usr/bin/python3', ['-u'], ['-m', 'app', '--port', '0'])
    >>> python_of(["/bin/sh", "-c", "true"]) is None
    True
    """
    program = shutil.which(words[0]) or words[0]
    if not _PYTHON.fullmatch(Path(words[0]).name):
        interpreter = _interpreter(Path(program))
        return (*interpreter, [program, *words[1:]]) if interpreter is not None else None
    flags: list[str] = []
    rest = words[1:]
    while rest and rest[0].startswith("-") and rest[0] not in ("-m", "-c", "-"):
        taken = 2 if rest[0] in _TAKES_VALUE else 1
        flags += rest[:taken]
        rest = rest[taken:]
    return (program, flags, rest) if rest else None


def _interpreter(script: Path) -> tuple[str, list[str]] | None:
    """The Python and its flags that a script's first line names."""
    try:
        with script.open("rb") as file:
            line = file.readline(4096)
    except OSError:
        return None
    words = line[2:].decode("utf-8", "replace").split() if line.startswith(b"#!") else []
    if words and Path(words[0]).name == "env":
        words = [word for word in words[1:] if not word.startswith("-")]
    if not words or not _PYTHON.fullmatch(Path(words[0]).name):
        return None
    return shutil.which(words[0]) or words[0], words[1:]


def require_python(scenario: Scenario, kind: str) -> tuple[str, list[str], list[str]]:
    """The Python command that starts the target. Raises: UsageError when there is none."""
    target = scenario.target
    if target.system is None and target.command is None:
        raise UsageError(
            f"--profile {kind} needs a target that floodmark starts, but {scenario.id!r} has the URL {target.url}; give a command"
        )
    recipe = recipe_of(target)
    parts = python_of(recipe.words)
    if parts is None:
        raise UsageError(f"--profile {kind} needs a target in Python, but {recipe.name!r} is none; give the Python command itself")
    return parts


def find_py_spy() -> Path | None:
    """The py-spy beside this Python, or else on the PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "py-spy"
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which("py-spy")
    return Path(found) if found else None


@cache
def why_not_py_spy() -> str:
    """Half a sentence on why py-spy cannot look into processes here, found out by trying; empty when it can."""
    program = find_py_spy()
    if program is None:
        return "there is no py-spy; install the py-spy package"
    asleep = [sys.executable, "-I", "-S", "-c", "import sys, time; print(flush=True); time.sleep(60)"]
    with subprocess.Popen(asleep, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as sleeper:
        try:
            assert sleeper.stdout is not None
            sleeper.stdout.readline()  # it sleeps from here on
            words = [str(program), "dump", "--pid", str(sleeper.pid)]
            tried = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TRY_LIMIT_S, check=False)
            said = tried.stderr.strip().splitlines()
            if tried.returncode == 0:
                return ""
            return f"py-spy may not look into processes here ({said[-1][:200] if said else 'it said nothing'}); allow ptrace or be root"
        except (OSError, subprocess.SubprocessError) as exc:
            return f"py-spy does not run here ({type(exc).__name__})"
        finally:
            sleeper.kill()


@cache
def has_memray(python: str) -> bool:
    """Whether that Python can import memray."""
    try:
        words = [python, "-c", "import memray"]
        return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=TRY_LIMIT_S, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False
