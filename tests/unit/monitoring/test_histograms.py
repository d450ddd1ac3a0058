import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reference_system.monitoring.histograms import (
    FEW_VALUES,
    Bins,
    count_blocks,
    fit_bins,
    histogram,
    ks_distance,
    missing_share,
    psi,
)

NUMBERS = hnp.arrays(np.float64, st.integers(1, 200), elements=st.floats(-1e6, 1e6) | st.just(np.nan))
COUNTS = hnp.arrays(np.int64, 12, elements=st.integers(0, 10_000))


def normal(seed, count=5_000, **kwargs):
    return np.random.default_rng(seed).normal(size=count, **kwargs)


@given(NUMBERS, NUMBERS)
def test_counting_two_parts_and_merging_is_counting_the_whole(one, other):
    bins = Bins(kind="number", marks=np.array([-10.0, 0.0, 5.0]))
    merged = histogram(bins, one).merge(histogram(bins, other))
    assert np.array_equal(merged.counts, histogram(bins, np.concatenate([one, other])).counts)
    assert merged.counts.sum() == len(one) + len(other)


@given(NUMBERS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(values, random):
    shuffled = values.copy()
    random.shuffle(shuffled)
    bins = Bins(kind="number", marks=np.array([-1.0, 1.0]))
    assert np.array_equal(histogram(bins, values).counts, histogram(bins, shuffled).counts)


@given(COUNTS)
def test_identical_windows_have_a_psi_of_zero(counts):
    assert psi(counts, counts) == 0.0


@given(COUNTS, COUNTS)
def test_psi_is_never_negative_when_the_windows_are_equally_large(one, other):
    larger = max(one.sum(), other.sum())
    one[0] += larger - one.sum()
    other[0] += larger - other.sum()
    assert psi(one, other) >= -1e-12


def test_bins_hold_a_tenth_of_the_reference_each():
    values = normal(1)
    counts = histogram(fit_bins(values), values).counts
    assert counts[:-1].tolist() == [500] * 10
    assert counts[-1] == 0


def test_an_edge_belongs_to_the_bin_below_it():
    bins = Bins(kind="number", marks=np.array([1.0, 2.0]))
    assert bins.place(np.array([0.5, 1.0, 1.5, 2.0, 2.5, np.nan])).tolist() == [0, 0, 1, 1, 2, 3]
    assert bins.labels() == ("≤ 1", "1 – 2", "> 2", "missing")


def test_missing_values_have_a_bin_of_their_own():
    values = np.concatenate([normal(2), np.full(100, np.nan)])
    bins = fit_bins(values)
    assert histogram(bins, values).counts[-1] == 100
    assert missing_share(values) == pytest.approx(100 / 5_100)


def test_few_distinct_numbers_are_categories():
    bins = fit_bins(np.array([0.0, 1.0, 1.0, 0.0, np.nan]))
    assert bins.kind == "category"
    assert bins.labels() == ("0", "1", "other", "missing")
    assert bins.place(np.array([1.0, 0.0, 7.0, np.nan])).tolist() == [1, 0, 2, 3]
    assert fit_bins(np.arange(FEW_VALUES + 1.0)).kind == "number"


def test_a_category_that_the_reference_never_had_is_other():
    bins = fit_bins(np.array(["news", "sport", "news"]))
    assert bins.place(np.array(["sport", "zoo", "aaa", ""])).tolist() == [1, 2, 2, 3]


def test_a_column_that_is_mostly_zero_still_shows_a_change_of_its_zeros():
    rng = np.random.default_rng(3)
    before = np.where(rng.random(5_000) < 0.03, rng.random(5_000), 0.0)
    after = np.where(rng.random(5_000) < 0.3, rng.random(5_000), 0.0)
    bins = fit_bins(before)
    assert psi(histogram(bins, before).counts, histogram(bins, after).counts) > 0.3


def test_a_constant_column_has_bins_and_sees_another_value():
    bins = fit_bins(np.full(100, 3.0))
    assert histogram(bins, np.full(50, 3.0)).counts.tolist() == [50, 0, 0]
    assert histogram(bins, np.full(50, 4.0)).counts.tolist() == [0, 50, 0]


def test_bins_need_a_value():
    with pytest.raises(ValueError, match="without values"):
        fit_bins(np.full(3, np.nan))


def test_histograms_with_different_bins_are_not_merged():
    one, other = normal(4), normal(5, loc=1.0)
    with pytest.raises(ValueError, match="different bins"):
        histogram(fit_bins(one), one).merge(histogram(fit_bins(other), other))


def test_blocks_are_counted_in_one_pass():
    values, blocks = normal(6, count=300), np.repeat([0, 2, 1], 100)
    bins = fit_bins(values)
    counts = count_blocks(bins, values, blocks, 4)
    for block in range(4):
        assert np.array_equal(counts[block], histogram(bins, values[blocks == block]).counts)


def test_psi_has_the_value_of_its_formula():
    # Shares after smoothing: (10.5, 30.5) / 41 and (20.5, 20.5) / 41.
    p, q = np.array([10.5, 30.5]) / 41, np.array([20.5, 20.5]) / 41
    expected = ((q - p) * np.log(q / p)).sum()
    assert psi(np.array([10, 30]), np.array([20, 20])) == pytest.approx(expected)


def test_a_planted_shift_is_seen_and_grows():
    before = normal(7)
    bins = fit_bins(before)
    reference = histogram(bins, before).counts
    values = [float(psi(reference, histogram(bins, normal(8, loc=shift)).counts)) for shift in (0.0, 0.3, 0.6, 1.2)]
    assert values == sorted(values)
    assert values[0] < 0.01
    assert values[1] > 0.05


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")  # scipy's p-value, which is not used
@given(NUMBERS, NUMBERS)
def test_the_ks_distance_is_that_of_scipy(one, other):
    from scipy.stats import ks_2samp

    one, other = one[~np.isnan(one)], other[~np.isnan(other)]
    if not len(one) or not len(other):
        with pytest.raises(ValueError, match="both sides"):
            ks_distance(one, other)
        return
    assert ks_distance(one, other) == pytest.approx(ks_2samp(one, other, method="asymp").statistic)
