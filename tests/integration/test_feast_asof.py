"""Training sets by an ASOF join: Feast's API and the rows of Feast's own join, also where Feast leaves them open."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String

from reference_system.errors import StateError

ASOF = "reference_system.features.feast.asof_offline.AsofDuckDBOfflineStore"
MONDAY = datetime(2025, 3, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MICRO = timedelta(microseconds=1)
TIMES = pa.timestamp("us", tz="UTC")

CUSTOMER = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
TERMINAL = Entity(name="terminal", join_keys=["terminal_id"], value_type=ValueType.INT64)
KEYS = {"customer_id": String, "terminal_id": Int64}


def view(name: str, folder: Path, entities: list[Entity], *, ttl=None, created="created_timestamp", **features):
    keys = [entity.join_key for entity in entities]
    return FeatureView(
        name=name,
        entities=entities,
        ttl=ttl,
        schema=[Field(name=key, dtype=KEYS[key]) for key in keys]
        + [Field(name=feature, dtype=dtype) for feature, dtype in features.items()],
        source=FileSource(
            name=f"{name}_table",
            path=str(folder / name / "*.parquet"),
            timestamp_field="event_timestamp",
            created_timestamp_column=created,
        ),
        online=False,
    )


def store(folder: Path, offline: str, objects: list) -> FeatureStore:
    config = RepoConfig(
        project="joins",
        provider="local",
        registry={"path": str(folder / f"{offline[-6:]}.registry")},
        offline_store={"type": offline},
        online_store={"type": "sqlite", "path": str(folder / "online.sqlite")},
        entity_key_serialization_version=3,
        repo_path=folder,
    )
    found = FeatureStore(config=config)
    found.apply(objects)
    return found


class Stores:
    """Feast's own store and ours over the same tables."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.views = [
            # Windows of a card; every version is kept.
            view("cards", folder, [CUSTOMER], card_count=Int64, card_note=String),
            # A terminal's values expire.
            view("shops", folder, [TERMINAL], ttl=2 * DAY, shop_rate=Float64),
            # Two keys, no versions.
            view("pairs", folder, [CUSTOMER, TERMINAL], ttl=5 * HOUR - MICRO, created="", pair_sum=Float64),
        ]
        objects = [CUSTOMER, TERMINAL, *self.views]
        self.feast, self.asof = store(folder, "duckdb", objects), store(folder, ASOF, objects)

    def publish(self, name: str, columns: Mapping[str, object], file: str = "a.parquet") -> None:
        path = self.folder / name / file
        path.parent.mkdir(exist_ok=True)
        schema = {"event_timestamp": TIMES, "created_timestamp": TIMES}
        arrays = {key: pa.array(values, schema.get(key)) for key, values in columns.items()}
        pq.write_table(pa.table(arrays), path)


@pytest.fixture
def stores(tmp_path) -> Stores:
    return Stores(tmp_path)


def join(of: FeatureStore, asked: pd.DataFrame, features, **options) -> pa.Table:
    return of.get_historical_features(asked, features=features, **options).to_arrow()


def sorted_rows(table: pa.Table) -> pa.Table:
    return table.sort_by("label").combine_chunks().replace_schema_metadata(None)


def require_same(stores: Stores, asked: pd.DataFrame, features, **options) -> pa.Table:
    """Both stores answer with the same rows and the same types; ours in the asked order."""
    ours, feasts = join(stores.asof, asked, features, **options), join(stores.feast, asked, features, **options)
    assert ours["label"].to_pylist() == asked["label"].tolist()
    assert sorted_rows(ours).schema.equals(sorted_rows(feasts).schema)
    assert sorted_rows(ours).equals(sorted_rows(feasts))
    return ours


def asked_rows(**columns) -> pd.DataFrame:
    frame = pd.DataFrame(columns)
    return frame.assign(label=range(len(frame)))


EVERYTHING = ["cards:card_count", "cards:card_note", "shops:shop_rate", "pairs:pair_sum"]


