"""Put the harness itself on trial: run an honest system and its lying twin under the same load, and judge the judge.

PASS needs all three: the honest twin passed, the liar failed, and what was counted is exactly what was planted.
"""

from __future__ import annotations

import msgspec

from floodmark.judge.verdict import Observations, judge
from floodmark.model.criterion import Criterion
from floodmark.model.result import CriterionResult, ScenarioResult
from floodmark.model.verdict import Verdict, worst


def verdict_on_trial(
    trial_id: str, title: str, *, honest: ScenarioResult, lying: ScenarioResult, observed: Observations, caught: tuple[Criterion, ...]
) -> ScenarioResult:
    """Make the trial's own result out of both runs; the account and the findings shown are the liar's.

    Args:
        observed: all that was seen of the liar, so that `caught` may speak of phases and of windows around faults too.
    """
    criteria = (_twin(honest), _liar(lying), *judge(caught, observed))
    verdict = worst(criterion.verdict for criterion in criteria)
    telling = honest if honest.verdict is not Verdict.PASS else lying
    return msgspec.structs.replace(
        lying,
        id=trial_id,
        title=f"{title}: {'caught, its honest twin cleared' if verdict is Verdict.PASS else 'NOT proven'}",
        verdict=verdict,
        criteria=criteria,
        duration_s=honest.duration_s + lying.duration_s,
        note="" if verdict is Verdict.PASS else telling.note,
        log_tail=() if verdict is Verdict.PASS else telling.log_tail,
    )


def _twin(honest: ScenarioResult) -> CriterionResult:
    """The honest twin must not be accused."""
    broken = next((criterion for criterion in honest.criteria if criterion.verdict is not Verdict.PASS), None)
    note = f"the honest twin: {broken.text}: {broken.note}" if broken is not None else ""
    return CriterionResult(text="the honest twin passes", observed=None, verdict=honest.verdict, note=note)


def _liar(lying: ScenarioResult) -> CriterionResult:
    """The liar must fail: a PASS is the worst that can happen, an UNKNOWN proves nothing."""
    verdict = {Verdict.FAIL: Verdict.PASS, Verdict.PASS: Verdict.FAIL, Verdict.UNKNOWN: Verdict.UNKNOWN}[lying.verdict]
    note = "" if verdict is Verdict.PASS else f"the lying system was given {lying.verdict.value}"
    return CriterionResult(text="the lying system fails", observed=None, verdict=verdict, note=note)
