"""The timeline of the models: scenarios, alarms, decisions, and the quality of the answers.

In: decisions, scenario runs, the latest report. Out: entries in the order of event time, and figures by day.
Invariant: nothing is computed here: every entry was recorded by its own component when it happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from reference_system.monitoring.fraud.champion_comparison import DayOfPayments
from reference_system.monitoring.performance import DayFigures
from reference_system.monitoring.recommendation.page_worth import PerPage, PolicyWorth
from reference_system.monitoring.report.record import MonitoringReport
from reference_system.registry.promotion_log import LoggedDecision
from reference_system.world.scenarios import Run, Scenario

USE_CASE_OF_SCENARIO = {
    Scenario.FRAUD_ATTACK: "fraud",
    Scenario.AMOUNT_INFLATION: "fraud",
    Scenario.TASTE_SHIFT: "recommendation",
    Scenario.VIRAL_VIDEO: "recommendation",
}
# The order of entries with equal times: changes of the versions that serve come last.
_ORDER = (
    "scenario",
    "alarm",
    "retraining",
    "skipped",
    "gate",
    "shadow",
    "canary",
    "champion",
    "rolled back",
    "experiment",
)


class StoryLine(msgspec.Struct, frozen=True, kw_only=True):
    """One entry; `text` is the main reason, `reasons` are all of them."""

    event_timestamp: datetime
    use_case: str
    kind: str
    text: str
    version: str | None = None
    previous: str | None = None
    reasons: tuple[str, ...] = ()
    figures: dict[str, float] = {}


class PageDay(msgspec.Struct, frozen=True, kw_only=True):
    """One day of the pages that models chose; `day` is days since 1970.

    `watches` are watches per page, `by_chance` those of the pages drawn at random on that day.
    """

    day: int
    version: str
    pages: int
    watch_rate: float | None
    ndcg: float | None
    watches: PerPage | None = None
    by_chance: PerPage | None = None


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """The whole timeline; `figures_as_of` is the time of the report that the days come from.

    `worth` has the watches per page of each policy over all its days.
    """

    happenings: tuple[StoryLine, ...]
    figures_as_of: datetime | None
    champions: dict[str, str]
    fraud_days: tuple[DayOfPayments, ...]
    recommendation_days: tuple[PageDay, ...]
    worth: tuple[PolicyWorth, ...]
    rulings: dict[str, str]


def story_of(
    decisions: Sequence[LoggedDecision],
    runs: Sequence[Run],
    report: MonitoringReport | None,
    *,
    use_case: str | None = None,
    since: datetime | None = None,
) -> Story:
    """The timeline of one use case or of both, from `since` on."""
    told = [
        each
        for each in (*_of_decisions(decisions), *_of_scenarios(runs))
        if use_case in (None, each.use_case) and (since is None or each.event_timestamp >= since)
    ]
    cases = [case for case in report.use_cases if use_case in (None, case.use_case)] if report else []
    first = 0 if since is None else int(since.timestamp() // 86_400)
    return Story(
        happenings=tuple(sorted(told, key=lambda each: (each.event_timestamp, _ORDER.index(each.kind)))),
        figures_as_of=report.as_of if report else None,
        champions={case.use_case: case.champion for case in cases if case.champion},
        fraud_days=tuple(
            day
            for case in cases
            if case.performance.early is not None
            for day in case.performance.early.days
            if day.day >= first
        ),
        recommendation_days=tuple(
            _page_day(day, case.performance.worth_by_day)
            for case in cases
            if case.use_case == "recommendation"
            for day in case.performance.days
            if day.model_version.isdigit() and day.day >= first
        ),
        worth=tuple(row for case in cases for row in case.performance.worth),
        rulings={name: text for name, text in (report.rulings if report else {}).items() if use_case in (None, name)},
    )


def _of_decisions(decisions: Sequence[LoggedDecision]) -> Iterator[StoryLine]:
    for one in decisions:
        yield StoryLine(
            event_timestamp=one.event_timestamp,
            use_case=one.use_case,
            kind=one.kind,
            # The gate's first reason is its decision.
            text=": ".join(one.reasons[: 2 if one.kind == "gate" else 1]),
            version=one.version,
            previous=one.previous,
            reasons=one.reasons,
            figures=one.figures,
        )


def _of_scenarios(runs: Sequence[Run]) -> Iterator[StoryLine]:
    for run in runs:
        for moment, state in ((run.started, "begins"), (run.stopped, "ends")):
            if moment is not None:
                yield StoryLine(
                    event_timestamp=moment,
                    use_case=USE_CASE_OF_SCENARIO[run.name],
                    kind="scenario",
                    text=f"{run.name} {state}",
                )


def _page_day(day: DayFigures, worth: Sequence[PolicyWorth]) -> PageDay:
    found = next((row for row in worth if (row.policy, row.days) == (day.model_version, (day.day,))), None)
    return PageDay(
        day=day.day,
        version=day.model_version,
        pages=day.rows,
        watch_rate=day.metrics.get("watch_rate"),
        ndcg=day.metrics.get("ndcg@10"),
        watches=found.watches if found else None,
        by_chance=found.by_chance if found else None,
    )
