"""The registry against a real MLflow server."""

from __future__ import annotations

from datetime import UTC, datetime

import mlflow
import msgspec
import numpy as np
import pytest
from local_broker import small_settings
from mlflow_server import running_mlflow
from tiny_models import ROWS, TINY_INPUTS, tiny_bundle, tiny_scores

from reference_system.errors import BundleRefused, ServiceError
from reference_system.proofs.bad_models.onnx_tiny_bundle import tiny_model
from reference_system.registry import mlflow_registry, mlflow_rest
from reference_system.registry import promotion as promoting
from reference_system.registry.bundles.bundle import load_bundle
from reference_system.registry.mlflow_registry import LoggedCandidate, LoggedTraining
from reference_system.registry.promotion_log import LoggedDecision

pytestmark = pytest.mark.integration
NOON = datetime(2025, 4, 6, 12, tzinfo=UTC)
NOBODY = 9  # the discard port: nothing listens there


@pytest.fixture(scope="module")
def server(tmp_path_factory, port_offset):
    with (
        pytest.MonkeyPatch.context() as patch,
        running_mlflow(small_settings(tmp_path_factory.mktemp("registry") / "state", port_offset)) as settings,
    ):
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        mlflow_registry.use_mlflow(settings.url("mlflow"))
        yield settings


def register(root, use_case):
    training = LoggedTraining(
        use_case=use_case,
        name="tiny as of noon",
        parameters={"train_rows": 16, "dataset_digest": "abc"},
        metrics={"ndcg@10": 0.25, "coverage": 0.5},
        tags={"commit": "0" * 40},
        candidates=[LoggedCandidate(name="logistic_regression", parameters={"C": 1.0}, metrics={"ndcg@10": 0.25})],
        plots={"ndcg.png": b"\x89PNG"},
        folds=[{"ndcg@10": 0.2}, {"ndcg@10": 0.3}],
        model=tiny_model(),
        inputs=TINY_INPUTS,
        example=ROWS[:2],
    )
    return mlflow_registry.register_training(training, lambda version: tiny_bundle(root, version=version))


@pytest.fixture(scope="module")
def registered(server, tmp_path_factory):  # noqa: ARG001 - the server must be up
    return register(tmp_path_factory.mktemp("bundles"), "fraud")


@pytest.fixture
def fresh(server, tmp_path):  # noqa: ARG001 - the server must be up
    """A new version, for a test that moves aliases or looks where they are; its model is nobody else's."""
    return register(tmp_path / "registered", "recommendation")


def test_nobody_is_champion_before_the_first_promotion(server):  # noqa: ARG001 - the server must be up
    assert mlflow_registry.champion_version("never-registered") is None


def test_a_registered_version_is_challenger_and_its_run_says_how_it_came_about(fresh):
    client = mlflow.MlflowClient()
    assert client.get_model_version_by_alias(fresh.use_case, "challenger").version == fresh.version
    run = client.get_run(fresh.run_id)
    assert run.data.params["dataset_digest"] == "abc"
    assert run.data.metrics["ndcg_at_10"] == 0.25
    assert run.data.tags["commit"] == "0" * 40
    folders = {item.path for item in client.list_artifacts(fresh.run_id)}
    assert {"bundle", "plots"} <= folders
    assert [one.value for one in client.get_metric_history(fresh.run_id, "fold.ndcg_at_10")] == [0.2, 0.3]


def test_each_candidate_has_a_nested_run(registered):
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("fraud")
    (nested,) = client.search_runs([experiment.experiment_id], f"tags.mlflow.parentRunId = '{registered.run_id}'")
    assert nested.info.run_name == "logistic_regression"


def test_the_logged_model_has_a_signature_and_scores_like_the_bundle(registered):
    model = mlflow.pyfunc.load_model(f"models:/fraud/{registered.version}")
    assert tuple(model.metadata.metadata["inputs"]) == TINY_INPUTS
    assert model.metadata.get_input_schema().inputs[0].shape == (-1, len(TINY_INPUTS))
    answers = model.predict(ROWS)
    np.testing.assert_allclose(answers["probabilities"][:, 1], tiny_scores(), atol=1e-6)


def test_a_bundle_comes_back_from_the_registry_as_it_was_written(registered, tmp_path):
    folder = mlflow_registry.fetch_bundle("fraud", registered.version, tmp_path)
    bundle = load_bundle(folder, use_case="fraud", inputs=TINY_INPUTS)
    assert bundle.manifest.model_version == registered.version
    assert [path.name for path in (tmp_path / "fraud").iterdir()] == [registered.version]


def test_fetching_mends_a_damaged_bundle(registered, tmp_path):
    folder = mlflow_registry.fetch_bundle("fraud", registered.version, tmp_path)
    (folder / "model.onnx").write_bytes(b"damaged")
    mlflow_registry.fetch_bundle("fraud", registered.version, tmp_path)
    load_bundle(folder, use_case="fraud", inputs=TINY_INPUTS)


