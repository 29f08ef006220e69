"""Leave a target as it was found: drivers that make things there, such as streams, remove them when the run is over.

A target that floodmark has started is tidied as well, so that what a driver leaves behind shows in the tests and not on somebody's server.
What cannot be removed is a note in the result, never a verdict.
"""

from __future__ import annotations

import asyncio

from floodmark import drivers
from floodmark.core.errors import SystemUnderTestError
from floodmark.drivers.base import Tidying
from floodmark.model.scenario import Scenario

TIDY_LIMIT_S = 10.0


async def tidy(scenario: Scenario, url: str, names: list[str]) -> str:
    """Let the driver remove what it made.

    Args: `names`: of the channels, as the agents have told them to the driver.
    Returns: what went wrong, as a note; empty when nothing did.
    """
    driver = drivers.build(scenario.driver, scenario.driver_options)
    if not isinstance(driver, Tidying):
        return ""
    try:
        async with asyncio.timeout(TIDY_LIMIT_S):
            await driver.tidy(url, names)
    except (SystemUnderTestError, TimeoutError) as exc:
        return f"what the run made on the target was not removed: {str(exc) or f'not within {TIDY_LIMIT_S:g} s'}"
    return ""
