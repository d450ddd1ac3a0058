"""The pages around the API: document, landing page, metrics, clock, log."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from local_broker import NOON

from reference_system.clock import GRACE_SECONDS, Heartbeat, SimulatedClock, wall_seconds, write_heartbeat
from reference_system.serving.event_clock import ServingClock
from reference_system.serving.http.landing_page import landing_page
from reference_system.serving.http.openapi import document
from reference_system.serving.prometheus_metrics import Distribution, ServingMetrics
from reference_system.serving.structured_log import log_place, write_event

COMMITTED = Path(__file__).parents[4] / "docs" / "openapi.json"


def test_the_committed_document_is_the_one_that_is_served():
    assert COMMITTED.read_bytes() == document(), "write it again: workbook openapi"


def test_no_description_has_the_indentation_that_only_older_compilers_leave_in_a_docstring():
    assert rb"\n " not in document()


def test_the_document_bounds_what_a_request_may_hold():
    schemas = json.loads(document())["components"]["schemas"]
    payment = schemas["FraudScoreRequest"]
    assert payment["additionalProperties"] is False
    assert set(payment["required"]) == {"transaction_id", "customer_id", "terminal_id", "amount"}
    assert (payment["properties"]["amount"]["minimum"], payment["properties"]["amount"]["maximum"]) == (0.0, 1e12)
    assert schemas["RecommendationRequest"]["properties"]["k"]["maximum"] == 50


def test_every_reference_of_the_document_leads_somewhere():
    found = json.loads(document())
    for name in re.findall(r'"\$ref": "#/components/schemas/(\w+)"', document().decode()):
        assert name in found["components"]["schemas"]


def test_the_landing_page_loads_nothing_and_names_its_neighbours():
    here, mlflow, prefect = (f"http://127.0.0.1:{port}" for port in (3000, 5050, 4200))
    page = landing_page(here=here, mlflow=mlflow, prefect=prefect, beside=()).decode()
    assert not re.search(r"<(script|link|img|iframe|form)|@import|url\(", page)
    assert {*re.findall(r"https?://[^/\s\"<]+", page)} == {here, mlflow, prefect}


def test_the_landing_page_says_who_stands_beside_the_champions():
    page = landing_page(
        here="", mlflow="", prefect="", beside=["fraud: version 7 as canary, stopped (<slow>)"]
    ).decode()
    assert "<li>fraud: version 7 as canary, stopped (&lt;slow&gt;)</li>" in page
    assert "Beside" not in landing_page(here="", mlflow="", prefect="", beside=()).decode()


def test_a_distribution_counts_up_to_each_bound():
    found = Distribution((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 7.0):
        found.add(value)
    assert found.buckets() == [("1.0", 2), ("2.0", 3), ("+Inf", 4)]
    assert found.sum == 10.0


def test_metrics_have_the_names_that_dashboards_read():
    metrics = ServingMetrics(endpoints=("/x",), views=("v",), log_outcomes=("sent", "dropped"))
    metrics.answered("/x", 200, 0.003)
    metrics.used("v", 90.0)
    metrics.degraded("fraud")
    metrics.refused("fraud")
    metrics.logged("sent", 3)
    metrics.serves("fraud", "1")
    metrics.serves("fraud", "2")
    page = metrics.text().decode().splitlines()
    for line in (
        'workbook_requests_total{endpoint="/x",status="200"} 1.0',
        'workbook_request_seconds_bucket{endpoint="/x",le="0.002"} 0.0',
        'workbook_request_seconds_bucket{endpoint="/x",le="0.005"} 1.0',
        'workbook_feature_age_seconds_bucket{le="600.0",view="v"} 1.0',
        'workbook_prediction_log_total{outcome="sent"} 3.0',
        'workbook_prediction_log_total{outcome="dropped"} 0.0',
        'workbook_degraded_total{use_case="fraud"} 1.0',
        'workbook_bundles_refused_total{use_case="fraud"} 1.0',
        'workbook_model_info{use_case="fraud",version="2"} 1.0',
    ):
        assert line in page
    assert not any('version="1"' in line for line in page)


def test_before_the_world_time_stands_at_the_end_of_the_models_data(tmp_path):
    assert ServingClock(tmp_path / "clock.json", before_the_world=lambda: NOON).now() == NOON


@pytest.mark.parametrize("age", [0.0, 100.0])
def test_the_services_clock_is_the_event_clock(tmp_path, age):
    path = tmp_path / "clock.json"
    write_heartbeat(path, Heartbeat(event_time=NOON, wall_seconds=wall_seconds() - age, speed=10.0))
    clock = ServingClock(path, before_the_world=lambda: NOON)
    before, between, after = SimulatedClock(path).now(), clock.now(), SimulatedClock(path).now()
    assert before <= between <= after
    assert clock.now() <= NOON + timedelta(seconds=10.0 * GRACE_SECONDS)


def test_a_heartbeat_that_cannot_be_read_leaves_the_last_one(tmp_path):
    path = tmp_path / "clock.json"
    write_heartbeat(path, Heartbeat(event_time=NOON, wall_seconds=wall_seconds(), speed=0.0))
    clock = ServingClock(path, before_the_world=lambda: NOON - timedelta(days=1))
    clock.now()
    path.write_bytes(b"{")
    clock._read_at = 0.0
    assert clock.now() == NOON


def test_a_log_line_is_json_and_an_error_is_told_without_its_message(capsys):
    with pytest.raises(ValueError, match="4111") as raised:
        float("amount 4111 of c000001")
    write_event("endpoint_failed", error=log_place(raised.value))
    line = json.loads(capsys.readouterr().out)
    assert line["event"] == "endpoint_failed"
    assert re.fullmatch(r"ValueError at test_serving_pages.py:\d+", line["error"])
