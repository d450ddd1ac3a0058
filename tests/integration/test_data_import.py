"""Your own data through the command line: whole or not at all whatever kills it, and the values of the handbook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from own_files import CARD_COLUMNS, payments, ratings, written
from typer.testing import CliRunner

from reference_system.cli import app
from reference_system.proofs.baselines import pandas_windows
from reference_system.use_cases.fraud.features import INPUTS

# Read when the module is: fixtures take the reader's variables away.
SHARED = Path(os.environ.get("WORKBOOK_SHARED_DATA", "nowhere"))
CARDS = SHARED / "card_transactions_2018-04_2018-07.parquet"
MOVIES = SHARED / "movie_ratings_small.parquet"
needs_cards = pytest.mark.skipif(not CARDS.exists(), reason="WORKBOOK_SHARED_DATA names no folder with the card data")
needs_movies = pytest.mark.skipif(not MOVIES.exists(), reason="WORKBOOK_SHARED_DATA names no folder with the ratings")


@pytest.fixture
def workbook(tmp_path):
    """Run a verb in a state directory of its own: `workbook("data", "list")` → the finished process."""
    environment = {**os.environ, "WORKBOOK_STATE_DIR": str(tmp_path / "state")}

    def run(*words, code=0):
        command = [sys.executable, "-m", "reference_system.cli", *map(str, words)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == code, done.stderr
        return done

    run.environment = environment
    return run


def said_here(*words):
    """The same without a process of its own, which takes seconds to start: what the verb says."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout


def import_cards(file, *more):
    """The words of an import of payments."""
    words = ("data", "import", "fraud", "--transactions", file, "--columns", CARD_COLUMNS, "--label-delay", "7d")
    return (*words, "--dataset", "cards", *more)


def assert_equals_handbook(frame, built):
    """Equal within 1e-6, but for rows of an entity that has another row in the same second."""
    wanted = pandas_windows.inputs(frame).set_index("transaction_id")
    tied = frame.duplicated(["CUSTOMER_ID", "TX_DATETIME"], keep=False)
    tied |= frame.duplicated(["TERMINAL_ID", "TX_DATETIME"], keep=False)
    free = wanted.index.isin(frame.TRANSACTION_ID[~tied])
    assert free.mean() > 0.99
    found = built.set_index("transaction_id").loc[wanted.index]
    np.testing.assert_allclose(found[free], wanted[free], rtol=0, atol=1e-6)


def test_own_payments_from_a_file_to_inputs_that_equal_the_handbooks(workbook, tmp_path):
    frame = payments(5_000, days=90, customers=60, terminals=90)
    file = written(frame, tmp_path / "own.parquet")
    report = json.loads(workbook(*import_cards(file, "--json")).stdout)
    assert report["source"]["imported"] == 5_000

    again = workbook(*import_cards(file)).stdout
    assert "nothing to add" in again
    assert list(json.loads(workbook("data", "list", "--json").stdout)) == ["cards"]
    profile = json.loads(workbook("data", "describe", "cards", "--json").stdout)
    assert profile["events"] == {"transactions": 5_000, "chargebacks": int(frame.TX_FRAUD.sum())}
    assert sum(one["events"] for one in profile["bins"]) == 5_000
    assert sum(one["frauds"] for one in profile["bins"]) == frame.TX_FRAUD.sum()
    assert "█" in workbook("data", "describe", "cards").stdout

    out = tmp_path / "features.parquet"
    built = json.loads(workbook("features", "build", "fraud", "--dataset", "cards", "--out", out, "--json").stdout)
    found = pd.read_parquet(out)
    assert built["rows"] == len(found) == 5_000
    assert found.columns.tolist() == ["transaction_id", *INPUTS]
    assert found.transaction_id.dtype == frame.TRANSACTION_ID.dtype
    assert found.transaction_id.tolist() == frame.TRANSACTION_ID.tolist()
    assert_equals_handbook(frame, found)
    assert [path.name for path in tmp_path.glob("*features*")] == ["features.parquet"]

    assert "MB" in workbook("data", "remove", "cards", "--yes").stdout
    assert "no dataset yet" in workbook("data", "list").stdout
    assert not list((tmp_path / "state").rglob("*.parquet"))


def test_own_ratings_from_a_file_to_inputs(workbook, tmp_path):
    file = written(ratings(2_000), tmp_path / "own.csv")
    words = ("--interactions", file, "--columns", "event_timestamp=timestamp", "--dataset", "movies")
    workbook("data", "import", "recommendation", *words)
    assert "ratings by month" in workbook("data", "describe", "movies").stdout

    workbook("features", "build", "recommendation", "--dataset", "movies", "--out", tmp_path / "out.parquet")
    found = pd.read_parquet(tmp_path / "out.parquet")
    frame = pd.read_csv(file)
    assert len(found) == len(frame)
    assert found.viewer_id.dtype == frame.user_id.dtype
    merged = found.merge(
        frame.assign(event_timestamp=pd.to_datetime(frame.timestamp, unit="s", utc=True).dt.as_unit("us")),
        left_on=["viewer_id", "video_id", "event_timestamp"],
        right_on=["user_id", "item_id", "event_timestamp"],
    )
    assert len(merged) == len(frame)


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        (("data", "describe", "nothing"), "there is no dataset 'nothing' (there are: live); run `workbook data list`"),
        (("data", "remove", "nothing", "--yes"), "there is no dataset 'nothing'"),
        (("data", "remove", "live", "--yes"), "'live' is the running system"),
        (("data", "describe", "../x"), "is no name of a dataset"),
        (("features", "build", "fraud", "--out", "x.parquet"), "the dataset 'live' has no payments"),
        (("features", "build", "fraud", "--dataset", "n", "--out", "x.parquet"), "there is no dataset 'n'"),
        (import_cards("nothing.parquet"), "there is no file nothing.parquet"),
        (import_cards("nothing.parquet", "--label-delay", "week"), "--label-delay 'week' is no duration"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_writes_nothing(workbook, tmp_path, words, fact):
    done = workbook(*words, code=1)

    assert fact in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("*.*"))


