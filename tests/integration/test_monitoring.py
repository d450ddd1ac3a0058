"""Monitoring of a small world that ran live for some days: real lake, real feature tables, a real bundle, MLflow.

The world's own generator makes history and live days; answers are logged as serving would have logged them.
"""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from prometheus_client import CollectorRegistry, start_http_server
from served_models import write_fraud_bundle
from typer.testing import CliRunner

from reference_system.clock import Heartbeat, write_heartbeat
from reference_system.commands.loop import monitor as commands
from reference_system.errors import ServiceError, StateError, TrainingError
from reference_system.event_time import MICROS_PER_DAY, micros, moment_of
from reference_system.events import PREDICTIONS
from reference_system.features.feast.feature_tables import write_days
from reference_system.features.history.values import feature_rows
from reference_system.flows import prefect_monitor, prefect_train
from reference_system.flows.monitoring.events import freshness_of
from reference_system.ingestion.prometheus_metrics import IngestionMetrics
from reference_system.lake.delta_lake import append, history_table
from reference_system.monitoring.duckdb_windows import coverage, served_answers
from reference_system.monitoring.fraud.duckdb_payments import PAYMENT_ANSWERS, fraud_features
from reference_system.monitoring.report.mlflow_figures import MONITORING_EXPERIMENT, log_report
from reference_system.monitoring.report.record import read_latest
from reference_system.paths import StatePaths
from reference_system.registry.bundles.bundle import load_bundle
from reference_system.registry.promotion_log import PROMOTIONS, read_decisions
from reference_system.settings import Settings
from reference_system.stack.metrics_page import read_metrics
from reference_system.use_cases import TOPICS
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, INPUTS, TERMINAL_RISK
from reference_system.world import checkpoint
from reference_system.world.history import write_history
from reference_system.world.records import arrow_columns, record_fields
from reference_system.world.scenarios import SCENARIOS, Run, Scenario, write_runs
from reference_system.world.simulation import LIVE_SLICE

LIVE_DAYS = 11
SCENARIO_DAY = 9.0
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def lived(tmp_path_factory, port_offset):
    """Settings of a world with 45 days of history and 11 live days, amounts inflated during the last two."""
    settings = Settings(
        _env_file=None,
        state_dir=tmp_path_factory.mktemp("monitoring") / "state",
        port_offset=port_offset,
        customers=700,
        terminals=500,
        viewers=400,
        videos=150,
        history_days=45,
    )
    write_history(settings, lambda _: None)
    paths = StatePaths(settings.state_dir)
    world, released = checkpoint.restore(paths.world, settings)
    end = released + LIVE_DAYS * MICROS_PER_DAY
    runs = (Run(name=Scenario.AMOUNT_INFLATION, started=moment_of(released + int(SCENARIO_DAY * MICROS_PER_DAY))),)
    write_runs(paths.world / SCENARIOS, runs)
    happened = world.advance(end, LIVE_SLICE, world.viewing.popular_pages, runs)
    for topic, fields in record_fields(happened, world.viewing.catalogue).items():
        append(paths.lake, topic, history_table(topic, arrow_columns(fields)), versions={})
    for view in (CUSTOMER_ACTIVITY, TERMINAL_RISK):
        table = feature_rows(view, paths.lake, settings.history_start, moment_of(end))
        write_days(paths.feature_tables / view.name, table, settings.history_start, moment_of(end))
    write_fraud_bundle(paths.bundles)
    answer_everything(settings, live_start(settings), moment_of(end))
    return settings


def live_start(settings):
    return settings.history_start + settings.history_days * DAY


def answer_everything(settings, start, end):
    """Log an answer for every payment of [start, end), and as many of a load test with absurd inputs."""
    paths = StatePaths(settings.state_dir)
    times, inputs = fraud_features(paths.lake, paths.feature_tables, start, end)
    ids = np.strings.add("p", times.astype(np.str_)).tolist()
    log_answers(paths, ids, times, inputs)
    log_answers(paths, [f"load-{number}" for number in range(len(ids))], times, np.full_like(inputs, 1e6))


