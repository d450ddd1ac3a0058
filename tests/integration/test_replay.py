"""Replay: a small lake through a broker, the consumer and the read path of a system of its own."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow.parquet as pq
import pytest
from local_broker import small_settings
from small_lake import at, chargeback, payment, put, reversal
from typer.testing import CliRunner

from reference_system import cli
from reference_system.errors import StateError
from reference_system.features.history.fraud_inputs import fraud_inputs
from reference_system.paths import StatePaths
from reference_system.proofs.replay import fraud as replay_cases
from reference_system.proofs.replay.replay import ReplayRequest, replay_period
from reference_system.use_cases.fraud.features import INPUTS

HOURS = 24 * 50


def silent(_share, _text):
    pass


def payments(lake, *, count=1_500, ties=True):
    """Payments of 50 days, some in one second, labels that take one to nine days, some twice, some taken back."""
    rng = np.random.default_rng(11)
    hours = np.sort(rng.uniform(0, HOURS, count)).tolist()
    rows = [
        # Names of shops, and refunds, as people have them.
        payment(n, hour, customer=f"c{rng.integers(12)}", terminal=f"{rng.integers(9)} O'Elm, Ж", amount=n % 90 - 1.0)
        for n, hour in enumerate(hours)
    ]
    # The same card twice in one moment: history counts both for both.
    again = [payment(count + n, hours[n], customer=rows[n]["customer_id"], amount=5.0) for n in (1_400, 1_450)]
    put(lake, "transactions", *rows, *(again if ties else ()))
    late = [n for n in range(count) if n % 6 == 0]
    whose = [{"customer": row["customer_id"], "terminal": row["terminal_id"]} for row in rows]
    reports = [chargeback(n, hours[n], hours[n] + 24 * (1 + n % 9), **whose[n]) for n in late]
    second = [row | {"chargeback_id": f"again-{row['chargeback_id']}"} for row in reports[::4]]
    put(lake, "chargebacks", *reports, *second)
    # Before a window has the fraud, while it has it, and of two chargebacks only the first.
    back = [reversal(n, hours[n], hours[n] + 24 * (2 + n % 30), **whose[n]) for n in late[::3]]
    put(lake, "chargeback-reversals", *(row for row in back if row["created_timestamp"] <= at(HOURS)))


@pytest.fixture
def system(tmp_path):
    return small_settings(tmp_path / "state", 0)


def request_of(use_case, first, last):
    return ReplayRequest(use_case=use_case, dataset="live", start=at(first), end=at(last), file="out.parquet")


def test_a_replayed_period_equals_history_and_ties_explain_the_rest(system):
    paths = StatePaths(system.state_dir)
    payments(paths.lake)
    table, report = replay_period(system, request_of("fraud", HOURS - 24 * 5, HOURS), silent)
    assert report.rows == table.num_rows > 100
    assert (report.explained_by_ties, report.unexplained) == (report.rows - report.equal, 0)
    assert 1 <= report.explained_by_ties <= 4
    assert report.history_rows > report.rows
    assert table.column_names == ["transaction_id", *INPUTS]
    history = fraud_inputs(paths.lake, paths.root / "order")
    whole = history.slice(history.num_rows - table.num_rows)
    assert table["transaction_id"].to_pylist() == whole["transaction_id"].to_pylist()
    assert max(table["terminal_fraud_rate_30d"].to_pylist()) > 0
    assert list(paths.scratch.glob("*/lake")) == []


def test_a_read_path_that_forgets_the_payment_itself_is_named(system, monkeypatch, tmp_path):
    payments(StatePaths(system.state_dir).lake, ties=False)
    inputs_of = replay_cases.payment_inputs

    def an_hour_early(request, moment, read):
        return inputs_of(request, moment - timedelta(hours=1), read)

    monkeypatch.setattr(replay_cases, "payment_inputs", an_hour_early)
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(system.state_dir))
    out = tmp_path / "served.parquet"
    period = ["--from", f"{at(HOURS - 48):%Y-%m-%d}", "--to", f"{at(HOURS):%Y-%m-%d}", "--out", str(out)]
    shown = CliRunner().invoke(cli.app, ["features", "replay", "fraud", *period])
    assert shown.exit_code == 1
    assert "unexplained: 0" not in shown.output
    assert "served" in shown.output
    assert pq.read_table(out).column_names == ["transaction_id", *INPUTS]


def test_ratings_are_replayed_through_both_views(system):
    rng = np.random.default_rng(3)
    hours = np.sort(rng.uniform(0, 24 * 40, 400)).tolist()
    put(
        StatePaths(system.state_dir).lake,
        "ratings",
        *(
            {
                "event_timestamp": at(hour),
                "rating_id": f"r{n}",
                "viewer_id": f"v {rng.integers(20)}",
                "video_id": f'{rng.integers(15)} "the" {{Elm}}',
                "rating": float(rng.integers(1, 6)),
            }
            for n, hour in enumerate(hours)
        ),
    )
    table, report = replay_period(system, request_of("recommendation", 24 * 30, 24 * 40), silent)
    assert report.rows == table.num_rows == sum(hour >= 24 * 30 for hour in hours)
    assert (report.equal, report.unexplained) == (report.rows, 0)
    assert max(table["video_rating_count_30d"].to_pylist()) > 3


def test_what_cannot_be_replayed_says_so_at_once(system, monkeypatch, tmp_path):
    with pytest.raises(StateError, match="live has no transactions from 2025-02-01 to 2025-02-02"):
        replay_period(system, request_of("fraud", 0, 24), silent)
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(system.state_dir))
    period = ["--from", "2025-02-02", "--to", "2025-02-01", "--out", str(tmp_path / "x.parquet")]
    shown = CliRunner().invoke(cli.app, ["features", "replay", "fraud", *period])
    assert (shown.exit_code, "is empty" in shown.output) == (1, True)
    nowhere = ["--from", "2025-02-01", "--to", "2025-02-02", "--out", str(tmp_path / "no" / "x.parquet")]
    shown = CliRunner().invoke(cli.app, ["features", "replay", "fraud", *nowhere])
    assert (shown.exit_code, "there is no folder" in shown.output) == (1, True)
