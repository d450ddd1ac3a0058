"""Performance over time: the field's metrics by event day and model version, on mature labels.

In: outcomes as columns. Out: one row of figures a day and version, and whether the newest days are unlike the rest.
Invariant: a figure that a day's labels cannot carry is absent, and the day says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats, Micros
from reference_system.event_time import MICROS_PER_DAY
from reference_system.use_cases.fraud.model import card_precision_at, checked_cards

ScoreMetric = Callable[[Floats, Floats], float | None]

# Fewer positives than this make an average precision a matter of luck.
MIN_POSITIVES = 10
MIN_PAGES = 50
# The newest days are judged by the spread of the days before.
NEWEST_DAYS = 2
MIN_EARLIER_DAYS = 4
_FAR = 3.0
_MATERIAL_CHANGE = 0.1  # of the earlier mean


class DayFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One event day of one model version. `day` is days since 1970, `rows` payments or pages."""

    day: int
    model_version: str
    rows: int
    positives: int
    enough: bool
    metrics: dict[str, float]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The newest days against the days before, and the limits within which they would be no news."""

    metric: str
    newest: float
    earlier: float
    low: float
    high: float

    @property
    def fallen(self) -> bool:
        """Whether the newest days lie below what the earlier days let expect."""
        return self.newest < self.low

    @property
    def risen(self) -> bool:
        """Whether they lie above it."""
        return self.newest > self.high


class FraudShare(msgspec.Struct, frozen=True, kw_only=True):
    """The payments of one event day, scored or not, and how many turned out to be frauds."""

    day: int
    payments: int
    frauds: int


class MaturePayments(msgspec.Struct, frozen=True, kw_only=True):
    """Scored payments with mature labels; all shapes (n,); a missing score is NaN."""

    times: Micros
    versions: NDArray[np.str_]
    customers: NDArray[np.int64]
    scores: Floats
    decisions: NDArray[np.str_]
    labels: Floats


class ShownVideos(msgspec.Struct, frozen=True, kw_only=True):
    """Shown videos with mature labels, page after page, by position; all shapes (n,)."""

    times: Micros
    versions: NDArray[np.str_]
    pages: NDArray[np.int64]
    positions: NDArray[np.int64]
    videos: NDArray[np.int64]
    labels: Floats


def payment_days(
    payments: MaturePayments, *, average_precision: ScoreMetric, roc_auc: ScoreMetric
) -> tuple[DayFigures, ...]:
    """The fraud figures: average precision, ROC AUC, card precision, alerts and genuine payments that were blocked."""
    found = []
    k = checked_cards(len(np.unique(payments.customers)))
    for day, version, rows in _groups(payments.times, payments.versions):
        labels, decisions = payments.labels[rows], payments.decisions[rows]
        scored = ~np.isnan(payments.scores[rows])
        positives = int(labels[scored].sum())
        metrics = {
            "alerts": float(np.isin(decisions, ("review", "block")).sum()),
            "degraded_share": 1.0 - float(scored.mean()),
        }
        if (labels == 0).any():
            metrics["blocked_genuine_share"] = float((decisions[labels == 0] == "block").mean())
        enough = positives >= MIN_POSITIVES
        if enough:
            scores, truth = payments.scores[rows][scored], labels[scored]
            metrics |= _present("average_precision", average_precision(truth, scores))
            metrics |= _present("roc_auc", roc_auc(truth, scores))
            cards = payments.customers[rows][scored]
            metrics[f"card_precision@{k}"] = card_precision_at(scores, truth, cards, np.full(len(cards), day), k=k)
        found.append(_figures(day, version, len(labels), int(labels.sum()), metrics, enough=enough))
    return tuple(found)


def page_days(shown: ShownVideos, *, catalogue_size: int, k: int = 10) -> tuple[DayFigures, ...]:
    """The recommendation figures: watch rate, ndcg of the shown order, and the share of the catalogue that was shown.

    Pages on which nothing was watched have no ideal order and are left out of ndcg alone.
    """
    found = []
    for day, version, rows in _groups(shown.times, shown.versions):
        labels = shown.labels[rows]
        starts = np.flatnonzero(np.diff(shown.pages[rows], prepend=-1))
        metrics = {
            "watch_rate": float(labels.mean()),
            "watches_per_page": float(labels.sum()) / len(starts),
            "coverage": len(np.unique(shown.videos[rows])) / max(catalogue_size, 1),
        }
        if labels.any():
            metrics[f"ndcg@{k}"] = _mean_ndcg(labels, starts, k)
        enough = len(starts) >= MIN_PAGES
        found.append(_figures(day, version, len(starts), int(labels.sum()), metrics, enough=enough))
    return tuple(found)


def watch_rate_by_position(shown: ShownVideos, *, k: int = 10) -> tuple[float | None, ...]:
    """The share of shown videos that were watched, for each position from 1 to k."""
    rates = []
    for position in range(1, k + 1):
        labels = shown.labels[shown.positions == position]
        rates.append(float(labels.mean()) if len(labels) else None)
    return tuple(rates)


def change_of(days: Sequence[DayFigures], metric: str) -> Change | None:
    """Whether the newest days differ from the days before; `None` if there are too few to say."""
    by_day: dict[int, list[DayFigures]] = {}
    for each in days:
        if each.enough and metric in each.metrics:
            by_day.setdefault(each.day, []).append(each)
    series = [
        np.average([each.metrics[metric] for each in of_day], weights=[each.rows for each in of_day])
        for _, of_day in sorted(by_day.items())
    ]
    return _change(metric, np.array(series))


def fraud_share_change(shares: Sequence[FraudShare]) -> Change | None:
    """Whether the share of frauds differs from the days before; `None` if there are too few to say."""
    known = [each.frauds / each.payments for each in sorted(shares, key=lambda each: each.day) if each.payments]
    return _change("fraud_share", np.array(known))


def _change(metric: str, series: Floats) -> Change | None:
    """The limits are three standard errors, and at least a tenth, from the earlier mean."""
    if len(series) < NEWEST_DAYS + MIN_EARLIER_DAYS:
        return None
    earlier, newest = series[:-NEWEST_DAYS], series[-NEWEST_DAYS:]
    mean = float(earlier.mean())
    error = float(earlier.std(ddof=1)) * (1.0 / len(newest) + 1.0 / len(earlier)) ** 0.5
    far = max(_FAR * error, _MATERIAL_CHANGE * abs(mean))
    return Change(metric=metric, newest=float(newest.mean()), earlier=mean, low=mean - far, high=mean + far)


def _groups(times: Micros, versions: NDArray[np.str_]) -> list[tuple[int, str, NDArray[np.intp]]]:
    days = times // MICROS_PER_DAY
    return [
        (int(day), str(version), np.flatnonzero((days == day) & (versions == version)))
        for day in np.unique(days)
        for version in np.unique(versions[days == day])
    ]


def _figures(  # noqa: PLR0913 - one argument a field
    day: int, version: str, rows: int, positives: int, metrics: dict[str, float], *, enough: bool
) -> DayFigures:
    return DayFigures(day=day, model_version=version, rows=rows, positives=positives, enough=enough, metrics=metrics)


def _present(name: str, value: float | None) -> dict[str, float]:
    return {} if value is None else {name: value}


def _mean_ndcg(labels: Floats, starts: NDArray[np.intp], k: int) -> float:
    """The mean of `ndcg_at` over the pages with a watch, all at once: tens of thousands in every look.

    Args:
        labels: what was watched, 0 or 1, page after page in the shown order.
        starts: where each page begins.
        k: how many places count.
    """
    ranks = np.arange(len(labels)) - np.repeat(starts, np.diff(starts, append=len(labels)))
    discounts = 1.0 / np.log2(np.arange(k) + 2.0)
    gains = np.add.reduceat(np.where(ranks < k, labels * discounts[np.minimum(ranks, k - 1)], 0.0), starts)
    watches = np.add.reduceat(labels, starts).astype(np.int64)
    ideals = np.cumsum(discounts)[np.clip(watches, 1, k) - 1]
    return float((gains / ideals)[watches > 0].mean())
