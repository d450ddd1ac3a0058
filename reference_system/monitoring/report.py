"""The report: everything that a monitoring run found, as one record.

In: figures of the parts. Out: findings, one verdict, and the JSON that gauges and people's programs read.
Invariant: the verdict follows from the findings; "quiet" is said only if something could be judged.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec

from reference_system.monitoring.drift import ColumnDrift
from reference_system.monitoring.duckdb_volumes import TopicVolume
from reference_system.monitoring.performance import Change, DayFigures, FraudShare

Level = Literal["quiet", "alarm", "not judged"]
# Half or twice of the same hours a week ago is no rhythm any more.
_LEAST_VOLUME, _MOST_VOLUME = 0.5, 2.0
# Smaller numbers halve and double by chance.
_LEAST_EVENTS = 50
# A report every three real minutes: a day of them.
KEPT_REPORTS = 480
_WEEK = 7
# A new model changes how much is watched, and answers are as many as questions: neither is a fault of ingestion.
_OUR_DOING = ("watches", "predictions")
_NAMED = 3


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of event time, `[start, end)`."""

    start: datetime
    end: datetime


class ColumnGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Columns that share their windows; `about` says for a person what they are and what they are compared with."""

    title: str
    about: str
    reference: Window | None
    columns: tuple[ColumnDrift, ...]


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """Performance on mature labels.

    `statement` says what could be judged, `offline` what was measured before the promotion; `shares` are the frauds
    among all payments by day.
    """

    primary: str
    statement: str
    days: tuple[DayFigures, ...] = ()
    change: Change | None = None
    offline: float | None = None
    by_position: tuple[float | None, ...] = ()
    shares: tuple[FraudShare, ...] = ()
    share_change: Change | None = None


class UseCaseReport(msgspec.Struct, frozen=True, kw_only=True):
    """One use case."""

    use_case: str
    champion: str | None
    coverage: float
    groups: tuple[ColumnGroup, ...]
    left_out: tuple[str, ...]
    performance: Performance

    @property
    def drifted(self) -> tuple[ColumnDrift, ...]:
        """The columns that drifted, the strongest first."""
        found = [column for group in self.groups for column in group.columns if column.status == "drift"]
        return tuple(sorted(found, key=lambda column: -(column.psi or 0.0)))

    @property
    def judged(self) -> int:
        """How many columns have a verdict."""
        return sum(column.status != "not judged" for group in self.groups for column in group.columns)


class Freshness(msgspec.Struct, frozen=True, kw_only=True):
    """From the producer's send to readable in the online store, milliseconds of real time; `None` if not known."""

    p50_ms: float | None = None
    p99_ms: float | None = None
    statement: str = ""


class ScenarioRun(msgspec.Struct, frozen=True, kw_only=True):
    """A change of the world that somebody started."""

    name: str
    started: datetime
    stopped: datetime | None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a person should know, and what to do about it."""

    use_case: str
    kind: Literal["drift", "performance", "volume"]
    text: str
    next_command: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One monitoring run."""

    as_of: datetime
    current: Window
    speed: float
    false_alarm_rate: float
    material_psi: float
    use_cases: tuple[UseCaseReport, ...]
    freshness: Freshness
    volumes: tuple[TopicVolume, ...]
    scenarios: tuple[ScenarioRun, ...]
    findings: tuple[Finding, ...]
    level: Level
    verdict: str


def findings_of(
    use_cases: Sequence[UseCaseReport], volumes: Sequence[TopicVolume], *, as_of: datetime
) -> tuple[Finding, ...]:
    """What the figures say, the most important first: performance, drift, volume."""
    found = [
        _finding(case.use_case, "performance", _change_text(change), f"workbook train {case.use_case}")
        for case in use_cases
        for change in _bad_changes(case.performance)
    ]
    found.extend(
        _finding(case.use_case, "drift", drift_text(case, as_of=as_of), f"workbook train {case.use_case}")
        for case in use_cases
        if case.drifted
    )
    found.extend(
        _finding("events", "volume", text, "workbook logs ingestion") for text in map(_volume_text, volumes) if text
    )
    return tuple(found)


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


def drift_text(case: UseCaseReport, *, as_of: datetime) -> str:
    """Which columns drifted, how much, and since when."""
    drifted = case.drifted
    named = ", ".join(f"{column.column} (psi {column.psi:.2f})" for column in drifted[:_NAMED])
    more = f" and {len(drifted) - _NAMED} more" if len(drifted) > _NAMED else ""
    since = as_of - timedelta(days=max(column.days for column in drifted))
    return f"drift in {named}{more}, since about {since:%Y-%m-%d %H:%M}"


def write_report(folder: Path, report: Report, html: str) -> Path:
    """Write the page and its figures under the report's moment and as `latest`; returns the page's path.

    The oldest reports beyond `KEPT_REPORTS` go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{report.as_of:%Y-%m-%dT%H%M}"
    figures = msgspec.json.format(msgspec.json.encode(report), indent=1)
    for stem in (name, "latest"):
        _replace(folder / f"{stem}.json", figures)
        _replace(folder / f"{stem}.html", html.encode())
    for page in sorted(folder.glob("2*.html"))[:-KEPT_REPORTS]:
        page.unlink()
        page.with_suffix(".json").unlink(missing_ok=True)
    return folder / f"{name}.html"


def read_latest(folder: Path) -> Report | None:
    """The latest report, or `None` before the first run or if another version of this code wrote it."""
    try:
        return msgspec.json.decode((folder / "latest.json").read_bytes(), type=Report)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _finding(use_case: str, kind: Literal["drift", "performance", "volume"], text: str, next_command: str) -> Finding:
    return Finding(use_case=use_case, kind=kind, text=text, next_command=next_command)


def _bad_changes(performance: Performance) -> list[Change]:
    """A fall of the metric, a rise of the frauds."""
    found = [performance.change] if performance.change and performance.change.fallen else []
    return found + ([performance.share_change] if performance.share_change and performance.share_change.risen else [])


def _change_text(change: Change) -> str:
    name = change.metric.replace("_", " ")
    return f"{name} is {change.newest:.3g} on the newest days with mature labels, {change.earlier:.3g} before"


def _volume_text(volume: TopicVolume) -> str | None:
    if volume.topic in _OUR_DOING:
        return None
    if len(volume.days) <= _WEEK or volume.days[-1 - _WEEK] < _LEAST_EVENTS:
        return None
    ratio = volume.days[-1] / volume.days[-1 - _WEEK]
    if _LEAST_VOLUME <= ratio <= _MOST_VOLUME:
        return None
    return f"{volume.days[-1]:,} {volume.topic} in 24 hours, {volume.days[-1 - _WEEK]:,} a week earlier"


def _replace(path: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    Path(name).replace(path)
