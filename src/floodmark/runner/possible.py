"""What a scenario asks for that cannot be carried out: said before anything is started. Pure."""

from __future__ import annotations

from floodmark.core.errors import UsageError
from floodmark.drivers.asking import asks_of
from floodmark.drivers.base import Driver
from floodmark.faults import plan as plan_fault
from floodmark.faults.drop import Drop
from floodmark.faults.latency import Latency
from floodmark.faults.process import PROCESS_FAULTS, Kill, Restart, Terminate
from floodmark.model.scenario import Scenario
from floodmark.runner.agent.terms import terms_of

ON_PROCESSES = tuple(kind for kind, _ in PROCESS_FAULTS.values())
NOT_OURS = "needs a target that floodmark starts itself; give target.system or target.command"


def require_possible(scenario: Scenario, driver: Driver) -> None:
    """Refuse faults that cannot be carried out on this target, or not so often, and a load that this driver cannot give.

    Raises: UsageError.
    """
    where = f"scenario {scenario.id!r}"
    if asks_of(driver):
        _require_askable(scenario, driver, where)
    if scenario.reconnect is not None and scenario.reconnect.resume and not driver.resumes:
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


def _require_askable(scenario: Scenario, driver: Driver, where: str) -> None:
    """Who asks has a channel to itself, and there is nobody else who publishes."""
    terms_of(driver)
    population = scenario.population
    if population.channels != population.subscriptions or population.publishers > population.channels:
        raise UsageError(
            f"{where}: driver {scenario.driver!r} asks on each subscription by itself, so population.channels must be "
            f"{population.subscriptions} (its subscriptions), got {population.channels}, and population.publishers at most that"
        )
    for fault in scenario.faults:
        plan = plan_fault(fault)
        if isinstance(plan, Latency) and plan.on == "receive":
            raise UsageError(f"{where}: fault 'latency' on receive delays whole messages; with driver {scenario.driver!r} use reader")
        if isinstance(plan, Drop) and plan.during == "publish":
            raise UsageError(f"{where}: fault 'drop' during publish, but driver {scenario.driver!r} publishes nothing; use receive")
