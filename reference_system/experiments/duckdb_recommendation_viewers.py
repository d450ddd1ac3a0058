"""Viewers of an experiment, read from the lake.

In: the lake and an experiment. Out: the exposed viewers with their arms, and their activity before and afterwards.
Invariant: every exposed viewer counts in the arm of the first exposure, regardless of later answers (intention to
treat); a viewer counts from the first exposed page on.
"""
# ruff: noqa: S608 - the SQL is built from constants of this file; no input from outside reaches it

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from reference_system.event_time import micros, moment_of
from reference_system.experiments.definition import WINDOW, Experiment
from reference_system.experiments.viewers import Activity, ExperimentViewers, Exposed
from reference_system.lake import delta_lake
from reference_system.lake.duckdb_connection import connection
from reference_system.use_cases.recommendation.events import EXPOSURES, IMPRESSIONS, WATCHES
from reference_system.use_cases.recommendation.labels import MIN_COMPLETION

# Pages, watches and exposures are in transit for seconds of real time, which are hours of a fast world.
SETTLED_AFTER = timedelta(hours=6)
# The span of earlier activity: long enough that most viewers came, short enough that tastes have not changed.
BEFORE = timedelta(days=28)
# Expectations are fitted to the viewers of this many days, as if an experiment had begun then.
REHEARSAL = timedelta(days=7)

