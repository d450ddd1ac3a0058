"""The registry against a real MLflow server."""

from __future__ import annotations

import shutil

import mlflow
import msgspec
import numpy as np
import pytest
from local_broker import small_settings
from mlflow_server import running_mlflow
from tiny_models import INPUTS, ROWS, tiny_bundle, tiny_onnx, tiny_scores

from reference_system.errors import BundleRefused, ServiceError
from reference_system.registry import mlflow_registry
from reference_system.registry.bundles import load_bundle
from reference_system.registry.mlflow_registry import LoggedCandidate, LoggedTraining

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(tmp_path_factory, port_offset):
    with (
        pytest.MonkeyPatch.context() as patch,
        running_mlflow(small_settings(tmp_path_factory.mktemp("registry") / "state", port_offset)) as settings,
    ):
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        mlflow_registry.connect(settings.url("mlflow"))
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
        model=tiny_onnx(),
        inputs=INPUTS,
        example=ROWS[:2],
    )
    return mlflow_registry.register(training, lambda version: tiny_bundle(root, version=version))


@pytest.fixture(scope="module")
def registered(server, tmp_path_factory):  # noqa: ARG001 - the server must be up
    return register(tmp_path_factory.mktemp("bundles"), "fraud")


def test_nobody_is_champion_before_the_first_promotion(server):  # noqa: ARG001 - the server must be up
    assert mlflow_registry.champion_version("never-registered") is None


def test_a_registered_version_is_challenger_and_its_run_says_how_it_came_about(registered):
    client = mlflow.MlflowClient()
    assert client.get_model_version_by_alias("fraud", "challenger").version == registered.version
    run = client.get_run(registered.run_id)
    assert run.data.params["dataset_digest"] == "abc"
    assert run.data.metrics["ndcg_at_10"] == 0.25
    assert run.data.tags["commit"] == "0" * 40
    folders = {item.path for item in client.list_artifacts(registered.run_id)}
    assert {"bundle", "plots"} <= folders


def test_each_candidate_has_a_nested_run(registered):
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("fraud")
    (nested,) = client.search_runs([experiment.experiment_id], f"tags.mlflow.parentRunId = '{registered.run_id}'")
    assert nested.info.run_name == "logistic_regression"


def test_the_logged_model_has_a_signature_and_scores_like_the_bundle(registered):
    model = mlflow.pyfunc.load_model(f"models:/fraud/{registered.version}")
    assert tuple(model.metadata.metadata["inputs"]) == INPUTS
    assert model.metadata.get_input_schema().inputs[0].shape == (-1, len(INPUTS))
    answers = model.predict(ROWS)
    np.testing.assert_allclose(answers["probabilities"][:, 1], tiny_scores(), atol=1e-6)


def test_a_bundle_comes_back_from_the_registry_as_it_was_written(registered, tmp_path):
    folder = mlflow_registry.fetch_bundle("fraud", registered.version, tmp_path)
    bundle = load_bundle(folder, use_case="fraud", inputs=INPUTS)
    assert bundle.manifest.model_version == registered.version
    assert [path.name for path in (tmp_path / "fraud").iterdir()] == [registered.version]


def test_fetching_mends_a_damaged_bundle(registered, tmp_path):
    folder = mlflow_registry.fetch_bundle("fraud", registered.version, tmp_path)
    (folder / "model.onnx").write_bytes(b"damaged")
    mlflow_registry.fetch_bundle("fraud", registered.version, tmp_path)
    load_bundle(folder, use_case="fraud", inputs=INPUTS)


def test_promotion_moves_the_alias_and_the_version_remembers_when(server, tmp_path):  # noqa: ARG001
    first, second = register(tmp_path, "promoted"), register(tmp_path, "promoted")
    client = mlflow.MlflowClient()
    for one in (first, second):
        mlflow_registry.promote("promoted", one.version, event_timestamp="2025-04-06T00:00:00+00:00")
        assert mlflow_registry.champion_version("promoted") == one.version
    tags = client.get_model_version("promoted", first.version).tags
    assert tags["promoted_event_timestamp"] == "2025-04-06T00:00:00+00:00"
    assert client.get_registered_model("promoted").aliases == {"champion": second.version}


def test_the_gates_answer_is_at_the_run_and_at_the_version(registered):
    mlflow_registry.log_verdict(registered, "hold", ("unclear", "more"), {"answer": "hold", "against": {}})
    client = mlflow.MlflowClient()
    assert client.get_run(registered.run_id).data.tags["gate"] == "hold"
    assert client.get_model_version("fraud", registered.version).tags["gate"] == "hold"
    text = mlflow.artifacts.load_text(f"runs:/{registered.run_id}/gate.json")
    assert msgspec.json.decode(text)["answer"] == "hold"


def test_a_version_that_does_not_exist_cannot_be_fetched(server, tmp_path):  # noqa: ARG001
    with pytest.raises(ServiceError, match="MLflow refused"):
        mlflow_registry.fetch_bundle("fraud", "999", tmp_path)


def test_a_version_that_would_be_a_path_is_never_asked_for(tmp_path):
    with pytest.raises(BundleRefused):
        mlflow_registry.fetch_bundle("fraud", "../1", tmp_path)


def test_if_writing_the_bundle_fails_the_aliases_stay(registered, server):
    before = mlflow_registry.champion_version("fraud")
    with pytest.raises(OSError, match="disk full"):
        mlflow_registry.register(
            LoggedTraining(
                use_case="fraud",
                name="fails",
                parameters={},
                metrics={},
                tags={},
                candidates=[],
                plots={},
                model=tiny_onnx(),
                inputs=INPUTS,
                example=ROWS[:1],
            ),
            _disk_full,
        )
    client = mlflow.MlflowClient()
    assert client.get_model_version_by_alias("fraud", "challenger").version == registered.version
    assert mlflow_registry.champion_version("fraud") == before
    shutil.rmtree(server.state_dir / "bundles", ignore_errors=True)


def _disk_full(version):
    raise OSError(f"disk full while writing version {version}")
