"""Files as people have them: no row is lost, and no figure depends on names or on the order of rows."""

from __future__ import annotations

import gzip
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from local_broker import small_settings
from own_files import CARD_COLUMNS, bring, payments, ratings, request_for, request_for_ratings, written
from typer.testing import CliRunner

from reference_system.cli import app
from reference_system.commands.data.features import build_inputs
from reference_system.dataset_import.columns.readings import ColumnReading
from reference_system.dataset_import.duckdb_profile import profile
from reference_system.dataset_import.files.csv_files import CsvOptions
from reference_system.dataset_import.recommendation import rating_id
from reference_system.dataset_import.valid_rows import RowJudge
from reference_system.errors import ImportRefused
from reference_system.lake import delta_lake
from reference_system.lake.datasets import dataset_paths, read_dataset_manifest, version_paths
from reference_system.settings import load_settings
from reference_system.use_cases import topic_named

OUR_COLUMNS = "transaction_id,event_timestamp,customer_id,terminal_id,amount,is_fraud"


@pytest.fixture
def settings(tmp_path):
    return small_settings(tmp_path / "state", 0)


def lake(settings, topic, dataset="cards"):
    return delta_lake.read(dataset_paths(settings, dataset).lake, topic_named(topic)).read_all().to_pandas()


def text_file(path, rows, header=OUR_COLUMNS):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def brought(settings, path, **changes):
    """Import payments of a file that has our names for its columns."""
    return bring(settings, request_for(path, columns=None, **changes))


def counts_of(report):
    source = report.source
    return (source.imported, source.bad, source.refunds, source.duplicates, source.held_before)


# Labels


def test_files_without_a_fraud_are_imported_into_new_datasets_and_old_ones(settings, tmp_path):
    genuine = payments(50).assign(TX_FRAUD=0)
    report = bring(settings, request_for(written(genuine, tmp_path / "one.parquet")))
    later = genuine.assign(TRANSACTION_ID=genuine.TRANSACTION_ID + 1_000)
    again = bring(settings, request_for(written(later, tmp_path / "two.csv")))

    assert report.manifest.events == {"transactions": 50, "chargebacks": 0}
    assert again.manifest.events == {"transactions": 100, "chargebacks": 0}
    manifest = read_dataset_manifest(settings, "cards")
    found = profile("cards", manifest, version_paths(settings, "cards", manifest.version))
    assert (found.label_share, sum(one.frauds for one in found.bins)) == (0.0, 0)
    assert build_inputs(settings, "fraud", "cards", tmp_path / "out.parquet").num_rows == 100


def test_the_only_fraud_may_be_a_bad_row(settings, tmp_path):
    frame = payments(50).assign(TX_FRAUD=0)
    frame.loc[7, ["TX_FRAUD", "TX_AMOUNT"]] = [1, np.nan]

    report = bring(settings, request_for(written(frame, tmp_path / "cards.csv"), skip_bad_rows=True))
    assert report.manifest.events == {"transactions": 49, "chargebacks": 0}


# Rows


def test_a_quote_that_is_never_closed_in_a_column_that_is_not_read_is_named(settings, tmp_path):
    rows = [f"{n},2024-01-{n:02d},c1,t1,5,{n % 2},{'ok' if n != 4 else chr(34) + '5ft'}" for n in range(1, 25)]
    path = text_file(tmp_path / "cards.csv", rows, header=f"{OUR_COLUMNS},note")

    with pytest.raises(ImportRefused, match=r"1 of 24 rows cannot .* never closed \(row 4: '4,2024-01-04"):
        brought(settings, path)
    report = brought(settings, path, skip_bad_rows=True)
    assert (report.source.rows, counts_of(report)) == (24, (23, 1, 0, 0, 0))
    assert set(lake(settings, "transactions").transaction_id) == {str(n) for n in range(1, 25)} - {"4"}


def test_a_file_that_changes_while_it_is_read_is_refused(settings, tmp_path, monkeypatch):
    path = text_file(tmp_path / "cards.csv", ["1,2024-01-01,c1,t1,5,0", "2,2024-01-01,c1,t1,5,0"])
    look = RowJudge.look

    def lose_a_row(judge, chunk):
        look(judge, chunk)
        text_file(path, ["1,2024-01-01,c1,t1,5,0"])

    monkeypatch.setattr(RowJudge, "look", lose_a_row)
    with pytest.raises(ImportRefused, match="changed while it was read: it had 2 rows, then 1"):
        brought(settings, path)


