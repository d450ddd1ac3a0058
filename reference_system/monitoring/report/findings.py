"""Findings: what the figures of a look say, in the order of their weight, and one verdict.

In: the reports of the use cases, volumes, refused records. Out: findings with the next command, level and verdict.
Invariant: the verdict follows from the findings; "quiet" is said only if something could be judged; only a finding
that a new model may mend has a trigger.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from reference_system.monitoring.drift import ColumnDrift
from reference_system.monitoring.duckdb_volumes import TopicVolume
from reference_system.monitoring.performance import Change, DayFigures
from reference_system.monitoring.report.record import Alarm, Finding, Level, Performance, UseCaseReport
from reference_system.monitoring.schema_watch import Refusals

# Half or twice of the same hours a week ago is no rhythm any more.
_LEAST_VOLUME, _MOST_VOLUME = 0.5, 2.0
# Smaller numbers halve and double by chance.
_LEAST_EVENTS = 50
_WEEK = 7
# A new model changes how much is watched; answers are as many as questions; releases and experiments begin and end.
_OUR_DOING = ("watches", "predictions", "shadow-predictions", "exposures")
# More of them than a week ago are more frauds: early outcomes judge that, by the age of the payments. Mistakes that
# are mended in numbers are no fault of the data either.
_OUTCOMES = ("chargebacks", "chargeback-reversals")
_NAMED = 3
# No topic rests for so long: even the nights of a small world have events.
_SILENT = timedelta(hours=12)
# One answer in twenty by a rule is no hiccup.
_MATERIAL_SHARE = 0.05
_LEAST_ANSWERS = 100
# At the world's speed events come a minute of event time late: a few served values are those of a moment before.
_SKEWED_SHARE = 0.25


def findings_of(
    use_cases: Sequence[UseCaseReport],
    volumes: Sequence[TopicVolume],
    *,
    as_of: datetime,
    refusals: Sequence[Refusals] = (),
) -> tuple[Finding, ...]:
    """What the figures say: first what is worse, then what is different, then what is broken."""
    return (
        *(finding for case in use_cases for finding in _worse(case)),
        *(_drift(case, as_of) for case in use_cases if case.drifted),
        *(finding for case in use_cases for finding in _quality(case)),
        *_events(volumes, refusals, as_of),
    )


def level_of(use_cases: Sequence[UseCaseReport], findings: Sequence[Finding]) -> Level:
    """Alarm if there is a finding; quiet only if a column could be judged."""
    if findings:
        return "alarm"
    return "quiet" if any(case.judged for case in use_cases) else "not judged"


def verdict_of(use_cases: Sequence[UseCaseReport], findings: Sequence[Finding]) -> str:
    """One sentence."""
    if findings:
        return "; ".join(f"{finding.use_case}: {finding.text}" for finding in findings)
    judged = sum(case.judged for case in use_cases)
    if not judged:
        return "nothing can be judged yet: there are too few predictions or reference days"
    waiting = [case.use_case for case in use_cases if not case.judged]
    rest = f"; {' and '.join(waiting)} cannot be judged yet" if waiting else ""
    return f"no drift in {judged} columns, no fall in performance{rest}"


def _worse(case: UseCaseReport) -> Iterator[Finding]:
    """Performance, and outcomes before labels are mature."""
    performance, train = case.performance, f"workbook train {case.use_case}"
    change = performance.change
    if change is not None and change.fallen:
        # The newest mature days may be those of a champion that has been replaced since.
        trigger: Alarm | None = "performance" if case.champion in _newest_versions(performance) else None
        yield Finding(
            use_case=case.use_case, kind="performance", text=_mature(change), next_command=train, trigger=trigger
        )
    share = performance.share_change
    if share is not None and share.risen:
        yield Finding(use_case=case.use_case, kind="outcomes", text=_mature(share), next_command="workbook timeline")
    early = performance.early
    if early is None:
        return
    if early.change is not None and early.change.fallen:
        text = (
            f"average precision on labels reported so far is {early.change.newest:.3g} for payments of the last days, "
            f"{early.change.earlier:.3g} for earlier ones at their age"
        )
        yield Finding(use_case=case.use_case, kind="performance", text=text, next_command=train, trigger="performance")
    if early.outcomes.alarming:
        yield _many_reported(case, early.missed)


def _many_reported(case: UseCaseReport, missed: int | None) -> Finding:
    early = case.performance.early
    if early is None or early.outcomes.usual is None:
        raise ValueError("an alarm of early outcomes has early outcomes")
    outcomes = early.outcomes
    usual = early.outcomes.usual
    text = (
        f"{outcomes.reported} of the payments of the last {outcomes.window_days} days are reported as frauds already, "
        f"{usual:.0f} are usual"
    )
    if missed is None:
        return Finding(use_case=case.use_case, kind="outcomes", text=text, next_command="workbook timeline")
    # More look harmless to the champion than are usually reported in all: it does not know what is going on.
    blind = missed > usual
    return Finding(
        use_case=case.use_case,
        kind="outcomes",
        text=f"{text}; {missed} of them not in the champion's riskiest tenth",
        next_command=f"workbook train {case.use_case}" if blind else "workbook timeline",
        trigger="performance" if blind else None,
    )


def _drift(case: UseCaseReport, as_of: datetime) -> Finding:
    text, train = drift_text(case, as_of=as_of), f"workbook train {case.use_case}"
    return Finding(use_case=case.use_case, kind="drift", text=text, next_command=train, trigger="drift")


def drift_text(case: UseCaseReport, *, as_of: datetime) -> str:
    """Which columns drifted, how much, and since when."""
    drifted = case.drifted
    named = ", ".join(f"{column.column} (psi {column.psi:.2f})" for column in drifted[:_NAMED])
    more = f" and {len(drifted) - _NAMED} more" if len(drifted) > _NAMED else ""
    since = as_of - timedelta(days=max(column.days for column in drifted))
    return f"drift in {named}{more}, since about {since:%Y-%m-%d %H:%M}"


def _quality(case: UseCaseReport) -> Iterator[Finding]:
    """Answers by rule, values that are missing, values that differ from history's."""
    quality = case.quality
    if quality.answers >= _LEAST_ANSWERS and quality.degraded_share > _MATERIAL_SHARE:
        text = f"{quality.degraded_share:.0%} of the last day's answers came from a rule, without the model"
        yield Finding(use_case=case.use_case, kind="quality", text=text, next_command="workbook logs serving")
    holes = [column for group in case.groups for column in group.columns if _more_missing(column)]
    if holes:
        named = ", ".join(f"{column.column} ({column.missing_share:.0%})" for column in holes[:_NAMED])
        text = f"values are missing that were there before: {named}"
        yield Finding(use_case=case.use_case, kind="quality", text=text, next_command="workbook features parity")
    skewed = sorted((share, name) for name, share in quality.skew.items() if share > _SKEWED_SHARE)
    if skewed:
        named = ", ".join(f"{name} ({share:.0%})" for share, name in reversed(skewed[-_NAMED:]))
        text = f"served inputs differ from the feature tables for the same payments: {named}"
        yield Finding(use_case=case.use_case, kind="quality", text=text, next_command="workbook features parity")