def generate(generator: np.random.Generator, stores: Stores) -> None:
    """Three tables on a coarse grid of hours: ties, versions, late corrections, nulls, no order, several files."""

    def hours(count: int) -> list[datetime]:
        return [MONDAY + int(n) * HOUR for n in generator.integers(0, 120, count)]

    def versions(times: list[datetime]) -> list[datetime | None]:
        later = generator.choice([-1, 0, 0, 0, 2, 30], len(times))
        return [None if generator.random() < 0.05 else at + int(n) * HOUR for at, n in zip(times, later, strict=True)]

    def some(values: list, share: float = 0.1) -> list:
        return [None if generator.random() < share else value for value in values]

    def distinct(*columns: list) -> list[tuple]:
        # Feast picks any of several rows that agree in entity and both times; each such row stands once.
        return list({tuple(row[:-1]): row for row in zip(*columns, strict=True)}.values())

    for file in ("a.parquet", "b.parquet"):
        shift = timedelta(minutes=30) if file == "b.parquet" else timedelta(0)
        times = [at + shift for at in hours(150)]
        customers = some([f"c{n}" for n in generator.integers(0, 6, 150)])
        rows = distinct(customers, times, versions(times), list(range(150)))
        stores.publish(
            "cards",
            {
                "customer_id": [row[0] for row in rows],
                "event_timestamp": some([row[1] for row in rows], 0.02),
                "created_timestamp": [row[2] for row in rows],
                "card_count": some([row[3] for row in rows]),
                "card_note": some([f"{file}-{row[3]}" for row in rows]),
            },
            file,
        )
        times = [at + shift for at in hours(150)]
        rows = distinct(list(map(int, generator.integers(0, 4, 150))), times, versions(times), list(range(150)))
        stores.publish(
            "shops",
            {
                "terminal_id": [row[0] for row in rows],
                "event_timestamp": [row[1] for row in rows],
                "created_timestamp": [row[2] for row in rows],
                "shop_rate": generator.random(len(rows)),
            },
            file,
        )
    rows = distinct(
        [f"c{n}" for n in generator.integers(0, 6, 300)],
        list(generator.integers(0, 4, 300)),
        hours(300),
        list(range(300)),
    )
    stores.publish(
        "pairs",
        {
            "customer_id": [row[0] for row in rows],
            "terminal_id": [int(row[1]) for row in rows],
            "event_timestamp": [row[2] for row in rows],
            "pair_sum": generator.random(len(rows)),
        },
    )


def questions(generator: np.random.Generator) -> pd.DataFrame:
    """Moments on and between the hours, unknown entities, missing keys and moments, rows that stand twice."""
    times = [MONDAY + int(n) * HOUR / 2 for n in generator.integers(-10, 300, 200)]
    frame = pd.DataFrame(
        {
            "customer_id": [None if n == 7 else f"c{n}" for n in generator.integers(0, 8, 200)],
            "terminal_id": generator.integers(0, 6, 200),
            "event_timestamp": pd.Series(times, dtype="datetime64[us, UTC]"),
            "amount": generator.random(200),
        }
    )
    frame.loc[::40, "event_timestamp"] = pd.NaT
    frame = pd.concat([frame, frame.iloc[:30]])  # its index is no longer a count
    return frame.assign(label=range(len(frame)))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("only_known", [True, False])
def test_the_rows_are_those_of_feasts_own_join(stores, seed, only_known):
    generator = np.random.default_rng(seed)
    generate(generator, stores)
    asked = questions(generator)
    options = {"filter_by_created_timestamp": only_known, "full_feature_names": bool(seed % 2)}
    joined = require_same(stores, asked, EVERYTHING, **options)
    for column in joined.column_names[-4:]:
        assert 0 < joined[column].null_count < len(joined)


def cards(stores: Stores, *rows: tuple[str, datetime, datetime | None, int], file: str = "a.parquet") -> None:
    names = ("customer_id", "event_timestamp", "created_timestamp", "card_count")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    stores.publish("cards", {**columns, "card_note": ["n"] * len(rows)}, file)


def count_at(stores: Stores, *moments: datetime, only_known: bool = True) -> list[int | None]:
    asked = asked_rows(customer_id=["c1"] * len(moments), event_timestamp=list(moments))
    joined = require_same(stores, asked, ["cards:card_count"], filter_by_created_timestamp=only_known)
    return joined["card_count"].to_pylist()


