"""The fingerprint: enough to compare two runs, nothing that names a person or a machine."""

from __future__ import annotations

import getpass
import platform
from pathlib import Path

import msgspec
import pytest

from floodmark.report import machine


def test_fingerprint_of_this_machine_is_filled_in() -> None:
    seen = machine.fingerprint()

    assert seen.cores >= 1
    assert seen.memory_bytes > 2**26
    assert seen.python.endswith(platform.python_version())
    assert set(seen.versions) == {"floodmark", "uvloop", "picows", "numpy"}
    assert "not installed" not in seen.versions.values()


def test_fingerprint_names_no_host_user_or_path() -> None:
    text = msgspec.json.encode(machine.fingerprint()).decode()

    words = [word for word in (platform.node(), getpass.getuser()) if len(word) > 3]
    assert [word for word in (*words, str(Path.home()), str(Path.cwd())) if word != "/" and word in text] == []


def test_fingerprint_without_proc_is_told_as_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "missing")
    monkeypatch.setattr(machine, "_MEMINFO", tmp_path / "missing")

    seen = machine.fingerprint()

    assert seen.cpu == platform.machine()
    assert seen.memory_bytes == 0
