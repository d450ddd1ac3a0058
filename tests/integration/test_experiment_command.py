"""`workbook experiment` from start to stop, on a lake that the tests write and a port that says serving is ready."""

from __future__ import annotations

import json
import shutil
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
from local_broker import free_port_offset
from served_models import write_recommendation_bundle
from small_lake import at, page, put, watch
from typer.testing import CliRunner

from reference_system import cli
from reference_system.assignment import is_in_share
from reference_system.clock import Heartbeat, write_heartbeat
from reference_system.experiments.definition import read_experiment
from reference_system.paths import StatePaths
from reference_system.registry.promotion_log import read_decisions
from reference_system.registry.release.releases import begin_release
from reference_system.registry.traffic import TrafficPlan, clear_plan, read_plan, write_plan
from reference_system.settings import load_settings

VIEWERS = 320


class Ready(BaseHTTPRequestHandler):
    """Says that serving is ready, and nothing else."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Versions 1 and 2, written once."""
    root = tmp_path_factory.mktemp("bundles")
    for version in ("2", "1"):
        write_recommendation_bundle(root, version)
    return root


@pytest.fixture
def system(tmp_path, monkeypatch, bundles):
    """A state directory with a champion, a treatment and a clock; serving answers on its port."""
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("WORKBOOK_PORT_OFFSET", str(free_port_offset()))
    settings = load_settings()
    paths = StatePaths(settings.state_dir)
    shutil.copytree(bundles, paths.bundles)
    set_time(paths, 0)
    serving = HTTPServer(("127.0.0.1", settings.port("serving")), Ready)
    Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield SimpleNamespace(paths=paths, stop_serving=lambda: (serving.shutdown(), serving.server_close()))
    serving.shutdown()
    serving.server_close()


def set_time(paths, hours):
    write_heartbeat(paths.clock, Heartbeat(event_time=at(hours), wall_seconds=0.0, speed=0.0))


def workbook(*arguments, code=0):
    done = CliRunner().invoke(cli.app, ["experiment", *arguments], env={"COLUMNS": "200"})
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


def live(paths, name, *, lift=1.0):
    """Viewers come for two days; each gets a page of the arm that the hash says, and watches some of it."""
    experiment = read_experiment(paths.experiments, name)
    rng = np.random.default_rng(4)
    exposures, pages, watches = [], [], []
    for number in range(VIEWERS):
        viewer, hours = f"v{number}", 48 * (number + 1) / VIEWERS
        treated = is_in_share(viewer, experiment.salt, experiment.share)
        pages.append(page(number, hours, [1, 2, 3], viewer=viewer))
        exposures.append(
            {
                "event_timestamp": at(hours),
                "exposure_id": f"e{number}",
                "experiment": name,
                "arm": "treatment" if treated else "control",
                "viewer_id": viewer,
                "prediction_id": f"i{number}",
                "model_version": experiment.treatment if treated else experiment.control,
            }
        )
        watched = range(1, 1 + min(rng.poisson(1.0 + lift * treated), 3))
        watches += [watch(number, hours + 0.1, place, viewer=viewer, position=place) for place in watched]
    pages.append(page("-last", 90, [1], viewer="somebody-else"))
    for topic, rows in (("exposures", exposures), ("impressions", pages), ("watches", watches)):
        put(paths.lake, topic, *rows)


def test_an_experiment_from_start_to_stop(system, tmp_path):
    paths = system.paths
    begun = workbook("start", "first", "--treatment", "2")
    assert "50% of the viewers are answered by version 2, the others by 1" in begun
    plan = read_plan(paths.bundles, "recommendation")
    assert (plan.mode, plan.version, plan.name, plan.share) == ("experiment", "2", "first", 0.5)
    assert "nobody has been exposed yet" in workbook("status", "first")

    live(paths, "first")
    system.stop_serving()
    set_time(paths, 96)

    picture = tmp_path / "effect.svg"
    shown = workbook("status", "--plot", str(picture))
    assert "the treatment is better" in shown
    assert "●" in shown
    assert b"<svg" in picture.read_bytes()

    stopped = workbook("stop", "first")
    assert "`workbook models promote recommendation 2`" in stopped
    assert read_plan(paths.bundles, "recommendation") is None
    frozen = json.loads(workbook("status", "first", "--json"))
    assert frozen["result"]["effect"]["sure"] == "better"
    assert frozen["result"]["treatment"]["analysed"] + frozen["result"]["control"]["analysed"] == VIEWERS
    first, last = read_decisions(paths.bundles)
    assert {first.kind, last.kind} == {"experiment"}
    assert last.figures["low"] > 0
    assert last.event_timestamp == at(96)

    # What comes afterwards changes nothing.
    put(paths.lake, "impressions", page("-later", 200, [1], viewer="v1"))
    assert json.loads(workbook("status", "first", "--json")) == frozen
    assert workbook("stop", "first", code=1).startswith("first was stopped at 2025-02-05 00:00")
    assert "the treatment is better" in workbook("list")


