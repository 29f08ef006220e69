"""Errors, split by who has to act.

`UsageError`: the caller's mistake, exit code 2. `SystemUnderTestError`: the target cannot be measured, the verdict is UNKNOWN.
`HarnessBugError`: an invariant of ours broke, no verdict, exit code 70. A broken delivery promise is none of these: it is a Finding.
Every error passes all its arguments to `super().__init__`, so that it pickles between processes.
"""

from __future__ import annotations


class FloodmarkError(Exception):
    """Root of everything floodmark raises on purpose."""

    exit_code = 70


class UsageError(FloodmarkError):
    """The caller's mistake, told in one sentence: what was wrong, where, what is allowed, what to do."""

    exit_code = 2


class SystemUnderTestError(FloodmarkError):
    """The target cannot be measured: it never came up, refused us or died. Makes a run UNKNOWN, never PASS."""

    exit_code = 11


class HarnessBugError(FloodmarkError):
    """An invariant of floodmark itself does not hold; whatever was measured must not be trusted."""

    exit_code = 70
