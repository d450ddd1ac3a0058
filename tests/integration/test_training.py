"""Training end to end: a generated history, Feast, a real MLflow server, the gate, the bundles."""

from __future__ import annotations

from datetime import timedelta

import mlflow
import msgspec
import numpy as np
import pytest
from local_broker import small_settings
from mlflow_server import running_mlflow
from prefect.testing.utilities import prefect_test_harness

from reference_system.clock import Heartbeat, wall_seconds, write_heartbeat
from reference_system.errors import StateError, TrainingError, WorkbookError
from reference_system.event_time import micros
from reference_system.features.feast import store as feast_store
from reference_system.features.feast.feature_tables import Mark
from reference_system.flows import prefect_train
from reference_system.flows.prefect_train import train
from reference_system.flows.training.trained_model import prepare_case, selection_spec_of, split_of
from reference_system.lake import delta_lake
from reference_system.monitoring.retraining import PACE
from reference_system.paths import StatePaths
from reference_system.processes import bootstrap as run_bootstrap
from reference_system.registry.bundles.bundle import (
    current_version,
    load_bundle,
    read_bundle_manifest,
    set_current,
    version_folder,
)
from reference_system.registry.mlflow_registry import champion_version
from reference_system.registry.model_card import read_card
from reference_system.registry.promotion_log import read_decisions
from reference_system.registry.release.releases import abort, read_release
from reference_system.settings import Settings
from reference_system.use_case import USE_CASES
from reference_system.use_cases.fraud.events import TRANSACTIONS
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, INPUTS
from reference_system.windows import Tail, evaluate
from reference_system.world.history import write_history

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def variables(settings: Settings) -> dict[str, str]:
    names = ("state_dir", "port_offset", "customers", "terminals", "viewers", "videos", "history_days")
    return {f"WORKBOOK_{name.upper()}": str(getattr(settings, name)) for name in names}


@pytest.fixture(scope="module")
def system(tmp_path_factory, port_offset):
    """A bootstrapped system: history, features, both champions; large enough that a model can beat a rule."""
    small = small_settings(tmp_path_factory.mktemp("training") / "state", port_offset)
    settings = small.model_copy(update={"customers": 800, "terminals": 1_000, "viewers": 600, "videos": 300})
    with (
        pytest.MonkeyPatch.context() as patch,
        prefect_test_harness(server_startup_timeout=120),
        running_mlflow(settings),
    ):
        for name, value in (variables(settings) | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}).items():
            patch.setenv(name, value)
        write_history(settings, lambda _: None)
        run_bootstrap.main(settings)
        yield settings


@pytest.fixture
def paths(system):
    return StatePaths(system.state_dir)


@pytest.mark.parametrize("use_case", USE_CASES)
def test_after_the_bootstrap_a_verified_champion_can_be_served(paths, use_case):
    version = champion_version(use_case)
    assert current_version(paths.bundles, use_case) == version == "1"
    inputs = tuple(selection_spec_of(use_case).inputs)
    assert [one.kind for one in read_decisions(paths.bundles, use_case)][:2] == ["gate", "champion"]
    bundle = load_bundle(version_folder(paths.bundles, use_case, version), use_case=use_case, inputs=inputs)
    assert (bundle.catalogue is not None) == (use_case == "recommendation")


def test_the_bootstrap_done_again_trains_nothing(system, paths, capsys):
    before = read_decisions(paths.bundles, "fraud")
    set_current(paths.bundles, "fraud", "1")
    (version_folder(paths.bundles, "fraud", "1") / "model.onnx").write_bytes(b"damaged")
    run_bootstrap.main(system)
    said = capsys.readouterr().out
    assert "fraud: version 1 is champion" in said
    assert "fetched from the registry" in said
    load_bundle(version_folder(paths.bundles, "fraud", "1"), use_case="fraud", inputs=INPUTS)
    assert read_decisions(paths.bundles, "fraud") == before


