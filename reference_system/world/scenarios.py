"""Scenarios: changes of the world that a person starts and stops.

In: `scenarios.json` in the world's folder, written by the command line, read by the world at every tick.
Out: which scenarios are on at an event time, and since when.
Invariant: the file is replaced atomically; a stopped run stays in it as a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import msgspec

from reference_system.errors import StateError
from reference_system.event_time import micros
from reference_system.replaced_files import read_record, replace_file

SCENARIOS = "scenarios.json"


class Scenario(StrEnum):
    """The scenarios by their names on the command line."""

    FRAUD_ATTACK = "fraud-attack"
    AMOUNT_INFLATION = "amount-inflation"
    TASTE_SHIFT = "taste-shift"
    VIRAL_VIDEO = "viral-video"


# The effect of each scenario, and the figures to observe.
DESCRIPTIONS = {
    Scenario.FRAUD_ATTACK: (
        "thieves pay ordinary amounts with cards that nobody has seen before: five times as much fraud as usual",
        "workbook timeline: the alarm within about three days, retraining, release, recovery",
    ),
    Scenario.AMOUNT_INFLATION: (
        "every amount is 1.6 times what it was: the data drift, the fraud does not",
        "psi of amount and customer_mean_amount_*; the share of reviewed payments",
    ),
    Scenario.TASTE_SHIFT: (
        "every viewer's taste jumps to other categories",
        "workbook timeline; psi of watched_category and the watch rate, before and after retraining",
    ),
    Scenario.VIRAL_VIDEO: (
        "half of all sessions begin with a link to the newest video",
        "psi of page_source and watched_new_video; the share of that video among the watches",
    ),
}


class Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run of a scenario, in event time; `stopped` is `None` while it is on."""

    name: Scenario
    started: datetime
    stopped: datetime | None = None


def named(name: str) -> Scenario:
    """The scenario with that name.

    Raises:
        StateError: if there is none; the message lists those that exist.
    """
    try:
        return Scenario(name)
    except ValueError as error:
        raise StateError(
            f"there is no scenario called {name!r} (there are {', '.join(Scenario)})",
            next_command="workbook scenario list",
        ) from error


def read_runs(path: Path) -> tuple[Run, ...]:
    """All runs, in the order of their starts; empty without a file.

    Raises:
        StateError: if the file cannot be read.
    """
    return read_record(path, tuple[Run, ...]) or ()


def write_runs(path: Path, runs: Sequence[Run]) -> None:
    """Replace the file atomically."""
    replace_file(path, msgspec.json.format(msgspec.json.encode(runs), indent=2))


def active_run(runs: Sequence[Run], name: Scenario) -> Run | None:
    """The run of the scenario that is on, if there is one."""
    return next((run for run in runs if run.name == name and run.stopped is None), None)


def active_at(runs: Sequence[Run], moment: int) -> dict[Scenario, int]:
    """The scenarios that are on at `moment` (microseconds) and when each began."""
    return {
        run.name: micros(run.started)
        for run in runs
        if micros(run.started) <= moment and (run.stopped is None or moment < micros(run.stopped))
    }


def started(runs: Sequence[Run], name: Scenario, now: datetime) -> tuple[Run, ...]:
    """The runs with a new one.

    Raises:
        StateError: if the scenario is on already.
    """
    running = active_run(runs, name)
    if running is not None:
        raise StateError(
            f"scenario {name} is on already, since {running.started:%Y-%m-%d %H:%M}",
            next_command=f"workbook scenario stop {name}",
        )
    return (*runs, Run(name=name, started=now))


def stopped(runs: Sequence[Run], name: Scenario, now: datetime) -> tuple[Run, ...]:
    """The runs with the active one stopped.

    Raises:
        StateError: if the scenario is not on.
    """
    running = active_run(runs, name)
    if running is None:
        raise StateError(f"scenario {name} is not on", next_command="workbook scenario list")
    ended = Run(name=name, started=running.started, stopped=now)
    return tuple(ended if run is running else run for run in runs)
