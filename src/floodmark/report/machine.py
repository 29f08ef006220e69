"""The fingerprint of the machine a run happened on: enough to judge whether two runs may be compared, nothing that names anybody.

Input: /proc and the installed packages. Output: one `Machine`. Not here: comparing two of them (judge/).
Left out on purpose: host name, user name, paths, addresses: a report is made to be sent to others.
"""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import msgspec

import floodmark

PACKAGES = ("uvloop", "picows", "numpy")
_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What the figures of a run depend on; an empty text or 0 where the system does not say."""

    cpu: str = ""
    cores: int = 0
    memory_bytes: int = 0
    kernel: str = ""
    python: str = ""
    versions: dict[str, str] = {}


def fingerprint() -> Machine:
    """Read this machine's fingerprint. Takes about a millisecond; never raises for a file that is missing."""
    return Machine(
        cpu=_field(_CPUINFO, "model name") or platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        memory_bytes=_memory_bytes(),
        kernel=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        versions={"floodmark": floodmark.__version__, **{name: _version(name) for name in PACKAGES}},
    )


def _field(file: Path, name: str) -> str:
    """The first `name : value` of a /proc file; empty when there is none."""
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() == name:
                    return value.strip()
    except OSError:
        return ""
    return ""


def _memory_bytes() -> int:
    number, _, unit = _field(_MEMINFO, "MemTotal").partition(" ")
    return int(number) * 1024 if number.isdigit() and unit == "kB" else 0


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
