from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console
from typer.testing import CliRunner

from reference_system import cli
from reference_system.commands.timeline_story import story_of
from reference_system.commands.timeline_tables import as_text
from reference_system.monitoring.drift import FALSE_ALARM_RATE, MATERIAL_PSI
from reference_system.monitoring.early_outcomes import EarlyOutcomes
from reference_system.monitoring.estimated_performance import Estimate
from reference_system.monitoring.performance import DayFigures
from reference_system.monitoring.report import (
    Early,
    Freshness,
    Performance,
    Report,
    UseCaseReport,
    Window,
    write_report,
)
from reference_system.monitoring.same_payments import DayOfPayments
from reference_system.paths import StatePaths
from reference_system.registry.promotions import Decision, append_decision
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
    return Decision(event_timestamp=moment, use_case=use_case, kind=kind, version=version, reasons=reasons, **more)


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
        estimate=Estimate(frauds=50.0, average_precision=0.6),
    )


def a_report() -> Report:
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
    )
    now = BEGIN + 8.5 * DAY
    return Report(
        as_of=now,
        current=Window(start=now - 2 * DAY, end=now),
        speed=1_440.0,
        false_alarm_rate=FALSE_ALARM_RATE,
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


def shown(story) -> str:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123 - nothing is written
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


def test_pages_that_no_model_chose_are_not_shown():
    text = shown(story_of(DECISIONS, RUNS, a_report(), use_case="recommendation"))
    assert text.count("2025-04-10") == 1
    assert "popularity" not in text


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
