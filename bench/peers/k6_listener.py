"""Start k6 and turn the line that its script prints into a report, while k6 goes on living so that its CPU time can be read."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_SEEN = re.compile(r"BENCH (\d+) (\d+)")


def die_with_parent() -> None:
    """In k6 before it begins: end when this process does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(program: str, script: str) -> int:
    """Wait for k6; what it has seen is written beside the report first and then moved there."""
    report = Path(os.environ["BENCH_REPORT"])
    command = [program, "run", "--quiet", "--no-usage-report", "--no-summary", "--log-output=stdout", "--log-format=raw", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent) as k6:
        assert k6.stdout is not None
        for line in k6.stdout:
            if (seen := _SEEN.search(line)) is not None:
                draft = report.with_suffix(".draft")
                draft.write_text(json.dumps({"received": int(seen[1]), "bad": int(seen[2])}))
                draft.replace(report)
    return k6.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
