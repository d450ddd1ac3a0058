"""Columns of a table that nobody described."""

import datetime as dt
import uuid

import numpy as np
import pyarrow as pa
import pytest

from reference_system.monitoring import drift_columns
from reference_system.monitoring.drift_cells import moments_of, numbers_of, texts_of
from reference_system.monitoring.drift_columns import LeftOut, TableView, held, new_profile, tell_apart

ROWS = 400


def told(name, before, after=None, orders=(None, None)):
    profiles = []
    for cells in (before, before if after is None else after):
        array = cells if isinstance(cells, pa.Array) else pa.array(cells)
        profile = new_profile(array.type)
        for start in range(0, len(array), 150):
            profile.add(array[start : start + 150])
        profiles.append(profile)
    found = tell_apart(name, *profiles, orders)
    return found.reason if isinstance(found, LeftOut) else found


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
    assert told("x", cells) == kind


@pytest.mark.parametrize(
    ("name", "cells", "reason"),
    [
        ("x", drawn().permutation(ROWS), "identifier-like: whole numbers"),
        ("x", np.sort(drawn().choice(10**9, ROWS, replace=False)), "identifier-like: whole numbers"),
        ("x", [f"key {i}" for i in range(ROWS)], "identifier-like: 400 different texts"),
        ("x", [str(uuid.UUID(int=i % 20)) for i in range(ROWS)], "identifier-like: UUIDs"),
        ("customer_id", [f"c{i % 150}" for i in range(ROWS)], "identifier-like: its name"),
        ("TERMINAL_ID", drawn().integers(0, 5_000, ROWS), "identifier-like: its name"),
        ("x", [dt.date(2025, 1, 1)] * ROWS, "a time"),
        ("x", [f"2025-01-{i % 28 + 1:02}T10:00:00Z" for i in range(ROWS)], "a time"),
        ("x", [None] * ROWS, "no value in either"),
        ("x", [[1, 2]] * ROWS, "its cells are neither numbers nor texts"),
    ],
)
def test_what_is_not_compared_says_why(name, cells, reason):
    assert told(name, cells).startswith(reason)


def test_a_counter_goes_on_where_the_reference_ends():
    clock = np.repeat(np.arange(40), 10) * 1.5
    assert told("x", clock, clock + 60).startswith("a counter or a clock")
    # Sorted by chance or by somebody's query, but the range begins again: a number.
    assert told("x", clock, clock) == "number"


def test_a_counter_in_the_order_of_time_may_be_shuffled_in_the_file():
    order = drawn().permutation(ROWS)
    clock = np.floor(order / 4)
    orders = (order.astype(float), order.astype(float))
    assert told("x", clock, clock + 100, orders).startswith("a counter or a clock")
    assert told("x", clock, clock + 100) == "number"


def test_a_column_that_is_empty_in_the_reference_is_what_it_is_now():
    assert told("x", pa.nulls(ROWS), drawn().normal(size=ROWS)) == "number"
    assert told("x", pa.nulls(ROWS), ["a", "b"] * 200) == "category"


def test_too_many_texts_to_keep_are_still_told_apart(monkeypatch):
    monkeypatch.setattr(drift_columns, "MOST_DISTINCT", 100)
    assert told("x", [f"key {i}" for i in range(ROWS)]).startswith("identifier-like")
    assert told("x", [f"word {i % 130}" for i in range(ROWS)]) == "category"


def test_the_sample_is_evenly_spaced_whatever_the_batches(monkeypatch):
    monkeypatch.setattr(drift_columns, "SAMPLE", 50)
    profile = new_profile(pa.float64())
    for start in range(0, 1_000, 77):
        profile.add(pa.array(np.arange(start, min(start + 77, 1_000), dtype=float)))
    assert profile.sample().tolist() == list(range(0, 1_000, profile.stride))
    assert 50 < len(profile.sample()) <= 100


def test_cells_are_numbers_texts_or_missing():
    numbers, is_text = numbers_of(pa.array([" 1.5 ", "-2e3", "?", "", None, "nan"]))
    assert numbers.tolist()[:2] == [1.5, -2000.0]
    assert np.isnan(numbers[2:]).all()
    assert is_text.tolist() == [False, False, True, False, False, True]
    texts, codes = texts_of(pa.array([" a", "a ", " ", None, "b"]))
    assert [texts[code] for code in codes] == ["a", "a", None, None, "b"]


def test_moments_of_every_form_sort_alike():
    moment = dt.datetime(2025, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    forms = [pa.array([moment]), pa.array(["2025-01-02T03:04:05Z"]), pa.array(["2025-01-02 03:04:05"])]
    assert {moments_of(form)[0][0] for form in forms} == {moment.timestamp() * 1e6}
    assert moments_of(pa.array(["today"]))[1].tolist() == [True]
    assert moments_of(pa.array(["3", "4"]))[0].tolist() == [3.0, 4.0]


def test_a_held_table_is_read_once():
    reads = []

    def batches():
        reads.append(1)
        yield {"x": pa.array(["a", "b"])}

    table = held(TableView(name="t", types={"x": pa.string()}, batches=batches))
    first, second = list(table.batches()), list(table.batches())
    assert len(reads) == 1
    assert first == second