def spoiled(seed):
    """Payments with duplicates, contradictions, bad cells, refunds and times in two units."""
    rng = np.random.default_rng(seed)
    frame = payments(400, seed=seed).astype(object)
    frame["TX_DATETIME"] = [int(moment.timestamp()) for moment in frame.TX_DATETIME]
    for row in rng.choice(400, 30, replace=False):
        frame.loc[row, "TX_DATETIME"] *= 1_000
    for column, cell in (("CUSTOMER_ID", "NaN"), ("TX_AMOUNT", "x"), ("TX_AMOUNT", "-3"), ("TX_FRAUD", "2")):
        frame.loc[rng.choice(400, 7, replace=False), column] = cell
    twice = frame.sample(20, random_state=seed)
    changed = frame.sample(20, random_state=seed + 1).assign(TX_AMOUNT="7.77", TX_FRAUD=1)
    return pd.concat([frame, twice, changed], ignore_index=True)


def figures(settings, dataset):
    """All that `data describe` says but where the rows came from."""
    manifest = read_dataset_manifest(settings, dataset)
    found = profile(dataset, manifest, version_paths(settings, dataset, manifest.version))
    said = msgspec.to_builtins(found)
    (source,) = said["manifest"].pop("sources")
    counts = {name: source[name] for name in ("rows", "imported", "duplicates", "held_before", "bad", "refunds")}
    return {**{name: said[name] for name in said if name not in ("dataset", "disk_mb")}, **counts}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("refunds", ["skip", "keep"])
def test_no_figure_depends_on_the_order_of_the_rows_or_the_names_of_anybody(settings, tmp_path, seed, refunds):
    frame = spoiled(seed)
    rng = np.random.default_rng(seed)
    names = {f"{n}": name for n, name in enumerate(rng.permutation([f"{n} O'Elm, {n * 7}" for n in range(500)]))}
    renamed = frame.assign(
        **{
            column: [names.get(str(cell), cell) for cell in frame[column]]
            for column in ("TRANSACTION_ID", "CUSTOMER_ID", "TERMINAL_ID")
        }
    )
    for name, one in (("plain", frame), ("mixed", frame.sample(frac=1.0, random_state=seed)), ("renamed", renamed)):
        path = written(one, tmp_path / f"{name}.csv")
        bring(settings, request_for(path, dataset=name, skip_bad_rows=True, reading=ColumnReading(refunds=refunds)))

    plain = figures(settings, "plain")
    assert figures(settings, "mixed") == plain
    plain["manifest"].pop("id_types")
    other = figures(settings, "renamed")
    other["manifest"].pop("id_types")
    assert other == plain


# Ids


def test_one_card_is_one_card_however_its_number_is_written(settings, tmp_path):
    cells = ["12", "12.0", "NaN", "NULL", "12.00"]
    rows = [f"{n},2024-01-0{n + 1},{cell},t1,5,0" for n, cell in enumerate(cells)]
    report = brought(settings, text_file(tmp_path / "cards.csv", rows), skip_bad_rows=True)

    assert set(lake(settings, "transactions").customer_id) == {"12"}
    (bad,) = report.bad_rows
    assert (bad.reason, bad.examples) == ("customer_id is missing", ("row 3: 'NaN'", "row 4: 'NULL'"))
    assert "customer_id: 2 ids like 12.0 were read as 12" in report.notes


