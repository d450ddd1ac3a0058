"""Viewers for simulated experiments, from the system's lake or from a world generated for the purpose.

In: the settings. Out: outcomes of one week's viewers, with the outcomes expected from the weeks before.
Invariant: expectations are fitted to a different week than the one they are used on, as in a real experiment.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from reference_system.errors import StateError
from reference_system.event_time import MICROS_PER_DAY
from reference_system.experiments.definition import WINDOW, ExperimentMetric
from reference_system.experiments.duckdb_viewers import BEFORE, REHEARSAL, rehearsal
from reference_system.experiments.simulation import Pool
from reference_system.experiments.viewers import expectation, outcomes
from reference_system.lake import delta_lake
from reference_system.paths import StatePaths
from reference_system.proofs.scratch_system import scratch_folder
from reference_system.settings import Settings
from reference_system.use_cases.recommendation.events import IMPRESSIONS, WATCHES
from reference_system.world.history import generate_block, read_marker
from reference_system.world.records import arrow_columns, record_fields
from reference_system.world.simulation import make_world

# Two weeks of viewers, a day after each for their outcomes, and the weeks before them.
_DAYS = (BEFORE + 2 * (REHEARSAL + WINDOW)) // timedelta(days=1)


def pool_of(settings: Settings, metric: ExperimentMetric) -> tuple[Pool, str]:
    """The pool, and a description of its source."""
    paths = StatePaths(settings.state_dir)
    marker = read_marker(paths.world)
    if marker is not None:
        ended = settings.history_start + timedelta(days=marker.days)
        return _pool(paths.lake, ended, metric), f"the week before {ended:%Y-%m-%d} of this system's own history"
    with scratch_folder(paths.scratch, "experiment") as folder:
        ended = generate_viewing(settings, folder, days=_DAYS)
        return _pool(folder, ended, metric), f"a world generated for it (seed {settings.seed}, {_DAYS} days)"


def generate_viewing(settings: Settings, lake: Path, *, days: int) -> datetime:
    """Write the viewers' events of the first days of the world's history to a lake; returns the end time."""
    world = make_world(settings)
    happened = generate_block(world, world.generated + days * MICROS_PER_DAY)
    fields = record_fields(happened, world.viewing.catalogue)
    for topic in (IMPRESSIONS, WATCHES):
        table = delta_lake.history_table(topic, arrow_columns(fields[topic]))
        delta_lake.append(lake, topic, table, versions={})
    return settings.history_start + timedelta(days=days)


def _pool(lake: Path, ended: datetime, metric: ExperimentMetric) -> Pool:
    week_before = rehearsal(lake, ended=ended - REHEARSAL - WINDOW)
    expected, viewers = expectation(metric, week_before), rehearsal(lake, ended=ended)
    if expected is None:
        raise StateError(f"{len(week_before)} viewers came in a week: too few to simulate an experiment with them")
    return Pool(outcomes=outcomes(metric, viewers.window), expected=expected.of(viewers))
