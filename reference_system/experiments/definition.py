"""The definition of an experiment, which is fixed before the first viewer and never changes.

In: a person's request. Out: one file per experiment, `<state>/experiments/<name>.json`.
Invariant: a file is replaced atomically; a name is used once; a result is frozen when its experiment stops.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from reference_system.errors import StateError
from reference_system.experiments.report import ExperimentReport
from reference_system.replaced_files import replace_file

ExperimentMetric = Literal["watches-per-page", "watch-rate", "watch-minutes"]
# The outcome is a viewer's activity in this time after the first exposure. Nearly every session has ended by then.
WINDOW = timedelta(days=1)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


class Experiment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A treatment and the champion at the start, the `control`; both may be the same version (an A/A test)."""

    name: str
    treatment: str
    control: str
    share: Annotated[float, Meta(gt=0.0, lt=1.0)]  # of the viewers in the treatment
    metric: ExperimentMetric
    salt: str
    started: datetime  # event time
    stopped: datetime | None = None
    result: ExperimentReport | None = None


def salt_of(name: str, started: datetime) -> str:
    """The salt that makes this experiment's assignment independent of all others."""
    return f"{name}@{started:%Y%m%dT%H%M%S}"


def path_of(folder: Path, name: str) -> Path:
    """The file of an experiment.

    Raises:
        StateError: if the name is not valid.
    """
    if not _NAME.fullmatch(name):
        raise StateError(
            f"{name!r} is no name for an experiment: a-z, 0-9, _ and -, at most 40, a letter or digit first"
        )
    return folder / f"{name}.json"


def read_experiment(folder: Path, name: str) -> Experiment:
    """The experiment with that name.

    Raises:
        StateError: if there is none, or its file cannot be read.
    """
    path = path_of(folder, name)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Experiment)
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in folder.glob("*.json"))) or "none yet"
        raise StateError(
            f"there is no experiment called {name!r} (there are: {known})", next_command="workbook experiment list"
        ) from None
    except msgspec.MsgspecError as error:
        raise StateError(f"{path} cannot be read: {error}", next_command=f"rm {path}") from error


def read_experiments(folder: Path) -> list[Experiment]:
    """Every experiment, the oldest first."""
    found = [read_experiment(folder, path.stem) for path in folder.glob("*.json")]
    return sorted(found, key=lambda each: (each.started, each.name))


def write_experiment(folder: Path, experiment: Experiment) -> None:
    """Write it, or replace it, atomically."""
    content = msgspec.json.format(msgspec.json.encode(experiment))
    replace_file(path_of(folder, experiment.name), content, durable=True)