def log_answers(paths, ids, times, inputs):
    bundle = load_bundle(paths.bundles / "fraud" / "1", use_case="fraud", inputs=INPUTS)
    count, width = inputs.shape
    scores = bundle.scorer.score(inputs.astype(np.float32)).astype(float)
    empty = [[]] * count
    row_ends = np.arange(count + 1, dtype=np.int32) * width
    table = history_table(
        PREDICTIONS,
        {
            "schema_version": [1] * count,
            "event_timestamp": times,
            "created_timestamp": times,
            "prediction_id": [f"a-{one}" for one in ids],
            "use_case": ["fraud"] * count,
            "request_id": ids,
            "entity_id": ["c000001"] * count,
            "model_version": ["1"] * count,
            "items": pa.array(empty, pa.list_(pa.string())),
            "scores": pa.array(scores[:, None].tolist(), pa.list_(pa.float64())),
            "decision": np.where(scores > 0.6, "review", "approve").tolist(),
            "reasons": pa.array(empty, pa.list_(pa.string())),
            "features": pa.ListArray.from_arrays(row_ends, pa.array(inputs.ravel())),
            "entity_keys": [["c000001", "t000001"]] * count,
            "state_micros": pa.array([[None, None]] * count, pa.list_(pa.int64())),
            "catalogue_timestamp": pa.nulls(count, pa.timestamp("us", tz="UTC")),
            "feature_age_seconds": [0.0] * count,
            "degraded": [False] * count,
            "latency_ms": [1.0] * count,
        },
    )
    append(paths.lake, PREDICTIONS, table, versions={})


@pytest.fixture
def look(lived, monkeypatch):
    """Run the flow so many days after the end of the history; returns its summary and the report."""
    paths = StatePaths(lived.state_dir)
    for name in Settings.model_fields:
        monkeypatch.setenv(f"WORKBOOK_{name.upper()}", str(getattr(lived, name)))

    def after(days, *, act=False):
        now = live_start(lived) + days * DAY
        write_heartbeat(paths.clock, Heartbeat(event_time=now, wall_seconds=0.0, speed=0.0))
        return prefect_monitor.monitor.fn(act=act), read_latest(paths.reports)

    return after


def columns(report, use_case="fraud"):
    (case,) = (case for case in report.use_cases if case.use_case == use_case)
    return {column.column: column for group in case.groups for column in group.columns}


def test_before_the_scenario_no_served_column_drifts(look):
    summary, report = look(SCENARIO_DAY)
    assert summary["drifted"] == {"fraud": (), "recommendation": ()}
    found = columns(report)
    assert found["amount"].status == "steady"
    assert found["score"].status == "steady"
    assert found["customer_mean_amount_7d"].status == "steady"


def test_two_days_after_its_start_the_scenario_is_an_alarm_that_names_what_to_do(look, lived):
    summary, report = look(LIVE_DAYS)
    assert {"amount", "payment_amount", "customer_mean_amount_1d"} <= set(summary["drifted"]["fraud"])
    assert summary["level"] == "alarm"
    assert "workbook train fraud" in summary["next_commands"]
    amount = columns(report)["amount"]
    assert (amount.status, amount.days) == ("drift", 2)
    assert amount.current_mean == pytest.approx(1.6 * amount.reference_mean, rel=0.15)
    page = (StatePaths(lived.state_dir).reports / "latest.html").read_text()
    assert "amount-inflation" in page
    assert json.dumps(summary)


def test_a_look_that_may_not_act_says_what_the_policy_would_do_and_does_nothing(look, lived):
    summary, report = look(LIVE_DAYS)
    assert summary["rulings"]["fraud"].startswith("train: drift in ")
    assert summary["rulings"]["recommendation"] == "no training: nothing calls for it"
    assert (summary["trained"], report.rulings) == ((), summary["rulings"])
    assert read_decisions(StatePaths(lived.state_dir).bundles) == []


