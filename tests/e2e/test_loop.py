"""The whole loop on a live system: events flow, answers come, batches are scored, drift is reported."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pyarrow.parquet as pq
import pytest

from reference_system.paths import StatePaths

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import LiveSystem

PAYMENT = {"transaction_id": "loop-1", "customer_id": "c000001", "terminal_id": "t000001", "amount": 25.0}
# Real seconds for something that takes one or two: a busy machine may take many times as long.
PATIENCE = 120.0


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE:.0f} s"
        time.sleep(0.5)


def post(live: LiveSystem, path: str, body: object) -> httpx.Response:
    return httpx.post(f"{live.settings.url('serving')}{path}", json=body, timeout=10)


def answer_of(live: LiveSystem, *arguments: str) -> dict[str, Any]:
    ended = live.workbook(*arguments, "--json")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


def test_events_that_the_world_produces_are_acknowledged_and_counted(live: LiveSystem) -> None:
    before = live.status()["events"]["counted"]
    eventually(lambda: live.status()["events"]["counted"] > before, "events counted")
    status = live.status()
    assert status["events"]["dead_lettered"] == 0
    assert status["events"]["acknowledged"] >= status["events"]["counted"] + status["events"]["late"]
    assert 0 < status["freshness_ms"]["p50"] <= status["freshness_ms"]["p99"]


def test_event_time_moves(live: LiveSystem) -> None:
    before = live.status()["clock"]
    eventually(lambda: live.status()["clock"] > before, "the simulated clock")


def test_a_payment_is_scored_by_the_champion_with_features(live: LiveSystem) -> None:
    def scored() -> bool:
        answer = post(live, "/v1/fraud/score", PAYMENT).raise_for_status().json()
        assert answer["decision"] in {"approve", "review", "block"}
        return not answer["degraded"] and 0.0 <= answer["score"] <= 1.0 and answer["model_version"].isdigit()

    eventually(scored, "a score of the model")


def test_an_unknown_customer_is_answered_as_a_cold_start(live: LiveSystem) -> None:
    answer = post(live, "/v1/fraud/score", PAYMENT | {"customer_id": "nobody", "terminal_id": "nowhere"}).json()
    assert answer["feature_age_seconds"] is None
    assert answer["decision"] in {"approve", "review", "block"}


def test_a_viewer_gets_ten_different_videos(live: LiveSystem) -> None:
    answer = post(live, "/v1/recommendations", {"viewer_id": "v000001", "k": 10}).raise_for_status().json()
    videos = [item["video_id"] for item in answer["items"]]
    assert len(videos) == len(set(videos)) == 10


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"amount": -1.0}, "amount"),
        ({"amount": "12.5"}, "amount"),
        ({"colour": "red"}, "colour"),
        ({"event_timestamp": "2999-01-01T00:00:00Z"}, "event_timestamp"),
    ],
)
def test_a_bad_payment_is_refused_with_the_field_named(
    live: LiveSystem, change: dict[str, object], field: str
) -> None:
    answer = post(live, "/v1/fraud/score", PAYMENT | change)
    assert answer.status_code == 422
    assert field in answer.text


def test_answers_reach_the_lake_through_the_prediction_log(live: LiveSystem) -> None:
    folder = StatePaths(live.settings.state_dir).lake / "predictions"
    eventually(lambda: any(folder.rglob("*.parquet")), "predictions in the lake")


def test_a_day_of_payments_is_scored_in_a_batch(live: LiveSystem) -> None:
    summary = answer_of(live, "score-batch", "fraud")
    assert summary["rows"] > 0
    scores = pq.read_table(Path(summary["file"])).column("score").to_numpy()
    assert len(scores) == summary["rows"]
    assert ((scores >= 0.0) & (scores <= 1.0)).all()


def test_pages_are_precomputed_in_a_batch(live: LiveSystem) -> None:
    assert answer_of(live, "score-batch", "recommendation")["rows"] > 0


def test_a_retraining_registers_a_version_and_the_gate_answers(live: LiveSystem) -> None:
    summary = answer_of(live, "train", "fraud")
    assert int(summary["version"]) >= 2
    assert summary["answer"] in {"promote", "hold", "refuse"}
    assert summary["reasons"]


def test_the_etl_can_be_run_again_for_a_range_of_days(live: LiveSystem) -> None:
    first = answer_of(live, "etl", "--from", "2025-02-01", "--to", "2025-02-04")
    assert first["days"] == 3
    assert answer_of(live, "etl", "--from", "2025-02-01", "--to", "2025-02-04")["rows"] == first["rows"]


def test_monitoring_writes_a_page_that_shows_the_scenario_that_runs(live: LiveSystem) -> None:
    assert live.workbook("scenario", "start", "amount-inflation").returncode == 0
    try:
        summary = answer_of(live, "monitor", "run")
    finally:
        assert live.workbook("scenario", "stop", "amount-inflation").returncode == 0
    page = Path(summary["report"]).read_text(encoding="utf-8")
    assert "amount-inflation" in page
    assert "http://" not in page.replace(live.settings.url("mlflow"), "").replace(live.settings.url("prefect"), "")


def test_the_flows_have_schedules_that_the_server_knows(live: LiveSystem) -> None:
    names = {
        "etl",
        "monitor",
        "release",
        "train-fraud",
        "train-recommendation",
        "score-batch-fraud",
        "score-batch-recommendation",
    }
    page = StatePaths(live.settings.state_dir).logs / "flows.log"
    eventually(page.exists, "the flows' log")
    with httpx.Client(base_url=live.settings.url("prefect"), timeout=30) as client:
        token = client.get("/api/csrf-token", params={"client": "test"}).json()["token"]
        headers = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "test"}
        found = client.post("/api/deployments/filter", json={}, headers=headers).raise_for_status().json()
    assert {deployment["name"] for deployment in found} == names
    assert all(deployment["schedules"] for deployment in found)
