import numpy as np
import pytest

from reference_system.monitoring.drift import (
    LOOP_MIN_ROWS,
    MATERIAL_PSI,
    ColumnSample,
    Days,
    compare_column,
    compare_columns,
    student_quantile,
)
from reference_system.monitoring.histograms import fit_bins

ROWS = 300
REFERENCE = range(7, 35)
RECENT = range(7)


def days(seed, blocks, draw, rows=ROWS):
    """A sample with `draw(rng, block, rows)` for each block."""
    rng = np.random.default_rng(seed)
    values = np.concatenate([draw(rng, block, rows) for block in blocks])
    return ColumnSample(values=values, blocks=np.repeat(np.array(blocks), rows))


def steady(rng, _block, rows):
    return rng.normal(size=rows)


def shifted_since(block_of_start, by=1.0):
    return lambda rng, block, rows: rng.normal(size=rows) + (by if block < block_of_start else 0.0)


def test_windows_without_drift_are_steady():
    found = compare_column("x", days(1, REFERENCE, steady), days(2, RECENT, steady))
    assert (found.status, found.days) == ("steady", 0)
    assert found.psi < 0.02
    assert found.ks < 0.08
    assert found.threshold == MATERIAL_PSI


def test_a_shift_is_drift_and_says_since_when():
    found = compare_column("x", days(1, REFERENCE, steady), days(2, RECENT, shifted_since(3)))
    assert (found.status, found.days) == ("drift", 3)
    assert [value > MATERIAL_PSI for value in found.trend] == [False] * 4 + [True] * 3
    assert found.current_mean == pytest.approx(1.0, abs=0.15)
    assert found.reference_mean == pytest.approx(0.0, abs=0.1)


def test_a_shift_that_began_a_day_ago_is_seen_already():
    found = compare_column("x", days(1, REFERENCE, steady), days(2, RECENT, shifted_since(1, by=1.5)))
    assert (found.status, found.days) == ("drift", 1)


def test_a_shift_that_is_over_is_no_drift():
    over = lambda rng, block, rows: rng.normal(size=rows) + (2.0 if 3 <= block <= 5 else 0.0)  # noqa: E731
    assert compare_column("x", days(1, REFERENCE, steady), days(2, RECENT, over)).status == "steady"


def test_a_small_shift_is_not_called_drift_however_sure_it_is():
    slight = lambda rng, _block, rows: rng.normal(loc=0.1, size=rows)  # noqa: E731
    found = compare_column("x", days(1, REFERENCE, steady, rows=3_000), days(2, RECENT, slight, rows=3_000))
    assert found.status == "steady"


def test_weekends_are_compared_with_weekends():
    weekly = lambda rng, block, rows: rng.normal(size=rows) + (2.0 if block % 7 in (0, 1) else 0.0)  # noqa: E731
    assert compare_column("x", days(1, REFERENCE, weekly), days(2, RECENT, weekly)).status == "steady"


def test_a_weekend_among_weekdays_alone_would_look_like_drift():
    weekly = lambda rng, block, rows: rng.normal(size=rows) + (2.0 if block in (0, 1) else 0.0)  # noqa: E731
    assert compare_column("x", days(1, REFERENCE, steady), days(2, RECENT, weekly)).status == "drift"


def test_days_that_differ_by_nature_have_a_higher_threshold():
    moody = lambda rng, _block, rows: rng.normal(loc=rng.normal(), size=rows)  # noqa: E731
    found = compare_column("x", days(1, REFERENCE, moody), days(2, RECENT, moody))
    assert found.threshold > 5 * MATERIAL_PSI
    assert found.status == "steady"


def test_less_than_two_weeks_are_compared_without_weekdays():
    reference = days(1, range(2, 12), steady)
    found = Days.of(fit_bins(reference.values), reference)
    assert found.weekdays == 1
    assert len(found.without_drift(2)) == 45
    assert found.like([0]).sum() == 10 * ROWS


def test_every_pair_of_like_days_is_a_window_without_drift():
    reference = days(1, REFERENCE, steady)
    found = Days.of(fit_bins(reference.values), reference)
    assert found.weekdays == 7
    assert len(found.without_drift(2)) == 7 * 4 * 4
    assert found.like([0, 1]).sum() == 8 * ROWS