IDS = {
    "hashes": pa.array([-1541654101129638711, 8581389452482819506, 0]),
    "decimals": pa.array([Decimal(10**37), Decimal(7), Decimal(-7)], pa.decimal128(38, 0)),
    "cents": pa.array([Decimal("1.00"), Decimal("2.00"), Decimal("3.00")], pa.decimal128(10, 2)),
    "floats": pa.array([1.0, 2.0, -3.0]),
    "bytes": pa.array([b"c1", "Ясень".encode(), b"x"]),
    "words": pa.array(["Alder and Birch", "Cedar, Dogwood", "O'Elm"]).dictionary_encode(),
    "categories": pa.array([3, 1, 2]).dictionary_encode(),
}


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_built_features_have_the_ids_of_the_file(settings, tmp_path, ids):
    columns = {
        "transaction_id": ids,
        "event_timestamp": pa.array([datetime(2024, 1, n + 1, tzinfo=UTC) for n in range(3)]),
        "customer_id": ids,
        "terminal_id": ids,
        "amount": pa.array([1.5, 2.5, 3.5]),
        "is_fraud": pa.array([True, False, False]),
    }
    pq.write_table(pa.table(columns), tmp_path / "cards.parquet")
    brought(settings, tmp_path / "cards.parquet")

    built = build_inputs(settings, "fraud", "cards", tmp_path / "out.parquet")["transaction_id"]
    kind = ids.type.value_type if pa.types.is_dictionary(ids.type) else ids.type
    assert (built.type, built.to_pylist()) == (kind, ids.to_pylist())


def test_numbers_that_a_csv_reader_would_infer_are_given_back(settings, tmp_path):
    rows = ["-1541654101129638711,2024-01-01,12.0,t 1,5,1", "8581389452482819506,2024-01-02,13.0,t 2,5,0"]
    path = text_file(tmp_path / "cards.csv", rows)
    brought(settings, path)
    build_inputs(settings, "fraud", "cards", tmp_path / "out.csv")

    own, found = pd.read_csv(path), pd.read_csv(tmp_path / "out.csv")
    assert len(own.merge(found, on="transaction_id")) == 2
    assert read_dataset_manifest(settings, "cards").id_types == {
        "transaction_id": "int64",
        "customer_id": "double",
        "terminal_id": "string",
    }


def test_ids_that_were_floats_in_one_file_and_whole_numbers_in_another_are_the_same(settings, tmp_path):
    frame = payments(100)
    one = frame[:60].astype({"CUSTOMER_ID": "float64"})
    bring(settings, request_for(written(one, tmp_path / "one.parquet")))
    bring(settings, request_for(written(frame[60:], tmp_path / "two.parquet")))

    assert set(lake(settings, "transactions").customer_id) == set(frame.CUSTOMER_ID.astype(str))
    assert read_dataset_manifest(settings, "cards").id_types["customer_id"] == "int64"


def test_ratings_of_names_with_spaces_have_ids_of_their_own_and_others_keep_theirs():
    assert rating_id("a b", "c", 1) != rating_id("a", "b c", 1)
    # As in datasets that were imported before names could have spaces.
    assert rating_id("u1", "i1", 1_000_000) == "1b179ec493bf870e74ea09fe4ae08bcf"


def test_a_file_without_ids_of_payments_has_the_numbers_of_its_rows(settings, tmp_path):
    frame = payments(30).drop(columns="TRANSACTION_ID")
    columns = CARD_COLUMNS.split(",", maxsplit=1)[1]
    reading = ColumnReading(has_row_ids=True)
    path = written(frame, tmp_path / "cards.csv")
    bring(settings, request_for(path, columns=columns, reading=reading))
    again = bring(settings, request_for(path, columns=columns, reading=reading))

    assert (again.source.imported, again.source.held_before) == (0, 30)
    assert set(lake(settings, "transactions").transaction_id) == {str(n) for n in range(1, 31)}
    assert "transaction_id: the number of the row" in again.notes
    with pytest.raises(ImportRefused, match=r"no column is given for transaction_id .*--row-ids"):
        bring(settings, request_for(path, columns=columns))


# Times and amounts


def test_hours_since_a_beginning_and_amounts_over_a_million_are_imported(settings, tmp_path):
    rows = ["1,1,c1,t1,12.5,0", "2,2,c2,t2,1500000.0,1", "3,30,c1,t1,92445516.64,0"]
    path = text_file(tmp_path / "cards.csv", rows)
    with pytest.raises(ImportRefused, match=r"3 × event_timestamp counts from another beginning .*--time-unit hours"):
        brought(settings, path)
    reading = ColumnReading(time_unit=timedelta(hours=1), time_origin=datetime(2024, 1, 1, tzinfo=UTC))
    brought(settings, path, reading=reading)

    found = lake(settings, "transactions").set_index("transaction_id").sort_index()
    assert found.event_timestamp.dt.strftime("%d %H").tolist() == ["01 01", "01 02", "02 06"]
    assert found.amount.tolist() == [12.5, 1_500_000.0, 92_445_516.64]


