"""What a command line asks for: suites, scenarios by id and scenario files, at which scale, and against which target and driver.

Not here: what is done with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from floodmark import suites
from floodmark.core.errors import UsageError
from floodmark.model.read import read_python, read_toml
from floodmark.model.scale import at_scale
from floodmark.model.scenario import Scenario, Target
from floodmark.model.trial import Trial
from floodmark.runner.embedded import SYSTEMS
from floodmark.suites.entry import Entry

URL_IN_LOG = r"(wss?://[^\s\"']+)"


def select(names: Sequence[str], scale: float | None, *, quick: bool) -> list[Scenario | Trial]:
    """Build what these names stand for, every suite where there are none; `quick`: only the quick tier, each at its own scale.

    Raises: UsageError for a name of nothing, or a file that is no scenario.
    """
    found: list[Scenario | Trial] = []
    for name in names or list(suites.SUITES):
        path = Path(name)
        if path.suffix in (".toml", ".py"):
            scenarios = read_toml(path) if path.suffix == ".toml" else read_python(path)
            found.extend(at_scale(scenario, 1.0 if scale is None else scale) for scenario in scenarios)
            continue
        for entry in suites.find(name):
            size = _size(entry, scale, quick=quick)
            if size is not None:
                found.append(entry.build(size))
    return found


def _size(entry: Entry, scale: float | None, *, quick: bool) -> float | None:
    if scale is not None:
        return scale
    return entry.quick_scale if quick else 1.0


def retarget(item: Scenario | Trial, target: str | None, url: str | None, driver: str | None) -> Scenario | Trial:
    """Point a scenario at another target or driver. Raises: UsageError."""
    if isinstance(item, Trial):
        if target is not None:
            raise UsageError(f"{item.id} tries the harness on a system that lies on request; --target does not go with it")
        return item
    changes: dict[str, object] = {}
    if url is not None and (target is None or "://" in target or target in SYSTEMS):
        raise UsageError("--url says where a command given by --target will listen; to test a URL, give it to --target")
    if target is not None:
        if "://" in target:
            changes["target"] = Target(url=target)
        elif target in SYSTEMS:
            changes["target"] = Target(system=target, args=item.target.args if item.target.system == target else ())
        else:
            changes["target"] = Target(command=target, url=url, ready_pattern=None if url else URL_IN_LOG)
    if driver is not None:
        changes["driver"] = driver
        if driver != item.driver:
            changes["driver_options"] = {}
    return msgspec.structs.replace(item, **changes) if changes else item
