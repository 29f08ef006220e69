"""What a scenario asks for that cannot be carried out: said before anything is started. Pure."""

from __future__ import annotations

from floodmark.core.errors import UsageError
from floodmark.faults import plan as plan_fault
from floodmark.faults.process import PROCESS_FAULTS, Kill, Restart, Terminate
from floodmark.model.scenario import Scenario

ON_PROCESSES = tuple(kind for kind, _ in PROCESS_FAULTS.values())
NOT_OURS = "needs a target that floodmark starts itself; give target.system or target.command"


def require_possible(scenario: Scenario, *, resumes: bool) -> None:
    """Refuse faults that cannot be carried out on this target, or not so often. `resumes`: whether the driver can.

    Raises: UsageError.
    """
    where = f"scenario {scenario.id!r}"
    if scenario.reconnect is not None and scenario.reconnect.resume and not resumes:
        raise UsageError(
            f"{where}: reconnect with resume, but driver {scenario.driver!r} cannot resume here; set reconnect.resume to false"
        )
    for fault in scenario.faults:
        plan = plan_fault(fault)
        if not isinstance(plan, ON_PROCESSES):
            continue
        if scenario.target.system is None and scenario.target.command is None:
            raise UsageError(f"{where}: fault {fault.kind!r} {NOT_OURS}")
        if plan.LASTS and not fault.for_s:
            raise UsageError(f"{where}: fault {fault.kind!r} lasts for for_s, which is 0, so it would touch nothing; give for_s")
        if isinstance(plan, Restart | Kill | Terminate) and fault.repeat > 1 and fault.every_s < fault.for_s:
            raise UsageError(
                f"{where}: fault {fault.kind!r} lasts {fault.for_s:g} s and strikes every {fault.every_s:g} s, so it would hit a target "
                "that is down; let every_s be longer than for_s"
            )
        if isinstance(plan, Restart) and scenario.reconnect is None:
            raise UsageError(f"{where}: after fault {fault.kind!r} nobody would come back to the target; add a [reconnect] table")