def test_a_training_that_fails_is_logged_and_the_look_is_kept(look, lived, monkeypatch):
    def fails(use_case, trigger):
        raise TrainingError(f"{use_case} cannot be trained because of {trigger}")

    monkeypatch.setattr(prefect_train.train, "fn", fails)
    summary, _ = look(LIVE_DAYS, act=True)
    assert summary["trained"] == ("fraud",)
    bundles = StatePaths(lived.state_dir).bundles
    assert [each.kind for each in read_decisions(bundles, "fraud")] == ["alarm", "retraining"]
    again, _ = look(LIVE_DAYS, act=True)
    assert again["rulings"]["fraud"].startswith("no training: the last alarm was answered 0.0 days ago")
    (bundles / PROMOTIONS).unlink()


def test_reports_of_young_payments_and_answers_of_the_champion_are_shown_before_labels_are_mature(look):
    _, report = look(SCENARIO_DAY)
    early = report.use_cases[0].performance.early
    assert early.outcomes.payments > 1_000
    assert early.outcomes.bound is not None
    assert not early.outcomes.alarming
    assert early.missed is not None
    assert [day.mature for day in early.days] == [True] * 2 + [False] * (len(early.days) - 2)
    assert all(day.answered_by == ("1",) and day.estimate is not None for day in early.days)
    assert report.use_cases[0].quality.answers > 500
    assert set(report.use_cases[0].quality.skew.values()) == {0.0}


def test_columns_that_payments_do_not_touch_stay_steady(look):
    found = columns(look(LIVE_DAYS)[1])
    assert found["is_night"].status == "steady"
    assert found["customer_transaction_count_7d"].status == "steady"


def test_answers_of_a_load_test_are_in_no_window(lived):
    lake = StatePaths(lived.state_dir).lake
    start, end = live_start(lived), live_start(lived) + 2 * DAY
    answers = served_answers(lake, PAYMENT_ANSWERS, start, end)
    assert coverage(lake, PAYMENT_ANSWERS, start, end) == 1.0
    assert answers.inputs.max() < 1e6
    assert len(answers.times) == len(answers.inputs)


def test_served_inputs_equal_the_feature_tables(lived):
    paths = StatePaths(lived.state_dir)
    start, end = live_start(lived), live_start(lived) + DAY
    times, inputs = fraud_features(paths.lake, paths.feature_tables, start, end)
    answers = served_answers(paths.lake, PAYMENT_ANSWERS, start, end)
    assert np.array_equal(times, answers.times)
    assert np.array_equal(inputs, answers.inputs)


def test_performance_appears_when_labels_are_mature_and_not_before(look):
    _, early = look(7)
    assert early.use_cases[0].performance.days == ()
    assert "No mature labels yet" in early.use_cases[0].performance.statement
    _, late = look(LIVE_DAYS)
    days = late.use_cases[0].performance.days
    assert [day.day for day in days] == sorted({day.day for day in days})
    assert len(days) == LIVE_DAYS - 7
    assert all(day.enough == (day.positives >= 10) for day in days)


def test_pages_of_the_popularity_policy_are_shown_but_not_judged_as_a_model(look):
    _, report = look(LIVE_DAYS)
    performance = report.use_cases[1].performance
    assert {day.model_version for day in performance.days} == {"popularity"}
    assert "no page of a model" in performance.statement
    assert columns(report, "recommendation")["best_score"].status == "not judged"


def test_at_the_end_of_the_history_there_is_nothing_to_judge_but_the_payments(look):
    summary, report = look(0)
    assert summary["level"] == "quiet"
    found = columns(report)
    assert found["payment_amount"].status == "steady"
    assert found["amount"].reason == "current window: no payment of it has an answer in the prediction log"