def test_a_correction_is_seen_from_its_creation_on(stores):
    cards(stores, ("c1", MONDAY, MONDAY, 1), ("c1", MONDAY, MONDAY + DAY, 2))
    assert count_at(stores, MONDAY, MONDAY + DAY - MICRO, MONDAY + DAY) == [1, 1, 2]
    assert count_at(stores, MONDAY, only_known=False) == [2]


def test_a_late_correction_of_an_old_value_does_not_hide_a_newer_value(stores):
    cards(stores, ("c1", MONDAY, MONDAY + DAY, 1), ("c1", MONDAY + HOUR, MONDAY + HOUR, 2))
    assert count_at(stores, MONDAY, MONDAY + HOUR, MONDAY + 2 * DAY) == [None, 2, 2]


def test_of_several_late_corrections_the_newest_event_counts_not_the_last_written(stores):
    cards(
        stores,
        ("c1", MONDAY + 2 * HOUR, MONDAY + 3 * HOUR, 2),
        ("c1", MONDAY + HOUR, MONDAY + 4 * HOUR, 1),
        ("c1", MONDAY, MONDAY + 4 * HOUR, 0),
    )
    assert count_at(stores, MONDAY + 2 * HOUR, MONDAY + 3 * HOUR, MONDAY + 5 * HOUR) == [None, 2, 2]


def test_a_value_that_was_written_before_its_time_waits_for_its_time(stores):
    cards(stores, ("c1", MONDAY, MONDAY - DAY, 1))
    assert count_at(stores, MONDAY - HOUR, MONDAY) == [None, 1]


def test_of_equal_event_and_created_times_the_last_row_of_the_table_wins(stores):
    cards(stores, ("c1", MONDAY, MONDAY, 1), ("c1", MONDAY, MONDAY, 2), file="a.parquet")
    cards(stores, ("c1", MONDAY, MONDAY, 4), ("c1", MONDAY, MONDAY, 3), file="b.parquet")
    asked = asked_rows(customer_id=["c1"] * 100, event_timestamp=[MONDAY] * 100)
    # Feast numbers the tied rows in any order; only ours can be asserted.
    for only_known in (True, False):
        joined = join(stores.asof, asked, ["cards:card_count"], filter_by_created_timestamp=only_known)
        assert set(joined["card_count"].to_pylist()) == {3}


def test_the_features_of_one_view_come_from_one_row_even_where_it_has_nulls(stores):
    stores.publish(
        "cards",
        {
            "customer_id": ["c1", "c1"],
            "event_timestamp": [MONDAY, MONDAY + HOUR],
            "created_timestamp": [MONDAY, MONDAY + HOUR],
            "card_count": [1, None],
            "card_note": ["old", "new"],
        },
    )
    asked = asked_rows(customer_id=["c1"], event_timestamp=[MONDAY + DAY])
    joined = require_same(stores, asked, ["cards:card_count", "cards:card_note"])
    assert joined.select(["card_count", "card_note"]).to_pylist() == [{"card_count": None, "card_note": "new"}]


def test_a_value_holds_for_its_ttl_and_not_a_microsecond_longer(stores):
    times = {"event_timestamp": [MONDAY], "created_timestamp": [MONDAY]}
    stores.publish("shops", {"terminal_id": [1], **times, "shop_rate": [0.5]})
    seen = {MONDAY - MICRO: None, MONDAY: 0.5, MONDAY + 2 * DAY: 0.5, MONDAY + 2 * DAY + MICRO: None}
    for moment, expected in seen.items():
        asked = asked_rows(terminal_id=[1], event_timestamp=[moment])
        assert require_same(stores, asked, ["shops:shop_rate"])["shop_rate"].to_pylist() == [expected]
    asked = asked_rows(terminal_id=[1] * 4, event_timestamp=list(seen))
    assert require_same(stores, asked, ["shops:shop_rate"])["shop_rate"].to_pylist() == list(seen.values())