@pytest.mark.parametrize("use_case", USE_CASES)
def test_the_run_tells_window_digest_plots_slices_cost_and_its_card(system, paths, use_case):  # noqa: ARG001 - the server
    client = mlflow.MlflowClient()
    run = client.get_run(client.get_model_version(use_case, "1").run_id)
    assert run.data.params["train_end"] < run.data.params["test_start"] < run.data.params["as_of"]
    assert len(run.data.params["dataset_digest"]) == 64
    assert run.data.metrics["onnx_largest_difference"] <= 1e-6
    assert len(list(client.list_artifacts(run.info.run_id, "plots"))) == 4
    assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/model_card.md") == read_card(
        paths.bundles, use_case, "1"
    )
    assert any(name.startswith("slice.") for name in run.data.metrics)
    assert {"cost.cpu_seconds", "cost.peak_mb", "cost.model_bytes"} <= run.data.metrics.keys()
    assert run.data.tags["gate"] == "promote"


def test_a_fraud_row_has_the_features_that_a_naive_recount_of_the_lake_gives(system, paths):
    as_of = system.history_start + timedelta(days=system.history_days)
    store = feast_store.open_store(paths)
    split = split_of("fraud", as_of)
    case = prepare_case(
        "fraud", paths.lake, split, lambda rows, views: feast_store.historical(store, rows, views), seed=1
    )
    table = delta_lake.read(paths.lake, TRANSACTIONS, end=case.split.test.end).read_all().to_pandas()
    table["time"] = table["event_timestamp"].map(micros)
    columns = [INPUTS.index(name) for name in CUSTOMER_ACTIVITY.features]
    for row in np.random.default_rng(1).integers(0, len(case.evaluator.rows), 20):
        time = case.evaluator.rows.times[row]
        customer = table.loc[table["time"] == time, "customer_id"].iloc[0]
        past = table[(table["customer_id"] == customer) & (table["time"] <= time)].sort_values("time")
        values = np.column_stack([past["amount"], np.ones(len(past))])
        expected = evaluate(CUSTOMER_ACTIVITY, Tail(past["time"].to_numpy(), values), time)
        np.testing.assert_allclose(case.evaluator.rows.inputs[row, columns], expected, rtol=1e-5)


def test_training_again_at_the_same_moment_is_held_and_the_champion_stays(paths):
    before = version_folder(paths.bundles, "fraud", "1")
    summary = train("fraud")
    assert (summary["answer"], summary["then"]) == ("hold", "nothing")
    assert "no better than the champion: it answers exactly as the champion does" in summary["reasons"]
    assert champion_version("fraud") == current_version(paths.bundles, "fraud") == "1"
    aliases = mlflow.MlflowClient().get_registered_model("fraud").aliases
    assert aliases == {"champion": "1", "challenger": summary["version"]}
    again = version_folder(paths.bundles, "fraud", summary["version"])
    assert (again / "model.onnx").read_bytes() == (before / "model.onnx").read_bytes(), (
        "the same inputs, the same model"
    )


def test_after_an_alarm_with_too_few_reports_the_run_says_so_and_leaves_the_champion(paths):
    with pytest.raises(TrainingError, match=r"only \d+ frauds were reported"):
        train.fn("fraud", trigger="performance")
    assert current_version(paths.bundles, "fraud") == "1"


def test_after_an_alarm_a_ranker_is_trained_on_what_is_new_and_released_or_held(paths):
    summary = train.fn("recommendation", trigger="drift")
    manifest = read_bundle_manifest(version_folder(paths.bundles, "recommendation", summary["version"]))
    assert manifest.trigger == "drift"
    assert manifest.created_timestamp - manifest.data_window.end == timedelta(days=2)
    assert current_version(paths.bundles, "recommendation") == "1", "a release begins in the shadow"
    release = read_release(paths.bundles, "recommendation")
    assert (release is not None) == (summary["then"] == "shadow") == (summary["answer"] == "promote")
    said = read_decisions(paths.bundles, "recommendation")
    assert [one.reasons[0] for one in said if one.kind == "gate" and one.version == summary["version"]] == [
        summary["answer"]
    ]
    abort(paths.bundles, "recommendation", reason="the test ends", now=manifest.created_timestamp)


def test_without_a_prefect_server_the_flow_function_does_the_same(system):  # noqa: ARG001
    assert train.fn("fraud")["answer"] == "hold"


