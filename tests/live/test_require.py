"""`require` itself: it goes on, skips or fails by what is there and where it runs."""

from __future__ import annotations

import pytest

from tests.live.conftest import require


def test_require_present_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")

    require(True, "there")


def test_require_missing_locally_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)

    with pytest.raises(pytest.skip.Exception, match="no server"):
        require(False, "no server")


def test_require_missing_in_ci_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")

    with pytest.raises(pytest.fail.Exception, match="no server"):
        require(False, "no server")