def test_a_window_with_too_few_answers_is_not_judged(look):
    _, report = look(1)
    assert columns(report)["amount"].reason.endswith("% of its payments have a logged answer, 75% are needed")


def test_freshness_without_ingestion_and_figures_without_mlflow_are_said(look):
    summary, report = look(SCENARIO_DAY)
    assert "not known" in report.freshness.statement
    assert summary["mlflow_run"] is None


def test_freshness_is_what_ingestion_publishes(lived):
    registry = CollectorRegistry()
    metrics = IngestionMetrics(TOPICS, ("counted",), registry=registry)
    metrics.add_delays([10.0] * 99 + [50.0])
    metrics.show({}, {})
    server, thread = start_http_server(lived.port("ingestion_metrics"), "127.0.0.1", registry)
    try:
        freshness = freshness_of(read_metrics(lived.port("ingestion_metrics")), lived.speed)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert (freshness.p50_ms, freshness.p99_ms) == (10.0, 10.4)
    assert "min of event time" in freshness.statement


def test_the_figures_and_the_page_are_a_run_in_mlflow(look, lived, tmp_path, monkeypatch):
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    _, report = look(LIVE_DAYS)
    page = StatePaths(lived.state_dir).reports / "latest.html"
    run = MlflowClient(uri).get_run(log_report(uri, report, page))
    assert run.info.status == "FINISHED"
    assert run.data.metrics["fraud/psi/amount"] == pytest.approx(columns(report)["amount"].psi)
    assert run.data.tags["level"] == "alarm"
    assert {file.path for file in MlflowClient(uri).list_artifacts(run.info.run_id)} == {"latest.html", "latest.json"}
    assert MlflowClient(uri).get_experiment_by_name(MONITORING_EXPERIMENT) is not None


def test_an_mlflow_that_does_not_answer_is_a_service_error(look, lived, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    _, report = look(SCENARIO_DAY)
    with pytest.raises(ServiceError, match="did not take the figures"):
        log_report(lived.url("mlflow"), report, tmp_path / "page.html")


def test_the_command_says_what_the_latest_report_found(look):
    look(LIVE_DAYS)
    answer = CliRunner().invoke(commands.app, ["report"])
    assert answer.exit_code == 0
    assert "alarm: fraud: drift in" in answer.output
    assert "next: workbook train fraud" in answer.output
    assert "latest.html" in answer.output


def test_without_a_world_there_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(tmp_path))
    with pytest.raises(StateError, match="no world has run"):
        prefect_monitor.monitor.fn()
    answer = CliRunner().invoke(commands.app, ["report"])
    assert isinstance(answer.exception, StateError)


def test_an_empty_lake_and_no_champion_are_said_and_are_no_crash(tmp_path, monkeypatch, port_offset):
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("WORKBOOK_PORT_OFFSET", str(port_offset))
    now = Settings(_env_file=None).history_start + DAY
    write_heartbeat(StatePaths(tmp_path).clock, Heartbeat(event_time=now, wall_seconds=0.0, speed=0.0))
    summary = prefect_monitor.monitor.fn(act=True)
    assert summary["level"] == "not judged"
    assert "nothing can be judged yet" in summary["verdict"]
    assert summary["trained"] == ()
    assert read_latest(StatePaths(tmp_path).reports).use_cases[0].performance.early.outcomes.payments == 0


def test_a_damaged_bundle_is_no_reference_and_no_crash(look, lived):
    model = StatePaths(lived.state_dir).bundles / "fraud" / "1" / "model.onnx"
    content = model.read_bytes()
    model.write_bytes(content[:-1])
    try:
        _, report = look(SCENARIO_DAY)
    finally:
        model.write_bytes(content)
    assert report.use_cases[0].champion is None
    assert columns(report)["score"].reason == "reference: no champion yet"
    assert columns(report)["amount"].status == "steady"
    assert micros(report.as_of) > 0