def test_more_columns_share_the_rate_so_each_threshold_is_higher():
    moody = lambda rng, _block, rows: rng.normal(loc=rng.normal(), size=rows)  # noqa: E731
    reference = days(1, REFERENCE, moody)
    found = Days.of(fit_bins(reference.values), reference)
    assert found.bound(2, columns=20) > found.bound(2, columns=1)


def test_the_order_of_rows_does_not_change_the_verdict():
    reference, recent = days(1, REFERENCE, steady), days(2, RECENT, shifted_since(1))
    order = np.random.default_rng(3).permutation(len(recent.values))
    shuffled = ColumnSample(values=recent.values[order], blocks=recent.blocks[order])
    assert compare_column("x", reference, shuffled) == compare_column("x", reference, recent)


def test_text_is_compared_by_its_values():
    usual = lambda rng, _block, rows: rng.choice(["news", "sport"], rows)  # noqa: E731
    new = lambda rng, block, rows: rng.choice(["news", "zoo" if block < 2 else "sport"], rows)  # noqa: E731
    found = compare_column("x", days(1, REFERENCE, usual), days(2, RECENT, new))
    assert (found.status, found.kind, found.ks) == ("drift", "category", None)
    assert found.current_shares[found.labels.index("other")] == pytest.approx(0.5, abs=0.05)


def test_values_that_go_missing_are_drift():
    def gone(rng, block, rows):
        return np.where(rng.random(rows) < (0.5 if block < 2 else 0.0), np.nan, rng.normal(size=rows))

    found = compare_column("x", days(1, REFERENCE, steady), days(2, RECENT, gone))
    assert found.status == "drift"
    assert found.missing_share == pytest.approx(0.5, abs=0.05)


def test_a_constant_column_is_steady():
    constant = lambda _rng, _block, rows: np.full(rows, 3.0)  # noqa: E731
    found = compare_column("x", days(1, REFERENCE, constant), days(2, RECENT, constant))
    assert (found.status, found.threshold) == ("steady", MATERIAL_PSI)
    assert found.psi == pytest.approx(0.0, abs=1e-4)


NOTHING = ColumnSample(values=np.empty(0), blocks=np.empty(0, np.int64), empty="nobody came")
ALL_MISSING = ColumnSample(values=np.full(2_000, np.nan), blocks=np.repeat(np.arange(7, 12), 400))


@pytest.mark.parametrize(
    ("reference", "recent", "reason"),
    [
        (NOTHING, days(1, RECENT, steady), "reference: nobody came"),
        (days(1, REFERENCE, steady), NOTHING, "current window: nobody came"),
        (days(1, range(7, 10), steady), days(1, RECENT, steady), "reference: 3 days, 4 are needed"),
        (days(1, REFERENCE, steady), days(1, RECENT, steady, rows=20), f"40 rows, {LOOP_MIN_ROWS} are needed"),
        (ALL_MISSING, days(1, RECENT, steady), "reference: every value is missing"),
    ],
)
def test_what_cannot_be_judged_says_why(reference, recent, reason):
    found = compare_column("x", reference, recent)
    assert (found.status, found.reason) == ("not judged", reason)
    assert found.psi is None


def test_a_current_window_of_missing_values_is_drift_and_no_crash():
    recent = ColumnSample(values=np.full(2_100, np.nan), blocks=np.repeat(np.arange(7), 300))
    found = compare_column("x", days(1, REFERENCE, steady), recent)
    assert (found.status, found.ks, found.current_mean) == ("drift", None, None)


def test_only_the_column_that_changed_is_named():
    reference = {name: days(i, REFERENCE, steady) for i, name in enumerate("abc")}
    recent = {name: days(10 + i, RECENT, steady) for i, name in enumerate("abc")}
    recent["b"] = days(20, RECENT, shifted_since(2))
    assert [each.column for each in compare_columns(reference, recent) if each.status == "drift"] == ["b"]


@pytest.mark.parametrize(
    ("freedom", "level", "quantile"),
    # Abramowitz and Stegun, Handbook of Mathematical Functions, table 26.10.
    [(1, 0.99, 31.821), (2, 0.9995, 31.599), (2, 0.975, 4.303), (3, 0.9995, 12.924), (14, 0.95, 1.761)],
)
def test_the_student_quantile_is_the_published_one_also_for_few_days(freedom, level, quantile):
    assert student_quantile(level, freedom) == pytest.approx(quantile, abs=6e-4)