def test_a_service_with_mapped_keys_and_two_uses_of_one_view(stores):
    cards(stores, ("c1", MONDAY, MONDAY, 1), ("c2", MONDAY, MONDAY, 2))
    payer = stores.views[0][["card_count"]].with_name("payer").with_join_key_map({"customer_id": "payer_id"})
    payee = stores.views[0][["card_count"]].with_name("payee").with_join_key_map({"customer_id": "payee_id"})
    service = FeatureService(name="transfers", features=[payer, payee])
    for each in (stores.feast, stores.asof):
        each.apply([service])
    asked = asked_rows(payer_id=["c1", "c2", "c3"], payee_id=["c2", None, "c1"], event_timestamp=[MONDAY] * 3)
    joined = require_same(stores, asked, stores.asof.get_feature_service("transfers"), full_feature_names=True)
    assert joined["payer__card_count"].to_pylist() == [1, 2, None]
    assert joined["payee__card_count"].to_pylist() == [2, None, 1]


@pytest.mark.parametrize(
    "moments",
    [
        pd.Series(["2025-03-03 00:30:00+01:00", "2025-03-03 02:30:00+01:00"]),
        pd.Series([MONDAY, MONDAY + HOUR]).dt.tz_convert("Europe/Berlin"),
        pd.Series([MONDAY, MONDAY + HOUR]).dt.tz_localize(None).astype("datetime64[ns]"),
        pd.Series([pd.NaT, pd.NaT], dtype="datetime64[us, UTC]"),
    ],
    ids=["text", "another zone", "no zone", "none"],
)
def test_moments_are_understood_as_feast_understands_them(stores, moments):
    cards(stores, ("c1", MONDAY, MONDAY, 1), ("c1", MONDAY + HOUR, MONDAY + HOUR, 2))
    require_same(stores, asked_rows(customer_id=["c1", "c1"], event_timestamp=moments), ["cards:card_count"])


def test_other_columns_pass_through_with_the_types_that_feast_gives_them(stores):
    cards(stores, ("c1", MONDAY, MONDAY, 1))
    asked = asked_rows(
        customer_id=pd.Categorical(["c1", "c2"]),
        event_timestamp=[MONDAY, MONDAY],
        small=np.array([1, 2], np.int8),
        nullable=pd.array([1, None], "Int64"),
        flag=[True, None],
        day=[MONDAY.date(), None],
        text=pd.array(["a", None], "string"),
        other_time=pd.Series([MONDAY, MONDAY]).dt.tz_convert("Europe/Berlin"),
        items=[[1, 2], [3]],
    )
    require_same(stores, asked, ["cards:card_count"])


def test_columns_may_be_called_as_the_join_calls_its_own(tmp_path):
    names = ["number", "moment", "key_0", "value_0", "event_time", "created_time", "asked", "file", "place"]
    odd = view("odd", tmp_path, [CUSTOMER], **dict.fromkeys(names, Int64))
    odd_store = store(tmp_path, ASOF, [CUSTOMER, odd])
    (tmp_path / "odd").mkdir()
    times = {"event_timestamp": pa.array([MONDAY], TIMES), "created_timestamp": pa.array([MONDAY], TIMES)}
    values = {name: [n] for n, name in enumerate(names)}
    pq.write_table(pa.table({"customer_id": ["c1"], **times, **values}), tmp_path / "odd" / "a.parquet")
    asked = pd.DataFrame({"customer_id": ["c1"], "event_timestamp": [MONDAY]})
    joined = join(odd_store, asked, [f"odd:{name}" for name in names])
    assert joined.select(names).to_pylist() == [{name: n for n, name in enumerate(names)}]


def test_a_frame_without_rows_gives_the_columns(stores):
    cards(stores, ("c1", MONDAY, MONDAY, 1))
    asked = asked_rows(customer_id=["c1"], event_timestamp=[MONDAY]).iloc[:0]
    joined = join(stores.asof, asked, ["cards:card_count"])
    assert joined.num_rows == 0
    assert joined.column_names == ["customer_id", "event_timestamp", "label", "card_count"]


