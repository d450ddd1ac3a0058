"""Old versions are forgotten by a real MLflow server and by the folder of bundles; the others keep everything."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import mlflow
import pytest
from local_broker import small_settings
from mlflow_server import running_mlflow
from tiny_models import ROWS, TINY_INPUTS, tiny_bundle

from reference_system.errors import ServiceError
from reference_system.flows.retention import old_versions
from reference_system.flows.retention.old_versions import forget_old_versions, kept_versions
from reference_system.paths import StatePaths
from reference_system.proofs.bad_models.onnx_tiny_bundle import tiny_model
from reference_system.registry import mlflow_registry, mlflow_rest
from reference_system.registry.bundles.bundle import set_current
from reference_system.registry.mlflow_registry import LoggedCandidate, LoggedTraining, Registered
from reference_system.registry.promotion_log import LoggedDecision, append_decision
from reference_system.registry.traffic import TrafficPlan, write_plan
from reference_system.settings import Settings

NOON = datetime(2025, 4, 6, 12, tzinfo=UTC)


def register(root: Path) -> Registered:
    training = LoggedTraining(
        use_case="fraud",
        name="tiny",
        parameters={},
        metrics={"ndcg@10": 0.25},
        tags={},
        candidates=[LoggedCandidate(name="one", parameters={}, metrics={}) for _ in range(2)],
        plots={"ndcg.png": b"\x89PNG"},
        folds=[],
        model=tiny_model(),
        inputs=TINY_INPUTS,
        example=ROWS[:2],
    )
    return mlflow_registry.register_training(training, lambda version: tiny_bundle(root, version=version))


def files_of(settings: Settings) -> int:
    return sum(path.is_file() for path in (settings.state_dir / "mlflow" / "artifacts").rglob("*"))


@pytest.mark.integration
def test_the_newest_and_those_with_a_part_to_play_keep_everything_and_all_else_is_gone(
    tmp_path, port_offset, monkeypatch
):
    monkeypatch.setattr(old_versions, "KEPT_VERSIONS", 2)
    monkeypatch.setattr(old_versions, "_KEPT_REPORTS", 3)
    with running_mlflow(small_settings(tmp_path / "state", port_offset)) as settings:
        mlflow_registry.use_mlflow(settings.url("mlflow"))
        root, client = StatePaths(settings.state_dir).bundles, mlflow.MlflowClient()
        first = register(root)
        files_of_one = files_of(settings)
        set_current(root, "fraud", first.version)
        made = [first, *(register(root) for _ in range(4))]
        monitoring = client.create_experiment("monitoring")
        looks = [client.create_run(monitoring, start_time=number + 1).info.run_id for number in range(5)]
        assert forget_old_versions(settings, "fraud") == ["3", "2"]
        kept = ["5", "4", "1"]
        assert [one.version for one in mlflow_rest.versions(settings.port("mlflow"), "fraud")] == kept
        assert sorted(path.name for path in (root / "fraud").iterdir() if path.is_dir()) == sorted(kept)
        runs = client.search_runs([client.get_experiment_by_name("fraud").experiment_id])
        assert len(runs) == 3 * len(kept)
        assert {made[0].run_id, made[3].run_id, made[4].run_id} <= {run.info.run_id for run in runs}
        assert files_of(settings) == files_of_one * len(kept)
        assert {run.info.run_id for run in client.search_runs([monitoring])} == set(looks[2:])
        mlflow_registry.fetch_bundle("fraud", "1", tmp_path / "again")
        assert forget_old_versions(settings, "fraud") == []
        assert register(root).version == "6"


def test_champions_of_before_and_whoever_stands_beside_the_champion_have_a_part_to_play(tmp_path):
    for version in ("2", "4", "6", "8", "6"):
        append_decision(tmp_path, LoggedDecision(event_timestamp=NOON, use_case="fraud", version=version))
    append_decision(tmp_path, LoggedDecision(event_timestamp=NOON, use_case="recommendation", version="9"))
    plan = TrafficPlan(
        use_case="fraud", mode="experiment", version="10", name="a-b", share=0.5, salt="salt", since=NOON
    )
    write_plan(tmp_path, plan)
    registered = {str(number): ["challenger"] if number == 12 else [] for number in range(1, 41)}
    kept = kept_versions(tmp_path, "fraud", registered)
    assert kept == {"4", "6", "8", "10", "12", *(str(number) for number in range(31, 41))}


def test_without_mlflow_nothing_is_forgotten(settings: Settings, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    root = StatePaths(settings.state_dir).bundles
    for number in range(1, 15):
        tiny_bundle(root, version=str(number))
    with pytest.raises(ServiceError, match="does not list"):
        forget_old_versions(settings, "fraud")
    assert len(list((root / "fraud").iterdir())) == 14
