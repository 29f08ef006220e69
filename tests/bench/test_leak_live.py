"""The live benchmark of the leak verdict: what counts as wrong, and one small whole run of each kind of hub."""

from __future__ import annotations

import pytest

from bench import leak_live
from bench.__main__ import main
from bench.leak_live import Told, report, run_one
from floodmark.model.verdict import Verdict


def told(*, leaks: bool, verdict: Verdict, sound: bool = True) -> Told:
    return Told(what="x", leaks=leaks, verdict=verdict, low=None, slope=None, high=None, took_s=1.0, load=0.0, sound=sound)


@pytest.mark.parametrize(
    ("one", "wrong"),
    [
        (told(leaks=False, verdict=Verdict.PASS), ""),
        (told(leaks=True, verdict=Verdict.FAIL), ""),
        (told(leaks=False, verdict=Verdict.FAIL), "false alarm"),
        (told(leaks=False, verdict=Verdict.UNKNOWN), "undecided"),
        (told(leaks=True, verdict=Verdict.PASS), "miss"),
        (told(leaks=True, verdict=Verdict.UNKNOWN), "miss"),
        (told(leaks=True, verdict=Verdict.FAIL, sound=False), "account"),
    ],
)
def test_told_says_what_is_wrong_and_the_report_exits_with_it(one: Told, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = report([one])

    assert one.wrong == wrong
    assert code == (1 if wrong else 0)
    assert (wrong or "0 wrong") in capsys.readouterr().out


@pytest.mark.parametrize(("kind", "leak_bytes"), [("healthy", 0), ("exact", 10), ("lie", 10)])
def test_run_one_too_few_deliveries_are_accounted_for_but_prove_nothing(
    kind: str, leak_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(leak_live.ROOT))

    one = run_one(kind, leak_bytes, deliveries=20_000)

    assert one.sound
    assert one.verdict is Verdict.UNKNOWN
    assert one.leaks == (leak_bytes > 0)
    assert one.why


@pytest.mark.parametrize("arguments", ["leak --live 0", "leak --live x", "proxy --rounds 0", "receive leak"])
def test_main_tables_of_their_own_check_their_options(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments.split())

    assert stopped.value.code == 2
    assert "usage:" in capsys.readouterr().err
