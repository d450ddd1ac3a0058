import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from reference_system.monitoring.drift import ColumnDrift
from reference_system.monitoring.duckdb_volumes import TopicVolume
from reference_system.monitoring.performance import Change, DayFigures, FraudShare
from reference_system.monitoring.recommendation.page_worth import PerPage, PolicyWorth
from reference_system.monitoring.report.findings import findings_of, level_of, verdict_of
from reference_system.monitoring.report.html_page import real_time, render_page
from reference_system.monitoring.report.mlflow_figures import report_figures
from reference_system.monitoring.report.prometheus_gauges import LatestReport
from reference_system.monitoring.report.record import (
    ColumnGroup,
    Freshness,
    MonitoringReport,
    Performance,
    ScenarioRun,
    TimeSpan,
    UseCaseReport,
    read_latest,
    write_report,
)
from reference_system.paths import StatePaths

NOW = datetime(2025, 4, 19, tzinfo=UTC)
DAY = timedelta(days=1)
TODAY = NOW.toordinal() - datetime(1970, 1, 1, tzinfo=UTC).toordinal()


def column(name="amount", status="steady", psi=0.01, days=0):
    return ColumnDrift(
        column=name,
        kind="number",
        status=status,
        reference_rows=1_000,
        current_rows=500,
        psi=psi,
        threshold=0.1,
        ks=0.02,
        days=days,
        trend=(0.01, None, psi),
        labels=("≤ 1", "> 1", "missing"),
        reference_shares=(0.5, 0.5, 0.0),
        current_shares=(0.4, 0.6, 0.0),
        reference_mean=1.0,
        current_mean=2.0,
    )


def waiting(name="score"):
    return ColumnDrift(column=name, reason="no champion yet")


def case(*columns, name="fraud", performance=None, champion="3"):
    group = ColumnGroup(title="Inputs", about="What was served.", reference=None, columns=columns)
    return UseCaseReport(
        use_case=name,
        champion=champion,
        coverage=0.98,
        groups=(group,),
        left_out=("customer_id: an identifier",),
        performance=performance or Performance(primary="average_precision", statement="No mature labels yet."),
    )


def report(*cases, volumes=(), scenarios=()):
    found = findings_of(cases, volumes, as_of=NOW)
    return MonitoringReport(
        as_of=NOW,
        current=TimeSpan(start=NOW - 2 * DAY, end=NOW),
        speed=1440.0,
        false_alarm_rate=0.01,
        material_psi=0.1,
        use_cases=cases,
        freshness=Freshness(p50_ms=12.0, p99_ms=48.0),
        volumes=volumes,
        scenarios=scenarios,
        findings=found,
        level=level_of(cases, found),
        verdict=verdict_of(cases, found),
    )


def judged_performance():
    days = tuple(
        DayFigures(
            day=TODAY - 12 + i,
            model_version="3",
            rows=5_000,
            positives=50,
            enough=i != 2,
            metrics={"average_precision": 0.4 + 0.01 * i, "alerts": 90.0} if i != 2 else {"alerts": 80.0},
        )
        for i in range(5)
    )
    shares = tuple(FraudShare(day=TODAY - 20 + i, payments=5_000, frauds=50) for i in range(10))
    return Performance(primary="average_precision", statement="Judged.", days=days, offline=0.5, shares=shares)


def test_steady_columns_are_a_quiet_report():
    found = report(case(column()), case(column("watched_category"), name="recommendation"))
    assert (found.level, found.findings) == ("quiet", ())
    assert found.verdict == "no drift in 2 columns, no fall in performance"


def test_drift_names_the_strongest_columns_the_moment_and_the_next_command():
    drifted = [column(name, "drift", psi, days=2) for name, psi in [("a", 0.2), ("b", 0.9), ("c", 0.3), ("d", 0.4)]]
    found = report(case(*drifted, column("e")))
    assert found.level == "alarm"
    (finding,) = found.findings
    assert finding.text == "drift in b (psi 0.90), d (psi 0.40), c (psi 0.30) and 1 more, since about 2025-04-17 00:00"
    assert finding.next_command == "workbook train fraud"


