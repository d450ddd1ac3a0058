"""`workbook recommend` and `workbook backtest recommendation` on a small imported dataset, as a reader calls them."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv
from typer.testing import CliRunner

from reference_system.cli import app

USERS, ITEMS = 30, 40


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """A state directory with a dataset `small` (integer ids) and one of payments' kind missing."""
    folder = tmp_path_factory.mktemp("recommend")
    rng = np.random.default_rng(5)
    pairs = np.array(
        [(user, 100 + 20 * (user % 2) + item) for user in range(USERS) for item in rng.choice(20, 10, replace=False)]
    )
    pairs = pairs[rng.permutation(len(pairs))]
    ratings = {
        "user_id": pa.array(pairs[:, 0], pa.int64()),
        "item_id": pa.array(pairs[:, 1], pa.int32()),
        "rating": rng.integers(1, 6, len(pairs)).astype(float),
        "event_timestamp": 1_700_000_000 + 60 * np.arange(len(pairs)),
    }
    pq.write_table(pa.table(ratings), folder / "ratings.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBOOK_STATE_DIR", str(folder / "state"))
        arguments = ["data", "import", "recommendation", "--interactions", str(folder / "ratings.parquet")]
        done = CliRunner().invoke(app, [*arguments, "--dataset", "small"])
        assert done.exit_code == 0, done.output
        yield folder


def called(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_every_user_has_k_unseen_items_with_the_ids_of_the_file(state):
    out = state / "lists.parquet"
    done = called("recommend", "--dataset", "small", "--k", 10, "--exclude-seen", "--out", out, "--json")
    assert done.exit_code == 0, done.output
    table = pq.read_table(out)
    assert table.schema.types == [pa.int64(), pa.int32(), pa.int64(), pa.float64()]
    lists = table.to_pandas()
    assert lists.columns.tolist() == ["user_id", "item_id", "rank", "score"]
    assert lists.groupby("user_id")["rank"].apply(list).tolist() == [list(range(1, 11))] * USERS
    assert lists.groupby("user_id")["score"].apply(lambda scores: (scores.diff().dropna() <= 0).all()).all()
    taken = pq.read_table(state / "ratings.parquet").to_pandas()
    assert lists.merge(taken, on=["user_id", "item_id"]).empty
    # Ten of a user's own taste are left, and they come before the other taste.
    own = (lists["item_id"] - 100) // 20 == lists["user_id"] % 2
    assert own.mean() > 0.9
    report = json.loads(done.stdout)
    assert (report["users"], report["rows"], report["users_with_fewer"]) == (USERS, 10 * USERS, 0)


def test_a_list_longer_than_the_catalogue_is_what_there_is(state):
    out = state / "lists.csv"
    done = called(
        "recommend", "--dataset", "small", "--k", 500, "--exclude-seen", "--out", out, "--model", "popularity"
    )
    assert done.exit_code == 0, done.output
    assert "30 users have fewer than 500 items" in done.output
    lists = csv.read_csv(out).to_pandas()
    assert lists.groupby("user_id").size().tolist() == [ITEMS - 10] * USERS


def test_without_exclude_seen_the_whole_catalogue_can_be_recommended(state):
    out = state / "all.csv"
    called("recommend", "--dataset", "small", "--k", ITEMS, "--out", out, "--model", "popularity")
    assert len(csv.read_csv(out)) == USERS * ITEMS


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--dataset", "other", "--out", "x.csv"], "there is no dataset 'other'"),
        (["--dataset", "small", "--out", "x.txt"], "its name ends neither with .parquet nor with .csv"),
        (["--dataset", "small", "--out", "/nowhere/x.csv"], "there is no folder /nowhere"),
        (["--dataset", "small", "--out", "x.csv", "--model", "magic"], "there is no recommender 'magic'"),
        (["--out", "x.csv"], "no video was watched yet"),
    ],
)
def test_what_cannot_be_done_is_one_line(state, monkeypatch, arguments, reason):
    monkeypatch.chdir(state)
    done = called("recommend", *arguments)
    assert done.exit_code == 1
    assert reason in done.output.replace("\n", "")
    assert "Traceback" not in done.output
    assert not (state / "x.csv").exists()


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("split", ["temporal", "random"])
def test_the_backtest_tells_every_model_with_its_metrics(split):
    done = called("backtest", "recommendation", "--dataset", "small", "--split", split, "--k", 5, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    named = {model["name"]: model["metrics"] for model in report["models"]}
    assert {"popularity", "recent_popularity", "item_knn", "factors", "autoencoder"} <= named.keys()
    assert all(set(metrics) == {"recall@5", "ndcg@5", "coverage", "novelty"} for metrics in named.values())
    assert report["winner"] == max(named, key=lambda name: named[name]["ndcg@5"])
    assert report["chosen"] in named


@pytest.mark.usefixtures("state")
def test_the_table_marks_what_was_chosen_and_says_who_won():
    done = called("backtest", "recommendation", "--dataset", "small", "--split", "random")
    assert done.exit_code == 0, done.output
    assert " *" in done.output
    assert "wins: ndcg@10" in done.output.replace("\n", " ")
