from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console
from typer.testing import CliRunner

from reference_system import cli
from reference_system.commands.loop.timeline_tables import as_text
from reference_system.monitoring.drift import LOOP_FALSE_ALARM_RATE, MATERIAL_PSI
from reference_system.monitoring.fraud.champion_comparison import DayOfPayments
from reference_system.monitoring.fraud.early_outcomes import EarlyOutcomes
from reference_system.monitoring.fraud.estimated_performance import ExpectedOutcomes
from reference_system.monitoring.performance import DayFigures
from reference_system.monitoring.recommendation.page_worth import PerPage, PolicyWorth
from reference_system.monitoring.report.record import (
    Early,
    Freshness,
    MonitoringReport,
    Performance,
    TimeSpan,
    UseCaseReport,
    write_report,
)
from reference_system.paths import StatePaths
from reference_system.registry.promotion_log import LoggedDecision, append_decision
from reference_system.timeline.story import story_of
from reference_system.world.scenarios import SCENARIOS, Run, Scenario, write_runs

BEGIN = datetime(2025, 4, 6, tzinfo=UTC)
DAY = timedelta(days=1)
FIRST = (BEGIN - datetime(1970, 1, 1, tzinfo=UTC)).days
RUNS = (
    Run(name=Scenario.FRAUD_ATTACK, started=BEGIN + 2 * DAY),
    Run(name=Scenario.TASTE_SHIFT, started=BEGIN + DAY, stopped=BEGIN + 9 * DAY),
)


def decision(days, kind, version=None, *, use_case="fraud", **more):
    reasons = more.pop("reasons", (f"why {kind}", "and more"))
    moment = BEGIN + days * DAY
    return LoggedDecision(
        event_timestamp=moment, use_case=use_case, kind=kind, version=version, reasons=reasons, **more
    )


DECISIONS = (
    decision(0, "champion", "1"),
    decision(4.5, "alarm", previous="1", figures={"reported": 80.0, "usual": 20.0}),
    decision(4.5, "retraining", previous="1"),
    decision(4.5, "gate", "3", previous="1"),
    decision(4.5, "shadow", "3", previous="1"),
    decision(5, "canary", "3", previous="1"),
    decision(6, "champion", "3", previous="1"),
    decision(3, "champion", "2", use_case="recommendation"),
)


def day(number, answered_by, answered, versions, **more):
    return DayOfPayments(
        day=FIRST + number,
        mature=more.get("mature", False),
        payments=5_000,
        frauds=200,
        answered_by=answered_by,
        learned_by=more.get("learned_by", ()),
        answered=answered,
        average_precision=versions,
        estimate=ExpectedOutcomes(frauds=50.0, average_precision=0.6),
    )


def per_page(value):
    return PerPage(value=value, low=value - 0.08, high=value + 0.08)


def worth(policy, days, pages, value, by_chance=None):
    return PolicyWorth(
        policy=policy,
        days=days,
        pages=pages,
        viewers=300,
        watches=per_page(value),
        minutes=per_page(9.0),
        by_chance=None if by_chance is None else per_page(by_chance),
        gain=None if by_chance is None else per_page(value - by_chance),
    )


def a_report() -> MonitoringReport:
    fraud = Performance(
        primary="average_precision",
        statement="",
        early=Early(
            outcomes=EarlyOutcomes(window_days=3, payments=9, reported=1),
            days=(
                day(1, ("1",), 0.6, {"1": 0.6, "3": 0.95}, mature=True, learned_by=("3",)),
                day(4, ("1",), 0.2, {"1": 0.2, "3": 0.7}),
                day(7, ("1", "3"), 0.68, {"1": 0.2, "3": 0.7}),
                DayOfPayments(day=FIRST + 8, mature=False, payments=5_000, frauds=3, answered_by=("3",)),
            ),
        ),
    )
    pages = Performance(
        primary="watch_rate",
        statement="",
        days=tuple(
            DayFigures(
                day=FIRST + number,
                model_version=version,
                rows=400,
                positives=800,
                enough=True,
                metrics={"watch_rate": 0.2, "ndcg@10": 0.5},
            )
            for number, version in ((3, "2"), (4, "2"), (4, "popularity"))
        ),
        worth=(
            worth("2", (FIRST + 3, FIRST + 4), 12_345, 2.56, by_chance=0.77),
            worth("popularity", (FIRST - 40, FIRST + 4), 37_635, 0.81),
        ),
        worth_by_day=(
            worth("2", (FIRST + 3,), 400, 2.55, by_chance=0.79),
            PolicyWorth(policy="2", days=(FIRST + 4,), pages=40, viewers=12, watches=None, minutes=None),
        ),
    )
    now = BEGIN + 8.5 * DAY
    return MonitoringReport(
        as_of=now,
        current=TimeSpan(start=now - 2 * DAY, end=now),
        speed=1_440.0,
        false_alarm_rate=LOOP_FALSE_ALARM_RATE,
        material_psi=MATERIAL_PSI,
        use_cases=(
            UseCaseReport(use_case="fraud", champion="3", coverage=1.0, groups=(), left_out=(), performance=fraud),
            UseCaseReport(
                use_case="recommendation", champion="2", coverage=1.0, groups=(), left_out=(), performance=pages
            ),
        ),
        freshness=Freshness(),
        volumes=(),
        scenarios=(),
        findings=(),
        level="quiet",
        verdict="",
        rulings={"fraud": "no training: nothing calls for it"},
    )


def shown(story, width=120) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123 - nothing is written
    console.print(as_text(story))
    return console.export_text()