class ReadsDataError(Exception):
    """The training has gone past what may leave it out."""


@pytest.fixture
def no_data(monkeypatch):
    def reads(*_):
        raise ReadsDataError

    monkeypatch.setattr(prefect_train, "_complete_features", reads)


@pytest.mark.usefixtures("no_data")
def test_a_scheduled_training_soon_after_another_completes_without_reading_data_and_says_why_once(system, paths):
    before = read_decisions(paths.bundles, "fraud")
    last = [one.event_timestamp for one in before if one.kind == "gate"][-1]
    states = [train("fraud", trigger="schedule", return_state=True) for _ in range(2)]
    assert [state.is_completed() for state in states] == [True, True]
    said = states[0].result()["skipped"]
    assert said == states[1].result()["skipped"]
    assert said.startswith(f"the last training is of {last:%m-%d %H:%M}, less than 3 days ago")
    (added,) = read_decisions(paths.bundles, "fraud")[len(before) :]
    assert (added.kind, added.reasons, added.previous) == ("skipped", (said,), "1")
    write_clock(paths, last + PACE)
    try:
        with pytest.raises(ReadsDataError):
            train.fn("fraud", trigger="schedule")
    finally:
        write_clock(paths, system.history_start + timedelta(days=system.history_days))


@pytest.mark.parametrize("trigger", ["asked", "drift", "performance"])
@pytest.mark.usefixtures("no_data", "system")
def test_what_an_alarm_or_a_person_asks_for_is_trained_however_short_the_time(trigger):
    with pytest.raises(ReadsDataError):
        train.fn("fraud", trigger=trigger)


def test_a_champion_whose_bundle_is_lost_everywhere_does_not_stop_training(system, paths, monkeypatch):  # noqa: ARG001
    def nothing(use_case, version, root):
        raise prefect_train.BundleRefused(f"{use_case}: version {version} has no bundle in {root.name}")

    folder = version_folder(paths.bundles, "fraud", "1")
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(b"damaged")
    monkeypatch.setattr(prefect_train.mlflow_registry, "fetch_bundle", nothing)
    try:
        assert prefect_train._champion("fraud", "1", INPUTS, paths.bundles) is None
    finally:
        (folder / "model.onnx").write_bytes(content)


def test_a_window_without_events_fails_the_run_and_leaves_the_champion(system, paths):
    write_clock(paths, system.history_start + timedelta(days=150))
    try:
        with pytest.raises(TrainingError, match=r"the test window from .* has no rows"):
            train.fn("fraud")
    finally:
        write_clock(paths, system.history_start + timedelta(days=system.history_days))
    assert current_version(paths.bundles, "fraud") == "1"


def test_a_use_case_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(WorkbookError, match="fraud, recommendation"):
        train.fn("fraudd")


def test_before_any_world_there_is_nothing_to_train_on(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(tmp_path))
    with pytest.raises(StateError, match="no world has run"):
        train.fn("fraud")


def test_features_that_end_too_early_are_completed_first(system, tmp_path, monkeypatch):
    now = system.history_start + timedelta(days=system.history_days)
    needed = split_of("fraud", now).test.end
    paths = StatePaths(tmp_path)
    paths.feature_tables.mkdir(parents=True)
    ran = []
    monkeypatch.setattr(prefect_train.etl, "fn", lambda: ran.append("etl"))
    prefect_train._complete_features("fraud", paths, now)
    assert ran == ["etl"], "no mark at all"
    mark = paths.feature_tables / "etl.json"
    mark.write_bytes(msgspec.json.encode(Mark(end=needed)))
    prefect_train._complete_features("fraud", paths, now)
    assert ran == ["etl"], "they reach far enough"
    mark.write_bytes(msgspec.json.encode(Mark(end=needed - timedelta(microseconds=1))))
    prefect_train._complete_features("fraud", paths, now)
    assert ran == ["etl", "etl"], "they end too early"


def write_clock(paths: StatePaths, moment) -> None:
    write_heartbeat(paths.clock, Heartbeat(event_time=moment, wall_seconds=wall_seconds(), speed=0.0))
