"""What is watched of the recommender.

In: the prediction log, watches and pages, outcomes. Out: drift of the served inputs, of the score and of behaviour;
performance.

What is shown depends on who chooses it, so history (pages of the popularity policy) is no reference for a model. The
reference is the earlier live traffic: the days since models choose, without the last two. Until there are enough of
them nothing is judged.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reference_system.arrays import Micros
from reference_system.monitoring.drift import (
    CURRENT_BLOCKS,
    TREND_BLOCKS,
    ColumnDrift,
    ColumnSample,
    compare_columns,
)
from reference_system.monitoring.duckdb_windows import coverage, served_answers
from reference_system.monitoring.histograms import Values
from reference_system.monitoring.monitoring_run import (
    MIN_COVERAGE,
    REFERENCE_DAYS,
    MonitoringRun,
    WatchedChampion,
    horizons,
    nothing,
)
from reference_system.monitoring.performance import ShownVideos, change_of, page_days, watch_rate_by_position
from reference_system.monitoring.recommendation.duckdb_pages import (
    PAGE_ANSWERS,
    page_sources,
    watches_between,
)
from reference_system.monitoring.recommendation.page_worth import seen_pages, worth_by_day, worth_of_policies
from reference_system.monitoring.report.record import (
    ColumnGroup,
    Performance,
    Quality,
    TimeSpan,
    UseCaseReport,
)
from reference_system.use_cases.recommendation import model
from reference_system.use_cases.recommendation.features import INPUTS, VIEWER_ACTIVITY, VIEWS

BEST_SCORE = "best_score"
RANKER_LEFT_OUT = (
    "viewer_id, video_id, impression_id: identifiers",
    "position: the model is always asked about the first",
    "is_weekend, hour: the calendar; like hours are compared",
    "video_age_days: grows by itself, day by day",
)
_WATCHED = tuple(name for name in INPUTS if name not in ("position", "is_weekend", "hour", "video_age_days"))
# One value a page, not one a video.
_OF_VIEWER = frozenset(VIEWER_ACTIVITY.features)
_HORIZONS = horizons(VIEWS) | {"viewer_category_share_30d": timedelta(days=30)}
# The first day of a model is not like the others: what it shows for the first time has no past of its own.
_FIRST_DAY = timedelta(days=1)
_NO_ANSWERS = "no page of it has an answer in the prediction log"

Column = tuple[Micros, Values]


def watch_recommendation(
    run: MonitoringRun,
    champion: WatchedChampion | None,
    outcomes: pa.Table,
    *,
    catalogue_size: int,
    quality: Quality,
) -> UseCaseReport:
    """Everything that is known about the recommender at the moment of the run.

    Args:
        run: where and when.
        champion: the model that answers.
        outcomes: `feedback.duckdb_labels.page_outcomes`.
        catalogue_size: how many videos there are.
        quality: how the last day was answered.
    """
    start = max(run.live_start, run.days_ago(REFERENCE_DAYS + CURRENT_BLOCKS))
    window = TimeSpan(start=start, end=max(start, run.days_ago(CURRENT_BLOCKS)))
    covered = coverage(run.lake, PAGE_ANSWERS, run.days_ago(CURRENT_BLOCKS), run.as_of)
    inputs = _compared(run, window, _served_columns(run, champion, window), covered=covered)
    behaviour = _compared(run, window, _behaviour_columns(run, window), covered=1.0)
    return UseCaseReport(
        use_case=model.NAME,
        champion=champion.version if champion else None,
        coverage=covered,
        groups=(
            ColumnGroup(
                title="Behaviour",
                about="What viewers watched and who chose their pages, against the earlier days of live traffic.",
                reference=window,
                columns=behaviour,
            ),
            ColumnGroup(
                title="Served inputs and score",
                about="The ranker's inputs for the videos that it put on pages, against the earlier days of live "
                "traffic; the score of the first video, answers of the present champion only.",
                reference=window,
                columns=inputs,
            ),
        ),
        left_out=RANKER_LEFT_OUT,
        performance=_performance(outcomes, catalogue_size),
        quality=quality,
    )


def _compared(
    run: MonitoringRun, window: TimeSpan, columns: dict[str, Column], *, covered: float
) -> tuple[ColumnDrift, ...]:
    reference: dict[str, ColumnSample] = {}
    recent: dict[str, ColumnSample] = {}
    for name, (times, values) in columns.items():
        since = max(window.start, run.live_start + max(_HORIZONS.get(name, _FIRST_DAY), _FIRST_DAY))
        blocks = run.blocks(times)
        sample = run.sample(times[blocks >= CURRENT_BLOCKS], values[blocks >= CURRENT_BLOCKS], since=since, empty="")
        too_young = f"nothing since {since:%Y-%m-%d}, from when on its window is full under models"
        reference[name] = sample if len(sample.values) else nothing(too_young)
        is_recent = blocks < TREND_BLOCKS
        recent[name] = run.sample(times[is_recent], values[is_recent], since=run.live_start, empty=_NO_ANSWERS)
        if covered < MIN_COVERAGE:
            reason = f"{covered:.0%} of its pages have a logged answer, {MIN_COVERAGE:.0%} are needed"
            recent[name] = nothing(reason if covered else _NO_ANSWERS)
    return compare_columns(reference, recent)


def _served_columns(run: MonitoringRun, champion: WatchedChampion | None, window: TimeSpan) -> dict[str, Column]:
    answers = served_answers(run.lake, PAGE_ANSWERS, window.start, run.as_of)
    moments = answers.times[answers.owners]
    first = np.flatnonzero(np.diff(answers.owners, prepend=-1))
    columns: dict[str, Column] = {}
    for name in _WATCHED:
        values = answers.inputs[:, INPUTS.index(name)]
        columns[name] = (moments[first], values[first]) if name in _OF_VIEWER else (moments, values)
    mine = answers.versions == (champion.version if champion else "")
    columns[BEST_SCORE] = (answers.times[mine], answers.scores[mine])
    return columns


def _behaviour_columns(run: MonitoringRun, window: TimeSpan) -> dict[str, Column]:
    times, columns = watches_between(run.lake, window.start, run.as_of)
    pages, sources = page_sources(run.lake, window.start, run.as_of)
    return {name: (times, values) for name, values in columns.items()} | {"page_source": (pages, sources)}


def _performance(outcomes: pa.Table, catalogue_size: int) -> Performance:
    shown = _shown(outcomes)
    days = page_days(shown, catalogue_size=catalogue_size)
    by_models = tuple(day for day in days if day.model_version.isdigit())
    change = change_of(by_models, "watch_rate")
    if not days:
        statement = "No page has passed its attribution window yet."
    elif not by_models:
        statement = "Only pages of the world's own popularity policy so far: no page of a model has mature outcomes."
    elif change is None:
        statement = "Too few days under models so far to say whether the newest are worse."
    else:
        statement = f"Judged on {sum(day.rows for day in by_models):,} pages of models."
    seen = seen_pages(outcomes)
    newest = np.isin(shown.versions, [day.model_version for day in by_models] or list(np.unique(shown.versions)))
    return Performance(
        primary="watch_rate",
        statement=statement,
        days=days,
        change=change,
        by_position=watch_rate_by_position(_only(shown, newest)) if len(shown.times) else (),
        worth=worth_of_policies(seen),
        worth_by_day=worth_by_day(seen),
    )


def _only(shown: ShownVideos, keep: NDArray[np.bool_]) -> ShownVideos:
    return ShownVideos(**{name: getattr(shown, name)[keep] for name in ShownVideos.__struct_fields__})


def _shown(outcomes: pa.Table) -> ShownVideos:
    pages = outcomes["impression_id"].combine_chunks().dictionary_encode().indices
    videos = outcomes["video_id"].combine_chunks().dictionary_encode().indices
    return ShownVideos(
        times=outcomes["event_timestamp"].cast(pa.int64()).to_numpy(),
        versions=np.array(outcomes["model_version"].to_pylist(), np.str_),
        pages=pages.to_numpy().astype(np.int64),
        positions=outcomes["position"].to_numpy().astype(np.int64),
        videos=videos.to_numpy().astype(np.int64),
        labels=outcomes["label"].to_numpy().astype(np.float64),
    )
