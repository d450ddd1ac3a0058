from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reference_system.flows.model_history import (
    log_alarms,
    log_retraining,
    log_skipped,
    logged_alarms,
    past_of,
    previous_champion,
)
from reference_system.monitoring.drift import LOOP_FALSE_ALARM_RATE, MATERIAL_PSI
from reference_system.monitoring.fraud.early_outcomes import EarlyOutcomes
from reference_system.monitoring.report.record import (
    Early,
    Finding,
    Freshness,
    MonitoringReport,
    Performance,
    TimeSpan,
    UseCaseReport,
)
from reference_system.monitoring.retraining import RetrainDecision
from reference_system.registry.promotion_log import LoggedDecision, append_decision, read_decisions
from reference_system.registry.traffic import TrafficPlan, write_plan

NOW = datetime(2025, 4, 10, tzinfo=UTC)
DAY = timedelta(days=1)


def decide(root, kind, days, **more):
    append_decision(root, LoggedDecision(event_timestamp=NOW + days * DAY, use_case="fraud", kind=kind, **more))


def point_to(root, version):
    (root / "fraud").mkdir(parents=True, exist_ok=True)
    (root / "fraud" / "current").write_text(version)


def a_report(*findings, logged=()):
    early = Early(outcomes=EarlyOutcomes(window_days=3, payments=900, reported=80, usual=20.0, bound=40.0), missed=60)
    case = UseCaseReport(
        use_case="fraud",
        champion="1",
        coverage=1.0,
        groups=(),
        left_out=(),
        performance=Performance(primary="average_precision", statement="", early=early),
    )
    return MonitoringReport(
        as_of=NOW,
        current=TimeSpan(start=NOW - 2 * DAY, end=NOW),
        speed=1.0,
        false_alarm_rate=LOOP_FALSE_ALARM_RATE,
        material_psi=MATERIAL_PSI,
        use_cases=(case,),
        freshness=Freshness(),
        volumes=(),
        scenarios=(),
        findings=findings,
        level="alarm",
        verdict="",
        logged=logged,
    )


def finding(kind, use_case="fraud"):
    return Finding(use_case=use_case, kind=kind, text="something", next_command="x")


def look(root, last, *findings, act=True):
    """A monitoring run: its report, after it logged what is new."""
    report = a_report(*findings, logged=logged_alarms(findings, last, act=act))
    if act:
        log_alarms(root, report, last)
    return report


def test_an_alarm_is_logged_when_it_begins_and_again_only_after_it_was_gone(tmp_path):
    last = None
    for on in (True, True, False, True):
        last = look(tmp_path, last, *([finding("outcomes")] if on else []))
    alarms = read_decisions(tmp_path, "fraud")
    assert [each.kind for each in alarms] == ["alarm", "alarm"]
    assert alarms[0].reasons == ("outcomes: something",)
    assert alarms[0].figures == {
        "drifted_columns": 0.0,
        "reported": 80.0,
        "usual": 20.0,
        "bound": 40.0,
        "missed": 60.0,
    }


def test_a_second_kind_of_alarm_is_logged_beside_the_first(tmp_path):
    first = look(tmp_path, None, finding("outcomes"))
    look(tmp_path, first, finding("outcomes"), finding("drift"))
    assert [each.reasons for each in read_decisions(tmp_path, "fraud")] == [
        ("outcomes: something",),
        ("drift: something",),
    ]


def test_a_look_that_may_not_act_takes_no_alarm_from_the_next_one_that_may(tmp_path):
    last = look(tmp_path, None, finding("drift"), act=False)
    assert read_decisions(tmp_path) == []
    last = look(tmp_path, last, finding("drift"))
    last = look(tmp_path, last, finding("drift"), act=False)
    look(tmp_path, last, finding("drift"))
    assert len(read_decisions(tmp_path, "fraud")) == 1


def test_faults_of_the_data_are_no_decision_about_a_model(tmp_path):
    log_alarms(tmp_path, a_report(finding("volume", "events"), finding("quality")), None)
    assert read_decisions(tmp_path) == []


def test_trainings_count_as_fruitless_until_a_release_begins(tmp_path):
    assert past_of(tmp_path, "fraud").last is None
    for days in (0, 2):
        decision = RetrainDecision(use_case="fraud", trigger="performance", reason="frauds are missed")
        log_retraining(tmp_path, decision, now=NOW + days * DAY)
    past = past_of(tmp_path, "fraud")
    assert (past.last, past.fruitless, past.busy, past.champion) == (NOW + 2 * DAY, 2, None, None)
    assert read_decisions(tmp_path)[0].reasons == ("because of performance", "frauds are missed")
    decide(tmp_path, "shadow", 3, version="4")
    assert past_of(tmp_path, "fraud").fruitless == 0
    assert past_of(tmp_path, "recommendation").last is None


def test_the_last_candidate_is_the_last_that_the_gate_judged_whatever_it_was_trained_for(tmp_path):
    assert past_of(tmp_path, "fraud").candidate is None
    for days, kind in ((0, "champion"), (1, "gate"), (2, "gate"), (3, "retraining"), (4, "alarm"), (5, "skipped")):
        decide(tmp_path, kind, days)
    past = past_of(tmp_path, "fraud")
    assert (past.candidate, past.last, past.fruitless) == (NOW + 2 * DAY, NOW + 3 * DAY, 1)
    assert past_of(tmp_path, "recommendation").candidate is None


def test_a_scheduled_training_that_is_left_out_is_logged_once_for_each_reason(tmp_path):
    point_to(tmp_path, "3")
    for days, reason in ((0, "too soon"), (1, "too soon"), (2, "a release is on"), (3, "too soon")):
        log_skipped(tmp_path, "fraud", reason, now=NOW + days * DAY)
        log_skipped(tmp_path, "recommendation", "too soon", now=NOW + days * DAY)
    said = [(one.kind, one.event_timestamp - NOW, one.reasons) for one in read_decisions(tmp_path, "fraud")]
    assert said == [
        ("skipped", 0 * DAY, ("too soon",)),
        ("skipped", 2 * DAY, ("a release is on",)),
        ("skipped", 3 * DAY, ("too soon",)),
    ]
    assert len(read_decisions(tmp_path, "recommendation")) == 1
    assert read_decisions(tmp_path, "fraud")[0].previous == "3"


def test_an_experiment_or_a_release_keeps_the_policy_waiting(tmp_path):
    plan = TrafficPlan(use_case="fraud", mode="experiment", version="4", name="exp-1", share=0.5, salt="s", since=NOW)
    write_plan(tmp_path, plan)
    assert past_of(tmp_path, "fraud").busy == "the experiment exp-1"


@pytest.mark.parametrize(("present", "expected"), [("3", "2"), ("1", "2"), ("2", "1")])
def test_the_champion_before_is_the_last_one_that_answered_besides_the_present(tmp_path, present, expected):
    decide(tmp_path, "champion", 0, version="1")
    decide(tmp_path, "champion", 1, version="2", previous="1")
    decide(tmp_path, "champion", 2, version="3", previous="2")
    point_to(tmp_path, present)
    assert previous_champion(tmp_path, "fraud") == expected