def test_refunds_are_refused_left_out_or_kept_and_counted(settings, tmp_path):
    rows = ["1,2024-01-01,c1,t1,-5.00,0", "2,2024-01-02,c1,t1,7,1", "3,2024-01-03,,t1,-9,0"]
    path = text_file(tmp_path / "cards.csv", rows)

    with pytest.raises(ImportRefused, match="--refunds skip leaves them out"):
        brought(settings, path)
    left_out = brought(settings, path, dataset="skip", reading=ColumnReading(refunds="skip"))
    assert counts_of(left_out) == (1, 0, 2, 0, 0)
    assert "refunds, left out: 2" in list(left_out.lines())
    kept = brought(settings, path, dataset="keep", reading=ColumnReading(refunds="keep"), skip_bad_rows=True)
    assert counts_of(kept) == (2, 1, 0, 0, 0)
    assert sorted(lake(settings, "transactions", "keep").amount) == [-5.0, 7.0]
    built = build_inputs(settings, "fraud", "keep", tmp_path / "out.parquet")
    assert built["customer_mean_amount_30d"].to_pylist() == [-5.0, 1.0]


def test_a_file_of_refunds_alone_has_nothing_to_import(settings, tmp_path):
    path = text_file(tmp_path / "cards.csv", ["1,2024-01-01,c1,t1,-5.00,0"])

    with pytest.raises(ImportRefused, match="nothing but refunds"):
        brought(settings, path, reading=ColumnReading(refunds="skip"))


# Ratings


def test_ratings_without_a_header_and_with_another_separator_are_read(settings, tmp_path):
    path = tmp_path / "ratings.dat"
    path.write_text("1::10::5::978300760\n1::11::3::978300761\n2::10::4::978300762\n", encoding="utf-8")

    with pytest.raises(ImportRefused, match=r"looks like a row .*--no-header"):
        bring(settings, request_for_ratings(path, columns=None))
    columns = "user_id=1,item_id=2,rating=3,event_timestamp=4"
    report = bring(settings, request_for_ratings(path, columns=columns, csv=CsvOptions(has_header=False)))
    assert (report.source.rows, report.source.imported) == (3, 3)
    assert "the columns are separated by '::' (guessed; --separator says otherwise)" in report.notes


def test_interactions_without_ratings_and_times_are_read(settings, tmp_path):
    path = tmp_path / "views.csv"
    path.write_text('"User";"Item"\n"1";"a"\n"1";"b"\n"2";"a"\n', encoding="utf-8")
    reading = ColumnReading(is_implicit=True, time_origin=datetime(2004, 8, 1, tzinfo=UTC))
    report = bring(settings, request_for_ratings(path, columns="user_id=User,item_id=Item", reading=reading))

    found = lake(settings, "ratings", "movies")
    assert (report.source.imported, set(found.rating)) == (3, {5.0})
    assert report.manifest.first == report.manifest.last == datetime(2004, 8, 1, tzinfo=UTC)
    with pytest.raises(ImportRefused, match="--time-origin needs --time-unit where the file has times"):
        bring(settings, request_for_ratings(written(ratings(5), tmp_path / "r.csv"), reading=reading))


