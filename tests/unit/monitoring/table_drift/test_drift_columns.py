"""Columns of a table that nobody described."""

import datetime as dt
import uuid
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from reference_system.monitoring.table_drift import columns as drift_columns
from reference_system.monitoring.table_drift.cells import numbers_of, texts_of
from reference_system.monitoring.table_drift.columns import (
    LeftOutColumn,
    TableView,
    held,
    new_profile,
    tell_apart,
)

ROWS = 400


def told(before, after=None, orders=(None, None)):
    profiles = []
    for cells in (before, before if after is None else after):
        array = cells if isinstance(cells, pa.Array) else pa.array(cells)
        profile = new_profile(array.type)
        for start in range(0, len(array), 150):
            profile.add(array[start : start + 150])
        profiles.append(profile)
    found = tell_apart(*profiles, orders)
    return found.reason if isinstance(found, LeftOutColumn) else found.kind


IN_ORDER = (np.arange(ROWS, dtype=float), np.arange(ROWS, dtype=float))


def drawn(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (drawn().normal(size=ROWS), "number"),
        (drawn().poisson(3, ROWS), "number"),
        (drawn().random(ROWS) < 0.3, "category"),
        (["True" if each else "False" for each in drawn().random(ROWS) < 0.3], "category"),
        (drawn().normal(size=ROWS).astype(np.float32), "number"),
        ([f"{value:.2f}" for value in drawn().normal(size=ROWS)], "number"),
        (["?" if i % 20 == 0 else f"{v:.1f}" for i, v in enumerate(drawn().normal(size=ROWS))], "number"),
        (drawn().choice(["a", "?", "n/a", "ä#", ""], ROWS).tolist(), "category"),
        (pa.array(drawn().choice(["x", "y"], ROWS)).dictionary_encode(), "category"),
        (["1" if i % 2 else "one" for i in range(ROWS)], "category"),
        (["same"] * ROWS, "category"),
        ([7.5] * ROWS, "number"),
        (np.sort(drawn().normal(size=ROWS)), "number"),
        # No two are equal, but so few of so wide a range need not be.
        (drawn().choice(10**9, ROWS, replace=False), "number"),
    ],
)
def test_numbers_and_categories_are_told_apart(cells, kind):
    assert told(cells) == kind


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (drawn().permutation(ROWS), "identifier-like: whole numbers"),
        ([f"key {i}" for i in range(ROWS)], "identifier-like: 400 different texts"),
        ([str(uuid.UUID(int=i % 20)) for i in range(ROWS)], "identifier-like: UUIDs"),
        ([dt.date(2025, 1, 1)] * ROWS, "a time"),
        ([None] * ROWS, "no value in either"),
        (["NULL", "NaN", "n/a", ""] * 100, "no value in either"),
        ([[1, 2]] * ROWS, "its cells are neither numbers nor texts"),
        ([{"a": 1}] * ROWS, "its cells are neither numbers nor texts"),
        (pa.array([bytes([i % 7, 255, 254]) for i in range(ROWS)]), "its cells are bytes"),
    ],
)
def test_what_is_not_compared_says_why(cells, reason):
    assert told(cells).startswith(reason)


DAYS = [dt.datetime(2024, 10, 1, 3, 4, 5, tzinfo=dt.UTC) + dt.timedelta(days=i % 30) for i in range(ROWS)]


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%d",
        "%Y-%m-%dT%H:%M:%SZ",
        "%Y-%m-%d %H:%M:%S+02:00",
        "%Y-%m-%dT%H:%M:%S.123456789",
        "%Y-%m",
        "%Y/%m/%d",
        "%d/%m/%Y",
        "%m/%d/%Y %H:%M",
        "%m/%d/%y %I:%M %p",
        "%d.%m.%Y",
        "%d-%m-%Y",
        "%d %b %Y",
        "%B %d, %Y",
        "%a, %d %b %Y %H:%M:%S GMT",
        "%Y%m%dT%H%M%S",
        "%Y%m%d",
    ],
)
def test_times_are_recognised_in_whatever_form_they_are_written(form):
    written = [day.strftime(form) for day in DAYS]
    assert told(written).startswith("a time")
    # One cell in forty is missing, or is something else.
    assert told([text if i % 40 else "N/A" for i, text in enumerate(written)]).startswith("a time")
    assert told([text if i % 40 else "soon" for i, text in enumerate(written)]).startswith("a time")


@pytest.mark.parametrize("cells", [["1.2.24", "10.0.0.1"] * 200, ["13/14/2024", "a"] * 200, ["3/4", "5/8"] * 200])
def test_what_only_resembles_a_time_is_a_category(cells):
    assert told(cells) == "category"


def test_a_counter_goes_on_where_the_reference_ends():
    clock = np.repeat(np.arange(40), 10) * 1.5
    assert told(clock, clock + 60, IN_ORDER).startswith("a counter or a clock")
    # Sorted by chance or by somebody's query, but the range begins again: a number.
    assert told(clock, clock, IN_ORDER) == "number"


