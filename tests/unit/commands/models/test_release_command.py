"""A release by hand, from the command line."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial

import pytest
from local_broker import NOON
from tiny_models import tiny_bundle
from typer.testing import CliRunner

from reference_system.cli import app
from reference_system.clock import Heartbeat, wall_seconds, write_heartbeat
from reference_system.paths import StatePaths
from reference_system.registry import promotion as promoting
from reference_system.registry.bundles.bundle import set_current
from reference_system.registry.promotion_log import read_decisions
from reference_system.registry.release import releases
from reference_system.registry.release.releases import Means, ReleaseStep


@pytest.fixture
def paths(settings, monkeypatch):
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(settings.state_dir))
    found = StatePaths(settings.state_dir)
    write_heartbeat(found.clock, Heartbeat(event_time=NOON, wall_seconds=wall_seconds(), speed=0.0))
    return found


def call(*words, code=0):
    done = CliRunner().invoke(app, ["release", *words])
    assert done.exit_code == code, done.output
    return done.output


def test_it_is_started_watched_and_stopped(paths):
    for version in ("1", "2"):
        tiny_bundle(paths.bundles, version=version)
    set_current(paths.bundles, "fraud", "1")
    assert "no release is on" in call("status")
    assert "fraud: version 2 in shadow for 0.0 simulated hours, beside version 1" in call("start", "fraud", "2")
    assert "the release of version 2 is on" in call("start", "fraud", "2", code=1)
    (going,) = json.loads(call("status", "--json"))["releases"]
    assert (going["version"], going["stage"], going.get("pending")) == ("2", "shadow", None)
    assert "version 2 was rolled back; 1 answers" in call("stop", "fraud", "--reason", "enough seen")
    assert read_decisions(paths.bundles)[-1].reasons == ("enough seen",)
    assert "no release of fraud is on" in call("stop", "fraud", code=1)
    assert "version 2 was rolled back" in call("start", "fraud", "2", code=1)


def test_what_cannot_be_released_is_said_in_one_line(paths):
    assert "no champion yet; run `workbook models list fraud`" in call("start", "fraud", "2", code=1)
    folder = tiny_bundle(paths.bundles, version="2")
    tiny_bundle(paths.bundles, version="1")
    set_current(paths.bundles, "fraud", "1")
    assert "version 1 of fraud is champion already" in call("start", "fraud", "1", code=1)
    (folder / "model.onnx").write_bytes(b"no model")
    assert "model.onnx has digest" in call("start", "fraud", "2", code=1)


def test_a_version_that_was_champion_before_it_could_be_stopped_is_not_told_as_rolled_back(paths, monkeypatch):
    for version in ("1", "2"):
        tiny_bundle(paths.bundles, version=version)
    set_current(paths.bundles, "fraud", "1")
    call("start", "fraud", "2")
    killed_after_the_pointer_moved(paths.bundles, monkeypatch)
    said = call("stop", "fraud", code=1)
    assert "the release of version 2 had come to its end before it could be stopped" in said
    assert "workbook timeline fraud" in said
    assert [each.kind for each in read_decisions(paths.bundles)] == ["shadow", "champion"]
    assert "no release is on" in call("status")


def killed_after_the_pointer_moved(root, monkeypatch):
    """What a controller leaves that dies in the last step of a release."""

    def die(*_, **__):
        raise KeyboardInterrupt

    means = Means(share=0.2, promote=partial(promoted, root))
    step = ReleaseStep(to="champion", reasons=("long enough",), figures={})
    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(promoting, "append_decision", die)
        releases.advance(root, releases.read_release(root, "fraud"), step, NOON, means)


def promoted(root, decision):
    promoting.make_champion(root, 1, use_case="fraud", version="2", decision=decision)
