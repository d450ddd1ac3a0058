"""`workbook models` on a state directory with tiny bundles: no MLflow, no serving, no training."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from time import monotonic

import msgspec
import pytest
from tiny_models import tiny_bundle
from typer.testing import CliRunner

from reference_system import cli
from reference_system.clock import Heartbeat, write_heartbeat
from reference_system.monitoring.recommendation.page_worth import PerPage, PolicyWorth
from reference_system.monitoring.report.record import (
    Freshness,
    MonitoringReport,
    Performance,
    TimeSpan,
    UseCaseReport,
    write_report,
)
from reference_system.paths import StatePaths
from reference_system.registry.bundles.bundle import current_version, set_current
from reference_system.registry.promotion import rolled_back
from reference_system.registry.promotion_log import LoggedDecision, append_decision, read_decisions
from reference_system.registry.release.releases import begin_release, read_release
from reference_system.replaced_files import replace_file

NOON = datetime(2025, 4, 6, 12, tzinfo=UTC)


@pytest.fixture
def workbook(tmp_path, monkeypatch, port_offset):
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("WORKBOOK_PORT_OFFSET", str(port_offset))
    write_heartbeat(StatePaths(tmp_path).clock, Heartbeat(event_time=NOON, wall_seconds=0.0, speed=0.0))

    def run(*words):
        return CliRunner().invoke(cli.app, ["models", *words], catch_exceptions=False)

    return run


@pytest.fixture
def root(tmp_path):
    """Version 1 was champion, 2 is; 3 was refused, 4 promoted by the gate."""
    root = StatePaths(tmp_path).bundles
    for version in ("1", "2", "3", "4"):
        tiny_bundle(root, version=version)
    answers = {"1": "promote", "2": "promote", "3": "refuse", "4": "promote"}
    for version, answer in answers.items():
        why = (answer, f"because of {version}")
        append_decision(root, decision("gate", version, reasons=why))
    for version in ("1", "2"):
        append_decision(root, decision("champion", version))
    (root / "fraud" / "current").write_text("2")
    return root


def decision(kind, version, reasons=()):
    return LoggedDecision(event_timestamp=NOON, use_case="fraud", kind=kind, version=version, reasons=reasons)


def test_before_any_training_the_list_says_which_command_makes_a_model(workbook):
    assert "workbook train fraud" in workbook("list").output


def test_the_list_says_what_became_of_each_version(workbook, root):
    begin_release(root, use_case="fraud", version="4", champion="2", now=NOON, seed=1)
    rows = json.loads(workbook("list", "fraud", "--json").stdout)["models"]
    assert {row["version"]: row["stage"] for row in rows} == {
        "4": "challenger (shadow)",
        "3": "refused",
        "2": "champion",
        "1": "retired",
    }
    assert rows[0]["estimator"] == "logistic_regression"
    assert rows[0]["value"] == 0.5


@pytest.fixture
def ranker(tmp_path):
    """Version 7 of the ranker is champion and has a card; monitoring knows what pages are worth."""
    paths = StatePaths(tmp_path)
    folder = paths.bundles / "recommendation"
    (folder / "7").mkdir(parents=True)
    (folder / "current").write_text("7")
    (folder / "cards").mkdir()
    (folder / "cards" / "7.md").write_text("# recommendation, version 7\n")
    figure = PerPage(value=2.5, low=2.4, high=2.6)
    worth = [
        PolicyWorth(policy=name, days=(20_182, 20_184), pages=4_000, viewers=900, watches=figure, minutes=figure)
        for name in ("7", "6", "popularity")
    ]
    pages = Performance(primary="watch_rate", statement="", worth=tuple(worth))
    case = UseCaseReport(
        use_case="recommendation", champion="7", coverage=1.0, groups=(), left_out=(), performance=pages
    )
    report = MonitoringReport(
        as_of=NOON,
        current=TimeSpan(start=NOON, end=NOON),
        speed=1_440.0,
        false_alarm_rate=0.01,
        material_psi=0.1,
        use_cases=(case,),
        freshness=Freshness(),
        volumes=(),
        scenarios=(),
        findings=(),
        level="quiet",
        verdict="",
    )
    write_report(paths.reports, report, "")


@pytest.mark.usefixtures("ranker")
def test_the_list_says_what_a_page_of_each_ranker_is_worth(workbook):
    said = workbook("list").output
    assert "recommendation: what a page is worth, by the latest monitoring report" in said
    rows = [line.split()[0] for line in said.splitlines() if "2.50 (2.40–2.60)" in line]
    assert rows == ["7*", "6", "chance"]
    assert "what a page is worth" not in workbook("list", "fraud").output
    listed = json.loads(workbook("list", "--json").stdout)["page_worth"]
    assert [row["policy"] for row in listed] == ["7", "6", "popularity"]


@pytest.mark.usefixtures("ranker")
def test_a_rankers_card_has_what_its_own_pages_are_worth_below_it(workbook):
    said = workbook("show", "recommendation").output
    rows = [line.split()[0] for line in said.splitlines() if "2.50 (2.40–2.60)" in line]
    assert rows == ["7*"]


def test_a_damaged_bundle_is_in_the_list_with_its_problem(workbook, root):
    (root / "fraud" / "3" / "manifest.json").write_text("{}")
    rows = json.loads(workbook("list", "--json").stdout)["models"]
    assert [row["version"] for row in rows if row["problem"]] == ["3"]


def test_a_rollback_goes_to_the_champion_before_ends_the_release_and_says_what_is_away(workbook, root):
    begin_release(root, use_case="fraud", version="4", champion="2", now=NOON, seed=1)
    began = monotonic()
    said = workbook("rollback", "fraud").output
    assert monotonic() - began < 5.0
    assert current_version(root, "fraud") == "1"
    assert "version 1 is champion (before: 2)" in said
    assert "MLflow does not answer" in said
    assert "serving does not answer" in said
    assert read_release(root, "fraud") is None
    stages = {row["version"]: row["stage"] for row in json.loads(workbook("list", "--json").stdout)["models"]}
    assert stages == {"4": "rolled back", "3": "refused", "2": "rolled back", "1": "champion"}
    assert [one.kind for one in read_decisions(root)][-3:] == ["rolled back", "rolled back", "champion"]


def test_a_rollback_of_a_champion_whose_release_was_half_done_is_a_rollback(workbook, root):
    release = begin_release(root, use_case="fraud", version="4", champion="2", now=NOON, seed=1)
    champion = decision("champion", "4")
    replace_file(
        root / "fraud" / "release.json", msgspec.json.encode(msgspec.structs.replace(release, pending=champion))
    )
    set_current(root, "fraud", "4")
    assert "version 2 is champion (before: 4)" in workbook("rollback", "fraud").output
    assert rolled_back(root, "fraud") == {"4"}
    assert [(one.kind, one.version) for one in read_decisions(root)][-3:] == [
        ("champion", "4"),
        ("rolled back", "4"),
        ("champion", "2"),
    ]


def test_a_second_rollback_has_nothing_to_go_back_to(workbook, root):  # noqa: ARG001 - the bundles must be there
    workbook("rollback", "fraud")
    again = workbook("rollback", "fraud")
    assert again.exit_code == 1
    assert "no other champion" in again.output


def test_a_version_that_the_gate_refused_needs_force(workbook, root):
    refused = workbook("promote", "fraud", "3", "--yes")
    assert refused.exit_code == 1
    assert "because of 3" in refused.output
    assert "--force" in refused.output
    assert workbook("promote", "fraud", "3", "--yes", "--force").exit_code == 0
    assert current_version(root, "fraud") == "3"


def test_a_damaged_bundle_cannot_be_promoted_and_the_release_goes_on(workbook, root):
    begin_release(root, use_case="fraud", version="4", champion="2", now=NOON, seed=1)
    (root / "fraud" / "1" / "model.onnx").write_bytes(b"damaged")
    refused = workbook("promote", "fraud", "1", "--yes")
    assert refused.exit_code == 1
    assert "digest" in refused.output
    assert current_version(root, "fraud") == "2"
    assert read_release(root, "fraud") is not None


def test_promoting_the_champion_says_that_it_is(workbook, root):  # noqa: ARG001 - the bundles must be there
    assert "is the champion of fraud already" in workbook("promote", "fraud", "2", "--yes").output


def test_a_version_without_a_card_is_named(workbook, root):  # noqa: ARG001 - the bundles must be there
    assert "no version 9 with a model card" in workbook("show", "fraud", "9").output