def test_promotion_moves_pointer_log_and_alias(server, fresh, tmp_path):
    port, client = server.port("mlflow"), mlflow.MlflowClient()
    tiny_bundle(tmp_path, fresh.use_case, version=fresh.version)
    decision = LoggedDecision(event_timestamp=NOON, use_case=fresh.use_case, version=fresh.version)
    promoting.make_champion(tmp_path, port, use_case=fresh.use_case, version=fresh.version, decision=decision)
    assert not promoting.alias_is_owed(tmp_path, fresh.use_case)
    assert client.get_registered_model(fresh.use_case).aliases == {"champion": fresh.version}
    tags = client.get_model_version(fresh.use_case, fresh.version).tags
    assert tags["promoted_event_timestamp"] == NOON.isoformat()
    assert mlflow_rest.get_alias(port, fresh.use_case, "champion") == fresh.version
    assert mlflow_rest.get_alias(port, fresh.use_case, "challenger") is None
    assert mlflow_rest.get_alias(port, "never-registered", "champion") is None


def test_what_was_promoted_while_the_registry_was_away_is_mended_when_it_is_back(server, fresh, tmp_path):
    port, client = server.port("mlflow"), mlflow.MlflowClient()
    tiny_bundle(tmp_path, fresh.use_case, version=fresh.version)
    decision = LoggedDecision(event_timestamp=NOON, use_case=fresh.use_case, version=fresh.version)
    promoting.make_champion(tmp_path, NOBODY, use_case=fresh.use_case, version=fresh.version, decision=decision)
    assert promoting.alias_is_owed(tmp_path, fresh.use_case)
    promoting.reconcile_champion(tmp_path, port, use_case=fresh.use_case, now=NOON)
    assert not promoting.alias_is_owed(tmp_path, fresh.use_case)
    assert client.get_model_version_by_alias(fresh.use_case, "champion").version == fresh.version


def test_versions_tags_and_artefacts_are_read_without_mlflows_client(server, registered):
    port = server.port("mlflow")
    mlflow_rest.set_version_tag(port, "fraud", registered.version, "rolled_back", "slow")
    found = {one.version: one for one in mlflow_rest.versions(port, "fraud")}
    assert found[registered.version].run_id == registered.run_id
    assert found[registered.version].tag("rolled_back") == "slow"
    assert mlflow_rest.versions(port, "never-registered") == ()
    assert mlflow_rest.artefact(port, registered.run_id, "plots/ndcg.png") == b"\x89PNG"
    assert mlflow_rest.artefact(port, registered.run_id, "plots/none.png") is None
    with pytest.raises(ServiceError, match="knows no version 999"):
        mlflow_rest.set_alias(port, "fraud", "champion", "999")


def test_the_gates_answer_is_at_the_run_and_at_the_version(registered):
    mlflow_registry.log_verdict(registered, "hold", ("unclear", "more"), {"answer": "hold", "against": {}}, "# A card")
    client = mlflow.MlflowClient()
    assert client.get_run(registered.run_id).data.tags["gate"] == "hold"
    assert client.get_model_version("fraud", registered.version).tags["gate"] == "hold"
    text = mlflow.artifacts.load_text(f"runs:/{registered.run_id}/gate.json")
    assert msgspec.json.decode(text)["answer"] == "hold"
    assert mlflow.artifacts.load_text(f"runs:/{registered.run_id}/model_card.md") == "# A card"
    assert client.get_model_version("fraud", registered.version).description == "# A card"


def test_a_version_that_does_not_exist_cannot_be_fetched(server, tmp_path):  # noqa: ARG001
    with pytest.raises(ServiceError, match="MLflow refused"):
        mlflow_registry.fetch_bundle("fraud", "999", tmp_path)


def test_a_version_that_would_be_a_path_is_never_asked_for(tmp_path):
    with pytest.raises(BundleRefused):
        mlflow_registry.fetch_bundle("fraud", "../1", tmp_path)


def test_if_writing_the_bundle_fails_the_aliases_stay(fresh):
    before = mlflow_registry.champion_version(fresh.use_case)
    with pytest.raises(OSError, match="disk full"):
        mlflow_registry.register_training(
            LoggedTraining(
                use_case=fresh.use_case,
                name="fails",
                parameters={},
                metrics={},
                tags={},
                candidates=[],
                plots={},
                folds=[],
                model=tiny_model(),
                inputs=TINY_INPUTS,
                example=ROWS[:1],
            ),
            _disk_full,
        )
    client = mlflow.MlflowClient()
    assert client.get_model_version_by_alias(fresh.use_case, "challenger").version == fresh.version
    assert mlflow_registry.champion_version(fresh.use_case) == before


def _disk_full(version):
    raise OSError(f"disk full while writing version {version}")


def test_every_version_is_read_however_many_fit_on_a_page(server, registered, monkeypatch):
    port, client = server.port("mlflow"), mlflow.MlflowClient()
    client.create_registered_model("pages")
    for number in range(1, 8):
        client.create_model_version(
            "pages", f"runs:/{registered.run_id}/bundle", registered.run_id, tags={"gate": f"answer {number}"}
        )
    monkeypatch.setattr(mlflow_rest, "_PAGE_VERSIONS", 3)
    found = mlflow_rest.versions(port, "pages")
    assert [(one.version, one.tag("gate")) for one in found] == [(str(n), f"answer {n}") for n in range(7, 0, -1)]