_WINDOW, _BEFORE = (span // timedelta(microseconds=1) for span in (WINDOW, BEFORE))


def known_until(lake: Path) -> datetime | None:
    """The time up to which the lake has the viewers' activity; `None` if it has none.

    A viewer's events are in one partition, so the partition with the largest lag determines the time.
    """
    with connection(lake.parent) as duck:
        for topic in (IMPRESSIONS, WATCHES):
            columns = ["event_timestamp", "kafka_partition"]
            duck.register(topic.name, delta_lake.read(lake, topic, columns=columns))
        found = duck.sql(
            """
            WITH newest AS (
                SELECT kafka_partition >= 0 AS live, max(epoch_us(event_timestamp)) AS time
                FROM (FROM impressions UNION ALL FROM watches) GROUP BY kafka_partition
            )
            SELECT coalesce(min(time) FILTER (live), max(time)) FROM newest
            """
        ).fetchall()
    return None if found[0][0] is None else moment_of(found[0][0]) - SETTLED_AFTER


def exposed(lake: Path, experiment: Experiment, *, until: datetime) -> Exposed:
    """The viewers who were exposed before `until`."""
    with connection(lake.parent) as duck:
        # A page may be slightly older than the record of its answer.
        start = experiment.started - timedelta(hours=1)
        duck.register("exposures", delta_lake.read(lake, EXPOSURES, start=start, end=until))
        columns = ["impression_id", "event_timestamp"]
        duck.register("pages", delta_lake.read(lake, IMPRESSIONS, start=start, end=until, columns=columns))
        query = """
            WITH ours AS (
                SELECT viewer_id, arm = 'treatment' AS treated, epoch_us(exposures.event_timestamp) AS time,
                    least(time, epoch_us(pages.event_timestamp)) AS shown,
                    model_version <> (CASE WHEN treated THEN $treatment ELSE $control END) AS other
                FROM exposures LEFT JOIN pages ON prediction_id = impression_id
                WHERE experiment = $name AND time >= $started
            )
            SELECT viewer_id, arg_min(treated, time) AS treated, min(shown) AS first,
                count(*)::DOUBLE AS exposures, sum(other::INT)::DOUBLE AS other_version
            FROM ours GROUP BY viewer_id ORDER BY first, viewer_id
        """
        parameters = {
            "name": experiment.name,
            "started": micros(experiment.started),
            "treatment": experiment.treatment,
            "control": experiment.control,
        }
        found = duck.sql(query, params=parameters).to_arrow_table()
    return Exposed(
        ids=found["viewer_id"].to_pylist(),
        treated=found["treated"].to_numpy().astype(np.bool_),
        first=found["first"].to_numpy(),
        exposures=found["exposures"].to_numpy(),
        other_version=found["other_version"].to_numpy(),
    )


def viewers_of(lake: Path, found: Exposed, *, started: datetime) -> ExperimentViewers:
    """The viewers' activity in the window after their first exposures, and in the weeks before `started`."""
    firsts = pa.table({"viewer_id": pa.array(found.ids, pa.string()), "first": pa.array(found.first, pa.int64())})
    return _activity(lake, firsts, started)


def rehearsal(lake: Path, *, ended: datetime) -> ExperimentViewers:
    """Viewers of a simulated experiment without a treatment, which began so early that all windows end by `ended`.

    Every viewer has a page in the window, because the window begins with one.
    """
    started = ended - REHEARSAL - WINDOW
    with connection(lake.parent) as duck:
        columns = ["viewer_id", "event_timestamp"]
        pages = delta_lake.read(lake, IMPRESSIONS, start=started, end=started + REHEARSAL, columns=columns)
        duck.register("pages", pages)
        found = duck.sql(
            """
            SELECT viewer_id, min(epoch_us(event_timestamp)) AS first FROM pages
            GROUP BY viewer_id ORDER BY first, viewer_id
            """
        ).to_arrow_table()
    return _activity(lake, found, started)


def _activity(lake: Path, firsts: pa.Table, started: datetime) -> ExperimentViewers:
    """The activity of each viewer of `firsts` (viewer_id, first) in both spans, in its order.

    A watch counts in the span in which it ends; its page is earlier and of the same viewer.
    """
    first = firsts["first"].to_numpy()
    end = moment_of(int(first.max()) + _WINDOW) if len(first) else started
    window = f"time BETWEEN first AND first + {_WINDOW - 1}"
    before = f"time BETWEEN {micros(started) - _BEFORE} AND {micros(started) - 1}"
    watched = f"completion >= {MIN_COMPLETION}"
    with connection(lake.parent) as duck:
        duck.register("firsts", firsts.append_column("place", pa.array(range(len(first)), pa.int64())))
        for topic, fields in ((IMPRESSIONS, ["video_ids"]), (WATCHES, ["completion", "watch_seconds"])):
            columns = ["viewer_id", "event_timestamp", *fields]
            duck.register(topic.name, delta_lake.read(lake, topic, start=started - BEFORE, end=end, columns=columns))
        found = duck.sql(
            f"""
            WITH pages AS (
                SELECT place, epoch_us(event_timestamp) AS time, len(video_ids) AS shown, first
                FROM firsts JOIN impressions USING (viewer_id)
            ),
            watched AS (
                SELECT place, epoch_us(event_timestamp) AS time, {watched} AS counts, watch_seconds / 60 AS minutes,
                    first
                FROM firsts JOIN watches USING (viewer_id)
            ),
            paged AS (
                SELECT place, {_both("count(*)", "pages", window, before)},
                    {_both("sum(shown)", "shown", window, before)} FROM pages GROUP BY place
            ),
            seen AS (
                SELECT place, {_both("sum(counts::INT)", "watches", window, before)},
                    {_both("sum(minutes)", "minutes", window, before)} FROM watched GROUP BY place
            )
            SELECT COLUMNS('_(window|before)$')
            FROM firsts LEFT JOIN paged USING (place) LEFT JOIN seen USING (place) ORDER BY firsts.place
            """
        ).to_arrow_table()
    return ExperimentViewers(first=first, window=_of(found, "window"), before=_of(found, "before"))


def _both(aggregate: str, name: str, window: str, before: str) -> str:
    """One aggregate over both spans."""
    return ", ".join(
        f"({aggregate} FILTER ({span}))::DOUBLE AS {name}_{suffix}"
        for span, suffix in ((window, "window"), (before, "before"))
    )


def _of(found: pa.Table, suffix: str) -> Activity:
    """The columns of a span, with zeros for viewers without activity."""
    columns = {
        name: np.nan_to_num(found[f"{name}_{suffix}"].to_numpy()) for name in ("pages", "shown", "watches", "minutes")
    }
    return Activity(**columns)