def test_a_report_in_which_nothing_could_be_judged_does_not_say_that_all_is_well():
    found = report(case(waiting()))
    assert found.level == "not judged"
    assert "nothing can be judged yet" in found.verdict


def test_a_use_case_that_waits_is_named_beside_one_that_is_quiet():
    found = report(case(column()), case(waiting(), name="recommendation"))
    assert found.level == "quiet"
    assert found.verdict.endswith("recommendation cannot be judged yet")


def change(**limits):
    return Change(**({"metric": "average_precision", "newest": 0.2, "earlier": 0.4, "low": 0.3, "high": 0.5} | limits))


def test_a_fall_of_the_metric_comes_before_drift():
    performance = msgspec.structs.replace(judged_performance(), change=change())
    found = report(case(column(status="drift", psi=0.5, days=1), performance=performance))
    assert [finding.kind for finding in found.findings] == ["performance", "drift"]
    assert found.findings[0].text == "average precision is 0.2 on the newest days with mature labels, 0.4 before"


def test_a_rise_of_the_metric_is_no_alarm_and_a_rise_of_the_frauds_is_one():
    better = msgspec.structs.replace(judged_performance(), change=change(newest=0.6))
    assert report(case(column(), performance=better)).level == "quiet"
    more = msgspec.structs.replace(judged_performance(), share_change=change(metric="fraud_share", newest=0.6))
    assert "fraud share is 0.6" in report(case(column(), performance=more)).verdict


@pytest.mark.parametrize(("today", "kind"), [(400, []), (1_000, []), (2_500, ["volume"]), (0, ["volume"])])
def test_a_volume_is_compared_with_the_same_day_of_the_week_before(today, kind):
    volume = TopicVolume(topic="transactions", days=(1_000,) * 13 + (today + 200,), newest=NOW)
    assert [finding.kind for finding in report(case(column()), volumes=(volume,)).findings] == kind


def test_a_topic_that_has_just_begun_is_no_finding():
    volume = TopicVolume(topic="predictions", days=(0,) * 13 + (500,), newest=NOW)
    assert report(case(column()), volumes=(volume,)).findings == ()


EVERYTHING = report(
    case(column(), column("b", "drift", 0.4, days=1), waiting(), performance=judged_performance()),
    case(waiting(), name="recommendation", champion=None),
    volumes=(TopicVolume(topic="transactions", days=tuple(range(100, 114)), newest=NOW),),
    scenarios=(
        ScenarioRun(name="amount-inflation", started=NOW - 3 * DAY, stopped=None),
        ScenarioRun(name="taste-shift", started=NOW - 90 * DAY, stopped=NOW - 89 * DAY),
    ),
)


def test_the_report_survives_being_written_and_read(tmp_path):
    page = write_report(tmp_path / "reports", EVERYTHING, "<html></html>")
    assert page.name == "2025-04-19T0000.html"
    assert read_latest(tmp_path / "reports") == EVERYTHING
    assert {path.name for path in page.parent.iterdir()} == {
        "2025-04-19T0000.html",
        "2025-04-19T0000.json",
        "latest.html",
        "latest.json",
    }


def test_the_oldest_reports_go(tmp_path, monkeypatch):
    monkeypatch.setattr("reference_system.monitoring.report.record.KEPT_REPORTS", 2)
    for hours in range(4):
        write_report(tmp_path, msgspec.structs.replace(EVERYTHING, as_of=NOW + timedelta(hours=hours)), "")
    assert {path.stem for path in tmp_path.iterdir()} == {"2025-04-19T0200", "2025-04-19T0300", "latest"}


def test_a_missing_or_foreign_report_is_none(tmp_path):
    assert read_latest(tmp_path) is None
    (tmp_path / "latest.json").write_text('{"an": "older layout"}')
    assert read_latest(tmp_path) is None


def test_the_gauges_show_the_latest_report(tmp_path):
    paths = StatePaths(tmp_path)
    registry = CollectorRegistry()
    registry.register(LatestReport(paths))
    assert b"workbook_drift_psi{" not in generate_latest(registry)
    write_report(paths.reports, EVERYTHING, "")
    text = generate_latest(registry).decode()
    assert 'workbook_drift_psi{column="b",use_case="fraud"} 0.4' in text
    assert 'workbook_drifted_columns{use_case="fraud"} 1.0' in text
    assert 'workbook_performance{metric="average_precision",use_case="fraud"} 0.44' in text
    assert f"workbook_monitor_event_time_seconds {NOW.timestamp():.9g}".split("e")[0] in text
    assert 'column="score"' not in text


