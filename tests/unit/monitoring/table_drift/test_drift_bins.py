"""Bins that the reference fixes, and the statistics on them."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reference_system.monitoring.table_drift.bins import MOST_TEXTS, count_into, number_bins, text_bins
from reference_system.monitoring.table_drift.statistics import (
    far_quantile,
    method_of,
    readable_cells,
    statistics,
    without_drift,
)
from reference_system.monitoring.table_drift.thresholds import few_of, threshold

NUMBERS = hnp.arrays(
    np.float64,
    st.integers(1, 300),
    elements=st.floats(-1e9, 1e9) | st.sampled_from([0.0, 1.0, np.inf, -np.inf, np.nan]),
)
TEXTS = st.lists(st.sampled_from(["a", "b", "?", "", None, "neu", "1"]), min_size=1, max_size=100)


def counted(bins, cells, chunks=1):
    counts = np.zeros((chunks, bins.count), np.int64)
    places = bins.place(cells)
    count_into(counts, places, np.arange(len(places)) * chunks // max(len(places), 1))
    return counts


def normal(seed, rows=10_000, **kwargs):
    return np.random.default_rng(seed).normal(size=rows, **kwargs)


@settings(max_examples=40)
@given(NUMBERS, NUMBERS, NUMBERS)
def test_counting_parts_of_numbers_and_adding_is_counting_the_whole(reference, one, other):
    bins = number_bins(reference)
    whole = counted(bins, pa.array(np.concatenate([one, other])))
    assert (counted(bins, pa.array(one)) + counted(bins, pa.array(other)) == whole).all()
    assert whole.sum() == len(one) + len(other)


@settings(max_examples=40)
@given(TEXTS, TEXTS, TEXTS)
def test_counting_parts_of_texts_and_adding_is_counting_the_whole(reference, one, other):
    rows = {text: reference.count(text) for text in set(reference) if text}
    bins = text_bins(rows)
    parts = [counted(bins, pa.array(part, pa.string())) for part in (one, other)]
    assert (sum(parts) == counted(bins, pa.array(one + other, pa.string()))).all()


@settings(max_examples=40)
@given(NUMBERS, NUMBERS)
def test_the_grid_finds_the_bin_that_a_search_finds(reference, values):
    bins = number_bins(np.concatenate([reference, normal(1, 500)]))
    numbers = values[~np.isnan(values)]
    assert bins.place_numbers(numbers).tolist() == np.searchsorted(bins.edges, numbers, side="left").tolist()


def test_many_numbers_have_sixty_even_bins():
    values = normal(1, 60_000)
    counts = counted(number_bins(values), pa.array(values))[0]
    assert (len(counts), set(counts[:-2].tolist())) == (62, {999, 1_000, 1_001})


def test_a_number_that_many_rows_share_lies_alone():
    values = np.concatenate([np.full(5_000, 2.0), normal(2, 5_000)])
    bins = number_bins(values)
    counts = counted(bins, pa.array(values))[0]
    assert counts[bins.place_numbers(np.array([2.0]))[0]] == 5_000
    assert method_of(bins) == "anderson-darling"


def test_the_largest_floats_of_both_signs_have_bins_and_no_overflow():
    most = np.finfo(np.float64).max
    values = np.concatenate([normal(3, 300), np.full(40, most), np.full(40, -most), np.full(40, np.inf)])
    with np.errstate(all="raise"):
        counts = counted(number_bins(values), pa.array(values))[0]
    assert counts.sum() == len(values)
    assert {40} < set(counts.tolist())


def test_few_numbers_have_a_bin_each_and_between():
    bins = number_bins(np.array([0.0, 1.0, 1.0, 3.0]))
    assert len(set(bins.place_numbers(np.array([0.0, 1.0, 3.0, -1.0, 0.5, 2.0, 9.0])).tolist())) == 7
    assert method_of(bins) == "psi"


def test_text_among_numbers_and_missing_cells_have_bins_of_their_own():
    bins = number_bins(normal(1))
    assert bins.place(pa.array(["0.1", "?", None, " "])).tolist()[1:] == [61 - 1, 61, 61]


def test_of_many_texts_the_frequent_ones_have_bins_and_the_others_share_one():
    rows = {f"t{i}": 5 for i in range(MOST_TEXTS + 60)} | {"often": 100}
    bins = text_bins(rows)
    assert list(bins.bins) == ["often"]
    assert bins.place(pa.array(["often", "t3", "t4", "never", None])).tolist() == [0, 1, 1, 2, 3]


def test_a_rare_text_that_became_frequent_has_a_bin_of_its_own():
    rows = {f"t{i}": 5 for i in range(MOST_TEXTS + 60)}
    assert list(text_bins(rows, {**rows, "t3": 8}).bins) == []
    assert list(text_bins(rows, {**rows, "t3": 40}).bins) == ["t3"]


def test_the_only_ones_of_their_kind_stand_for_texts_that_the_reference_does_not_have():
    bins = text_bins({f"t{i}": 1 + i % 2 for i in range(100)})
    assert bins.expected(np.array([150, 0, 7])).tolist() == [100, 50, 7]


def test_texts_that_occur_once_speak_for_those_that_never_did():
    assert text_bins({"a": 10, "b": 1, "c": 1}).unseen == 2


def test_chance_alone_gives_the_published_quantile_of_anderson_and_darling():
    bins = number_bins(normal(1, 60_000))
    draws = without_drift(bins, counted(bins, pa.array(normal(1, 60_000)))[0], 1_000)
    # The upper 1 % point of the limit is 3.857 (Anderson and Darling, JASA 1954).
    assert np.quantile(draws, 0.99) == pytest.approx(3.857, rel=0.05)
    assert far_quantile(draws, 0.001) == pytest.approx(5.97, rel=0.1)


def test_the_binned_statistic_is_nearly_that_of_the_rows():
    before, now = normal(1, 6_000), normal(2, 2_000, loc=0.1)
    bins = number_bins(before)
    reference, chunk = counted(bins, pa.array(before))[0], counted(bins, pa.array(now))
    # Pettitt, A two-sample Anderson-Darling rank statistic, Biometrika 1976.
    n, m = len(before), len(now)
    ranked = np.argsort(np.concatenate([before, now])) < n
    i, of_first = np.arange(1, n + m), np.cumsum(ranked)[:-1]
    by_rows = ((of_first * (n + m) - n * i) ** 2 / (i * (n + m - i))).sum() / (n * m)
    assert statistics(bins, reference, chunk)[0] == pytest.approx(by_rows, rel=0.03)


def test_a_column_of_one_value_needs_more_than_one_new_cell():
    bins = text_bins({"same": 10_000})
    reference = np.array([10_000, 0, 0])
    bound = threshold(without_drift(bins, reference, 1_000), np.empty(0), rate=0.01, columns=10)
    found = [statistics(bins, reference, np.array([[1_000 - new, new, 0]]))[0] > bound for new in (0, 1, 10)]
    assert found == [False, False, True]


def test_windows_that_differ_raise_the_threshold():
    draws = np.random.default_rng(0).chisquare(3, 20_000)
    alike, unlike = (np.random.default_rng(1).chisquare(3, 40) * factor for factor in (1.0, 6.0))
    by_chance, calm, moody = (
        threshold(draws, windows, rate=0.01, columns=5) for windows in (np.empty(0), alike, unlike)
    )
    assert by_chance <= calm < 1.3 * by_chance
    assert moody > 4 * by_chance


def test_of_many_windows_some_are_kept_and_the_rest_is_counted_together():
    windows = np.repeat(np.arange(1_000), 3)
    few = few_of(windows)
    assert np.bincount(few).tolist() == [3] * 200 + [2_400]
    assert few_of(windows[:300]).tolist() == windows[:300].tolist()


def test_psi_and_distance_help_to_read_a_verdict():
    bins = number_bins(normal(1))
    before, now = (counted(bins, pa.array(part))[0] for part in (normal(1), normal(2, loc=0.5)))
    psi, distance = readable_cells(bins, before, now)
    assert psi == pytest.approx(0.24, abs=0.05)
    assert distance == pytest.approx(0.197, abs=0.03)
