from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from reference_system import cli
from reference_system.commands.loop import train
from reference_system.settings import Settings

SKIPPED = {
    "use_case": "fraud",
    "trigger": "schedule",
    "as_of": datetime(2025, 4, 10, tzinfo=UTC).isoformat(),
    "skipped": "the last training is of 04-09 12:00",
}


@pytest.fixture
def left_out(monkeypatch):
    monkeypatch.setattr(train, "flow_settings", lambda: Settings(_env_file=None))
    monkeypatch.setattr(train, "run_now", lambda *_, **__: SKIPPED)


@pytest.mark.usefixtures("left_out")
def test_a_scheduled_training_that_is_left_out_says_why_and_how_to_train_all_the_same():
    ran = CliRunner().invoke(cli.app, ["train", "fraud", "--trigger", "schedule"])
    assert (ran.exit_code, ran.output.splitlines()) == (
        0,
        [
            "fraud: no scheduled training: the last training is of 04-09 12:00",
            "  to train now: `workbook train fraud`",
        ],
    )


@pytest.mark.usefixtures("left_out")
def test_as_json_it_is_what_the_flow_returns():
    ran = CliRunner().invoke(cli.app, ["train", "fraud", "--trigger", "schedule", "--json"])
    assert json.loads(ran.stdout) == SKIPPED
