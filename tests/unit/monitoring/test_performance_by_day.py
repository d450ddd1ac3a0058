import numpy as np
import pytest

from reference_system.event_time import MICROS_PER_DAY
from reference_system.monitoring.performance import (
    MIN_PAGES,
    MIN_POSITIVES,
    DayFigures,
    FraudShare,
    MaturePayments,
    ShownVideos,
    change_of,
    fraud_share_change,
    page_days,
    payment_days,
    watch_rate_by_position,
)
from reference_system.monitoring.sklearn_metrics import average_precision, roc_auc
from reference_system.use_cases.recommendation.model import ndcg_at

COUNT = 400


def payments(day=20_000, version="1", *, frauds=20, seed=0, count=COUNT, **changes):
    rng = np.random.default_rng(seed)
    labels = np.zeros(count)
    labels[:frauds] = 1.0
    fields = {
        "times": np.full(count, day * MICROS_PER_DAY + 5),
        "versions": np.full(count, version),
        "customers": np.arange(count),
        "scores": rng.random(count) * 0.5 + labels * 0.5,
        "decisions": np.full(count, "approve"),
        "labels": labels,
    }
    return MaturePayments(**(fields | changes))


def joined(*parts):
    names = type(parts[0]).__struct_fields__
    return type(parts[0])(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def figures(*parts):
    return payment_days(joined(*parts), average_precision=average_precision, roc_auc=roc_auc)


def test_each_day_and_version_has_its_own_figures():
    found = figures(payments(20_000, "1"), payments(20_000, "2"), payments(20_001, "2", frauds=30))
    assert [(each.day, each.model_version, each.rows, each.positives) for each in found] == [
        (20_000, "1", 400, 20),
        (20_000, "2", 400, 20),
        (20_001, "2", 400, 30),
    ]


def test_scores_that_separate_the_frauds_have_an_average_precision_of_one():
    (found,) = figures(payments())
    assert found.metrics["average_precision"] == pytest.approx(1.0)
    assert found.metrics["roc_auc"] == pytest.approx(1.0)


def test_a_day_with_too_few_frauds_is_marked_and_has_no_invented_figure():
    (found,) = figures(payments(frauds=MIN_POSITIVES - 1))
    assert not found.enough
    assert "average_precision" not in found.metrics
    assert "alerts" in found.metrics


def test_a_day_without_any_fraud_has_figures_all_the_same():
    (found,) = figures(payments(frauds=0))
    assert (found.enough, found.positives) == (False, 0)


def test_a_day_of_frauds_alone_has_no_average_precision():
    (found,) = figures(payments(frauds=COUNT))
    assert "average_precision" not in found.metrics
    assert "blocked_genuine_share" not in found.metrics


def test_alerts_are_reviews_and_blocks_and_blocked_genuine_payments_are_counted_apart():
    decisions = np.full(COUNT, "approve", dtype="U8")
    decisions[:30], decisions[-38:] = "review", "block"
    (found,) = figures(payments(decisions=decisions))
    assert found.metrics["alerts"] == 68
    assert found.metrics["blocked_genuine_share"] == pytest.approx(38 / 380)


def test_answers_of_a_rule_have_no_score_and_are_left_out_of_the_metrics():
    one = payments()
    one.scores[100:195] = np.nan
    (found,) = figures(one)
    assert found.metrics["degraded_share"] == pytest.approx(95 / 400)
    assert found.metrics["average_precision"] == pytest.approx(1.0)
    assert found.rows == COUNT


def test_no_payments_give_no_days():
    assert figures(payments(count=0, frauds=0)) == ()


def pages(count, labels, day=20_000, version="1"):
    """Pages of three videos each, all with the same outcome by position."""
    return ShownVideos(
        times=np.full(3 * count, day * MICROS_PER_DAY),
        versions=np.full(3 * count, version),
        pages=np.repeat(np.arange(count), 3),
        positions=np.tile([1, 2, 3], count),
        videos=np.tile([7, 8, 9], count),
        labels=np.tile(np.array(labels, float), count),
    )


def test_a_page_whose_second_video_was_watched():
    (found,) = page_days(pages(60, [0, 1, 0]), catalogue_size=30)
    assert found.metrics == pytest.approx(
        {"watch_rate": 1 / 3, "watches_per_page": 1.0, "coverage": 0.1, "ndcg@10": 1 / np.log2(3)}
    )
    assert (found.rows, found.positives, found.enough) == (60, 60, True)


def test_pages_on_which_nothing_was_watched_have_no_ndcg():
    (found,) = page_days(pages(60, [0, 0, 0]), catalogue_size=30)
    assert "ndcg@10" not in found.metrics
    assert found.metrics["watch_rate"] == 0.0


def test_the_ndcg_of_many_pages_is_the_mean_of_theirs():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 15, 200)
    one = ShownVideos(
        times=np.full(lengths.sum(), 20_000 * MICROS_PER_DAY),
        versions=np.full(lengths.sum(), "1"),
        pages=np.repeat(np.arange(200), lengths),
        positions=np.concatenate([np.arange(1, length + 1) for length in lengths]),
        videos=np.ones(lengths.sum(), np.int64),
        labels=(rng.random(lengths.sum()) < 0.2).astype(float),
    )
    watched = [np.flatnonzero(page).tolist() for page in np.split(one.labels, np.cumsum(lengths)[:-1])]
    worth = [ndcg_at(range(length), set(found), k=10) for length, found in zip(lengths, watched, strict=True) if found]
    (found,) = page_days(one, catalogue_size=30)
    assert found.metrics["ndcg@10"] == pytest.approx(np.mean(worth), rel=1e-12)


