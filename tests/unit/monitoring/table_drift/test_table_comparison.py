"""Whole tables: false alarms, planted changes, chunks, and what cannot be compared."""

import numpy as np
import pyarrow as pa
import pytest

from reference_system.errors import TableRefused
from reference_system.monitoring.table_drift.columns import TableView
from reference_system.monitoring.table_drift.comparison import compare_tables
from reference_system.monitoring.table_drift.report import DriftSettings
from reference_system.proofs.power.drift_power import CHANGES, drawn_table

# With a true rate of 1 %, more than 10 of 400 happen in less than two of 1,000 such measurements.
MOST_ALARMS = 10


def table(name="t", batch=700, **columns):
    arrays = {key: cells if isinstance(cells, pa.Array) else pa.array(cells) for key, cells in columns.items()}
    rows = len(next(iter(arrays.values())))
    return TableView(
        name=name,
        types={key: cells.type for key, cells in arrays.items()},
        batches=lambda: (
            {key: cells.slice(start, batch) for key, cells in arrays.items()} for start in range(0, rows, batch)
        ),
    )


def settings(**kwargs):
    return DriftSettings(**kwargs)


def alarms(found):
    return int(np.array([[chunk.alert for chunk in column.chunks] for column in found.columns.values()]).any(0).sum())


@pytest.mark.parametrize(("rows", "reference_windows"), [(200, 10), (500, 20), (1_000, 1)])
def test_chunks_without_drift_raise_no_more_alarms_than_stated(rows, reference_windows):
    found = 0
    for seed in range(10):
        rng = np.random.default_rng([seed, rows])
        reference, current = drawn_table(rng, rows * reference_windows), drawn_table(rng, rows * 40)
        found += alarms(compare_tables(reference, current, settings(chunk_size=rows)))
    assert found <= MOST_ALARMS


@pytest.mark.parametrize("change", CHANGES)
def test_a_planted_change_is_found_within_three_chunks_and_nothing_else_is(change):
    rng = np.random.default_rng(5)
    found = compare_tables(
        drawn_table(rng, 20_000), drawn_table(rng, 3_000, change, CHANGES[change]), settings(chunk_size=1_000)
    )
    assert found.drifted == ["symbols" if change == "new text" else change]


def by_the_hour(seed, hours, shift=0.0):
    """Rows of an hour are alike, and nights differ from days."""
    rng = np.random.default_rng(seed)
    hour = np.repeat(np.arange(hours), 100)
    mood = rng.normal(size=hours)[hour] * 0.5 + np.sin(hour / 24 * 2 * np.pi)
    return {"when": hour * 3_600.0, "x": mood + shift + rng.normal(size=len(hour))}


def test_rows_in_the_order_of_time_are_alike_and_raise_no_alarms():
    found = [
        compare_tables(
            table(**by_the_hour([seed, 0], 24 * 20)),
            table(**by_the_hour([seed, 1], 24 * 10)),
            settings(timestamp="when", chunk_size=2_400),
        )
        for seed in range(8)
    ]
    assert sum(map(alarms, found)) <= 1
    # A threshold for rows drawn one by one would have called every one of these 80 days drift.
    assert min(each.columns["x"].threshold for each in found) > 20


def test_a_shift_of_such_rows_is_still_found():
    found = compare_tables(
        table(**by_the_hour([1, 0], 24 * 20)),
        table(**by_the_hour([1, 1], 24 * 3, shift=1.5)),
        settings(timestamp="when", chunk_size=2_400),
    )
    assert found.columns["x"].first_alert == 1


def test_chunks_are_cut_in_the_order_of_time_whatever_the_order_of_rows():
    rng = np.random.default_rng(1)
    reference = table(when=np.arange(5_000), x=rng.normal(size=5_000))
    x = rng.normal(size=4_000) + (np.arange(4_000) >= 2_000)
    shuffled = rng.permutation(4_000)
    current = table(when=np.arange(4_000)[shuffled], x=x[shuffled])
    found = compare_tables(reference, current, settings(timestamp="when", chunk_size=1_000))
    assert [chunk.alert for chunk in found.columns["x"].chunks] == [False, False, True, True]
    assert found.left_out == {"when": "the timestamp: it orders the rows"}
    assert found.columns["x"].first_alert == 3


