"""Batch scoring on a real lake, real feature tables and a real online store: the same answers as one by one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from local_broker import small_settings
from served_models import States, write_fraud_bundle, write_recommendation_bundle
from typer.testing import CliRunner

from reference_system.cli import app
from reference_system.clock import SimulatedClock, read_heartbeat, write_heartbeat
from reference_system.errors import StateError, WorkbookError
from reference_system.features.feast.store import open_store, read_states, write_states
from reference_system.features.history.states import states
from reference_system.flows.batch.mlflow_runs import log_batch_run
from reference_system.flows.batch.partitions import draft_folder
from reference_system.flows.prefect_batch import score_batch, write_batch
from reference_system.flows.prefect_etl import etl
from reference_system.lake import delta_lake
from reference_system.paths import StatePaths
from reference_system.registry.bundles.bundle import load_bundle, set_current
from reference_system.serving.api import FraudScoreRequest
from reference_system.serving.bentoml_service import fraud_model, open_reads, ranker_model
from reference_system.serving.fraud.scoring import score_payment
from reference_system.serving.recommendation.catalogue import refresh_catalogue
from reference_system.serving.recommendation.pages import compose
from reference_system.stack.locks import one_at_a_time
from reference_system.use_cases.fraud import features as fraud
from reference_system.use_cases.fraud.events import TRANSACTIONS
from reference_system.use_cases.recommendation import features as recommendation
from reference_system.world.history import write_history

EVERY = 3  # of a day's payments one in three is compared


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


def batch_file(paths, use_case, day):
    return paths.batch / use_case / f"{day}.parquet"


def times_of(store, view, keys):
    return [(key, time) for key, (_, time) in zip(keys, read_states(store, view, keys), strict=True)]


class Interrupted(Exception):  # noqa: N818 - what happens, and no error
    """Ends a run between two of its points; SIGKILL at each of them is the subject of `test_batch_partitions.py`."""


def interrupted_at(paths, use_case, day, passage):
    left = [passage]

    def interrupt(_point):
        left[0] -= 1
        if not left[0]:
            raise Interrupted

    with pytest.raises(Interrupted):
        write_batch(paths, use_case, day, force=True, passed=interrupt)


def test_a_days_batch_scores_equal_the_real_time_scores(paths, runs):
    summary = score_batch.fn("fraud", force=True)
    rows = pq.read_table(summary["file"]).to_pylist()
    model = fraud_model(load_bundle(paths.bundles / "fraud" / "1", use_case="fraud", inputs=fraud.INPUTS))
    # The online store of that evening: the states of now begin 31 days ago, too late for a window of two days ago.
    evening = datetime.fromisoformat(summary["day"]).replace(tzinfo=UTC) + timedelta(days=1)
    read = States()
    for view in fraud.VIEWS:
        for key, time, state in states(view, paths.lake, evening):
            read[view.name, key] = (state, time)
    assert len(rows) == summary["rows"] == summary["made_rows"] == runs[0].rows > 100
    assert rows == sorted(rows, key=lambda row: (row["event_timestamp"], row["transaction_id"]))
    for row in rows[::EVERY]:
        names = ("transaction_id", "customer_id", "terminal_id", "amount", "event_timestamp")
        request = FraudScoreRequest(**{name: row[name] for name in names})
        scored = score_payment(request, row["event_timestamp"], model, read)
        assert scored.score == pytest.approx(row["score"], abs=1e-9)
        assert scored.decision == row["decision"]
        assert row["model_version"] == "1"


def test_the_newest_finished_day_is_scored_by_default_and_once(paths, runs):
    first = score_batch.fn("fraud", force=True)
    content = batch_file(paths, "fraud", first["day"]).read_bytes()
    now = SimulatedClock(paths.clock).now()
    assert datetime.fromisoformat(first["day"]).replace(tzinfo=UTC) + timedelta(days=1) <= now
    again = score_batch.fn("fraud", first["day"])
    assert (again["outcome"], again["rows"], again["made_rows"]) == ("already done", first["rows"], 0)
    assert len(runs) == 1
    forced = score_batch.fn("fraud", first["day"], force=True)
    assert (forced["outcome"], forced["file"], forced["inputs"]) == ("scored", first["file"], first["inputs"])
    assert batch_file(paths, "fraud", first["day"]).read_bytes() == content


@pytest.mark.usefixtures("runs")
def test_a_run_that_was_interrupted_in_the_middle_of_a_day_is_continued(paths):
    day = "2025-02-12"
    whole = score_batch.fn("fraud", day)
    content = batch_file(paths, "fraud", day).read_bytes()
    # The third partition is made, and not yet finished.
    interrupted_at(paths, "fraud", day, 5)
    assert batch_file(paths, "fraud", day).read_bytes() == content  # the old one, whole
    batch_file(paths, "fraud", day).unlink()
    continued = score_batch.fn("fraud", day)
    assert continued["outcome"] == "continued"
    assert 0 < continued["made_rows"] < continued["rows"] == whole["rows"]
    assert batch_file(paths, "fraud", day).read_bytes() == content
    assert not draft_folder(batch_file(paths, "fraud", day)).exists()


@pytest.mark.usefixtures("runs")
def test_another_model_or_another_payment_makes_the_day_anew(paths):
    first = score_batch.fn("fraud", "2025-02-11")
    write_fraud_bundle(paths.bundles, "2")
    try:
        second = score_batch.fn("fraud", "2025-02-11")
        assert (second["outcome"], second["model_version"]) == ("scored", "2")
    finally:
        set_current(paths.bundles, "fraud", "1")
    # What came after the ETL is a payment of its day, too: the features of the day are computed again.
    morning = datetime(2025, 2, 11, 9, tzinfo=UTC)
    late = delta_lake.read(paths.lake, TRANSACTIONS, start=morning, end=morning + timedelta(hours=3)).read_all()[:1]
    # Of a card and at a terminal without other payments: the features of the days after it are still right.
    for column in ("transaction_id", "customer_id", "terminal_id"):
        late = late.set_column(late.schema.get_field_index(column), column, [["late"]])
    delta_lake.append(paths.lake, TRANSACTIONS, late, versions={})
    third = score_batch.fn("fraud", "2025-02-11")
    assert third["outcome"] == "scored"
    assert third["rows"] == first["rows"] + 1
    assert third["inputs"] != second["inputs"] == first["inputs"]


def test_pages_are_those_of_the_real_time_service(paths, runs):
    summary = score_batch.fn("recommendation", force=True)
    rows = pq.read_table(summary["file"]).to_pylist()
    bundle = load_bundle(
        paths.bundles / "recommendation" / "1", use_case="recommendation", inputs=recommendation.INPUTS
    )
    read = open_reads(paths)
    assert 10 < len(rows) <= 100
    assert len({row["viewer_id"] for row in rows}) == len(rows)
    for row in rows[::EVERY]:
        catalogue = refresh_catalogue(ranker_model(bundle), read, row["event_timestamp"])
        page = compose(row["viewer_id"], 10, row["event_timestamp"], catalogue, read)
        assert [item.video_id for item in page.items] == row["video_ids"]
        assert [item.score for item in page.items] == pytest.approx(row["scores"], abs=1e-9)
    assert len(runs[0].scores) == 10 * len(rows)
    assert score_batch.fn("recommendation")["outcome"] == "already done"


@pytest.mark.usefixtures("runs")
def test_pages_that_are_continued_are_those_of_the_moment_at_which_they_were_begun(paths):
    whole = score_batch.fn("recommendation", force=True)
    target = batch_file(paths, "recommendation", whole["day"])
    content = target.read_bytes()
    interrupted_at(paths, "recommendation", whole["day"], 6)
    target.unlink()
    # The stream goes on: nobody has watched anything any more.
    store, view = open_store(paths), recommendation.VIEWER_RECENT
    viewers = [row["viewer_id"] for row in pq.read_table(pa.BufferReader(content)).to_pylist()]
    newer = [(key, (time or 0) + 1, 0, msgspec.msgpack.encode([])) for key, time in times_of(store, view, viewers)]
    write_states(store, view, newer)
    beat = read_heartbeat(paths.clock)
    write_heartbeat(paths.clock, msgspec.structs.replace(beat, event_time=beat.event_time + timedelta(minutes=20)))
    try:
        continued = score_batch.fn("recommendation")
        assert (continued["outcome"], continued["rows"]) == ("continued", whole["rows"])
        assert target.read_bytes() == content
        # Pages of now are others.
        now = score_batch.fn("recommendation")
        assert now["outcome"] == "scored"
        assert now["inputs"] != continued["inputs"] == whole["inputs"]
    finally:
        write_heartbeat(paths.clock, beat)
    assert sorted(path.name for path in target.parent.iterdir()) == [target.name]


@pytest.mark.usefixtures("paths")
def test_a_range_of_days_is_scored_day_by_day_and_once(runs):
    words = ["score-batch", "fraud", "--from", "2025-02-06", "--to", "2025-02-09", "--json"]
    done = [json.loads(CliRunner().invoke(app, words).stdout) for _ in range(2)]
    assert [day["day"] for day in done[0]] == ["2025-02-06", "2025-02-07", "2025-02-08"]
    assert [day["outcome"] for day in done[0] + done[1]] == ["scored"] * 3 + ["already done"] * 3
    assert all(day["rows_per_second"] > 0 for day in done[0])
    assert [run.day for run in runs] == ["2025-02-06", "2025-02-07", "2025-02-08"]


@pytest.mark.usefixtures("runs")
def test_a_range_that_is_interrupted_says_how_far_it_came_and_goes_on_from_there(paths):
    words = ["score-batch", "fraud", "--from", "2025-02-03", "--to", "2025-02-06"]
    with one_at_a_time(draft_folder(batch_file(paths, "fraud", "2025-02-04")), "score-batch fraud"):
        stopped = CliRunner().invoke(app, words)
    assert stopped.exit_code == 1
    assert "1 of 3 days; the same command goes on from here" in stopped.stdout
    lines = CliRunner().invoke(app, words).stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["2025-02-03", "already"],
        ["2025-02-04", "scored"],
        ["2025-02-05", "scored"],
    ]


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
    with pytest.raises(WorkbookError, match=fact):
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


def test_with_mlflow_away_the_predictions_are_written_and_the_run_is_missed(paths, caplog):
    summary = score_batch.fn("fraud", "2025-02-13")
    assert (summary["outcome"], summary["run_id"]) == ("scored", None)
    assert batch_file(paths, "fraud", "2025-02-13").exists()
    assert "MLflow did not take the run" in caplog.text


@pytest.mark.usefixtures("paths")
def test_a_run_in_mlflow_says_what_was_scored(runs, tmp_path):
    import mlflow

    summary = score_batch.fn("fraud", force=True)
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