def test_an_import_that_is_refused_leaves_nothing(workbook, tmp_path):
    file = written(payments(500), tmp_path / "own.parquet")
    file.write_bytes(file.read_bytes()[:-100])
    done = workbook(*import_cards(file), code=1)

    assert "truncated or damaged" in done.stderr
    assert not list((tmp_path / "state").rglob("*.*"))

    frame = payments(500).assign(TX_AMOUNT=-1.0)
    done = workbook(*import_cards(written(frame, tmp_path / "negative.parquet")), code=1)
    assert "500 of 500 rows cannot be imported" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list((tmp_path / "state").rglob("*.*"))


def test_two_imports_at_once_are_refused(workbook, tmp_path):
    import fcntl

    file = written(payments(500), tmp_path / "own.parquet")
    folder = tmp_path / "state" / "datasets"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("`workbook data import` (pid 1)")
        lock.flush()
        assert "`workbook data import` (pid 1) is at work" in workbook(*import_cards(file), code=1).stderr
    workbook(*import_cards(file))


@pytest.mark.parametrize(
    "moment", ["v2/lake", "v2/lake/transactions/_delta_log/*1.json", "v2/order/000002.parquet", ".dataset.json.*"]
)
def test_a_killed_import_leaves_the_old_dataset_or_the_new_one(workbook, tmp_path, moment, monkeypatch):
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(tmp_path / "state"))
    frame = payments(30_000, days=120, customers=300, terminals=300)
    labels = {size: int(frame.TX_FRAUD[:size].sum()) for size in (10_000, 30_000)}
    either = [{"transactions": size, "chargebacks": labels[size]} for size in labels]
    said_here(*import_cards(written(frame[:10_000], tmp_path / "one.parquet")))
    request = import_cards(written(frame, tmp_path / "two.parquet"))
    folder = tmp_path / "state/datasets/cards"

    command = [sys.executable, "-m", "reference_system.cli", *map(str, request)]
    process = subprocess.Popen(command, env=workbook.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # If the moment passes unseen, the import ends and is the new dataset.
    while process.poll() is None and not any(folder.glob(moment)):
        time.sleep(0.001)
    process.kill()
    process.wait()
    profile = json.loads(said_here("data", "describe", "cards", "--json"))
    assert profile["events"] in either

    said_here(*request)
    profile = json.loads(said_here("data", "describe", "cards", "--json"))
    assert profile["events"] == either[1]
    assert len(list(folder.glob("v*"))) <= 2
    assert not list(folder.glob(".dataset.json.*"))


@needs_cards
def test_the_public_card_data_equals_the_handbook_on_a_sample(workbook, tmp_path):
    workbook(*import_cards(CARDS))
    workbook("features", "build", "fraud", "--dataset", "cards", "--out", tmp_path / "out.parquet")
    frame, found = pd.read_parquet(CARDS), pd.read_parquet(tmp_path / "out.parquet")
    assert found.transaction_id.tolist() == frame.TRANSACTION_ID.tolist()

    rng = np.random.default_rng(1)
    by_transaction = found.set_index("transaction_id")
    for key, of_group in (("CUSTOMER_ID", pandas_windows.of_customer), ("TERMINAL_ID", pandas_windows.of_terminal)):
        some = frame[frame[key].isin(rng.choice(frame[key].unique(), 100, replace=False))]
        some = some.sort_values("TX_DATETIME", kind="stable")
        wanted = pd.concat([of_group(group) for _, group in some.groupby(key)])
        tied = some.TRANSACTION_ID[some.duplicated([key, "TX_DATETIME"], keep=False)]
        wanted = wanted.drop(tied)
        np.testing.assert_allclose(by_transaction.loc[wanted.index, wanted.columns], wanted, rtol=0, atol=1e-6)


@needs_movies
def test_the_public_ratings_are_imported_and_built(workbook, tmp_path):
    words = ("--interactions", MOVIES, "--columns", "event_timestamp=timestamp", "--dataset", "movies")
    report = json.loads(workbook("data", "import", "recommendation", *words, "--json").stdout)
    workbook("features", "build", "recommendation", "--dataset", "movies", "--out", tmp_path / "out.parquet")

    assert report["source"]["imported"] == len(pd.read_parquet(tmp_path / "out.parquet")) == 100_004
