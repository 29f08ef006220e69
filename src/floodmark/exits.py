"""How a command ends: every error as one sentence on stderr and an exit code, whichever part of the command line it comes from.

Exit codes: 0 pass, 10 fail, 11 unknown, 2 usage, 70 a bug in floodmark, 130 interrupted.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable

from floodmark.core.errors import FloodmarkError, HarnessBugError, UsageError


def end_with(command: Callable[[], object]) -> None:
    """Run a command, then end the program by what came of it."""
    try:
        command()
    except UsageError as exc:
        sys.exit(_fail(str(exc), 2))
    except HarnessBugError as exc:
        traceback.print_exc()
        sys.exit(_fail(f"this is a bug in floodmark, so there is no verdict: {exc}", exc.exit_code))
    except FloodmarkError as exc:
        sys.exit(_fail(str(exc), exc.exit_code))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(_fail("interrupted", 130))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as exc:
        traceback.print_exc()
        sys.exit(_fail(f"this is a bug in floodmark, so there is no verdict: {type(exc).__name__}: {exc}", 70))


def _fail(sentence: str, code: int) -> int:
    print(f"floodmark: {sentence}", file=sys.stderr)
    return code
