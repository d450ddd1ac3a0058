"""`workbook backtest fraud` on payments from a file: figures, scores by the file's own ids, and clear refusals."""

from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd
import pytest
from own_files import CARD_COLUMNS, payments
from typer.testing import CliRunner

from reference_system.cli import app
from reference_system.errors import TrainingError, WorkbookError


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    """A dataset of 40 days whose large amounts are the frauds, but for one in ten; and its file."""
    folder = tmp_path_factory.mktemp("backtest")
    frame = payments(4_000, days=40, customers=150, terminals=60)
    chance = np.random.default_rng(5).uniform(size=len(frame))
    frame["TX_FRAUD"] = ((frame.TX_AMOUNT > 100) & (chance < 0.9)).astype(np.int32)
    file = folder / "cards.parquet"
    frame.to_parquet(file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBOOK_STATE_DIR", str(folder / "state"))
        command = [
            "data",
            "import",
            "fraud",
            "--transactions",
            str(file),
            "--columns",
            CARD_COLUMNS,
            "--dataset",
            "cards",
        ]
        assert CliRunner().invoke(app, command).exit_code == 0
    return frame, folder / "state"


@pytest.fixture
def backtest(cards, monkeypatch):
    """Run the verb; what it said as JSON, or the error."""
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(cards[1]))

    def run(*words, dataset="cards", start="2024-11-18"):
        command = ["--debug", "backtest", "fraud", "--dataset", dataset, "--train-start", start, "--json"]
        done = CliRunner().invoke(app, [*command, *map(str, words)])
        if done.exception is not None:
            raise done.exception
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_scores_carry_the_ids_of_the_file_and_give_the_reported_figures(backtest, cards, tmp_path, suffix):
    from sklearn.metrics import average_precision_score, roc_auc_score

    out = tmp_path / f"scores.{suffix}"
    said = backtest("--model", "logistic_regression", "--folds", 1, "--predictions", out)
    read = pd.read_csv(out) if suffix == "csv" else pd.read_parquet(out)
    assert list(read.columns) == ["transaction_id", "score"]
    tested = read.merge(cards[0], left_on="transaction_id", right_on="TRANSACTION_ID", validate="one_to_one")
    assert len(tested) == len(read) == said["folds"][0]["test_rows"]
    assert tested.TX_DATETIME.min() >= pd.Timestamp("2024-12-02")
    assert tested.TX_DATETIME.max() < pd.Timestamp("2024-12-09")
    figures = said["folds"][0]["metrics"]
    assert figures["average_precision"] == pytest.approx(average_precision_score(tested.TX_FRAUD, tested.score))
    assert figures["roc_auc"] == pytest.approx(roc_auc_score(tested.TX_FRAUD, tested.score))
    assert figures["brier"] == pytest.approx(((tested.score - tested.TX_FRAUD) ** 2).mean())


def test_folds_have_a_mean_and_a_spread_and_known_cards_leave_the_test(backtest):
    words = ("--model", "logistic_regression", "--folds", 2)
    everybody, strangers = (
        backtest(*words, start="2024-11-11"),
        backtest(*words, "--drop-known-compromised", start="2024-11-11"),
    )
    values = [fold["metrics"]["average_precision"] for fold in everybody["folds"]]
    assert everybody["mean"]["average_precision"] == pytest.approx(np.mean(values))
    assert everybody["spread"]["average_precision"] == pytest.approx(np.std(values, ddof=1))
    for all_cards, fewer in zip(everybody["folds"], strangers["folds"], strict=True):
        assert fewer["test_rows"] < all_cards["test_rows"]
        assert fewer["train_rows"] == all_cards["train_rows"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "oracle"), "logistic_regression, random_forest, extra_trees, gradient_boosting"),
        (("--folds", "3"), "--train-start can be 2024-11-04 to 2024-11-09"),
        (("--train-days", "90"), "such folds need 104 days of payments, and there are 40"),
        (("--predictions", "scores.json"), r"ends neither with \.parquet nor with \.csv"),
        (("--predictions", os.path.join("nowhere", "scores.csv")), "there is no folder nowhere"),  # noqa: PTH118 - typed
    ],
)
def test_what_cannot_work_is_refused_in_words(backtest, words, said):
    with pytest.raises(WorkbookError, match=said):
        backtest(*words)


def test_a_dataset_that_does_not_exist_is_refused_with_those_that_do(backtest):
    with pytest.raises(WorkbookError, match="live, cards"):
        backtest(dataset="nope")


@pytest.fixture
def quiet(cards, tmp_path):
    """A dataset like `cards` that has no frauds from 25 November on."""
    frame = cards[0].assign(TX_FRAUD=lambda all_: all_.TX_FRAUD.where(all_.TX_DATETIME < "2024-11-25", 0))
    file = tmp_path / "quiet.parquet"
    frame.to_parquet(file)
    command = ["data", "import", "fraud", "--transactions", str(file), "--columns", CARD_COLUMNS, "--dataset", "quiet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBOOK_STATE_DIR", str(tmp_path / "state"))
        assert CliRunner().invoke(app, command).exit_code == 0
    return tmp_path / "state"


def test_a_fold_whose_test_has_no_frauds_is_left_out_and_the_others_stay(quiet, backtest, monkeypatch):
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(quiet))
    words = ("--train-days", 5, "--delay-days", 5, "--test-days", 5, "--model", "logistic_regression")
    said = backtest(*words, "--folds", 3, dataset="quiet", start="2024-11-06")
    alone = backtest(*words, dataset="quiet", start="2024-11-06")
    assert [fold["test_start"] for fold in said["folds"]] == ["2024-11-16", "2024-11-21"]
    assert [fold["test_start"] for fold in said["left_out"]] == ["2024-11-26"]
    assert "test window from 2024-11-26 00:00 to 2024-12-01 00:00 has" in said["left_out"][0]["reason"]
    assert said["folds"][0]["metrics"] == alone["folds"][0]["metrics"]
    figures = [fold["metrics"]["roc_auc"] for fold in said["folds"]]
    assert said["mean"]["roc_auc"] == pytest.approx(np.mean(figures))
    command = ["backtest", "fraud", "--dataset", "quiet", "--train-start", "2024-11-06", "--folds", "3"]
    shown = CliRunner().invoke(app, [*command, *map(str, words)]).stdout
    assert "mean of 2 of 3" in shown
    assert "2024-11-16: left out: the test window from 2024-11-26" in shown


def test_a_test_without_fraud_is_refused(quiet, backtest, monkeypatch):
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(quiet))
    with pytest.raises(TrainingError, match=r"test window from 2024-12-02 .* 0 positive labels"):
        backtest(dataset="quiet")
