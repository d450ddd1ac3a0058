"""A file becomes a dataset, all of it or nothing; every row is in exactly one count; again adds nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from local_broker import small_settings
from own_files import CARD_COLUMNS, NOW, bring, payments, ratings, request_for, request_for_ratings, written

from reference_system.dataset_import import importing
from reference_system.errors import ImportRefused, StateError
from reference_system.lake import datasets, delta_lake
from reference_system.lake.datasets import dataset_names, dataset_paths, read_dataset_manifest
from reference_system.use_cases import topic_named


@pytest.fixture
def settings(tmp_path):
    return small_settings(tmp_path / "state", 0)


@pytest.fixture
def frame():
    return payments(300)


def lake_rows(settings, topic, dataset="cards"):
    """The topic's rows in the dataset's lake, by event id."""
    declared = topic_named(topic)
    table = delta_lake.read(dataset_paths(settings, dataset).lake, declared).read_all()
    return table.to_pandas().set_index(declared.event_id).sort_index()


def refused(settings, request):
    """The message of a refusal, after which nothing is there."""
    before = dataset_names(settings)
    with pytest.raises(ImportRefused) as error:
        bring(settings, request)
    assert dataset_names(settings) == before
    assert not list(settings.state_dir.glob("datasets/*/v*")) or before
    return str(error.value)


# What goes in


@pytest.mark.parametrize("name", ["cards.parquet", "cards.csv"])
def test_every_payment_becomes_an_event_and_every_fraud_a_chargeback(settings, tmp_path, frame, name):
    report = bring(settings, request_for(written(frame, tmp_path / name)))

    found, labels = lake_rows(settings, "transactions"), lake_rows(settings, "chargebacks")
    frame = frame.assign(key=frame.TRANSACTION_ID.astype(str)).set_index("key").sort_index()
    assert report.source.imported == len(found) == 300
    assert found.customer_id.tolist() == frame.CUSTOMER_ID.astype(str).tolist()
    assert found.terminal_id.tolist() == frame.TERMINAL_ID.astype(str).tolist()
    assert found.amount.tolist() == frame.TX_AMOUNT.tolist()
    assert found.event_timestamp.tolist() == frame.TX_DATETIME.dt.tz_localize("UTC").tolist()
    assert set(found.kafka_partition) == set(found.kafka_offset) == {-1}
    assert labels.transaction_id.tolist() == frame.index[frame.TX_FRAUD == 1].tolist()
    assert set(labels.created_timestamp - labels.event_timestamp) == {timedelta(days=7)}


def test_parquet_and_csv_of_the_same_rows_give_the_same_lake(settings, tmp_path, frame):
    for name in ("a.parquet", "b.csv"):
        bring(settings, request_for(written(frame, tmp_path / name), dataset=name[0]))

    for topic in ("transactions", "chargebacks"):
        pd.testing.assert_frame_equal(lake_rows(settings, topic, "a"), lake_rows(settings, topic, "b"))


def test_columns_need_no_option_where_they_have_our_names(settings, tmp_path, frame):
    pairs = dict(pair.split("=")[::-1] for pair in CARD_COLUMNS.split(","))
    path = written(frame.rename(columns=pairs), tmp_path / "cards.parquet")

    assert bring(settings, request_for(path, columns=None)).source.imported == 300


def test_ratings_become_events_with_ids_of_their_own(settings, tmp_path):
    frame = ratings(200)
    report = bring(settings, request_for_ratings(written(frame, tmp_path / "movies.csv")))

    found = lake_rows(settings, "ratings", "movies")
    assert report.source.imported == len(found) == found.index.nunique() == len(frame)
    rows = zip(found.viewer_id, found.video_id, found.rating, found.event_timestamp.astype("int64"), strict=True)
    wanted = zip(frame.user_id, frame.item_id, frame.rating, frame.timestamp, strict=True)
    scale = found.event_timestamp.dt.as_unit("us").astype("int64").iloc[0] // frame.timestamp.iloc[0] >= 10**5
    assert scale
    assert {(user, item, rating) for user, item, rating, _ in rows} == {
        (str(user), str(item), rating) for user, item, rating, _ in wanted
    }
    assert set(found.event_timestamp.dt.as_unit("s").astype("int64")) == set(frame.timestamp)


def test_ratings_over_many_days_are_committed_in_pieces(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "_DAYS_A_COMMIT", 50)
    frame = ratings(500)
    bring(settings, request_for_ratings(written(frame, tmp_path / "movies.parquet")))

    log = dataset_paths(settings, "movies").lake / "ratings" / "_delta_log"
    assert len(list(log.glob("*.json"))) > 5
    assert len(lake_rows(settings, "ratings", "movies")) == len(frame)


def test_the_report_says_what_was_assumed_and_what_was_not_read(settings, tmp_path, frame):
    report = bring(settings, request_for(written(frame, tmp_path / "cards.parquet"), label_delay=timedelta(days=10)))

    text = "\n".join(report.lines())
    assert "event_timestamp (TX_DATETIME): 300 times without a zone were read as UTC" in text
    assert "not read: TX_TIME_DAYS" in text
    assert "warning: the label delay of 10 days is longer than the 7 days" in text


def test_the_manifest_remembers_where_the_rows_came_from(settings, tmp_path, frame):
    bring(settings, request_for(written(frame, tmp_path / "cards.parquet")))
    manifest = read_dataset_manifest(settings, "cards")

    assert manifest.id_types == {"transaction_id": "int64", "customer_id": "int32", "terminal_id": "int32"}
    assert (manifest.version, manifest.events["transactions"]) == (1, 300)
    assert manifest.first == frame.TX_DATETIME.min().tz_localize("UTC")
    assert manifest.last == frame.TX_DATETIME.max().tz_localize("UTC")
    (source,) = manifest.sources
    assert (source.file, source.rows, source.imported_at) == ("cards.parquet", 300, NOW)
    assert source.columns["amount"] == "TX_AMOUNT"


# Again, more, twice


def test_importing_again_adds_nothing_and_says_so(settings, tmp_path, frame):
    request = request_for(written(frame, tmp_path / "cards.parquet"))
    first = bring(settings, request)
    again = bring(settings, request)

    assert (again.source.imported, again.source.held_before) == (0, 300)
    assert again.manifest == first.manifest
    assert "nothing to add" in "\n".join(again.lines())
    assert len(lake_rows(settings, "transactions")) == 300


def test_a_second_file_adds_what_is_new(settings, tmp_path, frame):
    bring(settings, request_for(written(frame[:200], tmp_path / "one.parquet")))
    report = bring(settings, request_for(written(frame[150:], tmp_path / "two.parquet")))

    assert (report.source.imported, report.source.held_before) == (100, 50)
    assert len(lake_rows(settings, "transactions")) == 300
    assert len(lake_rows(settings, "chargebacks")) == frame.TX_FRAUD.sum()
    manifest = read_dataset_manifest(settings, "cards")
    assert (manifest.version, [source.file for source in manifest.sources]) == (2, ["one.parquet", "two.parquet"])
    assert manifest.events["transactions"] == 300
    assert manifest.last == frame.TX_DATETIME.max().tz_localize("UTC")


def test_ids_of_two_kinds_become_text(settings, tmp_path, frame):
    bring(settings, request_for(written(frame[:200], tmp_path / "one.parquet")))
    text = frame[200:].assign(CUSTOMER_ID="c1", TERMINAL_ID=frame.TERMINAL_ID.astype("int64"))
    bring(settings, request_for(written(text, tmp_path / "two.parquet")))

    types = read_dataset_manifest(settings, "cards").id_types
    assert types == {"transaction_id": "int64", "customer_id": "string", "terminal_id": "int64"}


def test_exact_duplicates_are_dropped_and_counted(settings, tmp_path, frame):
    doubled = pd.concat([frame, frame[:7], frame[:2]])
    report = bring(settings, request_for(written(doubled, tmp_path / "cards.parquet")))

    assert (report.source.rows, report.source.imported, report.source.duplicates) == (309, 300, 9)
    assert len(lake_rows(settings, "transactions")) == 300


def test_the_same_id_with_other_content_is_a_bad_row(settings, tmp_path, frame):
    other = frame[4:5].assign(TX_AMOUNT=1.25)
    path = written(pd.concat([frame, other]), tmp_path / "cards.parquet")

    reason = "2 × another row has the same transaction_id and other content (row 5: see row 301, row 301: see row 5)"
    assert reason in refused(settings, request_for(path))
    report = bring(settings, request_for(path, skip_bad_rows=True))
    assert (report.source.imported, report.source.bad) == (299, 2)
    assert "4" not in lake_rows(settings, "transactions").index


@pytest.mark.parametrize("change", [{"TX_AMOUNT": 1.25}, {"TX_FRAUD": 1}, {"CUSTOMER_ID": 999}])
def test_a_row_that_contradicts_the_dataset_is_a_bad_row(settings, tmp_path, frame, change):
    frame.loc[4, "TX_FRAUD"] = 0
    bring(settings, request_for(written(frame, tmp_path / "cards.parquet")))
    other = written(frame[4:5].assign(**change), tmp_path / "other.parquet")

    with pytest.raises(ImportRefused, match="the dataset holds the transaction_id with other content"):
        bring(settings, request_for(other))
    assert len(lake_rows(settings, "transactions")) == 300


# What does not


BAD_CELLS = {
    "customer_id is missing": (2, "CUSTOMER_ID", None),
    "amount is no number": (3, "TX_AMOUNT", "12,5"),
    "amount lies below 0, as a refund does": (4, "TX_AMOUNT", "-1"),
    "amount is no finite number": (5, "TX_AMOUNT", "1e999"),
    "event_timestamp is no ISO 8601 time": (6, "TX_DATETIME", "04/01/2018"),
    "event_timestamp lies before 1990-01-01": (7, "TX_DATETIME", "1970-01-01 00:00:00"),
    "event_timestamp lies in the future": (8, "TX_DATETIME", "2999-01-01"),
    "is_fraud is neither 0 nor 1": (9, "TX_FRAUD", "maybe"),
    "terminal_id: is no id, which is text of one line": (10, "TERMINAL_ID", "t\u200b1"),
    "transaction_id: Expected `str` of length <= 64": (11, "TRANSACTION_ID", "x" * 65),
}


@pytest.fixture
def bad_file(tmp_path, frame):
    """A CSV with a bad cell of each kind; two of a row count once."""
    cells = frame.astype(object)
    for row, column, cell in BAD_CELLS.values():
        cells.loc[row - 1, column] = cell
    cells.loc[1, "TX_AMOUNT"] = "also bad"
    return written(cells, tmp_path / "cards.csv")


def test_a_bad_row_of_any_kind_refuses_the_file(settings, bad_file):
    message = refused(settings, request_for(bad_file))

    assert f"{len(BAD_CELLS)} of 300 rows cannot be imported" in message
    assert "nothing was written" in message
    for reason, (row, _, _) in BAD_CELLS.items():
        assert f"1 × {reason}" in message
        assert f"row {row}" in message
    assert "row 3: '12,5'" in message


def test_the_other_rows_are_imported_if_the_reader_says_so(settings, bad_file, frame):
    report = bring(settings, request_for(bad_file, skip_bad_rows=True))

    assert (report.source.imported, report.source.bad) == (300 - len(BAD_CELLS), len(BAD_CELLS))
    bad = [row - 1 for row, _, _ in BAD_CELLS.values()]
    assert set(lake_rows(settings, "transactions").index) == set(frame.drop(bad).TRANSACTION_ID.astype(str))
    assert {one.rows for one in report.bad_rows} == {1}


def test_many_bad_rows_are_counted_and_three_are_shown(settings, tmp_path, frame):
    frame.loc[10:, "TX_AMOUNT"] = -1.0
    message = refused(settings, request_for(written(frame, tmp_path / "cards.parquet")))

    assert "290 × amount lies below 0, as a refund does" in message
    assert "(row 11: -1.0, row 12: -1.0, row 13: -1.0)" in message


def test_a_file_without_one_good_row_is_refused_even_so(settings, tmp_path, frame):
    path = written(frame.assign(TX_AMOUNT=float("nan")), tmp_path / "cards.parquet")

    assert "300 × amount is missing" in refused(settings, request_for(path, skip_bad_rows=True))


def test_a_file_without_rows_is_refused(settings, tmp_path, frame):
    assert "has no rows" in refused(settings, request_for(written(frame[:0], tmp_path / "cards.parquet")))


def test_a_column_of_another_type_is_refused_whole(settings, tmp_path, frame):
    path = written(frame.assign(TX_AMOUNT=frame.TX_AMOUNT.astype(str)), tmp_path / "cards.parquet")

    assert "amount (TX_AMOUNT) holds string: a number is expected" in refused(settings, request_for(path))


def test_a_missing_column_is_refused_with_the_nearest_names(settings, tmp_path, frame):
    path = written(frame.drop(columns="TX_FRAUD"), tmp_path / "cards.parquet")

    assert "no column 'TX_FRAUD' for is_fraud" in refused(settings, request_for(path))


def test_ratings_outside_of_the_scale_are_bad_rows(settings, tmp_path):
    frame = ratings(50)
    frame.loc[3, "rating"] = 7.0
    message = refused(settings, request_for_ratings(written(frame, tmp_path / "movies.parquet")))

    assert "1 × rating lies outside of 0 to 5 (--rating-scale LOW:HIGH says another scale) (row 4: 7.0)" in message


def test_a_user_id_that_is_no_id_is_named_as_in_the_file(settings, tmp_path):
    frame = ratings(50).astype({"user_id": "string"})
    frame.loc[3, "user_id"] = "who\u202e"

    reason = "1 × user_id: is no id, which is text of one line that begins and ends with a visible character (row 4: "
    assert reason in refused(settings, request_for_ratings(written(frame, tmp_path / "movies.parquet")))


def test_another_use_case_or_label_delay_needs_another_name(settings, tmp_path, frame):
    path = written(frame, tmp_path / "cards.parquet")
    bring(settings, request_for(path))

    with pytest.raises(StateError, match="use case fraud"):
        bring(settings, request_for_ratings(written(ratings(20), tmp_path / "movies.csv"), dataset="cards"))
    with pytest.raises(StateError, match="label delay"):
        bring(settings, request_for(path, label_delay=timedelta(days=3)))


# A crash


@pytest.mark.parametrize("held_before", [False, True])
@pytest.mark.parametrize("step", ["append", "write_table", "publish_version"])
def test_an_import_that_breaks_off_leaves_the_dataset_as_it_was(settings, tmp_path, step, held_before):
    frame = payments(300)
    if held_before:
        bring(settings, request_for(written(frame[:100], tmp_path / "one.parquet")))
    before = read_dataset_manifest(settings, "cards") if held_before else None
    request = request_for(written(frame, tmp_path / "two.parquet"))
    owner = {"append": delta_lake, "write_table": importing.pq, "publish_version": datasets}[step]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, step, lambda *_args, **_options: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space left"):
            bring(settings, request)

    assert datasets.find_manifest(settings, "cards") == before
    assert (len(lake_rows(settings, "transactions")) if held_before else 0) == (100 if held_before else 0)
    assert len(list(settings.state_dir.glob("datasets/cards/v*"))) == int(held_before)
    assert bring(settings, request).manifest.events["transactions"] == 300


def test_times_of_the_file_are_judged_by_the_clock_that_is_given(settings, tmp_path, frame):
    path = written(frame, tmp_path / "cards.parquet")
    early = datetime(2024, 11, 20, tzinfo=UTC)

    with pytest.raises(ImportRefused, match="event_timestamp lies in the future"):
        bring(settings, request_for(path), now=early)
    report = bring(settings, request_for(path, skip_bad_rows=True), now=early)
    kept = np.count_nonzero(frame.TX_DATETIME.dt.tz_localize("UTC") <= early + timedelta(minutes=5))
    assert report.source.imported == kept