def test_where_nobody_says_that_rows_stand_in_order_their_order_means_nothing():
    clock, keys = np.repeat(np.arange(40), 10) * 1.5, np.sort(drawn().choice(10**9, ROWS, replace=False))
    shuffled = drawn().permutation(ROWS)
    assert {told(clock, clock + 60), told(clock[shuffled], clock + 60)} == {"number"}
    assert told(keys, orders=IN_ORDER).startswith("identifier-like: whole numbers")
    assert {told(keys), told(keys[shuffled])} == {"number"}


def test_a_counter_in_the_order_of_time_may_be_shuffled_in_the_file():
    order = drawn().permutation(ROWS)
    clock = np.floor(order / 4)
    orders = (order.astype(float), order.astype(float))
    assert told(clock, clock + 100, orders).startswith("a counter or a clock")
    assert told(clock, clock + 100, IN_ORDER) == "number"


def test_a_column_that_is_empty_in_the_reference_is_what_it_is_now():
    assert told(pa.nulls(ROWS), drawn().normal(size=ROWS)) == "number"
    assert told(pa.nulls(ROWS), ["a", "b"] * 200) == "category"


@pytest.mark.parametrize("order", [sorted, lambda texts: drawn().permutation(texts).tolist()])
def test_too_many_texts_to_keep_are_left_out_in_whatever_order_they_come(monkeypatch, order):
    monkeypatch.setattr(drift_columns, "MOST_DISTINCT", 100)
    assert told(order([f"word {i % 130}" for i in range(ROWS)])) == "identifier-like: more than 100 different texts"
    assert told(order([f"word {i % 100}" for i in range(ROWS)])) == "category"


def test_numbers_and_texts_that_come_one_after_the_other_are_what_they_are_when_mixed():
    mixed = ["1"] * 300 + ["one"] * 100
    assert told(mixed) == told(drawn().permutation(mixed).tolist()) == "category"
    profile = new_profile(pa.string())
    for batch in (mixed[:300], mixed[300:]):
        profile.add(pa.array(batch))
    assert profile.texts() == {"1": 300, "one": 100}


def test_the_sample_is_evenly_spaced_whatever_the_batches(monkeypatch):
    monkeypatch.setattr(drift_columns, "SAMPLE", 50)
    profile = new_profile(pa.float64())
    for start in range(0, 1_000, 77):
        profile.add(pa.array(np.arange(start, min(start + 77, 1_000), dtype=float)))
    assert profile.sample().tolist() == list(range(0, 1_000, profile.stride))
    assert 50 < len(profile.sample()) <= 100


def test_cells_are_numbers_texts_or_missing():
    numbers, is_text = numbers_of(pa.array([" 1.5 ", "-2e3", "-Infinity", "?", "", None, "nan", "N/A", "\\N", "None"]))
    assert numbers.tolist()[:3] == [1.5, -2000.0, -np.inf]
    assert np.isnan(numbers[3:]).all()
    assert is_text.tolist() == [False, False, False, True, *[False] * 6]
    texts, codes = texts_of(pa.array([" a", "a ", " ", None, "b"]))
    assert [texts[code] for code in codes] == ["a", "a", None, None, "b"]


@pytest.mark.parametrize(
    ("cells", "texts"),
    [
        (pa.array([b"K\xc3\xb6ln", None]), ["Köln", None]),
        (pa.array([b"DE", b"FR"], pa.binary(2)), ["DE", "FR"]),
        (pa.array([b"DE"], pa.large_binary()), ["DE"]),
        (pa.array(["DE"], pa.string_view()), ["DE"]),
        (pa.array([b"DE", None]).dictionary_encode(), ["DE", None]),
        (pa.array([True, None, False]), ["true", None, "false"]),
    ],
)
def test_a_text_is_the_same_text_in_whatever_type_it_is_stored(cells, texts):
    distinct, codes = texts_of(cells)
    assert [distinct[code] for code in codes] == texts


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (pa.array([Decimal("0.10"), None]), [0.1, np.nan]),
        (pa.array([0.1, 0.7], pa.float32()), [0.1, 0.7]),
        (pa.array(np.array([0.1, 0.7], np.float16)), [0.1, 0.7]),
        (pa.array([2**64 - 1], pa.uint64()), [2.0**64]),
        (pa.array(["18446744073709551615"]), [2.0**64]),
        (pa.array([dt.timedelta(minutes=1.5), None]), [90.0, np.nan]),
        (pa.array([dt.time(0, 1, 30)]), [90.0]),
        (pa.array(["0 days 00:01:30", "0:01:30.5", "-1 days +23:59:59", "2 days", "7"]), [90, 90.5, -1, 172_800, 7]),
    ],
)
def test_a_number_is_the_same_number_in_whatever_type_it_is_stored(cells, numbers):
    assert numbers_of(cells, "durations")[0] == pytest.approx(numbers, rel=1e-15, nan_ok=True)


def test_a_held_table_is_read_once():
    reads = []

    def batches():
        reads.append(1)
        yield {"x": pa.array(["a", "b"])}

    table = held(TableView(name="t", types={"x": pa.string()}, batches=batches))
    first, second = list(table.batches()), list(table.batches())
    assert len(reads) == 1
    assert first == second
