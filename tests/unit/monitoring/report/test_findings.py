from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from reference_system.events import Refusal
from reference_system.monitoring.drift import ColumnDrift
from reference_system.monitoring.duckdb_volumes import TopicVolume
from reference_system.monitoring.fraud.early_outcomes import EarlyOutcomes
from reference_system.monitoring.performance import Change, DayFigures
from reference_system.monitoring.report.findings import findings_of
from reference_system.monitoring.report.record import ColumnGroup, Early, Performance, Quality, UseCaseReport
from reference_system.monitoring.schema_watch import Refusals, since, with_reasons

NOW = datetime(2025, 4, 19, tzinfo=UTC)
QUIET = UseCaseReport(
    use_case="fraud",
    champion="3",
    coverage=1.0,
    groups=(),
    left_out=(),
    performance=Performance(primary="average_precision", statement=""),
)
ALARMING = EarlyOutcomes(window_days=3, payments=9_000, reported=80, usual=20.0, bound=45.0)
FALL = Change(metric="average_precision", newest=0.2, earlier=0.6, low=0.4, high=0.8)


def found(case: UseCaseReport = QUIET, *, volumes=(), refusals=()):
    return [
        (each.kind, each.trigger, each.text) for each in findings_of((case,), volumes, as_of=NOW, refusals=refusals)
    ]


def with_performance(**changes) -> UseCaseReport:
    return msgspec.structs.replace(QUIET, performance=msgspec.structs.replace(QUIET.performance, **changes))


def test_frauds_that_the_champion_takes_for_harmless_call_for_training():
    case = with_performance(early=Early(outcomes=ALARMING, missed=60))
    ((kind, trigger, text),) = found(case)
    assert (kind, trigger) == ("outcomes", "performance")
    assert text == (
        "80 of the payments of the last 3 days are reported as frauds already, 20 are usual; "
        "60 of them not in the champion's riskiest tenth"
    )


@pytest.mark.parametrize("missed", [None, 5])
def test_an_attack_that_the_champion_knows_is_news_and_no_reason_to_train(missed):
    ((kind, trigger, _),) = found(with_performance(early=Early(outcomes=ALARMING, missed=missed)))
    assert (kind, trigger) == ("outcomes", None)


def test_a_fall_on_reported_labels_comes_before_the_labels_are_mature():
    early = Early(outcomes=EarlyOutcomes(window_days=3, payments=9, reported=1), change=FALL)
    ((kind, trigger, text),) = found(with_performance(early=early))
    assert (kind, trigger) == ("performance", "performance")
    assert "labels reported so far is 0.2" in text


@pytest.mark.parametrize(("answered_by", "expected"), [("3", "performance"), ("2", None)])
def test_a_fall_of_a_champion_that_was_replaced_is_no_reason_to_train(answered_by, expected):
    days = tuple(
        DayFigures(day=day, model_version=answered_by, rows=900, positives=20, enough=True, metrics={})
        for day in range(20_000, 20_006)
    )
    ((kind, trigger, _),) = found(with_performance(change=FALL, days=days))
    assert (kind, trigger) == ("performance", expected)


@pytest.mark.parametrize(
    ("quality", "expected"),
    [
        (Quality(answers=2_000, degraded_share=0.2), "20% of the last day's answers came from a rule"),
        (Quality(answers=50, degraded_share=0.2), None),
        (Quality(answers=2_000, degraded_share=0.04), None),
        (Quality(skew={"amount": 0.0, "customer_transaction_count_1d": 0.6}), "customer_transaction_count_1d (60%)"),
        (Quality(skew={"customer_transaction_count_1d": 0.1}), None),
    ],
)
def test_faults_of_the_answers_are_named_and_are_no_reason_to_train(quality, expected):
    kinds = found(msgspec.structs.replace(QUIET, quality=quality))
    assert len(kinds) == (expected is not None)
    for kind, trigger, text in kinds:
        assert (kind, trigger) == ("quality", None)
        assert expected in text


def test_values_that_are_missing_now_and_were_not_are_named():
    column = ColumnDrift(
        column="amount",
        kind="number",
        status="steady",
        missing_share=0.3,
        labels=("≤ 1", "missing"),
        reference_shares=(1.0, 0.0),
        current_shares=(0.7, 0.3),
    )
    group = ColumnGroup(title="", about="", reference=None, columns=(column,))
    ((kind, _, text),) = found(msgspec.structs.replace(QUIET, groups=(group,)))
    assert (kind, text) == ("quality", "values are missing that were there before: amount (30%)")


def test_silence_is_a_finding():
    volume = TopicVolume(topic="transactions", days=(), newest=NOW - timedelta(hours=13))
    ((kind, _, text),) = found(volumes=(volume,))
    assert (kind, text) == ("freshness", "no event since 2025-04-18 11:00")
    assert found(volumes=(msgspec.structs.replace(volume, newest=NOW - timedelta(hours=1)),)) == []


def test_more_chargebacks_are_more_frauds_and_no_fault_of_the_data():
    days = (50, *[50] * 6, 50, 400)
    assert found(volumes=(TopicVolume(topic="chargebacks", days=days, newest=NOW),)) == []
    assert found(volumes=(TopicVolume(topic="transactions", days=days, newest=NOW),))[0][0] == "volume"


def test_what_a_release_or_an_experiment_logs_is_no_volume_to_judge():
    for topic in ("shadow-predictions", "exposures", "predictions", "watches"):
        volume = TopicVolume(topic=topic, days=(500, *[500] * 6, 500, 0), newest=NOW)
        assert found(volumes=(volume,)) == []


@pytest.mark.parametrize(
    ("new", "counted", "reasons", "alarm"),
    [
        (9, 100, {}, False),
        (20, 100_000, {}, False),
        (2_000, 100_000, {}, True),
        (1, 100_000, {Refusal.UNKNOWN_VERSION: 1}, True),
        (0, 100_000, {}, False),
    ],
)
def test_refused_records_are_an_alarm_if_a_producer_has_changed(new, counted, reasons, alarm):
    refused = Refusals(
        topic="transactions", counted=counted, refused=new, new=new, new_counted=counted, reasons=reasons
    )
    assert bool(found(refusals=(refused,))) is alarm


def test_refused_records_are_counted_from_look_to_look():
    first = since((), {"transactions": (1_000, 7)})
    assert [(each.new, each.new_counted) for each in first] == [(0, 0)]
    (second,) = since(first, {"transactions": (1_500, 19)})
    assert (second.new, second.new_counted) == (12, 500)
    told = with_reasons(second, ["not-json"] * 7 + ["wrong-schema"] * 12)
    assert told.reasons == {"wrong-schema": 12}
    assert told.text == "12 records of transactions refused since the last look (12 wrong-schema)"