def test_viewers_whose_day_goes_on_at_the_stop_are_left_out(system):
    workbook("start", "short", "--treatment", "2")
    live(system.paths, "short")
    set_time(system.paths, 36)

    result = json.loads(workbook("stop", "short", "--json"))["result"]

    assert result["treatment"]["analysed"] + result["control"]["analysed"] == VIEWERS * 12 // 48
    assert result["waiting"] == VIEWERS * 24 // 48 - 1


def test_the_champion_against_itself_is_an_a_a_test(system):
    workbook("start", "aa", "--treatment", "1", "--share", "0.4", "--metric", "watch-minutes")
    live(system.paths, "aa", lift=0.0)
    set_time(system.paths, 96)

    result = json.loads(workbook("status", "aa", "--json"))["result"]

    assert any("A/A" in note for note in result["notes"])
    assert result["effect"]["sure"] is None
    assert result["sample_ratio"]["expected_share"] == 0.4


def test_one_at_a_time_and_a_name_once(system):
    workbook("start", "one", "--treatment", "2")
    assert workbook("start", "two", "--treatment", "2", code=1).endswith("run `workbook experiment stop one`\n")
    assert "a name is used once" in workbook("start", "one", "--treatment", "2", code=1)

    clear_plan(system.paths.bundles, "recommendation")
    assert "nobody is exposed" in workbook("status", "one")
    release = TrafficPlan(
        use_case="recommendation", mode="canary", version="2", name="release-2", share=0.2, salt="s", since=at(0)
    )
    write_plan(system.paths.bundles, release)
    assert "the canary release-2 of version 2 is on" in workbook("start", "three", "--treatment", "2", code=1)
    workbook("stop", "one")
    assert read_plan(system.paths.bundles, "recommendation") == release
    clear_plan(system.paths.bundles, "recommendation")
    begin_release(system.paths.bundles, use_case="recommendation", version="2", champion="1", now=at(0), seed=1)
    assert "the release of version 2 is on (shadow)" in workbook("start", "four", "--treatment", "2", code=1)


def test_what_cannot_be_a_treatment_is_refused_and_changes_nothing(system):
    for version in ("7", "../1", ""):
        assert workbook("start", "new", "--treatment", version, code=1).endswith(
            "run `workbook models list recommendation`\n"
        )
    (system.paths.bundles / "recommendation" / "2" / "model.onnx").write_bytes(b"damaged")
    assert "model.onnx has digest" in workbook("start", "new", "--treatment", "2", code=1)
    assert "is no name for an experiment" in workbook("start", "../new", "--treatment", "1", code=1)

    system.stop_serving()
    assert "serving is not ready" in workbook("start", "new", "--treatment", "1", code=1)
    assert read_plan(system.paths.bundles, "recommendation") is None
    assert read_decisions(system.paths.bundles) == []
    assert workbook("list").startswith("no experiment yet")


@pytest.mark.usefixtures("system")
def test_an_unknown_name_lists_what_there_is():
    assert "there is no experiment yet" in workbook("status", code=1)
    assert "(there are: none yet)" in workbook("stop", "nonsense", code=1)


def test_a_plot_of_nothing_or_of_another_kind_is_refused(system, tmp_path):
    workbook("start", "early", "--treatment", "2")

    assert "no effect to draw yet: nobody" in workbook("status", "--plot", str(tmp_path / "effect.png"), code=1)
    assert "neither .png nor .svg" in workbook("status", "--plot", str(tmp_path / "effect.pdf"), code=1)
    assert system.paths.experiments.joinpath("early.json").exists()


@pytest.mark.usefixtures("system")
def test_an_experiment_whose_start_broke_off_can_be_stopped(monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("reference_system.commands.experiment.traffic.write_plan", fail)
        assert CliRunner().invoke(cli.app, ["experiment", "start", "torn", "--treatment", "2"]).exit_code == 1

    assert "nobody is exposed; `workbook experiment stop torn`" in workbook("status", "torn")
    workbook("stop", "torn")
    assert json.loads(workbook("list", "--json"))[0]["stopped"] is not None


def test_the_simulation_needs_no_system_and_leaves_nothing_but_figures(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(tmp_path / "state"))
    for name, value in (("VIEWERS", "1500"), ("CUSTOMERS", "50"), ("TERMINALS", "50"), ("VIDEOS", "200")):
        monkeypatch.setenv(f"WORKBOOK_{name}", value)
    arguments = ("simulate", "--runs", "40", "--viewers", "500", "--peeks", "daily", "--effect", "0", "--json")

    found = json.loads(workbook(*arguments))

    assert "generated for it" in found["viewers_from"]
    assert found["simulated"][0]["looks"] == 2
    assert found["simulated"][0]["tests"][0]["said"] <= 0.2
    assert list((tmp_path / "state" / "scratch").iterdir()) == []
