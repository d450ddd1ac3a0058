"""The release flow: the controller of releases (`flows/release/control.py`) on its schedule.

In: the world's clock. Out: the releases that are on, each one step further, back, or where it was.
Invariant: what goes wrong with one use case keeps no other one waiting.
"""

from __future__ import annotations

from prefect import flow

from reference_system.clock import SimulatedClock
from reference_system.errors import WorkbookError
from reference_system.flows.prefect_steps import say, warn
from reference_system.flows.release.control import control
from reference_system.paths import StatePaths
from reference_system.settings import load_settings
from reference_system.use_case import USE_CASES


@flow(name="release", log_prints=False)
def release() -> dict[str, str]:
    """Look at every release that is on.

    Returns:
        What was found, by use case.
    """
    settings = load_settings()
    now = SimulatedClock(StatePaths(settings.state_dir).clock).now()
    found = {}
    for use_case in USE_CASES:
        try:
            found[use_case] = control(settings, use_case, now=now)
            say(found[use_case])
        except (WorkbookError, OSError) as error:
            found[use_case] = f"{use_case}: {error}"
            warn(found[use_case])
    return found