def _more_missing(column: ColumnDrift) -> bool:
    if not column.labels or column.labels[-1] != "missing":
        return False
    return column.current_shares[-1] - column.reference_shares[-1] > _MATERIAL_SHARE


def _events(volumes: Sequence[TopicVolume], refusals: Sequence[Refusals], as_of: datetime) -> Iterator[Finding]:
    """Refused records, silence, and numbers that are not the week's rhythm."""
    for refused in refusals:
        if refused.alarming:
            command = f"workbook dead-letter list --topic {refused.topic}"
            yield Finding(use_case="events", kind="schema", text=refused.text, next_command=command)
    newest = max((volume.newest for volume in volumes if volume.newest), default=None)
    if newest is not None and as_of - newest > _SILENT:
        text = f"no event since {newest:%Y-%m-%d %H:%M}"
        yield Finding(use_case="events", kind="freshness", text=text, next_command="workbook logs ingestion")
    for text in filter(None, map(_volume_text, volumes)):
        yield Finding(use_case="events", kind="volume", text=text, next_command="workbook logs ingestion")


def _newest_versions(performance: Performance) -> set[str]:
    judged: list[DayFigures] = [day for day in performance.days if day.enough]
    newest = max((day.day for day in judged), default=0)
    return {day.model_version for day in judged if day.day >= newest - 1}


def _mature(change: Change) -> str:
    name = change.metric.replace("_", " ")
    return f"{name} is {change.newest:.3g} on the newest days with mature labels, {change.earlier:.3g} before"


def _volume_text(volume: TopicVolume) -> str | None:
    if volume.topic in _OUR_DOING:
        return None
    if len(volume.days) <= _WEEK or volume.days[-1 - _WEEK] < _LEAST_EVENTS:
        return None
    ratio = volume.days[-1] / volume.days[-1 - _WEEK]
    if ratio >= _LEAST_VOLUME and (ratio <= _MOST_VOLUME or volume.topic in _OUTCOMES):
        return None
    return f"{volume.days[-1]:,} {volume.topic} in 24 hours, {volume.days[-1 - _WEEK]:,} a week earlier"