def test_a_job_answers_again_and_what_it_was_given_may_change_meanwhile(stores):
    cards(stores, ("c1", MONDAY, MONDAY, 1))
    asked = asked_rows(customer_id=["c1"], event_timestamp=[MONDAY])
    job = stores.asof.get_historical_features(asked, features=["cards:card_count"])
    asked["customer_id"] = "c2"
    assert job.to_df()["card_count"].tolist() == job.to_df()["card_count"].tolist() == [1]
    assert job.metadata.features == ["cards:card_count"]
    assert (job.metadata.min_event_timestamp, job.metadata.max_event_timestamp) == (MONDAY, MONDAY)
    assert not list(stores.folder.glob("spill-*"))


def test_a_training_set_is_saved_with_feasts_own_writer(stores):
    cards(stores, ("c1", MONDAY, MONDAY, 1))
    asked = asked_rows(customer_id=["c1"], event_timestamp=[MONDAY])
    path = stores.folder / "saved.parquet"
    job = stores.asof.get_historical_features(asked, features=["cards:card_count"])
    stores.asof.create_saved_dataset(from_=job, name="saved", storage=SavedDatasetFileStorage(path=str(path)))
    assert pq.read_table(path)["card_count"].to_pylist() == [1]


def test_on_demand_features_are_left_to_feast_and_the_log_says_so(stores, caplog):
    @on_demand_feature_view(sources=[stores.views[0]], schema=[Field(name="twice", dtype=Float64)], mode="python")
    def doubled(inputs: dict) -> dict:
        return {"twice": [2.0 * count for count in inputs["card_count"]]}

    for each in (stores.feast, stores.asof):
        each.apply([doubled])
    cards(stores, ("c1", MONDAY, MONDAY, 4))
    asked = asked_rows(customer_id=["c1"], event_timestamp=[MONDAY])
    with caplog.at_level(logging.WARNING):
        joined = join(stores.asof, asked, ["cards:card_count", "doubled:twice"])
    assert joined["twice"].to_pylist() == [8.0]
    assert "Feast's own join" in caplog.text
    assert "on-demand" in caplog.text


def test_a_table_with_renamed_columns_is_left_to_feast(tmp_path, caplog):
    renamed = view("renamed", tmp_path, [CUSTOMER], created="", shown=Int64)
    renamed.batch_source.field_mapping = {"stored": "shown"}
    both = store(tmp_path, ASOF, [CUSTOMER, renamed])
    (tmp_path / "renamed").mkdir()
    facts = pa.table({"customer_id": ["c1"], "event_timestamp": pa.array([MONDAY], TIMES), "stored": [6]})
    pq.write_table(facts, tmp_path / "renamed" / "a.parquet")
    asked = asked_rows(customer_id=["c1"], event_timestamp=[MONDAY])
    with caplog.at_level(logging.WARNING):
        assert join(both, asked, ["renamed:shown"])["shown"].to_pylist() == [6]
    assert "renamed does not come from local Parquet files" in caplog.text


def test_a_missing_key_column_is_left_to_feast_which_names_it(stores):
    cards(stores, ("c1", MONDAY, MONDAY, 1))
    with pytest.raises(Exception, match="customer_id"):
        join(stores.asof, asked_rows(event_timestamp=[MONDAY]), ["cards:card_count"])


def test_text_is_not_compared_with_numbers(stores):
    times = {"event_timestamp": [MONDAY], "created_timestamp": [MONDAY]}
    stores.publish("shops", {"terminal_id": [1], **times, "shop_rate": [0.5]})
    with pytest.raises(StateError, match=r"terminal_id is string in the entity dataframe, terminal_id is BIGINT in"):
        join(stores.asof, asked_rows(terminal_id=["1"], event_timestamp=[MONDAY]), ["shops:shop_rate"])


def test_sql_and_periods_are_refused_in_words(stores):
    with pytest.raises(StateError, match="entity dataframe"):
        stores.asof.get_historical_features("SELECT 1", features=["cards:card_count"])
    with pytest.raises(StateError, match="entity dataframe"):
        stores.asof.get_historical_features(features=["cards:card_count"], start_date=MONDAY)
