"""A search for the mark as it is played: its folder, its trials, what ends it; over a made-up target with a limit that is known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from floodmark.core.errors import HarnessBugError, UsageError
from floodmark.judge.mark import Search
from floodmark.judge.mark_trial import trial_of
from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse as criterion
from floodmark.model.mark import Mark, Outcome
from floodmark.model.result import CriterionResult, Delivery, Latencies, LatencySummary, RunResult, ScenarioResult
from floodmark.model.scenario import Phase, Population, Scenario, Target
from floodmark.model.vary import parse, rate_of
from floodmark.model.verdict import Verdict
from floodmark.report import RunFolder
from floodmark.report.display import Displays
from floodmark.runner import calm as calm_room
from floodmark.runner import mark as mark_room
from floodmark.runner.calm import Calm
from floodmark.runner.lateness import unproven
from floodmark.runner.mark import MarkOrder, MarkRun
from floodmark.runner.session import Session, Settings

LIMIT_HZ = 330.0
Play = Callable[[Scenario], ScenarioResult]


def made(scenario: Scenario, verdict: Verdict, *, p50_ns: int = 1_000_000) -> ScenarioResult:
    """What a session would give."""
    lost = CriterionResult(text="lost == 0", observed=0.0, verdict=verdict, note="" if verdict is Verdict.PASS else "lost was 9")
    return ScenarioResult(
        id=scenario.id,
        plan="",
        verdict=verdict,
        scale=1.0,
        duration_s=1.0,
        criteria=(lost,),
        delivery=Delivery(attempted=10, acknowledged=10, delivered=10),
        latency_ns=Latencies(response=LatencySummary(p50=p50_ns, p99=2 * p50_ns, count=10)),
        throughput_hz=10.0,
    )


def limited(scenario: Scenario) -> ScenarioResult:
    """A target that breaks above LIMIT_HZ."""
    rate_hz = rate_of(scenario.phases[0])
    assert rate_hz is not None
    return made(scenario, Verdict.PASS if rate_hz <= LIMIT_HZ else Verdict.FAIL)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Callable[[Play], list[Scenario]]:
    """Let a function stand for the sessions; gives what they played."""

    def stand_in(play: Play) -> list[Scenario]:
        seen: list[Scenario] = []

        class Made:
            def __init__(self, scenario: Scenario, settings: Settings, folder: RunFolder | None, display: object) -> None:
                self.scenario = scenario

            def check_feasible(self) -> None:
                if self.scenario.population.connections > 1000:
                    raise UsageError("too many open files")

            async def play(self) -> ScenarioResult:
                seen.append(self.scenario)
                return play(self.scenario)

            def partial(self) -> ScenarioResult:
                return made(self.scenario, Verdict.UNKNOWN)

        monkeypatch.setattr(mark_room, "Session", Made)
        monkeypatch.setattr(calm_room, "Session", Made)
        return seen

    return stand_in


def order(out: Path, *, vary: str = "rate_hz=100..1000", target: Target | None = None, limit_s: float = 60.0, **more: object) -> MarkOrder:
    scenario = Scenario(
        id="tried",
        target=target or Target(system="hub"),
        population=Population(connections=10),
        phases=(Phase(arrival=Constant(rate_hz=100), duration_s=5),),
        criteria=(criterion("lost == 0"),),
    )
    varies = parse(vary, scenario)
    return MarkOrder(
        name="mark-tried",
        scenario=scenario,
        vary=varies,
        search=Search(lo=varies.lo, hi=varies.hi, whole=varies.whole, **more),  # type: ignore[arg-type]
        settings=Settings(seed=7),
        limit_s=limit_s,
        out=out,
        command="floodmark mark tried --seed 7",
    )


def search(order: MarkOrder) -> RunResult:
    async def main() -> RunResult:
        return await MarkRun(order, Displays()).play()

    return asyncio.run(main())


def mark_of(result: RunResult) -> Mark:
    assert result.mark is not None
    return result.mark


def test_mark_run_of_a_known_limit_finds_it_and_passes_though_trials_failed(tmp_path: Path, played: Callable[[Play], object]) -> None:
    played(limited)

    result = search(order(tmp_path))

    mark = mark_of(result)
    assert result.verdict is Verdict.PASS
    assert mark.held is not None
    assert mark.broke is not None
    assert mark.held <= LIMIT_HZ < mark.broke <= mark.held * 1.1
    assert mark.by == "lost == 0"
    assert {one.verdict for one in result.scenarios} == {Verdict.PASS, Verdict.FAIL}


def test_mark_run_keeps_every_trial_in_one_folder_under_an_id_of_its_own(tmp_path: Path, played: Callable[[Play], list[Scenario]]) -> None:
    seen = played(limited)

    result = search(order(tmp_path))

    mark = mark_of(result)
    ids = [one.id for one in result.scenarios]
    assert ids == [trial.scenario for trial in mark.trials] == [scenario.id for scenario in seen]
    assert len(set(ids)) == len(ids)
    assert ids[0] == "tried@rate_hz=100"
    assert f"tried@rate_hz={mark.held:g}#3" in ids
    assert "rate_hz 100 /s" in seen[0].title


def test_mark_run_writes_the_mark_into_run_json_mark_json_and_the_reports(tmp_path: Path, played: Callable[[Play], object]) -> None:
    played(limited)

    result = search(order(tmp_path))

    folder = RunFolder(Path(result.run))
    document = folder.result()
    assert document.mark == result.mark
    assert msgspec.json.decode((folder.path / "mark.json").read_bytes(), type=Mark) == result.mark
    assert len(document.configuration) == len(result.scenarios)
    assert mark_of(result).why.split(" by ")[0] in (folder.path / "report.html").read_text()
    assert (tmp_path / "latest").resolve() == folder.path


def test_mark_run_without_a_limit_is_at_least_hi(tmp_path: Path, played: Callable[[Play], object]) -> None:
    played(lambda scenario: made(scenario, Verdict.PASS))

    result = search(order(tmp_path))

    assert (result.verdict, mark_of(result).held, mark_of(result).broke) == (Verdict.UNKNOWN, 1000, None)


def test_mark_run_that_breaks_at_once_fails(tmp_path: Path, played: Callable[[Play], object]) -> None:
    played(lambda scenario: made(scenario, Verdict.FAIL))

    result = search(order(tmp_path))

    assert (result.verdict, mark_of(result).held, mark_of(result).broke) == (Verdict.FAIL, None, 100)


def test_mark_run_that_is_interrupted_keeps_its_bracket_and_the_broken_off_trial(
    tmp_path: Path, played: Callable[[Play], list[Scenario]]
) -> None:
    def play(scenario: Scenario) -> ScenarioResult:
        if len(seen) == 4:
            raise asyncio.CancelledError
        return limited(scenario)

    seen = played(play)

    result = search(order(tmp_path))

    mark = mark_of(result)
    assert result.interrupted
    assert result.verdict is Verdict.UNKNOWN
    assert len(mark.trials) == 3
    assert [one.verdict for one in result.scenarios] == [Verdict.PASS, Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN]
    assert mark.held is not None
    assert mark.broke is not None
    assert mark.held < mark.broke
    assert mark.why.startswith("not found: interrupted; so far it held up to")
    assert RunFolder(Path(result.run)).result().interrupted


def test_mark_run_interrupted_in_its_first_trial_has_no_bracket(tmp_path: Path, played: Callable[[Play], object]) -> None:
    def play(scenario: Scenario) -> ScenarioResult:
        raise asyncio.CancelledError

    played(play)

    result = search(order(tmp_path))

    assert (mark_of(result).held, mark_of(result).broke, mark_of(result).trials) == (None, None, ())
    assert result.verdict is Verdict.UNKNOWN


def test_mark_run_begins_no_trial_that_would_end_beyond_its_limit(tmp_path: Path, played: Callable[[Play], list[Scenario]]) -> None:
    seen = played(limited)

    result = search(order(tmp_path, limit_s=1e-9))

    assert seen == []
    assert result.verdict is Verdict.UNKNOWN
    assert "beyond the limit of 1e-09 s" in mark_of(result).why


def test_mark_run_ends_a_trial_that_goes_on_beyond_its_limit_and_counts_it_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, played: Callable[[Play], list[Scenario]]
) -> None:
    seen = played(limited)
    ended = []

    async def for_ever(_: Session) -> ScenarioResult:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("in order")
        raise AssertionError

    monkeypatch.setattr("floodmark.runner.mark.Session.play", for_ever)

    result = search(order(tmp_path, limit_s=0.5))

    assert seen == []
    assert ended == ["in order"]
    assert [scenario.id for scenario in result.scenarios] == ["tried@rate_hz=100"]
    assert (mark_of(result).trials, result.verdict, result.interrupted) == ((), Verdict.UNKNOWN, False)
    assert "the limit of 0.5 s ended a trial" in mark_of(result).why


def test_mark_run_of_a_range_that_this_machine_cannot_do_is_refused_before_anything_starts(
    tmp_path: Path, played: Callable[[Play], list[Scenario]]
) -> None:
    seen = played(limited)

    with pytest.raises(UsageError, match="--vary connections=5000: too many open files"):
        search(order(tmp_path, vary="connections=10..5000"))

    assert seen == []
    assert not list(tmp_path.iterdir())


def test_mark_run_in_which_we_ourselves_broke_keeps_the_trials_before(tmp_path: Path, played: Callable[[Play], list[Scenario]]) -> None:
    def play(scenario: Scenario) -> ScenarioResult:
        if len(seen) == 2:
            raise HarnessBugError("the identity does not hold")
        return limited(scenario)

    seen = played(play)

    with pytest.raises(HarnessBugError):
        search(order(tmp_path))

    document = RunFolder.open("latest", base=tmp_path).result()
    assert document.mark is not None
    assert document.mark.verdict is Verdict.UNKNOWN
    assert [trial.outcome for trial in document.mark.trials] == [Outcome.HELD]


def test_mark_run_of_a_url_waits_for_calm_between_trials_and_starts_nothing(
    tmp_path: Path, played: Callable[[Play], list[Scenario]]
) -> None:
    seen = played(limited)

    result = search(order(tmp_path, target=Target(url="ws://127.0.0.1:1/x"), confirm=0))

    rests = [index for index, scenario in enumerate(seen) if scenario.id == "tried@rest"]
    trials = len(mark_of(result).trials)
    assert rests == [2 * index for index in range(trials)]
    assert all(one.id != "tried@rest" for one in result.scenarios)
    assert all(seen[index].population.connections == 1 for index in rests)


def test_mark_run_does_not_hold_a_break_against_a_target_that_had_not_come_to_rest(
    tmp_path: Path, played: Callable[[Play], list[Scenario]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calm_room, "LIMIT_S", 0.01)
    begun: list[str] = []

    def play(scenario: Scenario) -> ScenarioResult:
        begun.append(scenario.id)
        if scenario.id == "tried@rest" and len(begun) > 3:
            return made(scenario, Verdict.PASS, p50_ns=10**9)
        return limited(scenario)

    played(play)

    result = search(order(tmp_path, target=Target(url="ws://127.0.0.1:1/x"), confirm=0))

    mark = mark_of(result)
    assert mark.broke is None
    assert mark.verdict is Verdict.UNKNOWN
    assert "had not come to rest" in mark.why


def test_what_a_run_says_of_our_own_lateness_is_read_as_the_generators_limit() -> None:
    late = unproven(CriterionResult(text="latency_p99 < 100ms", observed=0.2, verdict=Verdict.FAIL, note="latency_p99 was 200 ms"))
    result = msgspec.structs.replace(made(order(Path()).scenario, Verdict.UNKNOWN), criteria=(late,))

    trial = trial_of(100, result)

    assert (trial.outcome, trial.generator) == (Outcome.UNKNOWN, True)


def calm(target: Scenario) -> Calm:
    return Calm(target, Settings(seed=7))


def test_calm_waits_until_messages_take_as_long_as_before(tmp_path: Path, played: Callable[[Play], list[Scenario]]) -> None:
    times_ms = [5, 900, 300, 9]
    seen = played(lambda scenario: made(scenario, Verdict.PASS, p50_ns=times_ms[len(seen) - 1] * 1_000_000))

    async def main() -> bool:
        rest = calm(order(tmp_path).scenario)
        await rest.first()
        return await rest.wait()

    assert asyncio.run(main())
    assert len(seen) == 4


def test_calm_of_a_target_that_does_not_come_back_ends_after_its_limit(
    tmp_path: Path, played: Callable[[Play], list[Scenario]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calm_room, "LIMIT_S", 0.05)
    seen = played(lambda scenario: made(scenario, Verdict.PASS if len(seen) == 1 else Verdict.FAIL))

    async def main() -> bool:
        rest = calm(order(tmp_path).scenario)
        await rest.first()
        return await rest.wait()

    assert not asyncio.run(main())


def test_calm_of_a_target_that_never_answered_is_a_pause(
    tmp_path: Path, played: Callable[[Play], list[Scenario]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calm_room, "PAUSE_S", 0.0)
    seen = played(lambda scenario: made(scenario, Verdict.UNKNOWN))

    async def main() -> bool:
        rest = calm(order(tmp_path).scenario)
        await rest.first()
        return await rest.wait()

    assert asyncio.run(main())
    assert len(seen) == 2


def test_calm_whose_first_look_failed_by_chance_still_knows_a_target_that_is_not_at_rest(
    tmp_path: Path, played: Callable[[Play], list[Scenario]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calm_room, "LIMIT_S", 0.01)
    verdicts = [Verdict.UNKNOWN, Verdict.PASS, Verdict.PASS]
    seen = played(lambda scenario: made(scenario, verdicts[min(len(seen), 3) - 1], p50_ns=10**6 if len(seen) < 3 else 10**9))

    async def main() -> bool:
        rest = calm(order(tmp_path).scenario)
        await rest.first()
        return await rest.wait()

    assert not asyncio.run(main())
