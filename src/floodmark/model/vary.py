"""What a search for the mark varies: one number of a scenario that means load, by name or by path, and the scenario with it in place.

`rate_hz` is the rate of the busiest phase; all phases and all of their rates change in proportion, so the shape of the load stays. A path
names one number of one part: `population.channels`, `phases.busy.rate_hz`, `driver_options.batch`. Pure; a driver's options are checked by
the driver. The rate of an arrival is its `rate_hz`, the higher end of a ramp, the last step of stairs, the mean of bursts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import msgspec

from floodmark.core import units
from floodmark.core.errors import UsageError
from floodmark.core.units import Dimension
from floodmark.model.arrival import Arrival, Burst, Constant, Flood, Poisson, Ramp, Spike, Step, Wave
from floodmark.model.scenario import Phase, Scenario
from floodmark.model.walk import dimension_of, nearest

POPULATION = ("connections", "subscriptions_per_connection", "channels", "publishers")
_SUBSCRIBING = ("connections", "subscriptions_per_connection")
PHASES = ("rate_hz", "payload_bytes")
OPTIONS = "driver_options."
_FORM = re.compile(r"([^=\s]+)\s*=\s*(\S.*?)\s*\.\.\s*(.*\S)")
_UNITS = {Dimension.RATE: "/s", Dimension.BYTES: "B", Dimension.TIME: "s"}


class Vary(msgspec.Struct, frozen=True, kw_only=True):
    """What is varied between which bounds; `unit` is how its values are written, and `whole` that it is counted in ones.

    With `own_channels` each subscription has a channel to itself, however many there are: so it is where somebody asks.
    """

    name: str
    lo: float
    hi: float
    unit: str
    whole: bool
    own_channels: bool = False

    def id(self, scenario: Scenario, value: float, time: int) -> str:
        """The id of a trial: the `time`-th of this value, counted from 1.

        Values are written exactly and short: two trials of different values never share one.
        """
        again = f"#{time}" if time > 1 else ""
        return f"{scenario.id}@{self.name}={value:.12g}{again}"


def parse(text: str, scenario: Scenario, *, own_channels: bool = False) -> Vary:
    """Read NAME=LO..HI for a scenario.

    Numbers take the units that the name has in a scenario file, or k and M: `rate_hz=1k..1M`, `payload_bytes=100B..64KiB`.
    Raises: UsageError for another form, a name that is no number of this scenario, or bounds that are none.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--vary {text!r} is not NAME=LO..HI; write for example rate_hz=1000..1000000 or connections=100..10k")
    name, low, high = match.groups()
    known = names(scenario)
    if name not in known and not name.startswith(OPTIONS):
        raise UsageError(f"--vary {name}: not a number of {scenario.id!r} that means load; {nearest(name, known)}")
    field = name.rpartition(".")[2]
    dimension = dimension_of(field)
    lo, hi = (_number(one, dimension, f"--vary {name}") for one in (low, high))
    if name.startswith(OPTIONS):
        whole = lo.is_integer() and hi.is_integer() and not isinstance(scenario.driver_options.get(field), float)
    else:
        whole = dimension is not Dimension.RATE
    if whole and not (lo.is_integer() and hi.is_integer()):
        raise UsageError(f"--vary {name} is counted in whole numbers, got {low}..{high}")
    if not 0 < lo < hi:
        raise UsageError(f"--vary {name}: LO must be greater than 0 and less than HI, got {low}..{high}")
    vary = Vary(name=name, lo=lo, hi=hi, unit=_UNITS.get(dimension, ""), whole=whole, own_channels=own_channels)
    for value in (lo, hi):
        varied(scenario, vary, value)  # what the ends cannot be is told before anything is started
    return vary


def names(scenario: Scenario) -> list[str]:
    """Every name and path that may be varied in this scenario; further options of its driver may be named as well."""
    paced = [phase for phase in scenario.phases if rate_of(phase) is not None]
    short = [*(["rate_hz"] if paced else []), *POPULATION, "payload_bytes"]
    paths = [f"population.{name}" for name in POPULATION]
    paths += [f"phases.{phase.name}.rate_hz" for phase in paced]
    paths += [f"phases.{phase.name}.payload_bytes" for phase in scenario.phases]
    numbers = [name for name, value in scenario.driver_options.items() if isinstance(value, int | float) and not isinstance(value, bool)]
    return [*short, *paths, *(OPTIONS + name for name in numbers)]