def test_few_pages_are_marked():
    (found,) = page_days(pages(MIN_PAGES - 1, [1, 0, 0]), catalogue_size=30)
    assert not found.enough


def test_the_watch_rate_is_told_by_position():
    assert watch_rate_by_position(pages(5, [1, 0, 1]), k=4) == (1.0, 0.0, 1.0, None)


def day(number, value, *, version="1", rows=100, enough=True):
    return DayFigures(
        day=number,
        model_version=version,
        rows=rows,
        positives=10,
        enough=enough,
        metrics={"ap": value} if enough else {},
    )


STEADY = [day(i, value) for i, value in enumerate([0.50, 0.52, 0.49, 0.51, 0.50])]


def test_a_metric_that_stays_where_it_was_has_not_changed():
    found = change_of([*STEADY, day(5, 0.49), day(6, 0.51)], "ap")
    assert (found.fallen, found.risen) == (False, False)


def test_a_metric_that_falls_has_fallen():
    found = change_of([*STEADY, day(5, 0.35), day(6, 0.30)], "ap")
    assert (found.fallen, found.risen) == (True, False)
    assert found.newest == pytest.approx(0.325)
    assert found.earlier == pytest.approx(0.504)


def test_a_fall_within_a_tenth_is_no_news():
    assert not change_of([*STEADY, day(5, 0.47), day(6, 0.46)], "ap").fallen


def test_days_without_enough_labels_do_not_count():
    assert change_of([*STEADY, day(5, 0.0, enough=False), day(6, 0.0, enough=False)], "ap") is None


def test_too_few_days_are_not_compared():
    assert change_of(STEADY, "ap") is None


def test_versions_of_one_day_are_one_day():
    split = [day(4, 0.2, version="2", rows=300), day(4, 0.6, rows=100)]
    found = change_of([*STEADY[:4], *split, day(5, 0.3)], "ap")
    assert found.newest == pytest.approx((0.3 + 0.3) / 2)


def test_a_rise_of_the_frauds_is_seen():
    shares = [FraudShare(day=i, payments=1_000, frauds=10 + i % 3) for i in range(20)]
    attacked = [FraudShare(day=20, payments=1_000, frauds=40), FraudShare(day=21, payments=1_000, frauds=45)]
    assert fraud_share_change([*shares, *attacked]).risen
    assert not fraud_share_change(shares).risen
    assert fraud_share_change([FraudShare(day=0, payments=0, frauds=0)] * 10) is None