def test_ratings_from_0_to_10_are_read_as_such(settings, tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text("user_id,item_id,timestamp,rating\n1,10,978300760,8\n1,11,978300761,4\n", encoding="utf-8")

    with pytest.raises(ImportRefused, match=r"1 × rating lies outside of 0 to 5 \(--rating-scale LOW:HIGH"):
        bring(settings, request_for_ratings(path))
    bring(settings, request_for_ratings(path, reading=ColumnReading(rating_scale=(0.0, 10.0))))
    assert sorted(lake(settings, "ratings", "movies").rating) == [2.0, 4.0]


def test_two_ratings_of_one_moment_are_told_in_the_words_of_the_file(settings, tmp_path):
    path = tmp_path / "ratings.csv"
    lines = ["user_id,item_id,timestamp,rating", "1,10,978300760,4", "1,10,978300760,2", "1,11,978300760,2"]
    path.write_text("\n".join(lines), encoding="utf-8")

    reason = "2 × another row has the same user_id, item_id and event_timestamp and another rating"
    with pytest.raises(ImportRefused, match=reason):
        bring(settings, request_for_ratings(path))
    report = bring(settings, request_for_ratings(path, skip_bad_rows=True))
    assert counts_of(report) == (1, 2, 0, 0, 0)


# Kinds of files


def as_file(frame, folder, kind):
    """The frame in one of the kinds that people have."""
    frame = frame.astype({"TX_FRAUD": "bool"})
    if kind == "folder":
        (folder / "parts" / "more").mkdir(parents=True)
        for name, part in (("a", frame[:100]), ("b", frame[100:250]), ("more/c", frame[250:])):
            part.to_parquet(folder / "parts" / f"{name}.parquet")
        return folder / "parts"
    if kind == "folder of csv":
        (folder / "csv").mkdir()
        frame[:100].to_csv(folder / "csv" / "1.csv", index=False)
        frame[100:].to_csv(folder / "csv" / "2.csv.gz", index=False, sep=";")
        return folder / "csv"
    text = io.StringIO()
    separator = {"tabs": "\t"}.get(kind, ",")
    frame.to_csv(text, index=False, sep=separator, lineterminator="\r\n" if kind == "windows" else "\n")
    data = text.getvalue().encode("utf-16" if kind == "utf-16" else "utf-8")
    path = folder / "cards.data"
    path.write_bytes(gzip.compress(data) if kind == "gzip" else data)
    return path


@pytest.mark.parametrize("kind", ["folder", "folder of csv", "gzip", "tabs", "windows", "utf-16"])
def test_the_same_rows_in_a_file_of_any_kind_give_the_same_lake(settings, tmp_path, kind):
    frame = payments(300)
    bring(settings, request_for(written(frame, tmp_path / "plain.parquet")))
    report = bring(settings, request_for(as_file(frame, tmp_path, kind), dataset="other"))

    assert (report.source.rows, report.source.imported) == (300, 300)
    for topic in ("transactions", "chargebacks"):
        key = topic_named(topic).event_id
        one, other = (lake(settings, topic, name).sort_values(key, ignore_index=True) for name in ("cards", "other"))
        pd.testing.assert_frame_equal(one, other)


def test_a_bad_row_of_a_part_is_named_with_the_part(settings, tmp_path):
    frame = payments(300)
    frame.loc[120, "TX_AMOUNT"] = np.nan

    with pytest.raises(ImportRefused, match=r"1 of 300 rows .* amount is missing \(row 21 of b.parquet: None\)"):
        bring(settings, request_for(as_file(frame, tmp_path, "folder")))


def test_every_option_of_the_command_line_reaches_the_import(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(tmp_path / "state"))
    cards = tmp_path / "cards.txt"
    cards.write_bytes("1|5|café|t1|7.5|0\n2|30|café|t1|-1|1\n".encode("latin-1"))
    movies = tmp_path / "movies.txt"
    movies.write_text("u,i\n1,2\n", encoding="utf-8")
    of_cards = ("--separator", "|", "--no-header", "--encoding", "latin-1", "--refunds", "skip", "--row-ids")
    names = "event_timestamp=2,customer_id=3,terminal_id=4"
    more = ("--columns", names, "--columns", "amount=5,is_fraud=6")
    of_movies = (
        "--columns",
        "user_id=u,item_id=i",
        "--implicit",
        "--time-origin",
        "2024-01-01",
        "--rating-scale",
        "0:10",
    )
    counted = ("--time-unit", "hours", "--time-origin", "2024-01-01")
    commands = [
        ("fraud", "--transactions", cards, "--dataset", "cards", *of_cards, *more, *counted),
        ("recommendation", "--interactions", movies, "--dataset", "movies", *of_movies),
    ]
    reports = []
    for command in commands:
        done = CliRunner().invoke(app, ["data", "import", *map(str, command), "--json"])
        assert done.exit_code == 0, done.output
        reports.append(json.loads(done.stdout))

    found, interactions = (report["source"] for report in reports)
    assert (found["rows"], found["imported"], found["refunds"], interactions["imported"]) == (2, 1, 1, 1)
    assert reports[0]["manifest"]["first"] == "2024-01-01T05:00:00Z"
    assert lake(load_settings(), "transactions").customer_id.tolist() == ["café"]