def test_the_last_chunk_is_judged_if_it_has_enough_rows():
    rng = np.random.default_rng(2)
    reference = table(x=rng.choice(["a", "b"], 5_000))
    sizes = {rows: compare_tables(reference, table(x=["b"] * rows), settings(chunk_size=500)) for rows in (520, 560)}
    few, enough = (found.columns["x"].chunks[-1] for found in sizes.values())
    assert (few.rows, few.statistic, few.alert) == (20, None, False)
    assert (enough.rows, enough.alert) == (60, True)
    # What 60 rows show weighs less than the same shares of 500.
    assert enough.statistic < sizes[560].columns["x"].chunks[0].statistic


def test_an_alert_is_a_statistic_above_the_threshold():
    rng = np.random.default_rng(3)
    found = compare_tables(drawn_table(rng, 5_000), drawn_table(rng, 6_030, "mean", 0.2), settings(chunk_size=500))
    for column in found.columns.values():
        for chunk in column.chunks:
            assert chunk.alert == (chunk.statistic is not None and chunk.statistic > column.threshold)
        first = [chunk.chunk for chunk in column.chunks if chunk.alert][:1]
        assert column.first_alert == (first[0] if first else None)


def test_columns_that_changed_their_type_are_compared_and_said_to():
    rng = np.random.default_rng(4)
    before, now = rng.normal(size=2_000), rng.normal(size=2_000)
    found = compare_tables(
        table(x=before, y=before, z=["a", "b"] * 1_000),
        table(x=[f"{value}" for value in now], y=["broken"] * 2_000, z=[1.0, 2.0] * 1_000),
        settings(),
    )
    assert found.drifted == ["y", "z"]
    assert found.figures["x"].note == "its type changed from double to string"


def test_a_file_without_types_changes_none_and_its_truth_values_are_those_of_a_typed_one():
    rng = np.random.default_rng(5)
    before, now = rng.normal(size=2_000), rng.normal(size=2_000)
    flags, later = rng.random(2_000) < 0.3, rng.random(2_000) < 0.3
    found = compare_tables(
        table(x=before, flag=flags),
        table(x=[f"{value}" for value in now], flag=["True" if each else "FALSE" for each in later]),
        settings(),
    )
    assert found.drifted == []
    assert {figures.note for figures in found.figures.values()} == {""}


def test_columns_of_one_table_alone_are_named():
    found = compare_tables(
        table("old", x=np.arange(100) % 7, gone=np.zeros(100)),
        table("new", x=np.arange(100) % 7, more=np.ones(100)),
        settings(),
    )
    assert found.left_out == {"gone": "only in old", "more": "only in new"}


def test_a_column_that_goes_missing_or_appears_is_drift():
    values, nothing = np.random.default_rng(6).normal(size=1_000), pa.nulls(1_000)
    found = compare_tables(table(a=values, b=nothing), table(a=nothing, b=values), settings())
    assert found.drifted == ["a", "b"]


GOOD = {"x": np.arange(200) % 9, "when": np.arange(200.0)}


@pytest.mark.parametrize(
    ("reference", "current", "kwargs", "message"),
    [
        (GOOD, {"y": [1] * 200}, {}, "no column in common"),
        (GOOD, {"x": [1] * 20}, {}, "20 rows, 50 are needed"),
        ({"x": []}, GOOD, {}, "has no rows"),
        (GOOD, GOOD, {"chunk_size": 0}, "--chunk-size 0"),
        (GOOD, GOOD, {"chunk_size": -3}, "--chunk-size -3"),
        (GOOD, GOOD, {"chunk_size": 201}, "more than the 200 rows"),
        (GOOD, GOOD, {"timestamp": "nope"}, "no column 'nope'; it has x, when"),
        (GOOD, {"x": [1] * 200, "when": ["now"] * 200}, {"timestamp": "when"}, "200 of 200 rows have no when"),
        (
            GOOD,
            {"x": [1] * 200, "when": ["2024-10-27T02:30:00+01:00"] * 60 + ["n/a"] + ["2024-10-27"] * 139},
            {"timestamp": "when"},
            r"1 of 200 rows have no when that can be sorted by time \(row 61: 'n/a'\)",
        ),
        (
            GOOD,
            {"x": [1] * 200, "when": [f"0{1 + i % 9}/0{1 + i // 9 % 9}/2024" for i in range(200)]},
            {"timestamp": "when"},
            "days and months cannot be told apart",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(reference, current, kwargs, message):
    with pytest.raises(TableRefused, match=message) as refused:
        compare_tables(table("old", **reference), table("new", **current), settings(**kwargs))
    assert "\n" not in str(refused.value)
