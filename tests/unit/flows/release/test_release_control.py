"""The controller of releases reads the logs and serving's page, and takes the step that follows."""

from __future__ import annotations

import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from local_broker import NOON, free_port_offset
from sample_events import example
from tiny_models import tiny_bundle

from reference_system.clock import Heartbeat, wall_seconds, write_heartbeat
from reference_system.events import PREDICTIONS, SHADOWS
from reference_system.flows import prefect_release
from reference_system.flows.release.control import control, policy_of
from reference_system.lake import delta_lake
from reference_system.paths import StatePaths
from reference_system.registry.bundles.bundle import current_version, set_current
from reference_system.registry.promotion_log import read_decisions
from reference_system.registry.release import releases
from reference_system.registry.traffic import read_plan
from reference_system.serving.prometheus_metrics import ServingMetrics

HOUR = timedelta(hours=1)
RNG = np.random.default_rng(4)


class Life:
    """A release with its logs, and a service that has a metrics page."""

    def __init__(self, settings):
        self.settings = settings
        self.paths = StatePaths(settings.state_dir)
        self.metrics = ServingMetrics(endpoints=(), views=(), log_outcomes=())
        self.answered = 0
        for version in ("1", "2"):
            tiny_bundle(self.paths.bundles, version=version)
        set_current(self.paths.bundles, "fraud", "1")
        releases.begin_release(self.paths.bundles, use_case="fraud", version="2", champion="1", now=NOON, seed=7)

    def traffic(self, *, hours, count=400, canary=0, skewed=False):
        """Requests that both models scored, `canary` of them answered by the challenger."""
        moment = NOON + hours * HOUR
        scores = RNG.beta(1, 20, count)
        logs = {PREDICTIONS: [], SHADOWS: []}
        for number, score in enumerate(scores.tolist()):
            said = {"1": score, "2": min(score + (0.5 if skewed else 0.001), 1.0)}
            by = "2" if number < canary else "1"
            for topic, version in ((PREDICTIONS, by), (SHADOWS, "1" if by == "2" else "2")):
                logs[topic].append(
                    example(
                        topic.name,
                        event_timestamp=moment,
                        created_timestamp=moment,
                        prediction_id=f"q{self.answered + number}",
                        request_id=f"x{self.answered + number}",
                        model_version=version,
                        scores=[said[version]],
                        decision="review" if said[version] > 0.2 else "approve",
                        latency_ms=0.1,
                    )
                )
        self.answered += count
        for topic, records in logs.items():
            table = delta_lake.to_table(topic, records, [-1] * count, [-1] * count)
            delta_lake.append(self.paths.lake, topic, table, versions={})

    def look(self, hours):
        return control(self.settings, "fraud", now=NOON + hours * HOUR)

    @property
    def kinds(self):
        return [each.kind for each in read_decisions(self.paths.bundles)]


@pytest.fixture
def life(settings, monkeypatch):
    settings = settings.model_copy(update={"port_offset": free_port_offset()})
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(settings.state_dir))
    monkeypatch.setenv("WORKBOOK_PORT_OFFSET", str(settings.port_offset))
    return Life(settings)


@pytest.fixture
def serving(life):
    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            body = life.metrics.text()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", life.settings.port("serving")), Page)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield life
    server.shutdown()
    thread.join()
    server.server_close()


def test_from_shadow_to_champion_on_what_was_logged(serving):
    assert "in shadow for 6.0 of 12.0 hours" in serving.look(6)
    serving.traffic(hours=8)
    assert serving.look(13).endswith("canary: shadow for 13.0 hours without harm")
    assert read_plan(serving.paths.bundles, "fraud").share == serving.settings.canary_share
    assert "0 of 100 answers" in serving.look(38)
    serving.traffic(hours=30, canary=120)
    serving.look(38)
    assert serving.kinds == ["shadow", "canary", "champion"]
    assert current_version(serving.paths.bundles, "fraud") == "2"
    assert read_plan(serving.paths.bundles, "fraud") is None
    assert serving.look(39) == "fraud: no release"
    figures = read_decisions(serving.paths.bundles)[-1].figures
    assert (figures["pairs"], figures["canary_answers"]) == (800.0, 120.0)


def test_a_version_that_alerts_on_everything_is_rolled_back_before_anybody_meets_it(serving):
    serving.traffic(hours=2, skewed=True)
    assert "it alerts on 100.0% of payments" in serving.look(3)
    assert serving.kinds == ["shadow", "rolled back"]
    assert current_version(serving.paths.bundles, "fraud") == "1"


def test_what_serving_stopped_or_refused_is_rolled_back(serving):
    serving.metrics.challengers.planned("fraud", "2", "shadow")
    serving.metrics.challengers.tripped("fraud", "2", "slow: 3 of its last 40 requests")
    assert "serving stopped it: slow" in serving.look(1)
    assert serving.kinds[-1] == "rolled back"


def test_while_serving_is_away_a_release_waits_and_says_so(life):
    life.traffic(hours=8)
    assert "stay: serving does not answer" in life.look(20)
    assert releases.read_release(life.paths.bundles, "fraud").reasons == ("serving does not answer",)
    assert "shadow did not end within 10 days" in life.look(241)


def test_the_flow_looks_at_both_use_cases_and_one_that_is_broken_keeps_the_other_waiting_for_nothing(life):
    write_heartbeat(life.paths.clock, Heartbeat(event_time=NOON, wall_seconds=wall_seconds(), speed=0.0))
    (life.paths.bundles / "fraud" / releases.RELEASE).write_text("{")
    found = prefect_release.release.fn()
    assert "release.json cannot be read" in found["fraud"]
    assert found["recommendation"] == "recommendation: no release"


def test_the_policy_follows_the_settings(settings):
    policy = policy_of(settings.model_copy(update={"shadow_hours": 3.0, "canary_share": 0.5}), "recommendation")
    assert (policy.shadow, policy.share, policy.latency_budget_ms) == (3 * HOUR, 0.5, 20.0)