def test_the_story_is_told_in_the_order_of_event_time():
    story = story_of(DECISIONS, RUNS, None, use_case="fraud")
    assert [each.kind for each in story.happenings] == [
        "champion",
        "scenario",
        "alarm",
        "retraining",
        "gate",
        "shadow",
        "canary",
        "champion",
    ]
    assert story.happenings[1].text == "fraud-attack begins"
    assert story.happenings[2].text == "why alarm"


def test_a_scheduled_training_that_was_left_out_is_a_line_with_its_reason():
    left_out = decision(7, "skipped", reasons=("the last training is of 04-10 12:00",), previous="3")
    text = shown(story_of((*DECISIONS, left_out), (), None, use_case="fraud"))
    assert "2025-04-13 00:00  fraud     skipped     (3)          the last training is of 04-10 12:00" in text


def test_a_scenario_belongs_to_the_use_case_that_it_is_about():
    story = story_of(DECISIONS, RUNS, None, use_case="recommendation")
    assert [(each.kind, each.text) for each in story.happenings] == [
        ("scenario", "taste-shift begins"),
        ("champion", "why champion"),
        ("scenario", "taste-shift ends"),
    ]


def test_what_came_before_is_left_out():
    story = story_of(DECISIONS, RUNS, a_report(), since=BEGIN + 5 * DAY)
    assert {each.kind for each in story.happenings} == {"canary", "champion", "scenario"}
    assert [each.day - FIRST for each in story.fraud_days] == [7, 8]


def test_each_day_shows_every_version_on_the_same_payments_and_how_sure_it_is():
    text = shown(story_of(DECISIONS, RUNS, a_report(), use_case="fraud"))
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip().startswith("2025-04")}
    assert "v3*" in text
    assert "(0.950)" in rows["2025-04-07"]
    assert "mature" in rows["2025-04-07"]
    for part in ("0.680", "1, 3", "0.200", "0.700", "so far"):
        assert part in rows["2025-04-13"]
    assert "–" in rows["2025-04-14"]


def test_pages_that_no_model_chose_have_no_days_of_their_own():
    text = shown(story_of(DECISIONS, RUNS, a_report(), use_case="recommendation"))
    days = [line for line in text.splitlines() if line.startswith("2025-04-")]
    assert [line.split()[:3] for line in days] == [["2025-04-09", "2", "400"], ["2025-04-10", "2", "400"]]


@pytest.mark.parametrize("width", [80, 120])
def test_what_a_page_is_worth_is_told_by_day_and_by_policy_with_its_interval_and_its_days(width):
    text = shown(story_of(DECISIONS, RUNS, a_report(), use_case="recommendation"), width)
    (first, second), (version, chance) = (
        [line.rstrip() for line in text.splitlines() if line.startswith(start)]
        for start in ("2025-04-", ("2*", "chance"))
    )
    assert first == "2025-04-09 2         400 2.55 ████████  2.47–2.63 0.79 (0.71–0.87)   0.500"
    assert second == "2025-04-10 2         400 –              –         –                  0.500"
    assert version == "2*      04-09–04-10 12345 2.56 (2.48–2.64) 0.77 (0.69–0.85) +1.79 (1.71–1.87)"
    assert chance.startswith("chance  02-25–04-10 37635 0.81 (0.73–0.89) –")
    for heading in ("version", "days", "pages", "watches a page", "by chance", "gain"):
        assert heading in text
    assert "…" not in text.split("recommendation: watches a page by day")[1]


def test_an_empty_system_says_what_to_do():
    text = shown(story_of((), (), None))
    assert "nothing has been decided about models yet; `make up` trains the first ones" in text
    assert "run `workbook monitor run`" in text


@pytest.fixture
def lived(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(tmp_path))
    paths = StatePaths(tmp_path)
    for each in DECISIONS:
        append_decision(paths.bundles, each)
    write_runs(paths.world / SCENARIOS, RUNS)
    write_report(paths.reports, a_report(), "")
    return tmp_path


@pytest.mark.usefixtures("lived")
def test_the_command_prints_the_same_for_programs():
    answer = CliRunner().invoke(cli.app, ["timeline", "fraud", "--since", "2025-04-08", "--json"])
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert [each["kind"] for each in told["happenings"]][:2] == ["scenario", "alarm"]
    assert told["happenings"][1]["figures"] == {"reported": 80.0, "usual": 20.0}
    assert told["champions"] == {"fraud": "3"}
    assert told["fraud_days"][0]["average_precision"] == {"1": 0.2, "3": 0.7}


@pytest.mark.usefixtures("lived")
def test_programs_get_the_worth_of_a_page_with_its_interval():
    told = json.loads(CliRunner().invoke(cli.app, ["timeline", "recommendation", "--json"]).stdout)
    assert told["recommendation_days"][0]["watches"] == pytest.approx({"value": 2.55, "low": 2.47, "high": 2.63})
    assert told["worth"][0]["gain"] == pytest.approx({"value": 1.79, "low": 1.71, "high": 1.87})
    assert told["worth"][0]["days"] == [FIRST + 3, FIRST + 4]


def test_the_picture_is_written_where_it_was_asked_for(lived):
    answer = CliRunner().invoke(cli.app, ["timeline", "--plot", str(lived / "loop.svg")])
    assert answer.exit_code == 0, answer.output
    picture = (lived / "loop.svg").read_text()
    assert picture.startswith("<?xml")
    assert "fraud-attack begins" in picture  # matplotlib leaves the text beside its outlines, as a comment


def test_a_picture_that_cannot_be_written_is_one_line(lived):
    for name, fact in (("loop.doc", "no picture's name"), ("nowhere/loop.png", "no folder")):
        error = CliRunner().invoke(cli.app, ["timeline", "--plot", str(lived / name)])
        assert error.exit_code == 1
        assert fact in error.output
