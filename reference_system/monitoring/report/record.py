"""The report: everything that a monitoring run found, as one record.

In: figures of the parts. Out: a page and the JSON that gauges and people's programs read.
Invariant: a reader sees a whole report or the one before; what another version of this code wrote is not read.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from reference_system.monitoring.drift import ColumnDrift
from reference_system.monitoring.duckdb_volumes import TopicVolume
from reference_system.monitoring.fraud.champion_comparison import DayOfPayments
from reference_system.monitoring.fraud.early_outcomes import EarlyOutcomes
from reference_system.monitoring.performance import Change, DayFigures, FraudShare
from reference_system.monitoring.recommendation.page_worth import PolicyWorth
from reference_system.monitoring.schema_watch import Refusals
from reference_system.replaced_files import replace_file

Level = Literal["quiet", "alarm", "not judged"]
Alarm = Literal["drift", "performance"]
FindingKind = Literal["performance", "outcomes", "drift", "quality", "schema", "freshness", "volume"]
# A report every half minute: four hours of them.
KEPT_REPORTS = 480


class TimeSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of event time, `[start, end)`."""

    start: datetime
    end: datetime


class ColumnGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Columns that share their windows; `about` says for a person what they are and what they are compared with."""

    title: str
    about: str
    reference: TimeSpan | None
    columns: tuple[ColumnDrift, ...]


class Early(msgspec.Struct, frozen=True, kw_only=True):
    """What reported labels say of the youngest payments, and every champion on the same days.

    `missed` are the frauds among `outcomes.reported` that look harmless to the present champion
    (`same_payments.missed`); `None` without one.
    """

    outcomes: EarlyOutcomes
    missed: int | None = None
    change: Change | None = None
    days: tuple[DayOfPayments, ...] = ()


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """Performance on mature labels.

    `statement` says what could be judged, `offline` what was measured before the promotion; `shares` are the frauds
    among all payments by day, `early` what is known before labels are mature. `worth` is what pages were worth, by
    policy and by day and policy.
    """

    primary: str
    statement: str
    days: tuple[DayFigures, ...] = ()
    change: Change | None = None
    offline: float | None = None
    by_position: tuple[float | None, ...] = ()
    shares: tuple[FraudShare, ...] = ()
    share_change: Change | None = None
    early: Early | None = None
    worth: tuple[PolicyWorth, ...] = ()
    worth_by_day: tuple[PolicyWorth, ...] = ()


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """How the last day was answered: by how many answers, and which share of them by a rule.

    `skew` is, by input, the share of recent answers whose served value is not the one in the feature tables.
    """

    answers: int = 0
    degraded_share: float = 0.0
    skew: dict[str, float] = {}


class UseCaseReport(msgspec.Struct, frozen=True, kw_only=True):
    """One use case."""

    use_case: str
    champion: str | None
    coverage: float
    groups: tuple[ColumnGroup, ...]
    left_out: tuple[str, ...]
    performance: Performance
    quality: Quality = Quality()

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
    """Something that a person should know, and what to do about it.

    `trigger` says that training may mend it, and how that training is called.
    """

    use_case: str
    kind: FindingKind
    text: str
    next_command: str
    trigger: Alarm | None = None


class MonitoringReport(msgspec.Struct, frozen=True, kw_only=True):
    """One monitoring run."""

    as_of: datetime
    current: TimeSpan
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
    refusals: tuple[Refusals, ...] = ()
    # What the retraining policy says, by use case.
    rulings: dict[str, str] = {}
    # The findings that go on and are in the promotion log already, as (use case, kind).
    logged: tuple[tuple[str, FindingKind], ...] = ()


def write_report(folder: Path, report: MonitoringReport, html: str) -> Path:
    """Write the page and its figures under the report's moment and as `latest`; returns the page's path.

    The oldest reports beyond `KEPT_REPORTS` go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{report.as_of:%Y-%m-%dT%H%M}"
    figures = msgspec.json.format(msgspec.json.encode(report), indent=1)
    for stem in (name, "latest"):
        replace_file(folder / f"{stem}.json", figures)
        replace_file(folder / f"{stem}.html", html.encode())
    for page in sorted(folder.glob("2*.html"))[:-KEPT_REPORTS]:
        page.unlink()
        page.with_suffix(".json").unlink(missing_ok=True)
    return folder / f"{name}.html"


def read_latest(folder: Path) -> MonitoringReport | None:
    """The latest report, or `None` before the first run or if another version of this code wrote it."""
    try:
        return msgspec.json.decode((folder / "latest.json").read_bytes(), type=MonitoringReport)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
