"""Batch scoring on a real lake, real feature tables and a real online store: the same answers as one by one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest
from local_broker import small_settings
from served_models import States, write_fraud_bundle, write_recommendation_bundle

from reference_system.clock import SimulatedClock
from reference_system.errors import ServiceError, StateError
from reference_system.features.duckdb_snapshot import states
from reference_system.flows.prefect_batch import score_batch
from reference_system.flows.prefect_etl import etl
from reference_system.paths import StatePaths
from reference_system.registry.bundles import load_bundle, set_current
from reference_system.serving.api import FraudScoreRequest
from reference_system.serving.bentoml_service import fraud_model, open_reads, ranker_model
from reference_system.serving.catalogue import read_catalogue
from reference_system.serving.fraud_scoring import score_payment
from reference_system.serving.mlflow_batch_runs import log_batch_run
from reference_system.serving.recommending import compose
from reference_system.use_cases.fraud import features as fraud
from reference_system.use_cases.recommendation import features as recommendation
from reference_system.world.history import write_history

EVERY = 7  # of the day's payments one in seven is compared


@pytest.fixture(scope="module")
def world(tmp_path_factory, port_offset):
    """A small history with features and a champion for each use case."""
    settings = small_settings(tmp_path_factory.mktemp("batch") / "state", port_offset)
    paths = StatePaths(settings.state_dir)
    write_history(settings, lambda _line: None)
    with pytest.MonkeyPatch.context() as patch:
        use(patch, settings)
        etl.fn()
    write_fraud_bundle(paths.bundles)
    write_recommendation_bundle(paths.bundles)
    return settings


def use(patch, settings):
    for name in ("state_dir", "port_offset", "history_days"):
        patch.setenv(f"WORKBOOK_{name.upper()}", str(getattr(settings, name)))
    # MLflow's own patience would outlast the test.
    patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def paths(world, monkeypatch):
    use(monkeypatch, world)
    return StatePaths(world.state_dir)


@pytest.fixture
def runs(monkeypatch):
    """What would go to MLflow's server; the server itself is another test's subject."""
    found = []

    def keep(_url, run):
        found.append(run)
        return "run-1"

    monkeypatch.setattr("reference_system.flows.prefect_batch.log_batch_run", keep)
    return found


def test_a_days_batch_scores_equal_the_real_time_scores(paths, runs):
    summary = score_batch.fn("fraud")
    rows = pq.read_table(summary["file"]).to_pylist()
    model = fraud_model(load_bundle(paths.bundles / "fraud" / "1", use_case="fraud", inputs=fraud.INPUTS))
    # The online store of that evening: the states of now begin 31 days ago, too late for a window of two days ago.
    evening = datetime.fromisoformat(summary["day"]).replace(tzinfo=UTC) + timedelta(days=1)
    read = States()
    for view in fraud.VIEWS:
        for key, time, state in states(view, paths.lake, evening):
            read[view.name, key] = (state, time)
    assert len(rows) == summary["rows"] == runs[0].rows > 100
    for row in rows[::EVERY]:
        names = ("transaction_id", "customer_id", "terminal_id", "amount", "event_timestamp")
        request = FraudScoreRequest(**{name: row[name] for name in names})
        scored = score_payment(request, row["event_timestamp"], model, read)
        assert scored.score == pytest.approx(row["score"], abs=1e-6)
        assert scored.decision == row["decision"]
        assert row["model_version"] == "1"


@pytest.mark.usefixtures("runs")
def test_the_newest_finished_day_is_scored_by_default_and_again_gives_the_same_file(paths):
    first = score_batch.fn("fraud")
    rows = pq.read_table(first["file"])
    again = score_batch.fn("fraud", first["day"])
    now = SimulatedClock(paths.clock).now()
    assert datetime.fromisoformat(first["day"]).replace(tzinfo=UTC) + timedelta(days=1) <= now
    assert again["file"] == first["file"]
    assert pq.read_table(first["file"]).equals(rows)
    assert [path.name for path in (paths.batch / "fraud").iterdir()] == [f"{first['day']}.parquet"]


def test_pages_are_those_of_the_real_time_service(paths, runs):
    summary = score_batch.fn("recommendation")
    rows = pq.read_table(summary["file"]).to_pylist()
    bundle = load_bundle(
        paths.bundles / "recommendation" / "1", use_case="recommendation", inputs=recommendation.INPUTS
    )
    read = open_reads(paths)
    assert 10 < len(rows) <= 100
    for row in rows[::EVERY]:
        catalogue = read_catalogue(ranker_model(bundle), read, row["event_timestamp"])
        page = compose(row["viewer_id"], 10, row["event_timestamp"], catalogue, read)
        assert [item.video_id for item in page.items] == row["video_ids"]
        assert [item.score for item in page.items] == pytest.approx(row["scores"], abs=1e-6)
    assert len(runs[0].scores) == 10 * len(rows)


@pytest.mark.parametrize(
    ("use_case", "day", "fact"),
    [
        ("fraud", "2031-01-01", "complete up to"),
        ("fraud", "2020-01-01", "no payment"),
        ("fraud", "yesterday", "no day such as"),
        ("recommendation", "2020-01-01", "states of now"),
        ("weather", None, "no use case"),
    ],
)
@pytest.mark.usefixtures("paths")
def test_what_cannot_be_scored_is_one_line(runs, use_case, day, fact):
    with pytest.raises(StateError, match=fact):
        score_batch.fn(use_case, day)
    assert not runs


@pytest.mark.usefixtures("runs")
def test_without_a_champion_the_next_command_is_named(paths):
    pointer = paths.bundles / "fraud" / "current"
    pointer.unlink()
    try:
        with pytest.raises(StateError) as raised:
            score_batch.fn("fraud")
        assert raised.value.next_command == "workbook train fraud"
    finally:
        set_current(paths.bundles, "fraud", "1")


def test_with_mlflow_away_the_predictions_are_written_and_the_run_fails(paths):
    with pytest.raises(ServiceError, match="the predictions are written"):
        score_batch.fn("fraud")
    assert list((paths.batch / "fraud").glob("*.parquet"))


@pytest.mark.usefixtures("paths")
def test_a_run_in_mlflow_says_what_was_scored(runs, tmp_path):
    import mlflow

    summary = score_batch.fn("fraud")
    url = f"sqlite:///{tmp_path / 'mlflow.db'}"
    try:
        mlflow.set_tracking_uri(url)
        mlflow.create_experiment("batch", artifact_location=str(tmp_path / "artifacts"))
        run = mlflow.get_run(log_batch_run(url, runs[0]))
        assert run.data.metrics["rows"] == summary["rows"]
        assert run.data.params == {"use_case": "fraud", "day": summary["day"], "model_version": "1"}
        histogram = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/score_histogram.json")
        assert sum(histogram["counts"]) == summary["rows"]
    finally:
        mlflow.set_tracking_uri(None)