def varied(scenario: Scenario, vary: Vary, value: float) -> Scenario:
    """The scenario with this value in place, under its own id still.

    Raises: UsageError when the scenario cannot be with it, such as more channels than subscriptions.
    """
    replace = msgspec.structs.replace
    number: int | float = round(value) if vary.whole else float(value)
    part, _, field = vary.name.rpartition(".")
    try:
        if field in POPULATION and part in ("", "population"):
            changed: dict[str, Any] = {field: number}
            if field == "connections":
                changed["waves"] = min(scenario.population.waves, round(value))
            if vary.own_channels and field in _SUBSCRIBING:
                of_each = {name: getattr(scenario.population, name) for name in _SUBSCRIBING} | {field: round(value)}
                changed["channels"] = math.prod(of_each.values())
                changed["publishers"] = min(scenario.population.publishers, changed["channels"])
            return replace(scenario, population=replace(scenario.population, **changed))
        if part == "driver_options":
            return replace(scenario, driver_options={**scenario.driver_options, field: number})
        chosen = {part.removeprefix("phases.")} if part else {phase.name for phase in scenario.phases}
        if field == "payload_bytes":
            return _with_phases(scenario, chosen, lambda phase: replace(phase, payload_bytes=round(value)))
        rates = [rate for phase in scenario.phases if phase.name in chosen and (rate := rate_of(phase)) is not None]
        factor = value / max(rates)
        return _with_phases(scenario, chosen, lambda phase: _faster(phase, factor))
    except UsageError as error:
        raise UsageError(f"--vary {vary.name}={value:.12g}: {error}") from None


def rate_of(phase: Phase) -> float | None:
    """Messages per second of a phase at its busiest, a spike's peak and a wave's crest left out; None for a flood.

    >>> rate_of(Phase(arrival=Ramp(from_hz=10, to_hz=500), duration_s=5))
    500
    """
    match phase.arrival:
        case Constant(rate_hz=rate_hz) | Poisson(rate_hz=rate_hz) | Spike(rate_hz=rate_hz) | Wave(rate_hz=rate_hz):
            return rate_hz
        case Ramp(from_hz=from_hz, to_hz=to_hz):
            return max(from_hz, to_hz)
        case Step(from_hz=from_hz, step_hz=step_hz, every_s=every_s):
            steps = 0 if phase.duration_s is None else max(0, math.ceil(phase.duration_s / every_s - 1e-9) - 1)
            return from_hz + steps * step_hz
        case Burst(count=count, every_s=every_s):
            return count / every_s
        case Flood():
            return None


def timed(scenario: Scenario, duration_s: float | None = None) -> Scenario:
    """Give every paced phase a length in time, so that a higher rate does not make the load shorter; floods stay as they are.

    Args: duration_s: the length of all phases together, which are stretched in proportion; None leaves them as long as they are.
    """
    replace = msgspec.structs.replace
    phases = tuple(_timed(phase) for phase in scenario.phases)
    known = [phase.duration_s for phase in phases if phase.duration_s is not None]
    if duration_s is not None:
        if len(known) < len(phases):
            raise UsageError(f"--duration: a flood of {scenario.id!r} ends after its messages, not after a time; leave --duration out")
        if scenario.faults:
            raise UsageError(
                f"--duration: the faults of {scenario.id!r} strike at times of their own; change its phases in the file instead"
            )
        factor = duration_s / sum(known)
        phases = tuple(_stretched(phase, factor) for phase in phases)
    return replace(scenario, phases=phases)


def _number(text: str, dimension: Dimension, where: str) -> float:
    """A bound: in the units of its dimension, or as a bare count."""
    try:
        return units.parse(text, Dimension.COUNT)
    except UsageError:
        return units.parse(text, dimension, where=where)


def _with_phases(scenario: Scenario, chosen: set[str], change: Callable[[Phase], Phase]) -> Scenario:
    phases = tuple(change(phase) if phase.name in chosen else phase for phase in scenario.phases)
    return msgspec.structs.replace(scenario, phases=phases)


def _faster(phase: Phase, factor: float) -> Phase:
    """All rates of a phase times a factor; bursts come more often and stay as large."""
    arrival: Arrival = phase.arrival
    if isinstance(arrival, Flood):
        return phase
    if isinstance(arrival, Burst):
        return msgspec.structs.replace(phase, arrival=msgspec.structs.replace(arrival, every_s=arrival.every_s / factor))
    rates = {name: getattr(arrival, name) * factor for name in arrival.__struct_fields__ if name.endswith("_hz")}
    return msgspec.structs.replace(phase, arrival=msgspec.structs.replace(arrival, **rates))


def _timed(phase: Phase) -> Phase:
    rate_hz = rate_of(phase)
    if phase.messages is None or rate_hz is None:
        return phase
    length_s = phase.messages / rate_hz
    duration_s = length_s if phase.duration_s is None else min(phase.duration_s, length_s)
    return msgspec.structs.replace(phase, duration_s=duration_s, messages=None)


def _stretched(phase: Phase, factor: float) -> Phase:
    """A phase of another length and the same shape: a spike, a step or a wave is as far into it as before."""
    assert phase.duration_s is not None  # `timed` has asked
    arrival = phase.arrival
    times = [name for name in ("at_s", "for_s", "every_s", "period_s") if name in arrival.__struct_fields__]
    shape = {} if isinstance(arrival, Burst) else {name: getattr(arrival, name) * factor for name in times}
    return msgspec.structs.replace(phase, duration_s=phase.duration_s * factor, arrival=msgspec.structs.replace(arrival, **shape))