def test_mlflow_gets_names_that_it_accepts():
    found = report_figures(EVERYTHING)
    assert found["fraud/psi/b"] == 0.4
    assert found["fraud/average_precision"] == pytest.approx(0.44)
    assert all(re.fullmatch(r"[\w\-. :/]+", name) for name in found)


def test_the_page_says_the_verdict_first_and_marks_the_scenario():
    page = render_page(EVERYTHING)
    assert page.index("Look at: fraud drift") < page.index("<h2>")
    assert "workbook train fraud" in page
    assert ">amount-inflation</text>" in page
    assert ">taste-shift</text>" not in page  # over before the chart begins
    assert "no champion yet" in page
    assert "12 / 48 ms" in page


def worth_of_pages():
    def worth(policy, days, value, **more):
        figure = PerPage(value=value, low=value - 0.1, high=value + 0.1)
        return PolicyWorth(policy=policy, days=days, pages=1_200, viewers=300, watches=figure, minutes=figure, **more)

    gain = {"by_chance": PerPage(value=0.8, low=0.7, high=0.9), "gain": PerPage(value=1.7, low=1.5, high=1.9)}
    version = worth("4", (TODAY - 4, TODAY - 3), 2.5, **gain)
    unsure = msgspec.structs.replace(version, policy="5", watches=None, minutes=None, gain=None)
    rows = (unsure, version, worth("popularity", (TODAY - 30, TODAY - 3), 0.8))
    return Performance(primary="watch_rate", statement="Judged.", worth=rows, worth_by_day=rows[1:])


def test_the_page_says_what_a_page_is_worth_by_version_and_by_chance_on_the_same_days():
    page = render_page(report(case(column(), name="recommendation", performance=worth_of_pages())))
    assert "What a page is worth" in page
    cells = re.sub(r"<[^>]+>|\s+", " ", page)
    row = "2.50 (2.40 to 2.60) 0.80 (0.70 to 0.90) 1.70 (1.50 to 1.90) 2.50 (2.40 to 2.60)"
    assert row in re.sub(r" +", " ", cells)
    assert re.search(r"<td>chance</td><td>2025-03-20 to 2025-04-16</td>", page)
    assert "The same by day" in page


def test_the_gauges_have_the_worth_of_a_page_with_its_bounds(tmp_path):
    found = report(case(column(), name="recommendation", performance=worth_of_pages()))
    paths = StatePaths(tmp_path)
    write_report(paths.reports, found, "")
    registry = CollectorRegistry()
    registry.register(LatestReport(paths))
    text = generate_latest(registry).decode()
    assert 'workbook_watches_per_page{bound="value",policy="4"} 2.5' in text
    assert 'workbook_watches_per_page{bound="low",policy="popularity"} 0.7' in text
    assert 'workbook_watches_per_page_gain{bound="high",policy="4"} 1.9' in text
    assert 'policy="5"' not in text, "nothing is told without an interval"


def test_the_page_needs_nothing_from_anywhere():
    page = render_page(EVERYTHING)
    assert not re.search(r"(?:src|href)=|https?://|<script|@import|url\(|\son\w+=| style=", page)
    assert "default-src 'none'" in page


def test_a_page_without_anything_to_show_is_still_a_page():
    for each in (report(case(waiting())), report()):
        assert "Nothing can be judged yet" in render_page(each)


def test_what_came_from_outside_is_escaped():
    strange = msgspec.structs.replace(column("<script>alert(1)</script>"), labels=('"><b>', "x", "missing"))
    page = render_page(report(case(strange, performance=judged_performance())))
    assert "<script>" not in page
    assert "<b>:" not in page


@pytest.mark.parametrize(("speed", "text"), [(1440.0, "60 s"), (1.0, "1440 min"), (100.0, "14 min")])
def test_a_day_of_event_time_is_told_in_real_time(speed, text):
    assert real_time(DAY, speed) == text
